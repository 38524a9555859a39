//! A node's one store, of which every shard's worker has a handle: core's memory store, with the states that a crash can
//! take it back to.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use drey_core::store::{MemoryStore, Read, Store, StoreError, WriteSet};

use crate::faults::{Fault, Faults};
use crate::rng::Rng;

/// A handle.
#[derive(Clone)]
pub struct SharedStore(Arc<Mutex<MemoryStore>>);

impl Default for SharedStore {
    fn default() -> SharedStore {
        SharedStore(Arc::new(Mutex::new(MemoryStore::with_crashes())))
    }
}

impl SharedStore {
    fn lock(&self) -> MutexGuard<'_, MemoryStore> {
        // A worker that panicked ends the run, so that its poison does no harm.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes the store back to some batch at or behind the last persisted one.
    pub fn crash(&self, rng: &mut Rng, faults: &mut Faults) {
        let mut store = self.lock();
        let all = store.batches_since_persist();
        let kept = match rng.below(3) {
            0 => all,
            1 => 0,
            _ => rng.between(0, all as u64) as usize,
        };
        faults.happened_times(Fault::StoreRolledBack, u64::from(kept < all));
        store.crash(kept);
    }
}

impl Read for SharedStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.lock().get(key)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // Of a view, so that the visitor may use the store.
        let view = self.lock().view();
        view.scan(start, end, reverse, visit)
    }
}

impl Store for SharedStore {
    type View = <MemoryStore as Store>::View;

    fn view(&self) -> Self::View {
        self.lock().view()
    }

    fn write(&mut self, batch: WriteSet) -> Result<(), StoreError> {
        self.lock().write(batch)
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.lock().persist()
    }
}
