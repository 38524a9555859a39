//! Snapshots: whole on the other node, and refused when they are not what was sent.

use super::*;
use crate::error::Error;
use crate::limits::KEY_BYTES_MAX;
use crate::machine::{Bucket, Meta, ValueRecord};
use crate::name::KeyRange;
use crate::request::{ReadOp, Reply};
use crate::storage::chunk::ChunkBuilder;
use crate::storage::{AppliedClock, Staged};
use crate::store::{Read, Store, WriteSet};
use crate::types::Version;

/// Buckets, values, and what a snapshot leaves out: a dropped bucket and what was in it.
pub(super) fn source() -> StorageWorker<MemoryStore> {
    let mut worker = worker(MemoryStore::new());
    worker.apply_next(&[create("gone"), put("gone", "secret", "x"), create("two"), create("a-first")]);
    for at in 0..40 {
        worker.apply_next(&[put("default", &format!("k{at}"), "value"), put("two", &format!("k{at}"), vec![b'v'; at])]);
    }
    worker.apply_next(&[put("a-first", "k", "v"), drop_bucket("gone")]);
    let change = Committed { configuration: Some(Bytes::from_static(b"configuration")), ..entry(43, &[]) };
    let done = worker.run(StorageJob::Apply { group: GROUP, entries: vec![change] });
    assert!(matches!(done, StorageDone::Applied { purge: true, .. }));
    worker
}

/// A worker with a state of its own, which the snapshot replaces.
pub(super) fn target() -> StorageWorker<MemoryStore> {
    let mut worker = worker(MemoryStore::with_crashes());
    worker.apply_next(&[create("other"), put("other", "k", "old"), put("default", "k1", "old")]);
    worker
}

pub(super) fn transfer(
    from: &mut StorageWorker<MemoryStore>,
    to: &mut StorageWorker<MemoryStore>,
    bytes_max: usize,
) -> usize {
    let (meta, chunks) = from.snapshot(bytes_max);
    for (at, chunk) in chunks.iter().enumerate() {
        assert_eq!(to.stage(at as u64, chunk), None);
    }
    to.install(&meta);
    chunks.len()
}

#[test]
fn a_snapshot_makes_equal_states() {
    let mut from = source();
    for (bytes_max, chunks) in [(1, 86), (300, 20), (1 << 20, 1)] {
        let mut to = target();
        assert!(transfer(&mut from, &mut to, bytes_max).abs_diff(chunks) <= chunks / 2, "{bytes_max} bytes a chunk");
        assert_eq!(to.hash(), from.hash());
        let (sent, got) = (from.group(GROUP).unwrap(), to.group(GROUP).unwrap());
        assert_eq!(got.buckets(), sent.buckets());
        assert_eq!(got.applied(), LogIndex(43));
        assert_eq!((got.version(), got.applied_term()), (sent.version(), sent.applied_term()));
        assert_eq!(got.configuration(), &Bytes::from_static(b"configuration"));
        assert_eq!(to.store().batches_since_persist(), 0, "an installation is durable");
        // What was there before is garbage now; what the source had dropped never came.
        to.purge_all();
        assert_eq!(to.store().len(), 1 + 2 + 81);
        assert_eq!(to.hash(), from.hash());
        // Both go on alike.
        let mut again = from.store().clone();
        let mut from = worker(std::mem::take(&mut again));
        for worker in [&mut from, &mut to] {
            worker.apply_next(&[put("two", "more", "1"), create("new"), put("default", "k1", "2")]);
        }
        assert_eq!(from.hash(), to.hash());
    }
}

