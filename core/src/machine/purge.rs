//! Removing what nobody sees any more, in bounded steps: dropped buckets, replaced generations, unfinished snapshots.
//!
//! None of this is replicated: each replica purges when it likes, and neither replies nor snapshots nor the state's hash depend
//! on it. A step goes on where the last one ended, because an engine may have to walk over all that was removed before it.

use std::ops::ControlFlow;

use crate::machine::Machine;
use crate::machine::keys::{self, Generation, StoreRange};
use crate::name::KeyRange;
use crate::store::{Read, StoreError, WriteSet};

/// How far the purge is.
#[derive(Clone, Debug, Default)]
pub(super) struct PurgePosition {
    /// Where the sweep over generations that do not count goes on; none: there are none.
    sweep: Option<Vec<u8>>,
    /// Where the removal of the first dropped bucket goes on.
    bucket: Option<Vec<u8>>,
}

impl PurgePosition {
    /// A sweep that has yet to begin.
    pub(super) fn at_start() -> PurgePosition {
        PurgePosition { sweep: Some(Vec::new()), bucket: None }
    }
}

impl Machine {
    /// Whether a purge would have something to do.
    pub fn needs_purge(&self) -> bool {
        self.purge.sweep.is_some() || !self.dropped.is_empty()
    }

    /// Says what to remove: about `limit` keys. `staging` is a generation that is being written and must stay.
    /// [`Machine::needs_purge`] tells afterwards whether there is more.
    pub(crate) fn purge(
        &mut self,
        reader: &dyn Read,
        limit: usize,
        staging: Option<u32>,
    ) -> Result<WriteSet, StoreError> {
        let mut writes = WriteSet::default();
        if let Some(from) = self.purge.sweep.take() {
            for (start, end) in self.garbage_ranges(staging) {
                if let Some(next) = remove(reader, start.max(from.clone()), &end, limit, &mut writes)? {
                    self.purge.sweep = Some(next);
                    return Ok(writes);
                }
            }
        }
        while writes.changes.len() < limit
            && let Some(&created) = self.dropped.first()
        {
            let generation = self.generation();
            let from = self.purge.bucket.take().unwrap_or_default();
            for (start, end) in
                [generation.data(created).range(&KeyRange::default()), generation.expiries(created).range()]
            {
                if let Some(next) = remove(reader, start.max(from.clone()), &end, limit, &mut writes)? {
                    self.purge.bucket = Some(next);
                    return Ok(writes);
                }
            }
            writes.changes.insert(self.generation().dropped(created), None);
            self.dropped.pop_first();
        }
        Ok(writes)
    }

    /// Lets the next purge look for generations that do not count.
    pub(crate) fn sweep_again(&mut self) {
        self.purge.sweep = Some(Vec::new());
    }

    /// Looks for what an installation or a restart left behind: one short read for each range.
    pub(super) fn find_leftovers(&mut self, reader: &dyn Read) -> Result<(), StoreError> {
        for (start, end) in self.garbage_ranges(None) {
            reader.scan(&start, &end, false, &mut |_, _| {
                self.purge.sweep = Some(Vec::new());
                ControlFlow::Break(())
            })?;
        }
        Ok(())
    }

    /// A generation without a key, for a snapshot to be written into.
    pub(crate) fn free_generation(&self, reader: &dyn Read) -> Result<u32, StoreError> {
        let (start, end) = keys::group_range(self.group);
        let mut last = self.generation_number();
        reader.scan(&start, &end, true, &mut |key, _| {
            last = last.max(keys::generation_of(&key).unwrap_or_default());
            ControlFlow::Break(())
        })?;
        last.checked_add(1).ok_or_else(|| StoreError::Failed(format!("group {} has no generation left", self.group)))
    }

    /// The group's keys without those of the generations that count, in order.
    fn garbage_ranges(&self, staging: Option<u32>) -> Vec<StoreRange> {
        let (mut start, end) = keys::group_range(self.group);
        let mut kept = vec![self.generation_number()];
        kept.extend(staging);
        kept.sort_unstable();
        let mut ranges = Vec::with_capacity(kept.len() + 1);
        for number in kept {
            let (kept_start, kept_end) = Generation::new(self.group, number).range();
            ranges.push((start, kept_start));
            start = kept_end;
        }
        ranges.push((start, end));
        ranges
    }
}

/// Removes a range's keys until the write set has `limit` changes. Some: where to go on.
fn remove(
    reader: &dyn Read,
    start: Vec<u8>,
    end: &[u8],
    limit: usize,
    writes: &mut WriteSet,
) -> Result<Option<Vec<u8>>, StoreError> {
    let mut next = None;
    if start.as_slice() >= end {
        return Ok(None);
    }
    reader.scan(&start, end, false, &mut |key, _| {
        if writes.changes.len() >= limit {
            next = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        writes.changes.insert(key, None);
        ControlFlow::Continue(())
    })?;
    Ok(next)
}
