//! What applying entries does: as the model says, the same however entries are cut into batches, and nothing twice.

use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Model, ModelValue};
use super::strategies::{meeting_command, stamped_entries};
use super::*;
use crate::limits::{REPLY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::name::KeyRange;
use crate::request::{BatchOp, Entry, OpResult};
use crate::store::{Read, StoreError};
use crate::types::Version;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_machine_agrees_with_the_model(entries in stamped_entries(0..10)) {
        let mut replica = Replica::new();
        let mut model = Model::new();
        for (clock_ms, commands) in &entries {
            prop_assert_eq!(replica.run_at(*clock_ms, commands), model.entry(*clock_ms, commands));
        }
        prop_assert_eq!(replica.machine.version().0, model.version);
        prop_assert_eq!(replica.machine.clock_ms(), model.clock_ms);
        let mut live = 1;
        for (name, bucket) in &model.buckets {
            let mut scan = replica.machine.scan(name, &KeyRange::default(), 0, false, false).unwrap();
            let (found, _) = scan.page(&replica.store, model.clock_ms).unwrap();
            let found: Vec<_> = found.into_iter().map(|entry| (entry.key.clone(), ModelValue {
                version: entry.version.0,
                value: entry.value,
                expiry_ms: entry.ttl_ms.map(|ttl_ms| model.clock_ms + ttl_ms),
            })).collect();
            prop_assert_eq!(&found, &bucket.pairs.clone().into_iter().collect::<Vec<_>>());
            live += found.len() + bucket.index.len() + usize::from(*name != BucketName::DEFAULT);
        }
        live += model.sessions.values().map(|session| 1 + session.answers.len()).sum::<usize>();
        prop_assert_eq!(replica.machine.buckets().len(), model.buckets.len());
        let next = model.buckets.values().filter_map(|bucket| bucket.index.first()).map(|(expiry_ms, _)| *expiry_ms).min();
        let due = replica.machine.clock().next_due_ms;
        prop_assert!(due.is_some() || next.is_none());
        prop_assert!(due.zip(next).is_none_or(|(due, next)| due <= next), "nothing is due before it is said to be");
        let loaded = Machine::load(&replica.store, GROUP, GROUPS).unwrap();
        prop_assert_eq!(loaded.clock().next_due_ms, next);
        let hash = replica.machine.state_hash(&replica.store).unwrap();
        replica.purge_all(2);
        prop_assert_eq!(replica.store.len(), if entries.is_empty() { 0 } else { live }, "a purge leaves what is live");
        prop_assert_eq!(replica.machine.state_hash(&replica.store).unwrap(), hash, "a purge changes no state");
    }

    #[test]
    fn how_entries_are_cut_does_not_matter(entries in stamped_entries(1..12), cuts in vec(any::<bool>(), 12)) {
        let stamped = |(at, (clock_ms, commands)): (usize, &(u64, Vec<Command>))| {
            super::stamped(at as u64 + 1, *clock_ms, commands)
        };
        let entries: Vec<_> = entries.iter().enumerate().map(stamped).collect();
        let mut whole = Replica::new();
        let expected = whole.apply(&entries);
        let mut cut = Replica::new();
        let mut replies = Vec::new();
        let mut batch = Vec::new();
        for (entry, cut_here) in entries.iter().zip(&cuts) {
            batch.push(entry.clone());
            if *cut_here {
                replies.extend(cut.apply(&batch));
                batch.clear();
                // A restart in between.
                cut.machine = Machine::load(&cut.store, GROUP, GROUPS).unwrap();
            }
        }
        replies.extend(cut.apply(&batch));
        prop_assert_eq!(replies, expected);
        prop_assert_eq!(cut.store.pairs(), whole.store.pairs());
        let hashes = [&cut, &whole].map(|replica| replica.machine.state_hash(&replica.store).unwrap());
        prop_assert_eq!(hashes[0], hashes[1]);
    }

    #[test]
    fn entries_that_were_applied_are_skipped(entries in vec(vec(meeting_command(), 0..6), 1..8), from in 0usize..8) {
        let entries: Vec<_> = entries.iter().enumerate().map(|(at, commands)| entry(at as u64 + 1, commands)).collect();
        let mut replica = Replica::new();
        replica.apply(&entries);
        let before = replica.store.pairs();
        prop_assert_eq!(replica.apply(&entries[from.min(entries.len())..]), vec![]);
        prop_assert_eq!(replica.store.pairs(), before);
    }

    #[test]
    fn committed_garbage_is_answered_alike_and_harms_nobody(garbage in vec(any::<u8>(), 0..80)) {
        let mut one = Replica::new();
        let mut other = Replica::new();
        let entries = [
            Committed { index: LogIndex(1), term: Term(1), commands: garbage.into(), wants_replies: true, configuration: None },
            entry(2, &[put("default", "k", "v")]),
        ];
        let replies = one.apply(&entries);
        prop_assert_eq!(&other.apply(&entries), &replies);
        prop_assert_eq!(one.machine.applied(), LogIndex(2));
        let put_applied = matches!(replies.last(), Some(Ok(Reply::Put { applied: true, .. })));
        prop_assert!(put_applied);
    }
}

