//! The default engine: an LSM tree on disk, by fjall.
//!
//! One database serves all shards of a node: each shard's storage thread has a clone of the handle. The store
//! is only a cache of the Raft log above the log's truncation point, so that nothing is synced but in [`Store::persist`];
//! below it is the only copy, which is why the log is truncated only up to what a persist covered.
//!
//! Keys and values are copied in and out. fjall's own byte strings (without its feature `bytes_1`) hold short keys in
//! place, which a put pays for with less memory and no more time than sharing would.
//!
//! What fjall would panic on (an empty key, one of more than 65,535 bytes) is refused here before it is asked.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use drey_core::store::{Read, Store, StoreError, WriteSet};
use fjall::{Database, PersistMode, Readable, Snapshot};

use crate::store::journal_tail::cut_broken_tail;
use crate::store::keyspaces::{self, Keyspaces};
use crate::store::made::make_if_absent;

/// What fjall can take.
const ENGINE_KEY_BYTES_MAX: usize = u16::MAX as usize;
/// fjall rotates its journal at 64 MB; two of them are kept at the most before memtables are flushed to let the older go.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// With a second thread fjall hands compactions round between the two in a busy loop while one is under way.
const WORKER_THREADS: usize = 1;

/// What fjall counts for a record beside its key and its value, about.
const RECORD_OVERHEAD_BYTES: u64 = 64;

/// So many memtables may wait to be written; with one more fjall stops whoever writes.
const MEMTABLES_WAITING: usize = 3;

/// How much memory the engine may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LsmOptions {
    /// Writes in memory before they become a table, in bytes of keys and values. Up to four more may wait to be written. Fixed
    /// when the directory is first opened.
    pub memtable_bytes: u64,
    /// The most bytes of blocks kept for reading.
    pub cache_bytes: u64,
}

impl Default for LsmOptions {
    fn default() -> LsmOptions {
        LsmOptions { memtable_bytes: 16 << 20, cache_bytes: 32 << 20 }
    }
}

impl LsmOptions {
    /// At this size fjall itself writes a memtable to a table. None gets there: see [`LsmStore::rotate_memtables`].
    fn memtable_bytes_max(self) -> u64 {
        4 * self.memtable_bytes
    }
}

/// A handle of the engine. Clones are handles of the same store.
#[derive(Clone)]
pub struct LsmStore {
    database: Database,
    keyspaces: Keyspaces,
    options: LsmOptions,
    /// About what is in the present memtables; of all handles together.
    memtable_bytes: Arc<AtomicU64>,
}

impl LsmStore {
    /// Opens the store in `directory`, or makes one if that is absent or empty. Only one process can have it open.
    ///
    /// An error means that what is there cannot be used: the state must be fetched anew, from the log or from peers.
    pub fn open(directory: &Path, options: LsmOptions) -> Result<LsmStore, StoreError> {
        LsmStore::open_at(directory, options).map_err(|error| error.at(directory.display()))
    }

    fn open_at(directory: &Path, options: LsmOptions) -> Result<LsmStore, StoreError> {
        // fjall cannot open what it left half made.
        make_if_absent(directory, |unfinished| {
            let database = database(unfinished, options)?;
            Keyspaces::make(&database, options.memtable_bytes_max())?;
            database.persist(PersistMode::SyncAll)
        })
        .map_err(failed)?;
        keyspaces::check_files(directory)?;
        let lost = cut_broken_tail(directory).map_err(|error| failed(error.into()))?;
        if lost > 0 {
            tracing::warn!(directory = %directory.display(), bytes = lost, "cut an unfinished batch off the store's journal");
        }
        let database = database(directory, options).map_err(failed)?;
        let keyspaces = Keyspaces::open(&database, options.memtable_bytes_max())?;
        // What the journal held is in memory again.
        let memtable_bytes = Arc::new(AtomicU64::new(database.write_buffer_size()));
        Ok(LsmStore { database, keyspaces, options, memtable_bytes })
    }
}

