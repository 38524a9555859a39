//! Acknowledged implies durable: what a key holds at the end is not older than the last acknowledged write of it.
//!
//! Linearizability implies it when the history ends with reads of everything. This is the same law without a search, so that
//! it speaks clearly when it is broken, and also says when the reads at the end are missing.

use std::collections::BTreeMap;

use super::Violation;
use crate::history::{Call, History, ObjectId, Operation, Outcome, Slot, Step};

const LAW: &str = "acknowledged implies durable";

/// Checks the last read of every key that was ever written.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut keys: BTreeMap<(ObjectId, Slot), Key<'_>> = BTreeMap::new();
    for operation in &history.operations {
        for (slot, effect) in effects(operation) {
            let key = keys.entry((operation.object, slot)).or_default();
            match effect {
                Effect::Put(version) if key.put.is_none_or(|(greatest, _)| version > greatest) => {
                    key.put = Some((version, operation));
                }
                Effect::Put(_) => {}
                Effect::MayDelete => key.deletes.push(operation),
                Effect::Read(version) => key.last_read = Some((version, operation)),
            }
        }
    }
    keys.values().try_for_each(Key::check)
}

/// What is known of a key.
#[derive(Default)]
struct Key<'a> {
    /// The acknowledged put with the greatest version.
    put: Option<(u64, &'a Operation)>,
    /// What removed it or may have.
    deletes: Vec<&'a Operation>,
    /// The last read by the order of calls, with the version seen, if any.
    last_read: Option<(Option<u64>, &'a Operation)>,
}

impl Key<'_> {
    fn check(&self) -> Result<(), Violation> {
        let Some((written, put)) = self.put else { return Ok(()) };
        let Some((version, read)) = self.last_read.filter(|(_, read)| read.called > put.returned) else {
            return Err(Violation::new(LAW, format!("nobody looked for it at the end: {put:?}")));
        };
        match version {
            Some(version) if version >= written => Ok(()),
            Some(_) => Err(Violation::new(LAW, format!("{put:?} is gone: the last read is {read:?}"))),
            // Absent: then something deleted it that did not end before the put began.
            None if self.deletes.iter().any(|delete| may_explain(delete, written, put, read)) => Ok(()),
            None => Err(Violation::new(LAW, format!("{put:?} is gone and nothing deleted it: {read:?}"))),
        }
    }
}

/// Whether a delete may have come between a put of this version and a read that found nothing.
fn may_explain(delete: &Operation, written: u64, put: &Operation, read: &Operation) -> bool {
    let ended_before = delete.outcome != Outcome::Unknown && delete.returned < put.called;
    let older = delete.written_version().is_some_and(|version| version < written);
    delete.called < read.returned && !ended_before && !older
}

enum Effect {
    Put(u64),
    MayDelete,
    Read(Option<u64>),
}

fn effects(operation: &Operation) -> Vec<(Slot, Effect)> {
    match (&operation.call, &operation.outcome) {
        (Call::Read(_) | Call::Scan, Outcome::Read(found)) => operation
            .call
            .slots_read(found.len())
            .into_iter()
            .zip(found)
            .map(|(slot, found)| (slot, Effect::Read(found.map(|(_, version)| version))))
            .collect(),
        (Call::Put { slot, .. }, Outcome::Put { applied: true, version, .. }) => vec![(*slot, Effect::Put(*version))],
        (Call::Delete { slot, .. }, Outcome::Delete { applied: true, .. } | Outcome::Unknown) => {
            vec![(*slot, Effect::MayDelete)]
        }
        (Call::Batch(steps), Outcome::Batch { version, .. }) => steps
            .iter()
            .filter_map(|step| match step {
                Step::Put(slot, _) => Some((*slot, Effect::Put(*version))),
                Step::Delete(slot) => Some((*slot, Effect::MayDelete)),
                Step::Get(_) => None,
            })
            .collect(),
        (Call::Batch(steps), Outcome::Unknown) => steps
            .iter()
            .filter_map(|step| match step {
                Step::Delete(slot) => Some((*slot, Effect::MayDelete)),
                Step::Put(..) | Step::Get(_) => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
