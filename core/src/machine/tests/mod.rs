//! Tests of the state machine as a whole: its codecs, and what applying does.

mod applying;
mod codecs;
mod expiry;
mod model;
mod sessions;
mod sizes;
mod strategies;

use bytes::Bytes;

use crate::error::Error;
use crate::machine::Machine;
use crate::machine::entry::{EntryBuilder, Stamp};
use crate::name::{BucketName, Key};
use crate::request::{Command, Condition, Reply, Write};
use crate::storage::Committed;
use crate::store::{MemoryStore, Store};
use crate::types::{GroupId, LogIndex, Term};

/// With one group beside the system group, every bucket is in it.
const GROUP: GroupId = GroupId(1);
const GROUPS: u32 = 1;

fn name(name: &str) -> BucketName {
    BucketName::new(name.to_owned()).unwrap()
}

fn key(key: &str) -> Key {
    Key::new(key.to_owned()).unwrap()
}

fn command(bucket: &str, write: Write) -> Command {
    Command { bucket: name(bucket), id: None, write }
}

fn put(bucket: &str, at: &str, value: &str) -> Command {
    put_if(bucket, at, value, None)
}

fn put_if(bucket: &str, at: &str, value: &str, condition: Option<Condition>) -> Command {
    let value = Bytes::from(value.to_owned());
    command(bucket, Write::Put { key: key(at), value, ttl_ms: None, condition, return_previous: true })
}

fn create(bucket: &str) -> Command {
    let write = Write::CreateBucket { default_ttl_ms: None, max_bytes: None, if_not_exists: false, created_ms: 5 };
    command(bucket, write)
}

fn drop_bucket(bucket: &str) -> Command {
    command(bucket, Write::DropBucket { created_version: None })
}

fn entry(index: u64, commands: &[Command]) -> Committed {
    stamped(index, 0, commands)
}

fn stamped(index: u64, clock_ms: u64, commands: &[Command]) -> Committed {
    let stamp = Stamp { clock_ms, ..Stamp::default() };
    let mut builder = EntryBuilder::new();
    for command in commands {
        builder.push(command);
    }
    Committed {
        index: LogIndex(index),
        term: Term(1),
        commands: builder.finish(0, stamp).into(),
        wants_replies: true,
        configuration: None,
    }
}

/// A machine with its store.
struct Replica {
    store: MemoryStore,
    machine: Machine,
}

impl Replica {
    fn new() -> Replica {
        let store = MemoryStore::new();
        let machine = Machine::load(&store, GROUP, GROUPS).unwrap();
        Replica { store, machine }
    }

    fn apply(&mut self, entries: &[Committed]) -> Vec<Result<Reply, Error>> {
        let (writes, replies) = self.machine.apply(&self.store, entries).unwrap();
        self.store.write(writes).unwrap();
        replies.into_iter().flat_map(|(_, replies)| replies).collect()
    }

    /// Applies one more entry.
    fn run(&mut self, commands: &[Command]) -> Vec<Result<Reply, Error>> {
        let index = self.machine.applied().0 + 1;
        self.apply(&[entry(index, commands)])
    }

    /// Applies one more entry with this stamp.
    fn run_at(&mut self, clock_ms: u64, commands: &[Command]) -> Vec<Result<Reply, Error>> {
        let index = self.machine.applied().0 + 1;
        self.apply(&[stamped(index, clock_ms, commands)])
    }

    fn run_one(&mut self, command: Command) -> Result<Reply, Error> {
        self.run(&[command]).remove(0)
    }

    fn purge_all(&mut self, limit: usize) -> usize {
        let mut steps = 0;
        while self.machine.needs_purge() {
            let writes = self.machine.purge(&self.store, limit, None).unwrap();
            assert!(writes.changes.len() <= limit + 1, "a purge stays within its limit");
            self.store.write(writes).unwrap();
            steps += 1;
        }
        steps
    }
}
