//! What a writer asks for, and when.

use drey_core::log::{BLOCK_BYTES, HardState, LOG_BATCH_BYTES_MAX, LogWriter, Record, Restated, UnknownCompletion};
use drey_core::{GroupId, LogIndex, Output, Term, Ticket};

use crate::chain::{Chain, GROUP, append, config, entry};

const BLOCK: u64 = BLOCK_BYTES as u64;
const SEGMENT: u64 = 16 << 20;

fn segments(outputs: &[Output]) -> Vec<u64> {
    let number = |output: &Output| match output {
        Output::PrepareSegment(segment) => Some(segment.number),
        _ => None,
    };
    outputs.iter().filter_map(number).collect()
}

#[test]
fn the_first_segment_is_asked_for_then_always_the_next_one() {
    let mut writer = LogWriter::new(config(SEGMENT), 9, 0);
    let mut out = Vec::new();
    let mut next = || Ticket(1);
    writer.push(append(1, 10));
    writer.turn(&mut next, &mut out);
    assert_eq!(segments(&out), [0]);
    out.clear();
    writer.turn(&mut next, &mut out);
    assert!(out.is_empty(), "it is being made: {out:?}");
    let Output::PrepareSegment(first) = ({
        let mut again = Vec::new();
        LogWriter::new(config(SEGMENT), 9, 0).turn(&mut next, &mut again);
        again.remove(0)
    }) else {
        panic!("a new chain asks for its first segment")
    };
    assert_eq!((first.epoch, first.shard, first.number), (9, 0, 0));
    writer.segment_ready(first).expect("asked for");
    assert_eq!(writer.segment_ready(first), Err(UnknownCompletion::Segment(first)));
    writer.turn(&mut next, &mut out);
    assert!(matches!(&out[0], Output::WriteLog(Ticket(1), write) if write.segment == first && write.offset == BLOCK));
    assert_eq!(segments(&out), [1]);
}

#[test]
fn one_write_is_under_way_and_what_comes_meanwhile_is_the_next_one() {
    let mut chain = Chain::new(SEGMENT);
    chain.writer.push(append(1, 10));
    let (ticket, write) = chain.begin().expect("a write");
    assert_eq!((write.sequence(), write.offset, write.len()), (1, BLOCK, BLOCK_BYTES));
    for index in 2..=100 {
        chain.writer.push(append(index, 1000));
        assert!(chain.begin().is_none());
    }
    assert_eq!((chain.writer.mark(), chain.writer.durable_mark()), (100, 0));
    assert_eq!(chain.writer.synced(Ticket(77)), Err(UnknownCompletion::Write(Ticket(77))));
    assert_eq!(chain.writer.synced(ticket), Ok(1));
    assert_eq!(chain.writer.synced(ticket), Err(UnknownCompletion::Write(ticket)));
    let write = chain.write().expect("all that waited");
    assert_eq!((write.sequence(), write.offset), (2, 2 * BLOCK));
    assert_eq!(write.len(), (99 * 1038 + 96usize).next_multiple_of(BLOCK_BYTES), "1000 bytes, and 38 around them");
    assert_eq!(chain.writer.durable_mark(), 100);
    assert_eq!(chain.writer.pending_bytes(), 0);
    assert!(chain.begin().is_none(), "nothing is left");
    assert_eq!(chain.entries(), (1..=100).collect::<Vec<_>>());
}

#[test]
fn a_burst_goes_in_several_batches_and_a_mark_is_durable_with_the_last_part_of_its_record() {
    let mut chain = Chain::new(SEGMENT);
    let large: Vec<_> = (1..=100).map(|index| entry(index, vec![1; 100_000])).collect();
    chain.writer.push(Record::Append(GROUP, large));
    let mut sizes = Vec::new();
    while chain.writer.durable_mark() == 0 {
        assert_eq!(chain.writer.mark(), 1);
        sizes.push(chain.write().expect("there is more").len());
    }
    assert_eq!(sizes.len(), 3, "10 MB in batches of 4 MiB: {sizes:?}");
    assert!(sizes.iter().all(|bytes| *bytes <= LOG_BATCH_BYTES_MAX));
    assert_eq!(chain.entries(), (1..=100).collect::<Vec<_>>());
}

#[test]
fn an_entry_larger_than_a_batch_goes_alone_if_a_segment_can_hold_it() {
    let mut chain = Chain::new(SEGMENT);
    let bytes_max = config(SEGMENT).entry_bytes_max();
    for record in [append(1, 10), append(2, 5 << 20), append(3, bytes_max), append(4, 10)] {
        chain.writer.push(record);
    }
    let writes: Vec<_> =
        std::iter::from_fn(|| chain.write().map(|write| (write.segment.number, write.len()))).collect();
    let whole = SEGMENT as usize - 2 * BLOCK_BYTES;
    let five = ((5 << 20) + 96 + 38usize).next_multiple_of(BLOCK_BYTES);
    assert_eq!(writes, [(0, BLOCK_BYTES), (0, five), (1, whole), (2, BLOCK_BYTES)]);
    assert_eq!(chain.entries(), [1, 2, 3, 4]);
}

#[test]
fn the_last_block_of_a_segment_stays_free_for_the_seal() {
    let mut chain = Chain::new(16 << 10);
    let places: Vec<_> = (1..=5)
        .map(|index| chain.push_and_write(append(index, 10)))
        .map(|write| (write.segment.number, write.offset / BLOCK))
        .collect();
    assert_eq!(places, [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]);
    let recovered = chain.recover().expect("nothing is broken");
    assert_eq!(recovered.seals.len(), 1);
    chain.push_and_write(append(6, 10));
    let seal = &chain.recover().expect("nothing is broken").seals[0];
    assert_eq!((seal.segment.number, seal.offset / BLOCK), (2, 3));
}

