//! The in-memory engine: for tests, for the simulator, and for who wants no disk. Nothing survives the process.
//!
//! The map is persistent in the functional sense (it shares structure between its versions), so that a view costs nothing
//! and does not change.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use rpds::RedBlackTreeMapSync;

use crate::store::{Read, Store, StoreError, WriteSet};

type Map = RedBlackTreeMapSync<Bytes, Bytes>;

/// Ordered pairs in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    map: Map,
    /// With crashes: of each batch since the last persist, what was there before.
    undo: Option<Vec<Undo>>,
}

/// Keys that a batch changed, with what they had.
type Undo = Vec<(Bytes, Option<Bytes>)>;

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// An empty store that can crash: it remembers how to undo the batches since the last persist.
    pub fn with_crashes() -> MemoryStore {
        MemoryStore { map: Map::default(), undo: Some(Vec::new()) }
    }

    /// How many batches a crash could lose.
    ///
    /// # Panics
    /// Unless made by [`MemoryStore::with_crashes`].
    pub fn batches_since_persist(&self) -> usize {
        self.undo.as_ref().expect("the store was made with crashes").len()
    }

    /// Crashes: of the batches since the last persist the first `keep` are there, and count as persisted now.
    ///
    /// # Panics
    /// Unless made by [`MemoryStore::with_crashes`], and if there are not so many batches.
    pub fn crash(&mut self, keep: usize) {
        let undo = self.undo.as_mut().expect("the store was made with crashes");
        for (key, before) in undo.drain(keep..).rev().flatten() {
            change(&mut self.map, key, before);
        }
        undo.clear();
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.map.size()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// All pairs in order, of a small store.
    pub fn pairs(&self) -> Vec<(Bytes, Bytes)> {
        self.map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// A state of a [`MemoryStore`].
#[derive(Clone, Debug)]
pub struct MemoryView(Map);

impl Read for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        scan(&self.0, start, end, reverse, visit);
        Ok(())
    }
}

impl Read for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        scan(&self.map, start, end, reverse, visit);
        Ok(())
    }
}

impl Store for MemoryStore {
    type View = MemoryView;

    fn view(&self) -> MemoryView {
        MemoryView(self.map.clone())
    }

    fn write(&mut self, batch: WriteSet) -> Result<(), StoreError> {
        if let Some(undo) = &mut self.undo {
            let before = |key: &Bytes| (key.clone(), self.map.get(key).cloned());
            undo.push(batch.changes.keys().map(before).collect());
        }
        for (key, value) in batch.changes {
            change(&mut self.map, key, value);
        }
        Ok(())
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        if let Some(undo) = &mut self.undo {
            undo.clear();
        }
        Ok(())
    }
}

fn change(map: &mut Map, key: Bytes, value: Option<Bytes>) {
    match value {
        Some(value) => map.insert_mut(key, value),
        None => {
            map.remove_mut(&key);
        }
    }
}

fn scan(map: &Map, start: &[u8], end: &[u8], reverse: bool, visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>) {
    if start >= end {
        return;
    }
    let mut pairs = map.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)));
    while let Some((key, value)) = if reverse { pairs.next_back() } else { pairs.next() } {
        if visit(key.clone(), value.clone()).is_break() {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_contract() {
        crate::store::contract::check(MemoryStore::new);
        crate::store::contract::check(MemoryStore::with_crashes);
    }

    #[test]
    fn a_crash_keeps_whole_batches() {
        let mut store = MemoryStore::with_crashes();
        let batch = |key: &'static str| WriteSet { changes: [(key.into(), Some(key.into()))].into() };
        let keys = |store: &MemoryStore| store.pairs().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        store.write(batch("a")).unwrap();
        store.persist().unwrap();
        store.write(batch("b")).unwrap();
        store.write(batch("c")).unwrap();
        assert_eq!(store.batches_since_persist(), 2);
        let mut again = store.clone();
        store.crash(1);
        assert_eq!((keys(&store), store.batches_since_persist()), (vec!["a".into(), "b".into()], 0));
        again.crash(0);
        assert_eq!(keys(&again), ["a"]);
        again.write(batch("d")).unwrap();
        again.crash(1);
        assert_eq!(keys(&again), ["a", "d"]);
    }
}
