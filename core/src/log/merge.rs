//! What a log's records say together: each group's state, as recovery finds it and as a replica keeps it.

use std::collections::BTreeMap;

use crate::storage::SnapshotMeta;
use crate::types::{GroupId, LogIndex, Term};

use super::{HardState, LogEntry, Record, Restated, SegmentId};

/// What the log holds of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLog {
    /// The last hard state.
    pub hard_state: HardState,
    /// The last entry that is gone, and its term; (0, 0) if none ever was.
    pub truncated: (LogIndex, Term),
    /// What follows it, without gaps.
    pub entries: Vec<LogEntry>,
    /// A snapshot whose installation began and did not end: the store holds neither state.
    pub intent: Option<SnapshotMeta>,
}

impl GroupLog {
    /// The index of the last entry, which may be gone.
    pub fn last(&self) -> LogIndex {
        self.entries.last().map_or(self.truncated.0, |entry| entry.index)
    }

    /// The records that say all of this in a new chain. To be pushed together, before any other record of the group.
    pub fn restate(&self, group: GroupId) -> Vec<Record> {
        let restated = Restated {
            hard_state: self.hard_state,
            truncated: self.truncated,
            last: self.last(),
            intent: self.intent.clone(),
        };
        let mut records = vec![Record::Restated(group, restated)];
        if !self.entries.is_empty() {
            records.push(Record::Carried(group, self.entries.clone()));
        }
        records
    }
}

/// A group's log while older and newer records are put together: gaps may still be filled.
#[derive(Debug)]
pub(super) struct Merged {
    hard_state: HardState,
    truncated: (LogIndex, Term),
    entries: BTreeMap<LogIndex, LogEntry>,
    intent: Option<SnapshotMeta>,
    /// The segment of the last record.
    pub(super) seen: SegmentId,
}

impl Merged {
    pub(super) fn new(seen: SegmentId) -> Merged {
        Merged {
            hard_state: HardState::default(),
            truncated: Default::default(),
            entries: BTreeMap::new(),
            intent: None,
            seen,
        }
    }

    /// Takes the next record of this group.
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::HardState(_, hard_state) => self.hard_state = hard_state,
            Record::Append(_, entries) => {
                if let Some(first) = entries.first() {
                    self.entries.split_off(&first.index);
                }
                self.insert(entries);
            }
            Record::Carried(_, entries) => self.insert(entries),
            Record::Truncated(_, index, term) => self.truncate(index, term),
            Record::SnapshotIntent(_, meta) => self.intent = Some(meta),
            Record::SnapshotDone(_, meta) => {
                self.entries.clear();
                self.truncated = (meta.index, meta.term);
                self.intent = None;
            }
            Record::Restated(_, restated) => {
                self.hard_state = restated.hard_state;
                self.truncate(restated.truncated.0, restated.truncated.1);
                // `last` is below the greatest number, or there is nothing behind it.
                if let Some(behind) = restated.last.0.checked_add(1) {
                    self.entries.split_off(&LogIndex(behind));
                }
                self.intent = restated.intent;
            }
        }
    }

    fn insert(&mut self, entries: Vec<LogEntry>) {
        self.entries.extend(entries.into_iter().map(|entry| (entry.index, entry)));
    }

    fn truncate(&mut self, index: LogIndex, term: Term) {
        self.truncated = (index, term);
        while self.entries.first_entry().is_some_and(|first| *first.key() <= index) {
            self.entries.pop_first();
        }
    }

    /// The group's state, unless its entries cannot be those of a Raft log: without gaps, in the order of terms.
    pub(super) fn finish(self) -> Option<GroupLog> {
        let (mut index, mut term) = self.truncated;
        for entry in self.entries.values() {
            if index.0.checked_add(1) != Some(entry.index.0) || entry.term < term {
                return None;
            }
            (index, term) = (entry.index, entry.term);
        }
        Some(GroupLog {
            hard_state: self.hard_state,
            truncated: self.truncated,
            entries: self.entries.into_values().collect(),
            intent: self.intent,
        })
    }
}
