//! A local read is of the copy of the node that was asked, as stale as that is. So much holds of it nevertheless: it shows nothing
//! that was not asked for before it ended, nothing of what was refused, and as long as the node's process runs its copy never goes
//! back. (Its scans also show one state, see [`super::scans`], and a value has its one version, see [`super::model`].)
//!
//! Nothing is promised from one node to another, over a node's death, or between a client's own writes and its local reads.

use std::collections::BTreeMap;

use super::Violation;
use crate::history::{Call, History, ObjectId, Operation, Outcome, Slot, Step, ValueId};

/// A law.
pub const NOWHERE: &str = "a local read shows only what was written";
/// A law.
pub const BACK: &str = "a node's copy never goes back";

/// Checks all local reads.
pub fn check(history: &History) -> Result<(), Violation> {
    check_values(history)?;
    check_processes(history)
}

fn check_values(history: &History) -> Result<(), Violation> {
    let mut writes: BTreeMap<ValueId, &Operation> = BTreeMap::new();
    for operation in &history.operations {
        written(&operation.call).into_iter().for_each(|value| {
            writes.insert(value, operation);
        });
    }
    for read in history.operations.iter().filter(|operation| operation.call.is_local()) {
        for (value, _) in read.found().iter().flatten() {
            let write = writes.get(value);
            if write.is_none_or(|write| write.called > read.returned || write.outcome == Outcome::Refused) {
                return Err(Violation::new(NOWHERE, format!("value {value} of {write:?} is seen by {read:?}")));
            }
        }
    }
    Ok(())
}

fn written(call: &Call) -> Vec<ValueId> {
    let put = |step: &Step| match step {
        Step::Put(_, value) => Some(*value),
        Step::Delete(_) | Step::Get(_) => None,
    };
    match call {
        Call::Put { value, .. } => vec![*value],
        Call::Batch(steps) => steps.iter().filter_map(put).collect(),
        Call::Txn { success, failure, .. } => success.iter().chain(failure).filter_map(put).collect(),
        _ => Vec::new(),
    }
}

/// How far the copy of a process was seen to be, for one key.
#[derive(Clone, Copy, Default)]
struct Seen {
    version: u64,
    /// It was seen absent behind that.
    gone: bool,
}

/// What was seen of one process, by what returned from it.
#[derive(Default)]
struct Copy {
    keys: BTreeMap<(ObjectId, Slot), Seen>,
    /// The greatest version that a scan named, by the object's group.
    groups: BTreeMap<drey_core::GroupId, u64>,
}

/// A sweep over time: what had been seen of a process when a read of it began is the least that the read may show.
fn check_processes(history: &History) -> Result<(), Violation> {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (position, operation) in history.operations.iter().enumerate() {
        let read = matches!(operation.outcome, Outcome::Read(_) | Outcome::Scanned { .. });
        if operation.call.is_local() && operation.process.is_some() && read {
            events.push((operation.called, false, position));
            events.push((operation.returned, true, position));
        }
    }
    events.sort_unstable();
    let mut copies: BTreeMap<(u64, Option<u64>), Copy> = BTreeMap::new();
    let mut floors: BTreeMap<usize, (Vec<(Slot, Seen)>, u64)> = BTreeMap::new();
    for (_, is_return, position) in events {
        let read = &history.operations[position];
        let (object, group) = (read.object, history.groups[read.object.0]);
        let copy = copies.entry((read.node, read.process)).or_default();
        let slots = read.call.slots_read(read.found().len());
        if !is_return {
            let seen = slots.iter().map(|&slot| (slot, copy.keys.get(&(object, slot)).copied().unwrap_or_default()));
            floors.insert(position, (seen.collect(), copy.groups.get(&group).copied().unwrap_or_default()));
            continue;
        }
        let (seen, floor) = floors.remove(&position).unwrap_or_default();
        let broken = |what: String| Violation::new(BACK, format!("{what}: {read:?}"));
        if let Outcome::Scanned { version, .. } = read.outcome {
            if version < floor {
                return Err(broken(format!("version {floor} of group {group} had been seen there")));
            }
            let greatest = copy.groups.entry(group).or_default();
            *greatest = version.max(*greatest);
        }
        for ((slot, seen), found) in seen.into_iter().zip(read.found()) {
            let latest = copy.keys.entry((object, slot)).or_default();
            match found {
                Some((_, version)) if *version < seen.version || (*version == seen.version && seen.gone) => {
                    let gone = if seen.gone { ", and then nothing," } else { "" };
                    return Err(broken(format!("version {}{gone} of key {slot} had been seen there", seen.version)));
                }
                Some((_, version)) if *version > latest.version => *latest = Seen { version: *version, gone: false },
                // What was there when this one began is gone. What came beside it may have come before or behind.
                None if latest.version == seen.version => latest.gone = true,
                _ => {}
            }
        }
    }
    Ok(())
}
