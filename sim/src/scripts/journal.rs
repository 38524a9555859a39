//! Clients that write a journal together: each appends entries of its own to one value, and reads it now and then. Nobody appends an entry
//! twice, so that the value itself says what was done and in which order ([`crate::checker::journals`]).

use bytes::Bytes;
use drey_core::GroupId;
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{BatchOp, Command, Entry, OpResult, Operation, ReadMode, ReadOp, Reply, Write};

use super::{Answer, Ask, Place, Scene, Script, misfit};
use crate::checker::{Violation, journals};
use crate::plan::Plan;
use crate::rng::Rng;

/// The most entries: each is written anew with all before it.
const ENTRIES_MAX: u32 = 600;

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The entry was appended.
    Done,
    /// It was not, and never will be.
    Nothing,
    /// Nobody knows.
    Unknown,
    /// A read found this.
    Read(Vec<u32>),
}

/// An entry's append, or a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which; 0 for a read.
    pub entry: u32,
    /// In the sequence of all calls and returns.
    pub called: u64,
    /// As `called`.
    pub returned: u64,
    /// What came of it.
    pub appended: Appended,
}

/// The journal.
pub struct Journal {
    rng: Rng,
    bucket: BucketName,
    key: Key,
    group: GroupId,
    /// What each client waits for: an entry, or 0 for a read, and since when.
    waiting: Vec<Option<(u32, u64)>>,
    entries: u32,
    /// What was done.
    pub events: Vec<Event>,
    /// What was in it at the end.
    pub last: Option<Vec<u32>>,
}

impl Journal {
    /// An empty one.
    pub fn new(plan: &Plan, buckets: &[BucketName]) -> Journal {
        let mut rng = Rng::stream(plan.seed, "journal", 0);
        let bucket = rng.pick(buckets).clone();
        Journal {
            group: group_of(&bucket, plan.groups),
            bucket,
            key: Key::new("journal").expect("a good key"),
            waiting: vec![None; plan.asks.writers],
            entries: 0,
            events: Vec::new(),
            last: None,
            rng,
        }
    }

    fn get(&self) -> Operation {
        let (bucket, key) = (self.bucket.clone(), self.key.clone());
        Operation::Read(self.group, ReadMode::Linearizable, ReadOp::Get { bucket, key })
    }

    /// In a batch, or in a transaction.
    fn append(&mut self, entry: u32) -> Operation {
        let key = self.key.clone();
        let append = BatchOp::Append { key: key.clone(), value: Bytes::copy_from_slice(&entry.to_le_bytes()) };
        let write = match self.rng.chance(700) {
            true => Write::Batch { ops: vec![append] },
            false => Write::Txn { compare: Vec::new(), success: vec![append], failure: Vec::new() },
        };
        Operation::Write(Command { bucket: self.bucket.clone(), id: None, write })
    }
}

impl Script for Journal {
    fn next(&mut self, client: usize, scene: &Scene<'_>) -> Option<Ask> {
        if self.entries >= ENTRIES_MAX || self.rng.chance(300) {
            self.waiting[client] = Some((0, scene.event));
            return Some(Ask::any(self.get()));
        }
        self.entries += 1;
        let entry = self.entries;
        self.waiting[client] = Some((entry, scene.event));
        Some(Ask::any(self.append(entry)))
    }

    fn answered(&mut self, client: usize, answer: Answer<'_>, _: Place, scene: &Scene<'_>) -> Result<(), Violation> {
        let answer = answer.before_buckets();
        let Some((entry, called)) = self.waiting[client].take() else { return Err(misfit("nothing", answer)) };
        let appended = match (entry, answer) {
            (0, Answer::Refused | Answer::Unknown) => return Ok(()),
            (_, Answer::Refused) => Appended::Nothing,
            (_, Answer::Unknown) => Appended::Unknown,
            (0, Answer::Reply(Reply::Entry(found))) => match entries_of(found.as_ref()) {
                Some(entries) => Appended::Read(entries),
                None => return Err(misfit("a read of the journal", answer)),
            },
            (1.., Answer::Reply(Reply::Batch { results, .. } | Reply::Txn { succeeded: true, results, .. }))
                if matches!(results[..], [OpResult { affected: 1, entry: None }]) =>
            {
                Appended::Done
            }
            _ => return Err(misfit("an entry of the journal", answer)),
        };
        self.events.push(Event { entry, called, returned: scene.event, appended });
        Ok(())
    }

    fn looks(&self) -> usize {
        1
    }

    fn look(&self, _: usize) -> Operation {
        self.get()
    }

    fn looked(&mut self, _: usize, reply: &Reply) -> Result<(), Violation> {
        let entries = match reply {
            Reply::Entry(entry) => entries_of(entry.as_ref()),
            _ => None,
        };
        self.last = Some(entries.ok_or_else(|| misfit("a last look", Answer::Reply(reply)))?);
        Ok(())
    }

    fn check(&self) -> Result<(), Violation> {
        self.last.as_ref().map_or(Ok(()), |last| journals::check(&self.events, last))
    }
}

/// What is in it. None: it is no journal.
fn entries_of(entry: Option<&Entry>) -> Option<Vec<u32>> {
    let bytes = entry.map_or(&[][..], |entry| &entry.value);
    let (entries, rest) = bytes.as_chunks();
    rest.is_empty().then(|| entries.iter().map(|entry| u32::from_le_bytes(*entry)).collect())
}
