//! The store of a node, whichever engine it has.

use std::ops::ControlFlow;
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
    store.scan(b"", END, false, &mut |key, value| {
        pairs.count += 1;
        pairs.bytes += (key.len() + value.len()) as u64;
        ControlFlow::Continue(())
    })?;
    Ok(pairs)
}
