//! One memory store that the shards of a node share, as they share an engine's database.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use drey_core::store::{MemoryStore, MemoryView, Read, Store, StoreError, WriteSet};

/// A handle.
#[derive(Clone)]
pub struct SharedStore(Arc<Mutex<MemoryStore>>);

impl SharedStore {
    pub fn new() -> SharedStore {
        SharedStore(Arc::new(Mutex::new(MemoryStore::with_crashes())))
    }

    /// Loses what was not persisted, but for the first `keep` batches (all, if none is given).
    pub fn crash(&self, keep: Option<usize>) {
        let mut store = self.lock();
        let batches = store.batches_since_persist();
        store.crash(keep.unwrap_or(batches).min(batches));
    }

    /// An own copy of the present state.
    pub fn copy(&self) -> SharedStore {
        SharedStore(Arc::new(Mutex::new(self.lock().clone())))
    }

    fn lock(&self) -> MutexGuard<'_, MemoryStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.lock().view().scan(start, end, reverse, visit)
    }
}

impl Store for SharedStore {
    type View = MemoryView;

    fn view(&self) -> MemoryView {
        self.lock().view()
    }

    fn write(&mut self, batch: WriteSet) -> Result<(), StoreError> {
        self.lock().write(batch)
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.lock().persist()
    }
}
