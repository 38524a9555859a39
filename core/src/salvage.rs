//! What can be read of a group when not all of it can: for whoever has nothing else left.
//!
//! An engine fails when it comes to what is damaged, and with it a scan ends. Behind it there may be more to read, but where is not known:
//! so the keys in between are halved again and again, until what cannot be read is small, or enough was tried.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::log::GroupLog;
use crate::machine::{Machine, ValueRecord};
use crate::name::{BucketName, KeyRange};
use crate::raft::Configuration;
use crate::request::Entry;
use crate::storage::Committed;
use crate::store::{Read, Store, StoreError};
use crate::types::{LogIndex, NodeId};

/// A gap is halved so often at the most.
const HALVED_MAX: usize = 8 * HALF_BYTES_MAX;
/// So often something is tried for one bucket.
const TRIES_MAX: usize = 20_000;
/// Keys are halved up to this length.
const HALF_BYTES_MAX: usize = 64;
/// Raft's kind of an entry with commands.
const NORMAL: u8 = 0;

/// Keys of which nothing could be read: between two that could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last key before it; none: it begins with the bucket.
    pub after: Option<Bytes>,
    /// The first key behind it; none: it ends with the bucket.
    pub before: Option<Bytes>,
}

/// What was read of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Salvaged {
    /// Entries that have not expired.
    pub keys: u64,
    /// Their keys and values.
    pub bytes: u64,
    /// What could not be read, in order.
    pub gaps: Vec<Gap>,
}

/// How far a group's state goes when its log was applied to its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// As far as the log does.
    Whole,
    /// What stands in the log behind this entry may or may not have been acknowledged: others voted, and their logs know. It was left out.
    Unsure(LogIndex),
    /// The log begins behind this entry, up to which the store goes: what came between is lost, and with it all that the log has.
    Gap(LogIndex),
    /// Behind this entry the store could not be read, or written.
    Failed(LogIndex, StoreError),
}

/// Applies what stands in a group's log and not in its store: what is committed, as far as the log knows; or all of it, if `node` was the
/// group's only voter.
pub fn replay<S: Store>(store: &mut S, machine: &mut Machine, log: &GroupLog, node: NodeId) -> Replayed {
    if machine.applied() < log.truncated.0 {
        return Replayed::Gap(machine.applied());
    }
    let alone =
        Configuration::decode(machine.configuration()).is_ok_and(|known| known.voters() == [node] && !known.is_joint());
    let changes = log.entries.iter().any(|entry| entry.kind != NORMAL && entry.index > machine.applied());
    let committed = if alone && !changes { log.last() } else { log.hard_state.commit.max(machine.applied()) };
    for entry in log.entries.iter().filter(|entry| entry.index <= committed) {
        if entry.index <= machine.applied() {
            continue;
        }
        let commands = if entry.kind == NORMAL { entry.data.clone() } else { Bytes::new() };
        let committed =
            Committed { index: entry.index, term: entry.term, commands, wants_replies: false, configuration: None };
        let written = machine.apply(store, &[committed]).and_then(|(writes, _)| store.write(writes));
        if let Err(error) = written {
            return Replayed::Failed(LogIndex(entry.index.0 - 1), error);
        }
    }
    if committed < log.last() { Replayed::Unsure(committed) } else { Replayed::Whole }
}

/// Reads all of a bucket that can be read, in any order.
pub fn salvage(
    reader: &dyn Read,
    machine: &Machine,
    name: &BucketName,
    visit: &mut dyn FnMut(Entry),
) -> Option<Salvaged> {
    let data = machine.generation().data(machine.buckets().get(name)?.created_version);
    let (start, end) = data.range(&KeyRange::default());
    let mut reading =
        Reading { reader, machine, prefix: data.len(), visit, salvaged: Salvaged::default(), ends: Vec::new() };
    let mut lost = Vec::new();
    let mut gaps = VecDeque::new();
    if let Some(from) = reading.read(&start, &end) {
        gaps.push_back((from, end, 0));
    }
    let mut tries = 0;
    // The oldest are the widest.
    while let Some((from, to, halved)) = gaps.pop_front() {
        let middle = between(&from, &to).filter(|_| halved < HALVED_MAX && tries < TRIES_MAX);
        let Some(middle) = middle else {
            lost.push((from, to));
            continue;
        };
        tries += 1;
        if let Some(failed_at) = reading.read(&middle, &to) {
            gaps.push_back((failed_at, to, halved + 1));
        }
        gaps.push_back((from, middle, halved + 1));
    }
    Some(reading.end(lost))
}

