//! What the log should say, kept the plain way.

use std::collections::BTreeMap;

use drey_core::GroupId;
use drey_core::log::{GroupLog, LogEntry, Record};
use drey_core::{LogIndex, Term};

pub type Groups = BTreeMap<GroupId, GroupLog>;

/// The smallest change of a group: a crash leaves all steps up to some point.
#[derive(Clone, Debug)]
pub enum Step {
    /// Anything without entries.
    Record(Record),
    /// One entry, and nothing behind it.
    Append(GroupId, LogEntry),
}

/// The steps of a record. What is only said again is none.
pub fn steps(record: &Record) -> Vec<Step> {
    match record {
        Record::Append(group, entries) => entries.iter().map(|entry| Step::Append(*group, entry.clone())).collect(),
        Record::Carried(..) => vec![],
        // It may truncate; nothing else of it is new.
        Record::Restated(group, restated) => {
            vec![Step::Record(Record::Truncated(*group, restated.truncated.0, restated.truncated.1))]
        }
        other => vec![Step::Record(other.clone())],
    }
}

pub fn apply(groups: &mut Groups, step: &Step) {
    match step {
        Step::Append(group, entry) => {
            let log = groups.entry(*group).or_default();
            log.entries.retain(|old| old.index < entry.index);
            log.entries.push(entry.clone());
        }
        Step::Record(record) => {
            let log = groups.entry(record.group()).or_default();
            match record {
                Record::HardState(_, state) => log.hard_state = *state,
                Record::Truncated(_, index, term) => {
                    log.truncated = (*index, *term);
                    log.entries.retain(|entry| entry.index > *index);
                }
                Record::SnapshotIntent(_, meta) => log.intent = Some(meta.clone()),
                Record::SnapshotDone(_, meta) => {
                    log.entries.clear();
                    log.truncated = (meta.index, meta.term);
                    log.intent = None;
                }
                Record::Append(..) | Record::Carried(..) | Record::Restated(..) => unreachable!("made of other steps"),
            }
        }
    }
}

/// The term of the last entry, which may be gone.
pub fn last_term(log: &GroupLog) -> Term {
    log.entries.last().map_or(log.truncated.1, |entry| entry.term)
}

/// The term of an entry that is there, or of the last one that is gone.
pub fn term_at(log: &GroupLog, index: LogIndex) -> Term {
    log.entries.iter().find(|entry| entry.index == index).map_or(log.truncated.1, |entry| entry.term)
}
