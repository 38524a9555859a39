//! The store of a node, whichever engine it has.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use drey_core::store::{Read, StoreError};

use super::{BtreeOptions, BtreeStore, LsmOptions, LsmStore};
use crate::config::Engine;

/// A store of which each shard gets a handle. In memory each has its own.
pub(crate) enum AnyStore {
    Lsm(LsmStore),
    Btree(BtreeStore),
    Memory,
}

/// Does what an engine is needed for. An engine may panic over damage that it did not expect; whatever it was about to change is then
/// not to be used any more.
pub(crate) fn without_panic<T>(work: impl FnOnce() -> T) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        StoreError::Damaged(format!(
            "the engine panicked, most likely over damaged files: {}",
            said.unwrap_or("it does not say why")
        ))
    })
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs {
    pub count: u64,
    /// Of keys and values.
    pub bytes: u64,
}

impl AnyStore {
    pub fn open(engine: Engine, path: &Path) -> Result<AnyStore, StoreError> {
        Ok(match engine {
            Engine::Lsm => AnyStore::Lsm(LsmStore::open(path, LsmOptions::default())?),
            Engine::Btree => AnyStore::Btree(BtreeStore::open(path, BtreeOptions::default())?),
            Engine::Memory => AnyStore::Memory,
        })
    }

    /// Reads all of it, and with it each checksum that the engine has.
    pub fn verify(&mut self) -> Result<Pairs, StoreError> {
        match self {
            AnyStore::Lsm(store) => count(store),
            AnyStore::Btree(store) => {
                store.verify()?;
                count(store)
            }
            AnyStore::Memory => Ok(Pairs::default()),
        }
    }
}

fn count(store: &impl Read) -> Result<Pairs, StoreError> {
    /// Above all keys: each begins with the number of its kind.
    const END: &[u8] = &[0xff; 16];
    let mut pairs = Pairs::default();
    // A get reads what a scan does not: the filters.
    let mut got = Ok(None);
    store.scan(b"", END, false, &mut |key, value| {
        pairs.count += 1;
        pairs.bytes += (key.len() + value.len()) as u64;
        got = store.get(&key);
        if got.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    got.map(|_| pairs)
}