fn database(directory: &Path, options: LsmOptions) -> fjall::Result<Database> {
    Database::builder(directory)
        .cache_size(options.cache_bytes)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(WORKER_THREADS)
        .open()
}

impl LsmStore {
    /// Hands full memtables over to be written to tables. While others wait for that they may grow to twice their size first: with one more,
    /// fjall would let this thread sleep.
    ///
    /// fjall hands memtables over by itself, but at four times the size, and not safely: with each write to a full memtable it asks its worker once more, in a
    /// queue of bounded length. While the worker merges tables the queue fills up, and then the worker, which puts something into
    /// that queue itself, waits for itself for ever: nothing is written to tables any more, and memory and journal grow without a bound.
    fn rotate_memtables(&self, written_bytes: u64) -> Result<(), StoreError> {
        let bytes = self.memtable_bytes.fetch_add(written_bytes, Ordering::Relaxed) + written_bytes;
        let is_full = match self.keyspaces.sealed_memtables() {
            0..MEMTABLES_WAITING => bytes >= self.options.memtable_bytes,
            _ => bytes >= 2 * self.options.memtable_bytes,
        };
        // If two shards come here at once, one of them does it.
        if is_full && self.memtable_bytes.compare_exchange(bytes, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.keyspaces.rotate_memtables()?;
        }
        Ok(())
    }

    /// About the bytes of keys and values that are in memory, and in the journal, but in no table yet.
    pub fn unwritten_bytes(&self) -> u64 {
        self.database.write_buffer_size()
    }
}

/// A state of the store that later writes do not change.
pub struct LsmView {
    snapshot: Snapshot,
    keyspaces: Keyspaces,
}

impl Read for LsmView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.snapshot.get(self.keyspaces.of(key), key).map_err(failed)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.keyspaces.scan(start, end, reverse, visit, |keyspace, part| self.snapshot.range(keyspace, part))
    }
}

impl Read for LsmStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.keyspaces.of(key).get(key).map_err(failed)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.keyspaces.scan(start, end, reverse, visit, |keyspace, part| keyspace.range(part))
    }
}

impl Store for LsmStore {
    type View = LsmView;

    fn view(&self) -> LsmView {
        LsmView { snapshot: self.database.snapshot(), keyspaces: self.keyspaces.clone() }
    }

    fn write(&mut self, writes: WriteSet) -> Result<(), StoreError> {
        let mut batch = self.database.batch();
        let mut bytes = 0;
        for (key, change) in writes.changes {
            bytes += (key.len() + change.as_ref().map_or(0, Bytes::len)) as u64 + RECORD_OVERHEAD_BYTES;
            if key.is_empty() || key.len() > ENGINE_KEY_BYTES_MAX {
                return Err(StoreError::Failed(format!("a key of {} bytes cannot be kept", key.len())));
            }
            let keyspace = self.keyspaces.of(&key);
            match change {
                Some(value) => batch.insert(keyspace, &key[..], &value[..]),
                None => batch.remove(keyspace, &key[..]),
            }
        }
        batch.commit().map_err(failed)?;
        self.rotate_memtables(bytes)
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(failed)
    }
}

pub(super) fn failed(error: fjall::Error) -> StoreError {
    use fjall::Error;
    // Of an error that the system made, what it says; any other is about what was read.
    let cause = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let system = cause.filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
    let is_damage = match (&error, system) {
        (Error::Io(system), _) | (_, Some(system)) => is_of_content(system.kind()),
        (Error::Poisoned | Error::KeyspaceDeleted | Error::Locked, None) => false,
        (_, None) => true,
    };
    if is_damage { StoreError::Damaged(error.to_string()) } else { StoreError::Failed(error.to_string()) }
}

/// Files that are missing, too many or too short, or whose content makes no sense; as against a disk that does not answer, or is full.
fn is_of_content(kind: ErrorKind) -> bool {
    use ErrorKind::{AlreadyExists, InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    matches!(kind, NotFound | AlreadyExists | UnexpectedEof | InvalidData | InvalidInput | IsADirectory | NotADirectory)
}
