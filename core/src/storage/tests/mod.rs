//! Tests of the storage worker, through its jobs alone.

mod crashes;
mod scans;
mod scrubs;
mod snapshots;

use bytes::Bytes;

use crate::machine::Machine;
use crate::machine::entry::{EntryBuilder, Stamp};
use crate::name::{BucketName, Key};
use crate::request::{Command, Write};
use crate::storage::{Committed, Origin, SnapshotMeta, StorageDone, StorageJob, StorageWorker};
use crate::store::MemoryStore;
use crate::types::{GroupId, LogIndex, NodeId, Term, Ticket};

/// With one group beside the system group, every bucket is in it.
const GROUP: GroupId = GroupId(1);
const GROUPS: u32 = 1;

fn worker(store: MemoryStore) -> StorageWorker<MemoryStore> {
    let machines = [GroupId(0), GROUP].map(|group| Machine::load(&store, group, GROUPS).unwrap());
    StorageWorker::new(store, machines, 1)
}

/// Of what is staged, when that does not matter.
fn origin() -> Origin {
    Origin { from: NodeId(9), transfer: 1, meta: SnapshotMeta::default() }
}

fn name(name: &str) -> BucketName {
    BucketName::new(name.to_owned()).unwrap()
}

fn key(key: &str) -> Key {
    Key::new(key.to_owned()).unwrap()
}

fn create(bucket: &str) -> Command {
    let write = Write::CreateBucket { default_ttl_ms: None, max_bytes: None, if_not_exists: false, created_ms: 5 };
    Command { bucket: name(bucket), id: None, write }
}

fn drop_bucket(bucket: &str) -> Command {
    Command { bucket: name(bucket), id: None, write: Write::DropBucket { created_version: None } }
}

fn put(bucket: &str, at: &str, value: impl Into<Bytes>) -> Command {
    let write = Write::Put { key: key(at), value: value.into(), ttl_ms: None, condition: None, return_previous: false };
    Command { bucket: name(bucket), id: None, write }
}

fn put_for(bucket: &str, at: &str, ttl_ms: u64) -> Command {
    let mut command = put(bucket, at, "v");
    if let Write::Put { ttl_ms: ttl, .. } = &mut command.write {
        *ttl = Some(ttl_ms);
    }
    command
}

fn entry(index: u64, commands: &[Command]) -> Committed {
    stamped(index, 0, commands)
}

fn stamped(index: u64, clock_ms: u64, commands: &[Command]) -> Committed {
    let stamp = Stamp { clock_ms, walls_ahead_ms: -7, counted_since: Term(2) };
    let mut builder = EntryBuilder::new();
    commands.iter().for_each(|command| builder.push(command));
    Committed {
        index: LogIndex(index),
        term: Term(2),
        commands: builder.finish(0, stamp).into(),
        wants_replies: false,
        configuration: None,
    }
}

fn apply_job(index: u64, commands: &[Command]) -> StorageJob {
    StorageJob::Apply { group: GROUP, entries: vec![entry(index, commands)] }
}

impl StorageWorker<MemoryStore> {
    /// Applies one more entry.
    fn apply_next(&mut self, commands: &[Command]) {
        self.apply_at(0, commands);
    }

    /// Applies one more entry, with this stamp.
    fn apply_at(&mut self, clock_ms: u64, commands: &[Command]) {
        let next = self.group(GROUP).unwrap().applied().0 + 1;
        let entries = vec![stamped(next, clock_ms, commands)];
        let done = self.run(StorageJob::Apply { group: GROUP, entries });
        assert!(matches!(done, StorageDone::Applied { index, .. } if index.0 == next), "{done:?}");
    }

    fn purge_all(&mut self) {
        while self.run(StorageJob::Purge { group: GROUP, limit: 3 })
            == (StorageDone::Purged { group: GROUP, more: true, full: None })
        {}
    }

    /// Reads the whole of a snapshot.
    fn snapshot(&mut self, bytes_max: usize) -> (SnapshotMeta, Vec<Bytes>) {
        let ticket = Ticket(77);
        let StorageDone::SnapshotOpened { meta, .. } = self.run(StorageJob::SnapshotOpen { group: GROUP, ticket })
        else {
            panic!("not opened")
        };
        let mut chunks = Vec::new();
        loop {
            match self.run(StorageJob::SnapshotRead { ticket, bytes_max }) {
                StorageDone::SnapshotChunk { data, last, .. } => {
                    chunks.push(data);
                    if last {
                        break;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.run(StorageJob::SnapshotClose { ticket }), StorageDone::SnapshotClosed);
        (meta, chunks)
    }

    /// Why a chunk was refused, if it was.
    fn stage(&mut self, chunk: u64, data: &Bytes) -> Option<String> {
        match self.run(StorageJob::SnapshotStage { group: GROUP, origin: origin(), chunk, data: data.clone() }) {
            StorageDone::SnapshotStaged { refused, chunk: answered, .. } => {
                assert_eq!(answered, chunk);
                refused
            }
            other => panic!("{other:?}"),
        }
    }

    fn install(&mut self, meta: &SnapshotMeta) {
        let done = self.run(StorageJob::SnapshotInstall { group: GROUP, meta: meta.clone() });
        let clock = self.group(GROUP).unwrap().clock();
        assert_eq!(done, StorageDone::SnapshotInstalled { group: GROUP, meta: meta.clone(), clock, members: None });
    }

    fn hash(&self) -> u64 {
        self.state_hash(GROUP).unwrap()
    }
}

#[test]
fn a_persist_reports_what_every_group_had_applied() {
    let mut worker = worker(MemoryStore::with_crashes());
    worker.apply_next(&[put("default", "k", "v")]);
    worker.apply_next(&[]);
    assert_eq!(worker.store().batches_since_persist(), 2);
    let applied = vec![(GroupId(0), LogIndex(0)), (GROUP, LogIndex(2))];
    assert_eq!(worker.run(StorageJob::Persist), StorageDone::Persisted { applied });
    assert_eq!(worker.store().batches_since_persist(), 0);
}

#[test]
fn a_group_that_is_not_here_is_a_failure() {
    let mut worker = worker(MemoryStore::new());
    let done = worker.run(StorageJob::Purge { group: GroupId(9), limit: 1 });
    assert!(matches!(done, StorageDone::Failed(_)));
}
