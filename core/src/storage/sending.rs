//! Reading a group's state for another node, chunk by chunk, from a view that later writes do not change.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::machine::Machine;
use crate::machine::Meta;
use crate::machine::keys::{Generation, StoreRange};
use crate::mutation::{Mutation, is_on};
use crate::storage::SnapshotMeta;
use crate::storage::chunk::ChunkBuilder;
use crate::store::{Read, StoreError};
use crate::types::GroupId;

/// An open snapshot.
pub(super) struct Sending<V> {
    view: V,
    group: GroupId,
    meta: Meta,
    /// What is still to be read, in the order of keys.
    ranges: std::collections::VecDeque<StoreRange>,
    chunk: u64,
}

impl<V: Read> Sending<V> {
    /// Of `machine` as it is now, which `view` must show.
    pub(super) fn new(machine: &Machine, view: V) -> Sending<V> {
        let mut ranges: std::collections::VecDeque<_> = machine.agreed_ranges().into();
        if is_on(Mutation::SessionsNotInSnapshot) {
            ranges.pop_back();
        }
        Sending { view, group: machine.group(), meta: machine.meta().clone(), ranges, chunk: 0 }
    }

    pub(super) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { index: self.meta.applied, term: self.meta.term, configuration: self.meta.configuration.clone() }
    }

    /// The next chunk, and whether it is the last. It has about `bytes_max` bytes: at least one record, if there are any.
    pub(super) fn read(&mut self, bytes_max: usize) -> Result<(Bytes, bool), StoreError> {
        let mut chunk = ChunkBuilder::new(self.group, &self.meta, self.chunk, bytes_max);
        self.chunk += 1;
        let mut records = 0;
        let generation = Generation::new(self.group, self.meta.generation);
        while let Some((start, end)) = self.ranges.front() {
            let mut next = None;
            self.view.scan(start, end, false, &mut |key, value| {
                let suffix = generation.suffix(&key);
                if records > 0 && chunk.len() + suffix.len() + value.len() > bytes_max {
                    next = Some(key.to_vec());
                    return ControlFlow::Break(());
                }
                chunk.push(suffix, &value);
                records += 1;
                ControlFlow::Continue(())
            })?;
            match next {
                Some(next) => {
                    self.ranges[0].0 = next;
                    return Ok((chunk.finish(false), false));
                }
                None => self.ranges.pop_front(),
            };
        }
        Ok((chunk.finish(true), true))
    }
}
