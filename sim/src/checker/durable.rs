//! Acknowledged implies durable: what a key holds at the end is not older than the last acknowledged write of it.
//!
//! Linearizability implies it when the history ends with reads of everything. This is the same law without a search, so that
//! it speaks clearly when it is broken, and also says when the reads at the end are missing.

use std::collections::BTreeMap;

use super::Violation;
use crate::history::{Call, History, OBJECT_KEYS_MAX, ObjectId, Operation, Outcome, Slot};

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
    let Operation { call, outcome, .. } = operation;
    match (call, outcome) {
        (_, Outcome::Refused) => Vec::new(),
        (Call::Read(_) | Call::Scan, Outcome::NoBucket) => {
            call.slots_read(OBJECT_KEYS_MAX).into_iter().map(|slot| (slot, Effect::Read(None))).collect()
        }
        (Call::Read(_) | Call::Scan, _) => {
            let both = call.slots_read(operation.found().len()).into_iter().zip(operation.found());
            both.map(|(slot, found)| (slot, Effect::Read(found.map(|(_, version)| version)))).collect()
        }
        (_, Outcome::Unknown | Outcome::Dropped { existed: true }) => {
            call.may_delete().into_iter().map(|slot| (slot, Effect::MayDelete)).collect()
        }
        _ => {
            let version = operation.written_version().unwrap_or_default();
            let effect = |is_put| if is_put { Effect::Put(version) } else { Effect::MayDelete };
            operation.slots_changed().into_iter().map(|(slot, is_put)| (slot, effect(is_put))).collect()
        }
    }
}