/// A store that must not be read.
struct Unreadable;

impl Read for Unreadable {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Err(StoreError::Failed(format!("key {key:?} was read")))
    }

    fn scan(
        &self,
        _: &[u8],
        _: &[u8],
        _: bool,
        _: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Failed("a range was read".to_owned()))
    }
}

fn blind_put(at: &str) -> Command {
    let write = Write::Put { key: key(at), value: Bytes::new(), ttl_ms: None, condition: None, return_previous: false };
    command("default", write)
}

#[test]
fn a_blind_put_reads_nothing() {
    let Replica { mut machine, .. } = Replica::new();
    let batch = Write::Batch { ops: vec![BatchOp::Put { key: key("b"), value: Bytes::new(), ttl_ms: None }] };
    let entries = [entry(1, &[blind_put("a"), command("default", batch), blind_put("a")])];
    let (writes, replies) = machine.apply(&Unreadable, &entries).unwrap();
    assert_eq!(replies[0].1.len(), 3);
    assert_eq!(writes.changes.len(), 3, "two keys and the meta record");
    // The control: one that does read.
    let reading = [entry(2, &[put("default", "c", "v")])];
    assert!(machine.apply(&Unreadable, &reading).is_err());
}

#[test]
fn a_command_sees_those_before_it_in_the_batch() {
    let mut replica = Replica::new();
    let created = Condition::VersionIs(Version(1));
    let replies = replica.run(&[put("default", "k", "1"), put_if("default", "k", "2", Some(created))]);
    let previous = Entry { key: "k".into(), value: "1".into(), version: Version(1), ttl_ms: None };
    assert_eq!(replies[1], Ok(Reply::Put { applied: true, version: Version(2), previous: Some(previous) }));
}

#[test]
fn a_bucket_that_is_made_again_starts_empty() {
    let mut replica = Replica::new();
    replica.run(&[create("b"), put("b", "k", "old")]);
    let replies = replica.run(&[drop_bucket("b"), create("b"), put("b", "k", "new")]);
    assert!(matches!(&replies[2], Ok(Reply::Put { applied: true, previous: None, .. })), "{replies:?}");
    assert!(replica.machine.needs_purge());
    // The mark of what is to be purged survives a restart.
    replica.machine = Machine::load(&replica.store, GROUP, GROUPS).unwrap();
    assert!(replica.machine.needs_purge());
    replica.purge_all(10);
    let reply = replica.machine.get(&replica.store, &name("b"), &key("k"), 0).unwrap();
    assert!(matches!(&reply, Ok(Reply::Entry(Some(entry))) if entry.value == "new"));
    assert_eq!(replica.store.len(), 3, "the meta record, the bucket, the key");
}

#[test]
fn a_drop_of_another_bucket_of_that_name_does_nothing() {
    let mut replica = Replica::new();
    replica.run(&[create("b")]);
    let drop_version = |version| command("b", Write::DropBucket { created_version: Some(Version(version)) });
    assert_eq!(replica.run_one(drop_version(9)), Ok(Reply::Dropped { existed: false }));
    assert_eq!(replica.run_one(drop_version(1)), Ok(Reply::Dropped { existed: true }));
    assert_eq!(replica.run_one(drop_bucket("b")), Ok(Reply::Dropped { existed: false }));
}

#[test]
fn a_batch_that_reads_too_much_changes_nothing() {
    let mut replica = Replica::new();
    let large = Bytes::from(vec![1; VALUE_BYTES_MAX]);
    let write = Write::Put { key: key("large"), value: large, ttl_ms: None, condition: None, return_previous: false };
    replica.run(&[command("default", write), put("default", "k", "before")]);
    let before = replica.store.pairs();
    let get = BatchOp::Get { key: key("large") };
    let mut ops = vec![
        BatchOp::Put { key: key("k"), value: "after".into(), ttl_ms: None },
        BatchOp::Put { key: key("new"), value: "after".into(), ttl_ms: None },
        BatchOp::Delete { key: key("k") },
    ];
    ops.extend(vec![get; REPLY_BYTES_MAX / VALUE_BYTES_MAX + 1]);
    let refused = replica.run(&[put("default", "k", "between"), command("default", Write::Batch { ops })]);
    assert!(matches!(refused[1], Err(Error::InvalidArgument(_))));
    assert_eq!(replica.machine.version(), Version(3), "the put alone took a version");
    let reply = replica.machine.get(&replica.store, &BucketName::DEFAULT, &key("k"), 0).unwrap();
    assert!(matches!(&reply, Ok(Reply::Entry(Some(entry))) if entry.value == "between"));
    assert_eq!(replica.store.len(), before.len());
}