#[test]
fn what_is_to_expire_expires_behind_a_snapshot_too() {
    let mut from = source();
    from.apply_at(1000, &[put_for("two", "k1", 500), put_for("default", "new", 300), put_for("two", "new", 100)]);
    from.apply_at(1050, &[]);
    for bytes_max in [1, 1 << 20] {
        let mut to = target();
        transfer(&mut from, &mut to, bytes_max);
        assert_eq!(to.hash(), from.hash());
        let clock = to.group(GROUP).unwrap().clock();
        assert_eq!(
            clock,
            AppliedClock {
                stamp: Stamp { clock_ms: 1050, walls_ahead_ms: -7, counted_since: Term(2) },
                next_due_ms: Some(1100)
            }
        );
        assert_eq!(clock, from.group(GROUP).unwrap().clock());
        let mut again = worker(from.store().clone());
        for worker in [&mut again, &mut to] {
            worker.apply_at(1400, &[]);
            assert_eq!(worker.group(GROUP).unwrap().clock().next_due_ms, Some(1500));
        }
        assert_eq!(again.hash(), to.hash());
    }
}

#[test]
fn a_snapshot_shows_the_state_of_its_opening() {
    let mut from = source();
    let before = from.hash();
    let ticket = Ticket(1);
    from.run(StorageJob::SnapshotOpen { group: GROUP, ticket });
    from.apply_next(&[put("two", "later", "x"), drop_bucket("a-first"), put("default", "k1", "later")]);
    from.purge_all();
    let mut to = target();
    let StorageDone::SnapshotChunk { data, last: true, .. } =
        from.run(StorageJob::SnapshotRead { ticket, bytes_max: 1 << 20 })
    else {
        panic!("not in one chunk")
    };
    assert_eq!(to.stage(0, &data), None);
    to.install(&SnapshotMeta {
        index: LogIndex(43),
        term: Term(2),
        configuration: Bytes::from_static(b"configuration"),
    });
    assert_eq!(to.hash(), before);
    assert_ne!(from.hash(), before);
}

#[test]
fn the_present_state_serves_while_a_snapshot_comes_in() {
    let (_, chunks) = source().snapshot(100);
    let mut to = target();
    let mut control = target();
    for (at, chunk) in chunks.iter().enumerate() {
        assert_eq!(to.stage(at as u64, chunk), None);
        to.run(StorageJob::Purge { group: GROUP, limit: 100 });
        for worker in [&mut to, &mut control] {
            worker.apply_next(&[put("other", "k", format!("{at}"))]);
        }
        assert_eq!(to.hash(), control.hash());
    }
}

#[test]
fn a_second_attempt_starts_anew() {
    let mut from = source();
    let mut to = target();
    let (_, chunks) = from.snapshot(100);
    for (at, chunk) in chunks.iter().enumerate().take(5) {
        assert_eq!(to.stage(at as u64, chunk), None);
    }
    // By now the source is further: nothing of the first attempt may be left in the second.
    from.apply_next(&[drop_bucket("two")]);
    let (meta, chunks) = from.snapshot(200);
    for (at, chunk) in chunks.iter().enumerate() {
        assert_eq!(to.stage(at as u64, chunk), None);
        // The first attempt's remains go while the second comes in, and nothing of the second does.
        to.purge_all();
    }
    to.install(&meta);
    assert_eq!(to.hash(), from.hash());
    to.purge_all();
    assert_eq!(to.hash(), from.hash());
    assert_eq!(to.store().len(), 1 + 1 + 41);
}

