//! Where a chain ends: unfinished tails, seals, segments that were only made, and files that are not the log's.

use bytes::Bytes;
use drey_core::log::{BLOCK_BYTES, Damage, DamageKind, HardState, LogScan, Record, SegmentHeader, SegmentId};
use drey_core::storage::SnapshotMeta;
use drey_core::{ClusterId, LogIndex, NodeId, Term};

use crate::chain::{Chain, GROUP, append, config, entry};
use crate::disk::Disk;
use crate::node::{CLUSTER, NODE, recover};

const SMALL: u64 = 16 << 10;

fn segment(number: u64) -> SegmentId {
    SegmentId { epoch: 1, shard: 0, number }
}

fn seal(chain: &mut Chain) -> usize {
    let recovered = chain.recover().expect("nothing is broken");
    for seal in &recovered.seals {
        chain.disk.seal(seal);
        chain.disk.sync(seal.segment);
    }
    recovered.seals.len()
}

#[test]
fn no_log_at_all_is_the_first_epoch() {
    let recovered = recover(&Disk::default()).expect("nothing is broken");
    assert_eq!(recovered.next_epoch, 1);
    assert!(recovered.groups.is_empty() && recovered.segments.is_empty() && recovered.seals.is_empty());
}

#[test]
fn an_unfinished_tail_is_cut_and_stays_cut() {
    let mut chain = Chain::new(64 << 10);
    chain.push_and_write(append(1, 10));
    chain.writer.push(append(2, 9000));
    let (_, write) = chain.begin().expect("a write");
    let whole = chain.disk.clone();
    // The last of its three blocks did not make it.
    chain.disk.overwrite(write.segment, write.offset as usize + 2 * BLOCK_BYTES, &[0; BLOCK_BYTES]);
    assert_eq!(chain.entries(), [1]);
    assert_eq!(seal(&mut chain), 1);
    assert_eq!(chain.entries(), [1]);
    // Even if the missing block came back: the seal is in the place of the first.
    let last = &whole.files[&write.segment].seen()[write.offset as usize + 2 * BLOCK_BYTES..][..BLOCK_BYTES];
    chain.disk.overwrite(write.segment, write.offset as usize + 2 * BLOCK_BYTES, last);
    assert_eq!(chain.entries(), [1]);
    assert_eq!(seal(&mut chain), 0, "one seal is enough");
}

#[test]
fn a_tail_in_a_fresh_segment_is_cut_by_a_seal_in_the_one_before() {
    let mut chain = Chain::new(SMALL);
    for index in 1..=2 {
        chain.push_and_write(append(index, 10));
    }
    chain.writer.push(append(3, 4000));
    let (_, write) = chain.begin().expect("a write");
    assert_eq!(write.segment, segment(1));
    chain.disk.overwrite(segment(1), write.offset as usize + 512, &[9; 512]);
    let seals = chain.recover().expect("a tail").seals;
    assert_eq!((seals[0].segment, seals[0].offset), (segment(0), 3 * BLOCK_BYTES as u64));
    assert_eq!(seal(&mut chain), 1);
    assert_eq!(chain.entries(), [1, 2]);
    assert_eq!(seal(&mut chain), 0);
    // A broken seal is a tail again, at the same place.
    chain.disk.flip(segment(0), 3 * BLOCK_BYTES + 200, 0);
    assert_eq!(seal(&mut chain), 1);
    assert_eq!(chain.entries(), [1, 2]);
}

#[test]
fn what_was_sealed_is_attested() {
    let mut chain = Chain::new(SMALL);
    let write = chain.push_and_write(append(1, 10));
    assert_eq!(seal(&mut chain), 1);
    chain.disk.flip(write.segment, write.offset as usize + 150, 5);
    let damage = chain.recover().expect_err("it was synced");
    assert_eq!(damage, Damage { segment: write.segment, offset: write.offset, what: DamageKind::Batch(1) });
    assert_eq!(
        damage.to_string(),
        "log segment 00000001-0000-0000000000000000.log, at byte 4096: batch 1 was synced, but is damaged or lost; check \
         the disk, then remove this node's data directory and let it join again as a new member"
    );
}

#[test]
fn the_first_sector_of_a_torn_batch_attests_those_before_it() {
    let mut chain = Chain::new(64 << 10);
    let first = chain.push_and_write(append(1, 10));
    chain.writer.push(append(2, 9000));
    let (_, second) = chain.begin().expect("a write");
    chain.disk.overwrite(second.segment, second.offset as usize + 512, &[0; 3 * BLOCK_BYTES - 512]);
    assert_eq!(chain.entries(), [1]);
    chain.disk.flip(first.segment, first.offset as usize + 1000, 0);
    assert_eq!(chain.recover().expect_err("it was synced").offset, first.offset);
}

#[test]
fn a_client_cannot_write_bytes_that_pass_for_a_later_batch() {
    // What the third batch looks like, in the very place where the records of the second will have it.
    let mut other = Chain::new(64 << 10);
    other.push_and_write(append(1, 10));
    other.push_and_write(append(2, 10));
    let forged = other.push_and_write(append(3, 10));
    let mut bytes = vec![0; forged.len()];
    forged.encode_into(&mut bytes);
    let mut chain = Chain::new(64 << 10);
    chain.push_and_write(append(1, 10));
    let around = 96 + 38;
    let data = [vec![0; BLOCK_BYTES - around], bytes, vec![1; 3 * BLOCK_BYTES]].concat();
    chain.writer.push(Record::Append(GROUP, vec![entry(2, data)]));
    let (_, write) = chain.begin().expect("a write");
    let seen = chain.disk.files[&write.segment].seen();
    assert!(seen[write.offset as usize + BLOCK_BYTES..].starts_with(b"dreyLOGB"), "it is where it must be to be taken");
    chain.disk.overwrite(write.segment, write.offset as usize + write.len() - BLOCK_BYTES, &[0; BLOCK_BYTES]);
    assert_eq!(chain.entries(), [1], "an unfinished tail, whatever is in it");
}