struct Reading<'a> {
    reader: &'a dyn Read,
    machine: &'a Machine,
    /// What stands in front of the user's keys.
    prefix: usize,
    visit: &'a mut dyn FnMut(Entry),
    salvaged: Salvaged,
    /// The first and the last key of each stretch that was read.
    ends: Vec<Bytes>,
}

impl Reading<'_> {
    /// Reads from one key of the store (included) up to another, or to what cannot be read: then, from where on.
    fn read(&mut self, start: &[u8], end: &[u8]) -> Option<Vec<u8>> {
        let (mut first, mut last, mut unreadable) = (None, None, None);
        let scanned = self.reader.scan(start, end, false, &mut |key, value| {
            let Ok(record) = ValueRecord::decode(value) else {
                unreadable = Some(key);
                return ControlFlow::Break(());
            };
            first.get_or_insert_with(|| key.clone());
            if record.lives_at(self.machine.clock_ms()) {
                let entry = record.entry(&key.slice(self.prefix..), self.machine.clock_ms());
                self.salvaged.keys += 1;
                self.salvaged.bytes += (entry.key.len() + entry.value.len()) as u64;
                (self.visit)(entry);
            }
            last = Some(key);
            ControlFlow::Continue(())
        });
        self.ends.extend(first.into_iter().chain(last.clone()));
        match (scanned, unreadable) {
            (Ok(()), None) => None,
            _ => Some(last.map_or(start.to_vec(), |last| [&last[..], &[0]].concat())),
        }
    }

    fn end(mut self, mut lost: Vec<(Vec<u8>, Vec<u8>)>) -> Salvaged {
        lost.sort_unstable();
        self.ends.sort_unstable();
        for (from, to) in lost {
            let user_key = |key: &Bytes| key.slice(self.prefix..);
            let behind = self.ends.partition_point(|key| key[..] < from[..]);
            let after = behind.checked_sub(1).map(|at| user_key(&self.ends[at]));
            let before = self.ends[behind..].iter().find(|key| key[..] >= to[..]).map(user_key);
            let gap = Gap { after, before };
            if self.salvaged.gaps.last() != Some(&gap) {
                self.salvaged.gaps.push(gap);
            }
        }
        self.salvaged
    }
}