#[test]
fn a_batch_has_one_version_and_sees_itself() {
    let mut replica = Replica::new();
    replica.run(&[put("default", "gone", "1")]);
    let ops = vec![
        BatchOp::Delete { key: key("gone") },
        BatchOp::Get { key: key("gone") },
        BatchOp::Put { key: key("k"), value: "1".into(), ttl_ms: None },
        BatchOp::Get { key: key("k") },
        BatchOp::Delete { key: key("never") },
    ];
    let found = Entry { key: "k".into(), value: "1".into(), version: Version(2), ttl_ms: None };
    let results = vec![
        OpResult { affected: 1, entry: None },
        OpResult::default(),
        OpResult { affected: 1, entry: None },
        OpResult { affected: 0, entry: Some(found) },
        OpResult::default(),
    ];
    let reply = replica.run_one(command("default", Write::Batch { ops }));
    assert_eq!(reply, Ok(Reply::Batch { version: Version(2), results }));
}

#[test]
fn a_bucket_of_another_group_is_not_made_here() {
    let store = MemoryStore::new();
    for group in 0..=16 {
        let mut machine = Machine::load(&store, GroupId(group), 16).unwrap();
        let owned = crate::placement::group_of(&name("b"), 16) == GroupId(group);
        let (_, replies) = machine.apply(&store, &[entry(1, &[create("b")])]).unwrap();
        assert_eq!(replies[0].1[0].is_ok(), owned, "group {group}");
    }
}

#[test]
fn the_configuration_is_kept_with_the_applied_index() {
    let Replica { mut store, mut machine } = Replica::new();
    let configuration = Bytes::from_static(b"three voters");
    let change = Committed {
        index: LogIndex(1),
        term: Term(3),
        commands: Bytes::new(),
        wants_replies: true,
        configuration: Some(configuration.clone()),
    };
    let (writes, replies) = machine.apply(&store, &[change]).unwrap();
    assert_eq!(replies, [(LogIndex(1), vec![])]);
    assert_eq!(writes.changes.len(), 1, "one record holds both");
    store.write(writes).unwrap();
    let loaded = Machine::load(&store, GROUP, GROUPS).unwrap();
    assert_eq!(loaded.configuration(), &configuration);
    assert_eq!((loaded.applied(), loaded.applied_term()), (LogIndex(1), Term(3)));
}

#[test]
#[should_panic(expected = "an entry is missing")]
fn a_gap_is_a_broken_invariant() {
    Replica::new().apply(&[entry(2, &[])]);
}

#[test]
fn a_damaged_record_is_an_error_of_the_store() {
    let mut replica = Replica::new();
    replica.run(&[put("default", "k", "v")]);
    let mut writes = crate::store::WriteSet::default();
    let at = replica.machine.generation().data(Version(0)).key(b"k");
    writes.changes.insert(at, Some(Bytes::from_static(b"\x80")));
    replica.store.write(writes).unwrap();
    assert!(replica.machine.get(&replica.store, &BucketName::DEFAULT, &key("k"), 0).is_err());
    let mut scan = replica.machine.scan(&BucketName::DEFAULT, &KeyRange::default(), 0, false, false).unwrap();
    assert!(scan.page(&replica.store, 0).is_err());
    assert!(replica.machine.apply(&replica.store, &[entry(2, &[put("default", "k", "v")])]).is_err());
}

#[test]
fn an_epoch_raises_versions_past_any_that_was_handed_out() {
    let mut replica = Replica::new();
    let run = |replica: &mut Replica, index: u64, epoch: u64| {
        let mut builder = EntryBuilder::new();
        builder.push(&put("default", "k", "v"));
        let commands = builder.finish(epoch, Stamp::default()).into();
        let entry =
            Committed { index: LogIndex(index), term: Term(1), commands, wants_replies: true, configuration: None };
        let (writes, replies) = replica.machine.apply(&replica.store, &[entry]).unwrap();
        replica.store.write(writes).unwrap();
        match &replies[0].1[0] {
            Ok(Reply::Put { version, .. }) => *version,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run(&mut replica, 1, 0), Version(1));
    let raised = run(&mut replica, 2, 1);
    assert!(raised > Version(1 << 40), "writes that are not known here may have had a trillion versions");
    assert_eq!(run(&mut replica, 3, 1).0, raised.0 + 1, "once for an epoch");
    assert_eq!(run(&mut replica, 4, 0).0, raised.0 + 2, "and never back");
    let again = Machine::load(&replica.store, GROUP, GROUPS).unwrap();
    assert_eq!(again.version().0, raised.0 + 2);
    assert!(run(&mut replica, 5, 7) > Version(raised.0 + (1 << 40)));
}
