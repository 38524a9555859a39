//! The engines on disk: the contract of all engines, what they hold after a process or a machine died, and what is each one's own.

#![allow(clippy::unwrap_used)]

mod batches;
mod crashes;
mod lsm;
mod suite;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use drey_core::store::{Read, Store, StoreError, WriteSet};
use drey_io::store::{BtreeOptions, BtreeStore, LsmOptions, LsmStore};

/// An engine that the suites try.
trait Engine {
    /// Its handle.
    type Handle: Store + Clone + Sync;
    /// What a power cut leaves of batches that were not synced may be any of them; otherwise it is none.
    const KEEPS_UNSYNCED: bool;
    /// Opens a store with the settings of a node.
    fn open(directory: &Path) -> Result<Self::Handle, StoreError>;
    /// Opens a store with so little memory that it writes files all the time.
    fn open_busy(directory: &Path) -> Self::Handle;
    /// Opens a store for a power cut: it writes to the files that it has, and makes no others.
    fn open_until_cut(directory: &Path) -> Self::Handle;
    /// What lies in its directory when its creation is cut off early: names and bytes.
    const HALF_MADE: &[(&str, &[u8])];
}

struct Lsm;

impl Engine for Lsm {
    type Handle = LsmStore;
    const KEEPS_UNSYNCED: bool = true;
    const HALF_MADE: &[(&str, &[u8])] = &[("keyspaces/x", b""), ("lock", b""), ("0.jnl", &[0; 100])];

    fn open(directory: &Path) -> Result<LsmStore, StoreError> {
        LsmStore::open(directory, LsmOptions::default())
    }

    fn open_busy(directory: &Path) -> LsmStore {
        LsmStore::open(directory, LsmOptions { memtable_bytes: 100 << 10, cache_bytes: 1 << 20 }).unwrap()
    }

    fn open_until_cut(directory: &Path) -> LsmStore {
        Lsm::open(directory).unwrap()
    }
}

struct Btree;

impl Engine for Btree {
    type Handle = BtreeStore;
    const KEEPS_UNSYNCED: bool = false;
    const HALF_MADE: &[(&str, &[u8])] = &[("btree.redb", &[0; 100])];

    fn open(directory: &Path) -> Result<BtreeStore, StoreError> {
        BtreeStore::open(directory, BtreeOptions::default())
    }

    fn open_busy(directory: &Path) -> BtreeStore {
        BtreeStore::open(directory, BtreeOptions { cache_bytes: 100 << 10 }).unwrap()
    }

    fn open_until_cut(directory: &Path) -> BtreeStore {
        Btree::open_busy(directory)
    }
}

fn pairs(store: &impl Read) -> BTreeMap<Bytes, Bytes> {
    let mut pairs = BTreeMap::new();
    store
        .scan(b"\0", &[0xff; 8], false, &mut |key, value| {
            pairs.insert(key, value);
            ControlFlow::Continue(())
        })
        .unwrap();
    pairs
}

fn one(key: &str, value: &str) -> WriteSet {
    WriteSet { changes: [(key.to_owned().into(), Some(value.to_owned().into()))].into() }
}