/// A key about half way between two, if there is any: they are taken for numbers behind a point.
fn between(from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let digits = (from.len().max(to.len()) + 1).min(HALF_BYTES_MAX);
    let digit = |key: &[u8], at: usize| u32::from(key.get(at).copied().unwrap_or_default());
    let mut carry = 0;
    let mut sum: Vec<u32> = (0..digits).map(|at| digit(from, at) + digit(to, at)).collect();
    for digit in sum.iter_mut().rev() {
        *digit += carry;
        (carry, *digit) = (*digit >> 8, *digit & 0xff);
    }
    let mut middle = Vec::with_capacity(digits);
    for digit in sum {
        let value = carry << 8 | digit;
        middle.push((value >> 1) as u8);
        carry = value & 1;
    }
    (middle[..] > *from && middle[..] < *to).then_some(middle)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::machine::entry::{EntryBuilder, Stamp};
    use crate::name::Key;
    use crate::request::{Command, Write};
    use crate::store::MemoryStore;
    use crate::types::{GroupId, Term};

    /// A store that cannot read some of its keys, nor those that lie in a block with them.
    struct Damaged {
        store: MemoryStore,
        blocks: Vec<(Vec<u8>, Vec<u8>)>,
    }

    impl Read for Damaged {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            self.store.get(key)
        }

        fn scan(
            &self,
            start: &[u8],
            end: &[u8],
            reverse: bool,
            visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
        ) -> Result<(), StoreError> {
            let mut damaged = false;
            self.store.scan(start, end, reverse, &mut |key, value| {
                damaged = self.blocks.iter().any(|(first, last)| first[..] <= key[..] && key[..] <= last[..]);
                if damaged { ControlFlow::Break(()) } else { visit(key, value) }
            })?;
            if damaged { Err(StoreError::Damaged("a block".into())) } else { Ok(()) }
        }
    }

    fn put(number: u64) -> Command {
        let (key, value) = (Key::new(format!("some-key-{number:06}")).unwrap(), Bytes::from(vec![b'v'; 10]));
        let write = Write::Put { key, value, ttl_ms: None, condition: None, return_previous: false };
        Command { bucket: BucketName::DEFAULT, id: None, write }
    }

    /// A group's log with a put in each entry.
    fn log(puts: u64) -> GroupLog {
        let entry = |index| {
            let mut builder = EntryBuilder::new();
            builder.push(&put(index));
            crate::log::LogEntry {
                index: LogIndex(index),
                term: Term(1),
                kind: NORMAL,
                data: builder.finish(0, Stamp::default()).into(),
                context: Bytes::new(),
            }
        };
        let mut log = GroupLog { entries: (1..=puts).map(entry).collect(), ..GroupLog::default() };
        log.hard_state.commit = LogIndex(puts / 2);
        log
    }

    fn machine_of(store: &MemoryStore, voters: &[u64]) -> Machine {
        let mut machine = Machine::load(store, GroupId(1), 1).unwrap();
        machine.found((LogIndex(0), Term(0)), Configuration::of(voters.iter().copied().map(NodeId)).encode(), &[]);
        machine
    }

    #[test]
    fn what_is_committed_is_applied_and_all_of_it_if_nobody_else_voted() {
        for (voters, expected, applied) in [
            (&[1, 2, 3][..], Replayed::Unsure(LogIndex(500)), 500),
            (&[1], Replayed::Whole, 1000),
            (&[2], Replayed::Unsure(LogIndex(500)), 500),
        ] {
            let mut store = MemoryStore::new();
            let mut machine = machine_of(&store, voters);
            for _ in 0..2 {
                assert_eq!(replay(&mut store, &mut machine, &log(1000), NodeId(1)), expected);
                assert_eq!(machine.applied(), LogIndex(applied));
            }
        }
    }

    #[test]
    fn a_store_that_ends_before_its_log_begins_is_not_called_whole() {
        let mut store = MemoryStore::new();
        let mut machine = machine_of(&store, &[1]);
        let mut log = log(1000);
        log.entries.drain(..100);
        log.truncated = (LogIndex(100), Term(1));
        assert_eq!(replay(&mut store, &mut machine, &log, NodeId(1)), Replayed::Gap(LogIndex(0)));
        assert_eq!(machine.applied(), LogIndex(0), "nothing of it is applied");
    }

    #[test]
    fn all_but_what_is_damaged_is_found() {
        let mut store = MemoryStore::new();
        let mut machine = machine_of(&store, &[1]);
        assert_eq!(replay(&mut store, &mut machine, &log(1000), NodeId(1)), Replayed::Whole);
        let data = machine.generation().data(machine.buckets()[&BucketName::DEFAULT].created_version);
        let key = |number: u64| format!("some-key-{number:06}");
        let block = |(from, to)| (data.key(key(from).as_bytes()).to_vec(), data.key(key(to).as_bytes()).to_vec());
        for blocks in
            [vec![], vec![(1, 9)], vec![(990, 1000)], vec![(5, 5), (100, 140), (142, 150), (999, 999)], vec![(1, 1000)]]
        {
            let damaged = Damaged { store: store.clone(), blocks: blocks.iter().copied().map(block).collect() };
            let mut found = BTreeSet::new();
            let mut visit = |entry: Entry| assert!(found.insert(entry.key), "each once");
            let salvaged = salvage(&damaged, &machine, &BucketName::DEFAULT, &mut visit).unwrap();
            let is_lost = |number: &u64| blocks.iter().any(|(from, to)| (from..=to).contains(&number));
            let expected: BTreeSet<Bytes> = (1..=1000).filter(|n| !is_lost(n)).map(|n| key(n).into()).collect();
            assert_eq!(found, expected, "{blocks:?}");
            assert_eq!(salvaged.keys, expected.len() as u64);
            let gap = |&(from, to): &(u64, u64)| Gap {
                after: (from > 1).then(|| key(from - 1).into()),
                before: (to < 1000).then(|| key(to + 1).into()),
            };
            assert_eq!(salvaged.gaps, blocks.iter().map(gap).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_middle_is_between() {
        let cases: [(&[u8], &[u8]); 5] =
            [(b"a", b"c"), (b"a", b"b"), (b"", b"\xff"), (b"a\x00", b"a\x01"), (b"key-1", b"key-2")];
        for (from, to) in cases {
            let middle = between(from, to).unwrap();
            assert!(from < &middle[..] && &middle[..] < to, "{from:?} {middle:?} {to:?}");
        }
        assert_eq!(between(b"a", b"a"), None);
    }
}
