//! The part of a group's log that is kept in memory, which is all of it from the truncation point on: raft-rs reads it
//! synchronously. Payloads are shared with the log writer and the messages to peers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::eraftpb::{ConfState, Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::storage::SnapshotMeta;
use crate::types::{LogIndex, NodeId, Term};

/// About what an entry costs beside its payload, in a message and in memory.
const ENTRY_OVERHEAD_BYTES: u64 = 24;

/// Implements raft-rs's `Storage`.
pub(super) struct LogInMemory {
    hard_state: raft::eraftpb::HardState,
    configuration: ConfState,
    truncated: (LogIndex, Term),
    entries: VecDeque<Entry>,
    snapshots: RefCell<Snapshots>,
}

/// Views that can be sent, and peers that Raft would send one to. Behind a cell, since raft-rs asks through `&self`.
#[derive(Default)]
struct Snapshots {
    available: BTreeMap<u64, Snapshot>,
    wanted: BTreeSet<u64>,
}

impl LogInMemory {
    pub fn new(
        hard_state: raft::eraftpb::HardState,
        configuration: ConfState,
        truncated: (LogIndex, Term),
        entries: impl IntoIterator<Item = Entry>,
    ) -> LogInMemory {
        let mut log = LogInMemory {
            hard_state,
            configuration,
            truncated,
            entries: VecDeque::new(),
            snapshots: RefCell::default(),
        };
        let entries: Vec<Entry> = entries.into_iter().collect();
        log.append(&entries);
        log
    }

    /// Adds entries and drops those that they replace.
    pub fn append(&mut self, new: &[Entry]) {
        let Some(first) = new.first() else { return };
        assert!(first.index > self.truncated.0.0 && first.index <= self.last() + 1, "a gap in the log");
        while self.last() >= first.index {
            self.entries.pop_back();
        }
        self.entries.extend(new.iter().cloned());
    }

    /// Drops entries up to `index`, which must be applied and durable in the store.
    pub fn truncate(&mut self, index: LogIndex) {
        while let Some(first) = self.entries.front()
            && first.index <= index.0
        {
            self.truncated = (LogIndex(first.index), Term(first.term));
            self.entries.pop_front();
        }
    }

    /// Everything is replaced by a snapshot.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        let meta = snapshot.get_metadata();
        self.entries.clear();
        self.truncated = (LogIndex(meta.index), Term(meta.term));
        self.configuration = meta.get_conf_state().clone();
    }

    pub fn truncated(&self) -> (LogIndex, Term) {
        self.truncated
    }

    pub fn last(&self) -> u64 {
        self.truncated.0.0 + self.entries.len() as u64
    }

    /// Those that are there of the entries from `first` to `last`, both included.
    pub fn entries_between(&self, first: LogIndex, last: LogIndex) -> impl Iterator<Item = &Entry> {
        let begin = self.entries.partition_point(|entry| entry.index < first.0);
        self.entries.iter().skip(begin).take_while(move |entry| entry.index <= last.0)
    }

    /// About how many bytes the entries behind `index` have, up to `last`.
    pub fn bytes_between(&self, index: LogIndex, last: LogIndex) -> u64 {
        let begin = self.entries.partition_point(|entry| entry.index <= index.0);
        let between = self.entries.range(begin..).take_while(|entry| entry.index <= last.0);
        between.map(|entry| entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES).sum()
    }

    /// The peers that Raft wanted a snapshot for since the last call.
    pub fn take_wanted_snapshots(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.snapshots.get_mut().wanted).into_iter().map(NodeId).collect()
    }

    /// Makes an open view available for one peer, or no longer.
    pub fn offer_snapshot(&mut self, to: NodeId, meta: Option<(&SnapshotMeta, ConfState)>) {
        let Snapshots { available, wanted } = self.snapshots.get_mut();
        match meta {
            None => {
                available.remove(&to.0);
            }
            Some((meta, configuration)) => {
                let mut snapshot = Snapshot::default();
                let metadata = snapshot.mut_metadata();
                metadata.index = meta.index.0;
                metadata.term = meta.term.0;
                metadata.set_conf_state(configuration);
                available.insert(to.0, snapshot);
                // Whether this one will do Raft says when it looks at it.
                wanted.remove(&to.0);
            }
        }
    }
}

impl Storage for LogInMemory {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.configuration.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let first = self.truncated.0.0 + 1;
        if low < first {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "entries that are not there were asked for");
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let range = (low - first) as usize..(high - first) as usize;
        let fits = |entry: &&Entry| {
            size += entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES;
            size <= max_size
        };
        let mut found: Vec<Entry> = self.entries.range(range.clone()).take_while(fits).cloned().collect();
        if found.is_empty()
            && let Some(one) = self.entries.range(range).next()
        {
            found.push(one.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let (truncated, term) = self.truncated;
        if index == truncated.0 {
            return Ok(term.0);
        }
        if index < truncated.0 {
            return Err(StorageError::Compacted.into());
        }
        let entry = self.entries.get((index - truncated.0 - 1) as usize);
        entry.map(|entry| entry.term).ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.truncated.0.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let mut snapshots = self.snapshots.borrow_mut();
        match snapshots.available.get(&to) {
            Some(snapshot) if snapshot.get_metadata().index >= request_index => Ok(snapshot.clone()),
            _ => {
                snapshots.wanted.insert(to);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}
