//! Versions only grow: a write that was called after another of its group had returned has a greater version, no two writes
//! of a group share one, and a key that is read again, later, is never seen with a smaller one.

use std::collections::BTreeMap;

use drey_core::GroupId;

use super::Violation;
use crate::history::{History, ObjectId, Operation, Slot};

const LAW: &str = "versions never fall";

/// Checks the versions of all groups.
pub fn check(history: &History) -> Result<(), Violation> {
    check_writes(history)?;
    check_reads(history)
}

/// A sweep over time: at each call, what had returned by then is the floor of its version.
fn check_writes(history: &History) -> Result<(), Violation> {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (position, operation) in history.operations.iter().enumerate() {
        if operation.written_version().is_some() {
            events.push((operation.called, false, position));
            events.push((operation.returned, true, position));
        }
    }
    events.sort_unstable();
    let mut floors: BTreeMap<GroupId, u64> = BTreeMap::new();
    let mut at_call: BTreeMap<usize, u64> = BTreeMap::new();
    let mut writers: BTreeMap<(GroupId, u64), usize> = BTreeMap::new();
    for (_, is_return, position) in events {
        let operation = &history.operations[position];
        let group = history.groups[operation.object.0];
        let version = operation.written_version().unwrap_or_default();
        let floor = floors.entry(group).or_default();
        if !is_return {
            at_call.insert(position, *floor);
            continue;
        }
        if version <= at_call[&position] {
            let seen = format!("group {group}: {operation:?} began when version {} was out", at_call[&position]);
            return Err(Violation::new(LAW, seen));
        }
        if let Some(other) = writers.insert((group, version), position) {
            let other = &history.operations[other];
            return Err(Violation::new(LAW, format!("group {group}: one version for {other:?} and {operation:?}")));
        }
        *floor = version.max(*floor);
    }
    Ok(())
}

/// As the sweep above, for what was seen of each key.
fn check_reads(history: &History) -> Result<(), Violation> {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (position, operation) in history.operations.iter().enumerate() {
        if operation.is_completed() {
            events.push((operation.called, false, position));
            events.push((operation.returned, true, position));
        }
    }
    events.sort_unstable();
    let mut floors: BTreeMap<(ObjectId, Slot), u64> = BTreeMap::new();
    let mut at_call: BTreeMap<(usize, Slot), u64> = BTreeMap::new();
    for (_, is_return, position) in events {
        let operation = &history.operations[position];
        for (slot, version) in read_versions(operation) {
            let floor = floors.entry((operation.object, slot)).or_default();
            if !is_return {
                at_call.insert((position, slot), *floor);
                continue;
            }
            let expected = at_call[&(position, slot)];
            if version < expected {
                let seen = format!("{operation:?} began when version {expected} of its key had been read");
                return Err(Violation::new(LAW, seen));
            }
            *floor = version.max(*floor);
        }
    }
    Ok(())
}

fn read_versions(operation: &Operation) -> Vec<(Slot, u64)> {
    if operation.call.is_local() {
        return Vec::new();
    }
    let both = operation.call.slots_read(operation.found().len()).into_iter().zip(operation.found());
    both.filter_map(|(slot, found)| found.map(|(_, version)| (slot, version))).collect()
}