#[test]
fn segments_that_were_only_made_are_nothing() {
    let mut chain = Chain::new(SMALL);
    assert_eq!(chain.recover().expect("nothing is broken").next_epoch, 2);
    let file = chain.disk.files[&segment(0)].clone();
    // Its header is not written yet, or is that of its former life.
    for bytes in [vec![0; BLOCK_BYTES], {
        let mut header = vec![0; BLOCK_BYTES];
        config(SMALL).header(segment(9)).encode_into(&mut header);
        header
    }] {
        chain.disk.overwrite(segment(0), 0, &bytes);
        let recovered = chain.recover().expect("nothing is broken");
        assert_eq!((recovered.next_epoch, recovered.seals.len(), recovered.segments.len()), (2, 0, 1));
    }
    chain.disk.files.insert(segment(0), file);
    // With a header it is sealed, so that it stays empty.
    assert_eq!(seal(&mut chain), 1);
    assert_eq!(seal(&mut chain), 0);
}

#[test]
fn a_segment_without_header_is_damage_if_a_later_one_was_made() {
    let mut chain = Chain::new(SMALL);
    for index in 1..=3 {
        chain.push_and_write(append(index, 10));
    }
    assert!(chain.disk.files.contains_key(&segment(2)), "one ahead");
    chain.disk.overwrite(segment(1), 0, &[0; SMALL as usize]);
    let damage = chain.recover().expect_err("it was synced before the next one was asked for");
    assert_eq!(damage, Damage { segment: segment(1), offset: 0, what: DamageKind::Header });
}

#[test]
fn a_segment_that_a_batch_knew_of_must_be_there() {
    let mut chain = Chain::new(SMALL);
    for index in 1..=4 {
        chain.push_and_write(append(index, 10));
    }
    chain.disk.files.remove(&segment(2)).expect("one ahead");
    let damage = chain.recover().expect_err("it was there");
    assert_eq!(damage, Damage { segment: segment(2), offset: 0, what: DamageKind::Missing });
}

#[test]
fn a_file_that_was_cut_short_is_damage_if_batches_are_gone() {
    let mut chain = Chain::new(64 << 10);
    for index in 1..=4 {
        chain.push_and_write(append(index, 10));
    }
    let bytes = chain.disk.files[&segment(0)].seen();
    let scan = |length: usize| {
        let mut scan = LogScan::new(CLUSTER, NODE);
        scan.segment(segment(0), &bytes[..length])?;
        scan.finish().map(|_| ())
    };
    for length in (2 * BLOCK_BYTES..bytes.len()).step_by(999) {
        assert_eq!(scan(length).expect_err("short").what, DamageKind::Header, "{length}");
    }
}

#[test]
fn files_of_others_and_of_newer_versions_are_refused() {
    let mut header = vec![0; SMALL as usize];
    for (cluster, node) in [(ClusterId(1), NODE), (CLUSTER, NodeId(99))] {
        let other = SegmentHeader { cluster, node, segment: segment(0), segment_bytes: SMALL };
        other.encode_into(&mut header[..BLOCK_BYTES]);
        let damage = LogScan::new(CLUSTER, NODE).segment(segment(0), &header).expect_err("not ours");
        assert!(matches!(damage.what, DamageKind::Foreign(_)), "{damage}");
    }
    config(SMALL).header(segment(0)).encode_into(&mut header[..BLOCK_BYTES]);
    header[8] = 2;
    let checksum = crc32c::crc32c(&header[..64]);
    header[64..68].copy_from_slice(&checksum.to_le_bytes());
    let damage = LogScan::new(CLUSTER, NODE).segment(segment(0), &header).expect_err("newer");
    assert_eq!(damage.what, DamageKind::Version(2));
}

#[test]
fn a_snapshot_that_was_not_installed_is_known_and_one_that_was_replaces_the_log() {
    let meta = SnapshotMeta { index: LogIndex(50), term: Term(3), configuration: Bytes::from_static(b"voters") };
    let mut chain = Chain::new(64 << 10);
    let state = HardState { term: Term(3), vote: Some(NodeId(2)), commit: LogIndex(1) };
    chain.push_and_write(append(1, 10));
    chain.push_and_write(Record::HardState(GROUP, state));
    chain.push_and_write(Record::SnapshotIntent(GROUP, meta.clone()));
    let log = chain.recover().expect("nothing is broken").groups.remove(&GROUP).expect("known");
    assert_eq!((log.intent.as_ref(), log.last(), log.hard_state), (Some(&meta), LogIndex(1), state));
    chain.push_and_write(Record::SnapshotDone(GROUP, meta));
    let log = chain.recover().expect("nothing is broken").groups.remove(&GROUP).expect("known");
    assert_eq!((log.intent, log.entries.len(), log.truncated), (None, 0, (LogIndex(50), Term(3))));
    assert_eq!(log.hard_state, state);
}

#[test]
fn entries_with_a_gap_or_falling_terms_are_refused() {
    for (index, term) in [(3, 1), (2, 0)] {
        let mut chain = Chain::new(SMALL);
        chain.push_and_write(append(1, 10));
        let mut late = entry(index, "x");
        late.term = Term(term);
        chain.push_and_write(Record::Append(GROUP, vec![late]));
        assert_eq!(chain.recover().expect_err("no Raft log").what, DamageKind::Entries(GROUP));
    }
}