/// Records that no drey would send, in a chunk that is whole.
#[test]
fn records_that_make_no_sense_are_refused() {
    let bucket = Bucket { created_version: Version(3), ..Bucket::default() }.encode();
    let value = |version| ValueRecord::encode(Version(version), None, b"v");
    let good: [(&[u8], Bytes); 4] = [
        (b"bone", bucket.clone()),
        (b"d\x00k", value(1)),
        (b"d\x01\x03k", value(5)),
        (b"e\x01\x03\x02\x01\x00k", Bytes::new()),
    ];
    let too_long: Vec<u8> = [&b"d\x00"[..], &[b'k'; KEY_BYTES_MAX + 1]].concat();
    let later = Bucket { created_version: Version(6), ..Bucket::default() }.encode();
    type Pairs<'a> = Vec<(&'a [u8], Bytes)>;
    let bad: [(&str, Pairs); 15] = [
        ("out of order", vec![good[1].clone(), good[0].clone()]),
        ("twice", vec![good[0].clone(), good[0].clone()]),
        ("a kind that is not sent", vec![(b"p\x01\x03", Bytes::new())]),
        ("a bad bucket name", vec![(b"b.one", bucket.clone())]),
        ("a bucket from the future", vec![(b"bone", later)]),
        ("a value without a bucket", vec![good[2].clone()]),
        ("a value without a key", vec![(b"d\x00", value(1))]),
        ("a value from the future", vec![(b"d\x00k", value(6))]),
        ("a value with a key that is too long", vec![(&too_long, value(1))]),
        ("an expiry without a bucket", vec![good[3].clone()]),
        ("an expiry without a time", vec![(b"e\x00", Bytes::new())]),
        ("an expiry whose time is no number", vec![(b"e\x00\x09k", Bytes::new())]),
        ("an expiry without a key", vec![(b"e\x00\x01\x07", Bytes::new())]),
        ("an expiry with a value", vec![(b"e\x00\x01\x07k", value(1))]),
        ("a damaged value", vec![(b"d\x00k", Bytes::from_static(&[0x80]))]),
    ];
    let meta = Meta { applied: LogIndex(9), term: Term(2), version: Version(5), ..Meta::default() };
    let chunk = |records: &[(&[u8], Bytes)]| {
        let mut chunk = ChunkBuilder::new(GROUP, &meta, 0, 0);
        records.iter().for_each(|(key, value)| chunk.push(key, value));
        chunk.finish(true)
    };
    for (what, records) in bad {
        let mut to = target();
        let before = to.store().pairs();
        assert!(to.stage(0, &chunk(&records)).is_some(), "{what}");
        assert_eq!(to.store().pairs(), before, "{what}");
    }
    assert_eq!(target().stage(0, &chunk(&good)), None, "the control");
}

#[test]
fn chunks_out_of_order_are_refused() {
    let (meta, chunks) = source().snapshot(100);
    let mut to = target();
    assert!(to.stage(1, &chunks[1]).is_some(), "not the first");
    assert!(to.stage(0, &chunks[1]).is_some(), "it says that it is not the first");
    assert_eq!(to.stage(0, &chunks[0]), None);
    assert!(to.stage(2, &chunks[2]).is_some(), "one is missing");
    assert!(to.stage(1, &chunks[2]).is_some(), "under another's number");
    assert_eq!(to.stage(1, &chunks[1]), None, "the right one is still taken");
    assert!(to.stage(1, &chunks[1]).is_some(), "twice");
    // Of a later snapshot of the same group.
    let mut later = source();
    later.apply_next(&[]);
    assert!(to.stage(2, &later.snapshot(100).1[2]).is_some());
    for (at, chunk) in chunks.iter().enumerate().skip(2) {
        assert_eq!(to.stage(at as u64, chunk), None);
    }
    assert!(to.stage(chunks.len() as u64, &chunks[0]).is_some(), "it is complete");
    to.install(&meta);
    assert_eq!(to.hash(), source().hash());
}

#[test]
fn every_damaged_byte_is_noticed() {
    let (_, chunks) = source().snapshot(400);
    let mut to = target();
    assert_eq!(to.stage(0, &chunks[0]), None);
    let before = to.store().pairs();
    for (number, chunk) in chunks.iter().enumerate().take(2) {
        for at in 0..chunk.len() {
            let mut damaged = chunk.to_vec();
            damaged[at] ^= 1 << (at % 8);
            assert!(to.stage(number as u64, &damaged.into()).is_some(), "byte {at} of chunk {number}");
            assert!(to.stage(number as u64, &chunk.slice(..at)).is_some(), "chunk {number} cut at {at}");
        }
    }
    assert_eq!(to.store().pairs(), before, "nothing of a refused chunk is written");
}

