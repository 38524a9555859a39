//! The default engine: an LSM tree on disk, by fjall.
//!
//! One database and one keyspace serve all shards of a node: each shard's storage thread has a clone of the handle. The store
//! is only a cache of the Raft log above the log's truncation point, so that nothing is synced but in [`Store::persist`];
//! below it is the only copy, which is why the log is truncated only up to what a persist covered.
//!
//! Keys and values are copied in and out. fjall's own byte strings (without its feature `bytes_1`) hold short keys in
//! place, which a put pays for with less memory and no more time than sharing would.
//!
//! What fjall would panic on (an empty key, one of more than 65,535 bytes) is refused here before it is asked.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use drey_core::store::{Read, Store, StoreError, WriteSet};
use fjall::{Database, Iter, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};

use crate::store::journal::cut_broken_tail;
use crate::store::made::make_if_absent;

/// Everything of a node lies in one keyspace: each further one costs files, memory and 26 ms.
const KEYSPACE: &str = "drey";
/// Where fjall has the files of keyspaces: a directory for each of them.
const KEYSPACES: &str = "keyspaces";
/// fjall's own and ours.
const KEYSPACE_COUNT: usize = 2;
/// The file without which fjall takes a keyspace for one that was never finished, and removes it.
const KEYSPACE_MARKER: &str = "current";
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

/// A handle of the engine. Clones are handles of the same store.
#[derive(Clone)]
pub struct LsmStore {
    database: Database,
    keyspace: Keyspace,
    options: LsmOptions,
    /// About what is in the present memtable; of all handles together.
    memtable_bytes: Arc<AtomicU64>,
}

impl LsmStore {
    /// Opens the store in `directory`, or makes one if that is absent or empty. Only one process can have it open.
    ///
    /// An error means that what is there cannot be used: the state must be fetched anew, from the log or from peers.
    pub fn open(directory: &Path, options: LsmOptions) -> Result<LsmStore, StoreError> {
        let failed = |error| failed(error).at(directory.display());
        // fjall cannot open what it left half made.
        make_if_absent(directory, |unfinished| {
            open(unfinished, options)?.database.persist(PersistMode::SyncAll)?;
            // fjall syncs it before the keyspaces are in it.
            Ok(File::open(unfinished.join(KEYSPACES))?.sync_all()?)
        })
        .map_err(failed)?;
        check_keyspaces(directory)?;
        let lost = cut_broken_tail(directory).map_err(|error| match error.kind() {
            // It names the file.
            ErrorKind::InvalidData => StoreError::Damaged(error.to_string()),
            _ => failed(error.into()),
        })?;
        if lost > 0 {
            tracing::warn!(directory = %directory.display(), bytes = lost, "cut an unfinished batch off the store's journal");
        }
        open(directory, options).map_err(failed)
    }
}

/// Refuses a directory of which fjall would remove a part, or which it would fill with an empty keyspace in the place of one that is gone.
fn check_keyspaces(directory: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| failed(error.into()).at(directory.display());
    let keyspaces: Vec<_> =
        fs::read_dir(directory.join(KEYSPACES)).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    for keyspace in &keyspaces {
        let marker = keyspace.path().join(KEYSPACE_MARKER);
        if !marker.try_exists().map_err(failed)? {
            return Err(StoreError::Damaged(format!("{} is missing", marker.display())));
        }
    }
    if keyspaces.len() < KEYSPACE_COUNT {
        return Err(StoreError::Damaged(format!("{}: a keyspace is missing", directory.display())));
    }
    Ok(())
}

fn open(directory: &Path, options: LsmOptions) -> fjall::Result<LsmStore> {
    let database = Database::builder(directory)
        .cache_size(options.cache_bytes)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(WORKER_THREADS)
        .open()?;
    let create = || KeyspaceCreateOptions::default().max_memtable_size(4 * options.memtable_bytes);
    let keyspace = database.keyspace(KEYSPACE, create)?;
    // What the journal held is in memory again.
    let memtable_bytes = Arc::new(AtomicU64::new(database.write_buffer_size()));
    Ok(LsmStore { database, keyspace, options, memtable_bytes })
}

impl LsmStore {
    /// Hands a full memtable over to be written to a table. While others wait for that it may grow to twice its size first: with one more,
    /// fjall would let this thread sleep.
    ///
    /// fjall hands memtables over by itself, but at four times the size, and not safely: with each write to a full memtable it asks its worker once more, in a
    /// queue of bounded length. While the worker merges tables the queue fills up, and then the worker, which puts something into
    /// that queue itself, waits for itself for ever: nothing is written to tables any more, and memory and journal grow without a bound.
    fn rotate_memtable(&self, written_bytes: u64) -> Result<(), StoreError> {
        let bytes = self.memtable_bytes.fetch_add(written_bytes, Ordering::Relaxed) + written_bytes;
        let is_full = match self.keyspace.sealed_memtable_count() {
            0..MEMTABLES_WAITING => bytes >= self.options.memtable_bytes,
            _ => bytes >= 2 * self.options.memtable_bytes,
        };
        // If two shards come here at once, one of them does it.
        if is_full && self.memtable_bytes.compare_exchange(bytes, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.keyspace.rotate_memtable().map_err(failed)?;
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
    keyspace: Keyspace,
}

impl Read for LsmView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.snapshot.get(&self.keyspace, key).map_err(failed)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if start >= end {
            return Ok(());
        }
        walk(self.snapshot.range(&self.keyspace, start..end), reverse, visit)
    }
}

impl Read for LsmStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.keyspace.get(key).map_err(failed)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if start >= end {
            return Ok(());
        }
        walk(self.keyspace.range(start..end), reverse, visit)
    }
}

impl Store for LsmStore {
    type View = LsmView;

    fn view(&self) -> LsmView {
        LsmView { snapshot: self.database.snapshot(), keyspace: self.keyspace.clone() }
    }

    fn write(&mut self, writes: WriteSet) -> Result<(), StoreError> {
        let mut batch = self.database.batch();
        let mut bytes = 0;
        for (key, change) in writes.changes {
            bytes += (key.len() + change.as_ref().map_or(0, Bytes::len)) as u64 + RECORD_OVERHEAD_BYTES;
            if key.is_empty() || key.len() > ENGINE_KEY_BYTES_MAX {
                return Err(StoreError::Failed(format!("a key of {} bytes cannot be kept", key.len())));
            }
            match change {
                Some(value) => batch.insert(&self.keyspace, &key[..], &value[..]),
                None => batch.remove(&self.keyspace, &key[..]),
            }
        }
        batch.commit().map_err(failed)?;
        self.rotate_memtable(bytes)
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(failed)
    }
}

fn walk(
    mut pairs: Iter,
    reverse: bool,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    while let Some(pair) = if reverse { pairs.next_back() } else { pairs.next() } {
        let (key, value) = pair.into_inner().map_err(failed)?;
        if visit(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

fn failed(error: fjall::Error) -> StoreError {
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
