//! What drey asks of a storage engine: ordered bytes, atomic batches without a sync, a sync of all before, and views.
//!
//! One store serves all replicas of a node; `machine::keys` says how they share it. A store never decides anything.
//! After a crash it must open as it was after some batch at or after the last [`Store::persist`].

use std::ops::ControlFlow;

use bytes::Bytes;
use thiserror::Error;

#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod memory;

pub use memory::{MemoryStore, MemoryView};

/// The engine failed. The replica's shard stops serving: an error is never retried as if nothing had been.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum StoreError {
    /// The disk, or the engine.
    #[error("the store failed: {0}")]
    Failed(String),
    /// What is on disk is not what was written: it must be fetched anew.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// The same, told where.
    pub fn at(self, place: impl std::fmt::Display) -> StoreError {
        match self {
            StoreError::Failed(why) => StoreError::Failed(format!("{place}: {why}")),
            StoreError::Damaged(why) => StoreError::Damaged(format!("{place}: {why}")),
        }
    }
}

/// A set of changes that is applied whole or not at all. Keys are in order and unique.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteSet {
    /// Key and new value; none removes the key.
    pub changes: std::collections::BTreeMap<Bytes, Option<Bytes>>,
}

/// The reading half, of a store as of a view.
pub trait Read {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits the pairs with keys in `[start, end)` in order (or reversed) until `visit` breaks.
    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

/// An engine.
pub trait Store: Read + Send + 'static {
    /// A consistent view that later writes do not change.
    type View: Read + Send + 'static;

    /// Opens a view of the present state.
    fn view(&self) -> Self::View;

    /// Applies a batch atomically. Not yet durable.
    fn write(&mut self, batch: WriteSet) -> Result<(), StoreError>;

    /// Makes all batches so far durable. A failure is final.
    fn persist(&mut self) -> Result<(), StoreError>;
}