/// Everything that is staged comes from one transfer; at any point the node is killed and started again.
#[test]
fn a_restarted_node_goes_on_with_what_it_had_staged() {
    let (meta, chunks) = source().snapshot(100);
    let started = |store| {
        let mut worker = worker(store);
        let staged = worker.find_staged().unwrap();
        (worker, staged.get(&GROUP).cloned())
    };
    assert_eq!(started(target().into_store()).1, None);
    for kills_at in 0..chunks.len() {
        let mut to = target();
        for (at, chunk) in chunks.iter().enumerate() {
            assert_eq!(to.stage(at as u64, chunk), None);
            if at == kills_at {
                let (restarted, staged) = started(to.into_store());
                to = restarted;
                let (next_chunk, complete) = (at as u64 + 1, at + 1 == chunks.len());
                // As the transfer had it, which the helper leaves empty.
                let whole = SnapshotMeta { configuration: Bytes::new(), ..meta.clone() };
                let origin = Origin { meta: whole, ..origin() };
                assert_eq!(staged, Some(Staged { origin, next_chunk, complete }));
                to.purge_all();
            }
        }
        to.install(&meta);
        assert_eq!(to.hash(), source().hash(), "killed behind chunk {kills_at}");
        assert_eq!(started(to.into_store()).1, None, "what is installed is not staged any more");
    }
}

/// The power goes: of what was staged some is gone, and what says how far it is goes with it.
#[test]
fn what_is_known_of_a_staged_snapshot_is_never_ahead_of_it() {
    let (meta, chunks) = source().snapshot(100);
    for keep in 0..=chunks.len() {
        let mut to = target();
        to.run(StorageJob::Persist);
        for (at, chunk) in chunks.iter().enumerate() {
            assert_eq!(to.stage(at as u64, chunk), None);
        }
        let mut store = to.into_store();
        store.crash(keep);
        let mut to = worker(store);
        let found = to.find_staged().unwrap().get(&GROUP).map(|staged| staged.next_chunk);
        assert_eq!(found, (keep > 0).then_some(keep as u64));
        for (at, chunk) in chunks.iter().enumerate().skip(keep) {
            assert_eq!(to.stage(at as u64, chunk), None);
        }
        to.install(&meta);
        assert_eq!(to.hash(), source().hash());
    }
}

#[test]
fn what_is_forgotten_leaves_nothing() {
    let (_, chunks) = source().snapshot(100);
    let mut to = target();
    to.purge_all();
    let before = to.store().pairs();
    assert_eq!(to.stage(0, &chunks[0]), None);
    assert_eq!(to.stage(1, &chunks[1]), None);
    for _ in 0..2 {
        assert_eq!(
            to.run(StorageJob::SnapshotForget { group: GROUP }),
            StorageDone::SnapshotForgotten { group: GROUP }
        );
        to.purge_all();
        assert_eq!(to.store().pairs(), before);
    }
    assert!(to.stage(2, &chunks[2]).is_some(), "nothing is there to go on from");
}

#[test]
fn a_record_of_a_staged_snapshot_that_cannot_be_read_is_as_good_as_none() {
    let (_, chunks) = source().snapshot(100);
    let mut to = target();
    assert_eq!(to.stage(0, &chunks[0]), None);
    let store = to.into_store();
    let key = crate::machine::keys::staged(GROUP);
    let record = store.get(&key).unwrap().unwrap();
    for cut in 0..record.len() {
        let mut store = store.clone();
        store.write(WriteSet { changes: [(key.clone(), Some(record.slice(..cut)))].into() }).unwrap();
        let mut to = worker(store);
        // What stands at its end is the configuration, of any length.
        if to.find_staged().unwrap().is_empty() {
            to.purge_all();
            assert_eq!(to.stage(0, &chunks[0]), None);
        }
    }
}

#[test]
fn a_snapshot_of_another_group_is_refused() {
    let (_, chunks) = source().snapshot(1 << 20);
    let mut to = target();
    let done =
        to.run(StorageJob::SnapshotStage { group: GroupId(0), origin: origin(), chunk: 0, data: chunks[0].clone() });
    assert!(matches!(done, StorageDone::SnapshotStaged { refused: Some(_), .. }));
}

