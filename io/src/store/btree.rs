//! The engine for reading: a copy-on-write B-tree in one file, by redb.
//!
//! One database and one table serve all shards of a node: each shard's storage thread has a clone of the handle. redb has one
//! writer at a time, so that shards wait for each other's batches, and for a [`Store::persist`].
//!
//! A batch is a commit that is not synced: redb goes back to the last synced one after a crash, which is all that a store owes
//! ([`Store`]). What only such commits held is free again at once, so that the file does not grow by their number; but not while a view
//! is open that is older: under a scan that goes on for long, the file grows with each write.
//!
//! redb checks no checksum when it reads a page. So each value has one behind it, of its key and itself: a wrong one is never told. Other
//! damage shows as a panic, which ends the shard, or hides a key: of a page that leads to others nothing is checked but at a start, by
//! [`BtreeStore::verify`].

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use drey_core::store::{Read, Store, StoreError, WriteSet};
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::store::made::make_if_absent;

/// Everything of a node lies in one table.
const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("drey");
/// The file in the store's directory.
const FILE: &str = "btree.redb";

/// How much memory the engine may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BtreeOptions {
    /// The most bytes of pages kept in memory, whether read or not written yet.
    pub cache_bytes: usize,
}

impl Default for BtreeOptions {
    fn default() -> BtreeOptions {
        BtreeOptions { cache_bytes: 64 << 20 }
    }
}

/// A handle of the engine. Clones are handles of the same store.
#[derive(Clone)]
pub struct BtreeStore {
    database: Arc<Database>,
}

impl BtreeStore {
    /// Opens the store in `directory`, or makes one if that is absent or empty. Only one process can have it open.
    ///
    /// An error means that what is there cannot be used: the state must be fetched anew, from the log or from peers.
    pub fn open(directory: &Path, options: BtreeOptions) -> Result<BtreeStore, StoreError> {
        let failed = |error: redb::Error| failed(error).at(directory.display());
        make_if_absent(directory, |unfinished| create(&unfinished.join(FILE))).map_err(failed)?;
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_bytes);
        let database = builder.open(directory.join(FILE)).map_err(|error| failed(error.into()))?;
        Ok(BtreeStore { database: Arc::new(database) })
    }

    /// Checks every page. Only this handle may be there.
    pub(super) fn verify(&mut self) -> Result<(), StoreError> {
        let database = Arc::get_mut(&mut self.database)
            .ok_or_else(|| StoreError::Failed("it cannot be checked while others have it open".into()))?;
        match database.check_integrity() {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Damaged("it was damaged; the engine has gone back to what was whole".into())),
            Err(error) => Err(failed(error)),
        }
    }

    fn table(&self) -> Result<Table, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        transaction.open_table(TABLE).map_err(failed)
    }

    fn apply(&self, writes: &WriteSet) -> Result<(), redb::Error> {
        let transaction = begin(&self.database, Durability::None)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            let mut kept = Vec::new();
            for (key, change) in &writes.changes {
                match change {
                    Some(value) => {
                        kept.clear();
                        kept.extend_from_slice(value);
                        kept.extend_from_slice(&check_of(key, value));
                        drop(table.insert(&key[..], &kept[..])?);
                    }
                    None => drop(table.remove(&key[..])?),
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn sync(&self) -> Result<(), redb::Error> {
        Ok(begin(&self.database, Durability::Immediate)?.commit()?)
    }
}

/// Makes the file, with the table in it.
fn create(file: &Path) -> Result<(), redb::Error> {
    let database = Database::create(file)?;
    let transaction = begin(&database, Durability::Immediate)?;
    transaction.open_table(TABLE)?;
    Ok(transaction.commit()?)
}

fn begin(database: &Database, durability: Durability) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(durability)?;
    // Otherwise the whole file is read at the next start after a crash.
    transaction.set_quick_repair(matches!(durability, Durability::Immediate));
    Ok(transaction)
}

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A state of the store that later writes do not change.
pub struct BtreeView {
    table: Result<Table, StoreError>,
}

impl BtreeView {
    fn table(&self) -> Result<&Table, StoreError> {
        self.table.as_ref().map_err(StoreError::clone)
    }
}

impl Read for BtreeView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = ReadableTable::get(self.table()?, key).map_err(failed)?;
        value.map(|value| checked(key, value.value())).transpose()
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
        let mut pairs = ReadableTable::range::<&[u8]>(self.table()?, start..end).map_err(failed)?;
        while let Some(pair) = if reverse { pairs.next_back() } else { pairs.next() } {
            let (key, value) = pair.map_err(failed)?;
            if visit(Bytes::copy_from_slice(key.value()), checked(key.value(), value.value())?).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Reads of the present state are those of a view that is opened for them: redb has no others.
impl Read for BtreeStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.view().get(key)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.view().scan(start, end, reverse, visit)
    }
}

impl Store for BtreeStore {
    type View = BtreeView;

    fn view(&self) -> BtreeView {
        BtreeView { table: self.table() }
    }

    fn write(&mut self, writes: WriteSet) -> Result<(), StoreError> {
        self.apply(&writes).map_err(failed)
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.sync().map_err(failed)
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    let error = error.into();
    let is_damage = match &error {
        redb::Error::Corrupted(_) | redb::Error::RepairAborted | redb::Error::UpgradeRequired(_) => true,
        redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } => true,
        redb::Error::Io(error) => matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData),
        _ => false,
    };
    if is_damage { StoreError::Damaged(error.to_string()) } else { StoreError::Failed(error.to_string()) }
}

/// The bytes behind each value: a hash of its key and itself.
const CHECK_BYTES: usize = 4;

fn check_of(key: &[u8], value: &[u8]) -> [u8; CHECK_BYTES] {
    (xxh3_64_with_seed(value, xxh3_64(key)) as u32).to_le_bytes()
}

/// A value without its check, if that fits.
fn checked(key: &[u8], found: &[u8]) -> Result<Bytes, StoreError> {
    match found.split_last_chunk() {
        Some((value, check)) if *check == check_of(key, value) => Ok(Bytes::copy_from_slice(value)),
        _ => Err(StoreError::Damaged(format!(
            "the value of key {:?} is not what was written",
            Bytes::copy_from_slice(key)
        ))),
    }
}
