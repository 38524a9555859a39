//! A scan shows one state: that of the version which it names. Whatever was acknowledged with a version up to that one is in it, and
//! nothing else is, whether it was linearizable or of a node's own copy. A linearizable one is not older than its call, and none is
//! from behind its return.

use std::collections::BTreeMap;

use drey_core::GroupId;

use super::Violation;
use crate::history::{Call, History, OBJECT_KEYS_MAX, ObjectId, Operation, Outcome, Slot};

/// The law.
pub const LAW: &str = "a scan shows one state";

/// Checks all scans.
pub fn check(history: &History) -> Result<(), Violation> {
    let times = Times::of(history);
    let changes = Changes::of(history);
    for scan in &history.operations {
        let Outcome::Scanned { found, version } = &scan.outcome else { continue };
        let broken = |what: &str| {
            let names = &history.names[scan.object.0];
            Violation::new(LAW, format!("{what}; keys {names:?}: {scan:?}"))
        };
        times.check(history.groups[scan.object.0], scan, *version).map_err(&broken)?;
        for (slot, found) in found.iter().enumerate() {
            changes.check((scan.object, slot), scan, found.map(|(_, version)| version), *version).map_err(&broken)?;
        }
    }
    Ok(())
}

/// Of each group, what versions were out when.
#[derive(Default)]
struct Times {
    /// In the order of their returns, each with the greatest version returned by then.
    returned: BTreeMap<GroupId, Vec<(u64, u64)>>,
    /// In the order of their calls, each with the smallest version of those called from then on.
    called: BTreeMap<GroupId, Vec<(u64, u64)>>,
}

impl Times {
    fn of(history: &History) -> Times {
        let mut times = Times::default();
        for operation in &history.operations {
            let Some(version) = operation.written_version() else { continue };
            let group = history.groups[operation.object.0];
            times.returned.entry(group).or_default().push((operation.returned, version));
            times.called.entry(group).or_default().push((operation.called, version));
        }
        for returned in times.returned.values_mut() {
            returned.sort_unstable();
            let mut greatest = 0;
            returned.iter_mut().for_each(|(_, version)| {
                greatest = greatest.max(*version);
                *version = greatest;
            });
        }
        for called in times.called.values_mut() {
            called.sort_unstable();
            let mut smallest = u64::MAX;
            called.iter_mut().rev().for_each(|(_, version)| {
                smallest = smallest.min(*version);
                *version = smallest;
            });
        }
        times
    }

    fn check(&self, group: GroupId, scan: &Operation, version: u64) -> Result<(), &'static str> {
        let none = Vec::new();
        let returned = self.returned.get(&group).unwrap_or(&none);
        let before = returned.partition_point(|(at, _)| *at < scan.called);
        let floor = before.checked_sub(1).and_then(|last| returned.get(last));
        if scan.call == Call::Scan && floor.is_some_and(|(_, floor)| version < *floor) {
            return Err("it is older than what was acknowledged before it began");
        }
        let called = self.called.get(&group).unwrap_or(&none);
        let behind = called.partition_point(|(at, _)| *at <= scan.returned);
        match called.get(behind) {
            Some((_, ceiling)) if version >= *ceiling => Err("it shows what was asked for behind its return"),
            _ => Ok(()),
        }
    }
}

type Key = (ObjectId, Slot);

type ByVersion<'a> = BTreeMap<u64, (bool, &'a Operation)>;

/// What is known of each key.
#[derive(Default)]
struct Changes<'a> {
    /// The acknowledged writes of each key, by version: whether there was a value behind it.
    known: BTreeMap<Key, ByVersion<'a>>,
    /// What may have taken its value, at a version that nobody saw.
    may_delete: BTreeMap<Key, Vec<&'a Operation>>,
}

impl<'a> Changes<'a> {
    fn of(history: &'a History) -> Changes<'a> {
        let mut changes = Changes::default();
        for operation in &history.operations {
            let object = operation.object;
            if matches!(operation.outcome, Outcome::Unknown | Outcome::Dropped { existed: true }) {
                for slot in operation.call.may_delete() {
                    changes.may_delete.entry((object, slot)).or_default().push(operation);
                }
            }
            let Some(version) = operation.written_version() else { continue };
            let slots = match operation.outcome {
                // A new bucket has no keys.
                Outcome::Created { .. } => (0..OBJECT_KEYS_MAX).map(|slot| (slot, false)).collect(),
                _ => operation.slots_changed(),
            };
            for (slot, is_put) in slots {
                changes.known.entry((object, slot)).or_default().insert(version, (is_put, operation));
            }
        }
        changes
    }

    /// Whether a key may have had the value of this version, or none, in the state of `version`.
    fn check(&self, key: Key, scan: &Operation, found: Option<u64>, version: u64) -> Result<(), &'static str> {
        if found.is_some_and(|found| found > version) {
            return Err("a value is newer than the state that it names");
        }
        let Some((latest, (is_put, put))) = self.known.get(&key).and_then(|known| known.range(..=version).next_back())
        else {
            return Ok(());
        };
        match found {
            Some(found) if found < *latest => Err("an acknowledged write is missing in it"),
            Some(found) if found == *latest && !is_put => Err("a value is there that its own write took away"),
            None if *is_put => {
                let may_explain = |delete: &&&Operation| {
                    let ended_before = delete.outcome != Outcome::Unknown && delete.returned < put.called;
                    delete.called < scan.returned && !ended_before
                };
                let explained =
                    self.may_delete.get(&key).is_some_and(|deletes| deletes.iter().any(|it| may_explain(&it)));
                if explained { Ok(()) } else { Err("an acknowledged write is missing in it, and nothing removed it") }
            }
            _ => Ok(()),
        }
    }
}
