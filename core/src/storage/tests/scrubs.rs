//! Digests of parts of a state: what replicas compare.

use std::ops::ControlFlow;

use super::snapshots::{source, target, transfer};
use super::*;
use crate::machine::Digest;
use crate::store::{Read, Store, WriteSet};

/// The digests of a worker's whole state, in parts of this size.
fn digests(worker: &mut StorageWorker<MemoryStore>, bytes_max: u64) -> Vec<Digest> {
    let index = worker.group(GROUP).unwrap().applied();
    let (mut position, mut digests) = (Bytes::new(), Vec::new());
    loop {
        let done = worker.run(StorageJob::Scrub { group: GROUP, index, position, bytes_max });
        let StorageDone::Scrubbed { digest: Some(digest), .. } = done else { panic!("{done:?}") };
        let next = digest.next.clone();
        digests.push(digest);
        match next {
            Some(next) => position = next,
            None => return digests,
        }
    }
}

#[test]
fn equal_states_have_equal_digests_whatever_else_lies_in_the_store() {
    // The source has a dropped bucket's keys and generation 0; the target its own old generation, and the source's state in another.
    let (mut source, mut target) = (source(), target());
    transfer(&mut source, &mut target, 200);
    for bytes_max in [1, 100, 1_000, 1 << 20] {
        let parts = digests(&mut source, bytes_max);
        assert_eq!(parts, digests(&mut target, bytes_max), "parts of {bytes_max} bytes");
        assert_eq!(parts.len() > 1, bytes_max < 1 << 20);
        let whole: u64 = parts.iter().map(|part| part.bytes).sum();
        assert!(parts.iter().all(|part| part.bytes <= bytes_max.max(200)) && whole > 1_000, "{parts:?}");
    }
    let other = StorageJob::Scrub { group: GROUP, index: LogIndex(42), position: Bytes::new(), bytes_max: 1 };
    assert!(matches!(source.run(other), StorageDone::Scrubbed { digest: None, .. }), "it is at entry 43");
}

#[test]
fn any_changed_byte_of_a_state_changes_the_digest_of_its_part_alone() {
    let mut source = source();
    let before = digests(&mut source, 300);
    let ranges = source.group(GROUP).unwrap().agreed_ranges();
    let mut store = source.into_store();
    let mut records = Vec::new();
    for (start, end) in &ranges {
        let found = store.scan(start, end, false, &mut |key, value| {
            records.push((key, value));
            ControlFlow::Continue(())
        });
        found.unwrap();
    }
    assert!(records.len() > 80);
    let machine = Machine::load(&store, GROUP, GROUPS).unwrap();
    let differ = |store: &MemoryStore| {
        let (mut position, mut differ) = (Bytes::new(), 0);
        for part in &before {
            let digest = machine.digest(store, &position, 300).unwrap();
            differ += usize::from(digest.hash != part.hash);
            position = part.next.clone().unwrap_or_default();
        }
        differ
    };
    for (key, value) in records {
        let put = |store: &mut MemoryStore, value| {
            store.write(WriteSet { changes: [(key.clone(), value)].into() }).unwrap();
        };
        if let Some((last, rest)) = value.split_last() {
            put(&mut store, Some(Bytes::from([rest, &[*last ^ 1]].concat())));
            assert_eq!(differ(&store), 1, "{key:?} changed");
        }
        // What is gone leaves room in its part, or takes its beginning away from the part before.
        put(&mut store, None);
        assert!((1..=2).contains(&differ(&store)), "{key:?} gone");
        put(&mut store, Some(value));
        assert_eq!(differ(&store), 0);
    }
}
