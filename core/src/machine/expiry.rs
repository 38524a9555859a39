//! Keys that expire: what is due, and its removal in bounded steps.
//!
//! A value with a time to live carries the time at which it expires, on the group's clock. From then on it does not exist, for
//! any read or write, whether it lies in the store or not: `ValueRecord::lives_at` decides. The expiry index, a part of the
//! replicated state, has an entry for it under that time. Each applied entry of the log removes the first few that are due; it is
//! the log alone that says when, so that all replicas remove the same at the same index.
//!
//! An entry of the index may be out of date: a blind put reads nothing and so cannot remove the one of the value that it replaces.
//! It is dropped when it is due, since the value says another time by then, or is gone.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::machine::DecodeError;
use crate::machine::apply::Batch;
use crate::machine::keys::{ExpiryPrefix, Generation};
use crate::machine::record::damaged;
use crate::store::{Read, StoreError};
use crate::types::Version;

/// For each bucket whose index may have entries a time before which none is due: a group without times to live pays nothing.
///
/// It is in memory only, and may differ between replicas: a time that is too early costs one look into the index.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    by_bucket: BTreeMap<Version, u64>,
}

impl Due {
    /// Looks into the indexes of these buckets, one short read for each.
    pub(super) fn load(
        reader: &dyn Read,
        generation: Generation,
        created: impl Iterator<Item = Version>,
    ) -> Result<Due, StoreError> {
        let mut due = Due::default();
        for created in created {
            let index = generation.expiries(created);
            let (start, end) = index.range();
            let mut first = None;
            reader.scan(&start, &end, false, &mut |key, _| {
                first = Some(key);
                ControlFlow::Break(())
            })?;
            if let Some(key) = first {
                let (expiry_ms, _) = index.read(&key).ok_or_else(|| unreadable(&key))?;
                due.note(created, expiry_ms);
            }
        }
        Ok(due)
    }

    /// The earliest time at which something may be due.
    pub(super) fn first_ms(&self) -> Option<u64> {
        self.by_bucket.values().min().copied()
    }

    /// A bucket's index got an entry.
    pub(super) fn note(&mut self, created: Version, expiry_ms: u64) {
        let first = self.by_bucket.entry(created).or_insert(expiry_ms);
        *first = expiry_ms.min(*first);
    }

    /// A bucket is gone.
    pub(super) fn forget(&mut self, created: Version) {
        self.by_bucket.remove(&created);
    }

    /// The buckets in which something may be due at this time, in order, and since when.
    fn at(&self, clock_ms: u64) -> Vec<(Version, u64)> {
        let due = self.by_bucket.iter().filter(|(_, first_ms)| **first_ms <= clock_ms);
        due.map(|(&created, &first_ms)| (created, first_ms)).collect()
    }
}

/// A look at the beginning of an index.
struct Look {
    /// What is due, in order: time, user's key, and the entry itself.
    due: Vec<(u64, Bytes, Bytes)>,
    /// The time of the entry behind them.
    next_ms: Option<u64>,
}

impl Batch<'_> {
    /// Removes what is due, at most `limit` entries of the index, in the order of buckets, times and keys. Values that expire
    /// together have one version.
    pub(super) fn remove_expired(&mut self, limit: usize) -> Result<(), StoreError> {
        let clock_ms = self.machine.meta.stamp.clock_ms;
        let version = self.next_version();
        let mut left = limit;
        for (created, from_ms) in self.machine.due.at(clock_ms) {
            if left == 0 {
                break;
            }
            let index = self.machine.generation().expiries(created);
            let look = self.look(index, from_ms, left)?;
            left -= look.due.len();
            for (expiry_ms, key, entry) in look.due {
                self.writes.changes.insert(entry, None);
                self.remove_if_expired(created, &key, expiry_ms, version)?;
            }
            self.machine.due.forget(created);
            if let Some(next_ms) = look.next_ms {
                self.machine.due.note(created, next_ms);
            }
        }
        Ok(())
    }

    /// Removes a value, unless its entry in the index is out of date. What is removed here is gone by the clock and not by a command:
    /// key, old record and version are at hand for whoever wants to be told.
    fn remove_if_expired(
        &mut self,
        created: Version,
        key: &Bytes,
        expiry_ms: u64,
        version: Version,
    ) -> Result<(), StoreError> {
        let store_key = self.machine.generation().data(created).key(key);
        let record = self.find_record(&store_key)?;
        if record.is_some_and(|record| record.expiry_ms == Some(expiry_ms)) {
            self.writes.changes.insert(store_key, None);
            self.machine.meta.version = version;
        }
        Ok(())
    }

    /// The first entries of an index that are due, `limit` at most, through the changes of this batch. None is before `from_ms`.
    fn look(&self, index: ExpiryPrefix, from_ms: u64, limit: usize) -> Result<Look, StoreError> {
        let clock_ms = self.machine.meta.stamp.clock_ms;
        let (start, end) = index.range_from(from_ms);
        let mut look = Look { due: Vec::new(), next_ms: None };
        let mut failed = None;
        let mut visit = |entry: Bytes| match index.read(&entry) {
            Some((expiry_ms, key)) if expiry_ms <= clock_ms && look.due.len() < limit => {
                look.due.push((expiry_ms, Bytes::copy_from_slice(key), entry.clone()));
                ControlFlow::Continue(())
            }
            Some((expiry_ms, _)) => {
                look.next_ms = Some(expiry_ms);
                ControlFlow::Break(())
            }
            None => {
                failed = Some(unreadable(&entry));
                ControlFlow::Break(())
            }
        };
        self.visit_keys(&start, &end, &mut visit)?;
        failed.map_or(Ok(look), Err)
    }

    /// Visits the keys of a range as they are with the changes of this batch, in order, until `visit` breaks.
    fn visit_keys(
        &self,
        start: &[u8],
        end: &[u8],
        visit: &mut dyn FnMut(Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let range = (Bound::Included(start), Bound::Excluded(end));
        let mut changes = self.writes.changes.range::<[u8], _>(range).peekable();
        let mut ended = false;
        self.reader.scan(start, end, false, &mut |stored, _| {
            while let Some((key, change)) = changes.next_if(|(key, _)| **key <= stored) {
                let replaces = *key == stored;
                if change.is_some() && visit(key.clone()).is_break() {
                    ended = true;
                    return ControlFlow::Break(());
                }
                if replaces {
                    return ControlFlow::Continue(());
                }
            }
            let visited = visit(stored);
            ended = visited.is_break();
            visited
        })?;
        if !ended {
            let added = changes.filter(|(_, change)| change.is_some());
            let _ = added.map(|(key, _)| key.clone()).try_for_each(visit);
        }
        Ok(())
    }

    /// Keeps the index in step with a record that replaces another. `before`: none if it is not known, as in a blind put; then
    /// the index may keep an entry that is out of date.
    pub(super) fn index(&mut self, created: Version, key: &Bytes, before: Option<u64>, after: Option<u64>) {
        if before == after {
            return;
        }
        let index = self.machine.generation().expiries(created);
        if let Some(expiry_ms) = before {
            self.change(index.key(expiry_ms, key), None);
        }
        if let Some(expiry_ms) = after {
            self.change(index.key(expiry_ms, key), Some(Bytes::new()));
            self.machine.due.note(created, expiry_ms);
        }
    }
}

fn unreadable(entry: &[u8]) -> StoreError {
    damaged(entry, DecodeError("a bad entry of the expiry index"))
}