#[test]
fn what_is_not_whole_is_not_installed() {
    let (meta, chunks) = source().snapshot(400);
    let mut to = target();
    let before = to.hash();
    for (at, chunk) in chunks.iter().enumerate().take(chunks.len() - 1) {
        assert_eq!(to.stage(at as u64, chunk), None);
    }
    let done = to.run(StorageJob::SnapshotInstall { group: GROUP, meta: meta.clone() });
    assert!(matches!(done, StorageDone::Failed(_)));
    assert_eq!(to.hash(), before);
    let mut to = target();
    for (at, chunk) in chunks.iter().enumerate() {
        assert_eq!(to.stage(at as u64, chunk), None);
    }
    let other = SnapshotMeta { index: LogIndex(44), ..meta };
    assert!(matches!(to.run(StorageJob::SnapshotInstall { group: GROUP, meta: other }), StorageDone::Failed(_)));
}

#[test]
fn an_installation_ends_the_scans_of_its_group() {
    let mut to = target();
    let puts: Vec<_> = (0..2000).map(|at| put("default", &format!("{at:05}"), "v")).collect();
    to.apply_next(&puts);
    let scan = ReadOp::Scan {
        bucket: BucketName::DEFAULT,
        range: KeyRange::default(),
        limit: 0,
        reverse: false,
        keys_only: true,
    };
    let read = |op| StorageJob::Read { group: GROUP, reads: vec![(Ticket(1), op)], now_ms: 0, clock_ms: 0 };
    let StorageDone::Read { results, .. } = to.run(read(scan)) else { panic!("no page") };
    let Ok(Reply::Page(page)) = &results[0].1 else { panic!("no page") };
    let view = page.next.unwrap();
    transfer(&mut source(), &mut to, 1 << 20);
    match to.run(read(ReadOp::ScanNext { view })) {
        StorageDone::Read { results, .. } => {
            assert!(
                matches!(&results[0].1, Err(Error::Compacted(text)) if text.contains("resume after key b\"01023\"")),
                "{results:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wiped_group_is_at_its_beginning() {
    let mut worker = target();
    worker.wipe(GROUP).unwrap();
    let machine = worker.group(GROUP).unwrap();
    assert_eq!((machine.applied(), machine.version().0, machine.buckets().len()), (LogIndex(0), 0, 1));
    assert_eq!(worker.store().batches_since_persist(), 0);
    worker.purge_all();
    assert_eq!(worker.store().len(), 1);
    transfer(&mut source(), &mut worker, 500);
    assert_eq!(worker.hash(), source().hash());
}

#[test]
fn a_purge_does_not_touch_the_other_groups() {
    let store = MemoryStore::new();
    let machines = [1, 2, 3].map(|group| Machine::load(&store, GroupId(group), 3).unwrap());
    let mut worker = StorageWorker::new(store, machines, 1);
    // One bucket in each group.
    let names: Vec<_> = (1..=3)
        .map(|group| {
            let in_group = |at: &usize| crate::placement::group_of(&name(&format!("b{at}")), 3) == GroupId(group);
            format!("b{}", (0..).find(in_group).unwrap())
        })
        .collect();
    for (group, bucket) in (1..=3).zip(&names) {
        let commands = [create(bucket), put(bucket, "k", "v")];
        let job = StorageJob::Apply { group: GroupId(group), entries: vec![entry(1, &commands)] };
        assert!(matches!(worker.run(job), StorageDone::Applied { .. }));
    }
    let hashes = [1, 3].map(|group| worker.state_hash(GroupId(group)).unwrap());
    worker.wipe(GroupId(2)).unwrap();
    while worker.run(StorageJob::Purge { group: GroupId(2), limit: 1 })
        == (StorageDone::Purged { group: GroupId(2), more: true, full: None })
    {}
    assert_eq!([1, 3].map(|group| worker.state_hash(GroupId(group)).unwrap()), hashes);
    assert_eq!(worker.store().len(), 3 + 2 + 2);
    assert!(worker.store().get(&crate::machine::keys::meta(GroupId(2))).unwrap().is_some());
}