#[test]
fn an_idle_shard_attests_its_last_write_once_and_not_at_once() {
    let mut chain = Chain::new(SEGMENT);
    chain.push_and_write(append(1, 10));
    let mut ticks = 0;
    let attest = loop {
        chain.writer.idle();
        ticks += 1;
        if let Some(write) = chain.write() {
            break write;
        }
        assert!(ticks < 1000, "it never came");
    };
    assert!(ticks > 1);
    assert_eq!((attest.sequence(), attest.len()), (2, BLOCK_BYTES));
    for _ in 0..1000 {
        chain.writer.idle();
        assert!(chain.write().is_none(), "what attests needs no attesting");
    }
    let damaged = chain.disk.clone();
    chain.disk.flip(attest.segment, BLOCK_BYTES + 100, 3);
    chain.recover().expect_err("the attested batch is broken");
    chain.disk = damaged;
    chain.disk.flip(attest.segment, attest.offset as usize, 0);
    assert_eq!(chain.entries(), [1], "without it, the chain just ends there");
}

#[test]
fn a_segment_goes_once_what_it_alone_held_is_synced_further_on_and_said_to_be() {
    let mut chain = Chain::new(16 << 10);
    for index in 1..=3 {
        chain.push_and_write(append(index, 10));
    }
    let oldest = chain.writer.oldest().expect("two segments");
    assert_eq!((oldest.segment.number, oldest.held[&GROUP].last()), (0, Some(LogIndex(2))));
    assert_eq!(oldest.only, oldest.held);
    let oldest = oldest.segment;
    assert_eq!(chain.writer.live_segments(), 2);
    let restated = Restated {
        hard_state: HardState::default(),
        truncated: (LogIndex(1), Term(1)),
        last: LogIndex(3),
        intent: None,
    };
    chain.writer.push(Record::Restated(GROUP, restated));
    chain.writer.push(Record::Carried(GROUP, vec![entry(2, vec![2; 10])]));
    assert_eq!(chain.writer.release_oldest(), Some(oldest));
    assert_eq!(chain.writer.release_oldest(), None, "the last one is in use");
    chain.write().expect("the records");
    assert_eq!(chain.released, [], "said in the turn after the sync");
    chain.begin();
    assert_eq!(chain.released, [oldest]);
    assert_eq!(chain.entries(), [2, 3]);
    chain.disk.files.remove(&oldest);
    assert_eq!(chain.entries(), [2, 3]);
}

#[test]
fn earlier_epochs_go_once_an_attested_batch_says_so_even_if_there_was_nothing_to_carry() {
    let mut chain = Chain::new(16 << 10);
    chain.writer.earlier_epochs_carried();
    chain.write().expect("a batch without records");
    assert_eq!(chain.earlier_released, 0);
    chain.write().expect("one that attests it: else one broken block could lose everything");
    assert_eq!(chain.earlier_released, 0);
    for _ in 0..3 {
        chain.writer.earlier_epochs_carried();
        assert!(chain.write().is_none());
        assert_eq!(chain.earlier_released, 1, "said once");
    }
}

#[test]
fn what_no_shard_carried_over_is_gone_with_its_epoch() {
    let mut old = Chain::new(16 << 10);
    old.push_and_write(append(1, 10));
    let mut new = Chain::with(config(16 << 10), 2, old.disk);
    assert_eq!(new.entries(), [1]);
    new.writer.earlier_epochs_carried();
    new.write().expect("a batch that gives it up");
    assert_eq!(new.entries(), [] as [u64; 0]);
}

#[test]
fn released_segments_go_in_any_order() {
    let mut chain = Chain::new(16 << 10);
    for index in 1..=5 {
        chain.push_and_write(append(index, 10));
    }
    for kept in [3, 5] {
        let truncated = (LogIndex(kept - 1), Term(1));
        let restated = Restated { hard_state: HardState::default(), truncated, last: LogIndex(5), intent: None };
        chain.writer.push(Record::Restated(GROUP, restated));
        chain.writer.release_oldest().expect("an old one");
    }
    chain.write().expect("the records");
    chain.begin();
    let released: Vec<u64> = chain.released.iter().map(|segment| segment.number).collect();
    assert_eq!(released, [0, 1]);
    assert_eq!(chain.entries(), [5]);
    chain.disk.remove(chain.released[1]);
    assert_eq!(chain.entries(), [5], "the younger one went first");
    chain.disk.remove(chain.released[0]);
    assert_eq!(chain.entries(), [5]);
}

#[test]
fn records_without_entries_are_nothing() {
    let mut chain = Chain::new(16 << 10);
    chain.writer.push(Record::Append(GROUP, vec![]));
    assert_eq!(chain.writer.mark(), 0);
    assert!(chain.write().is_none());
}

#[test]
#[should_panic(expected = "follow each other")]
fn entries_with_a_gap_are_a_mistake() {
    let record = Record::Append(GroupId(1), vec![entry(1, "a"), entry(3, "b")]);
    Chain::new(16 << 10).writer.push(record);
}

#[test]
#[should_panic(expected = "does not fit")]
fn an_entry_that_no_segment_can_hold_is_a_mistake() {
    let bytes = config(16 << 10).entry_bytes_max() + 1;
    Chain::new(16 << 10).writer.push(append(1, bytes));
}
