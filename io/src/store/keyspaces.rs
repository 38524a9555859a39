//! The two keyspaces of the fjall database that holds a store: the groups' meta records, and all else.
//!
//! Each batch of writes has a meta record. Beside the other keys these would be in every table, at the low end of its keys, so that
//! each table overlapped with all others, and even what comes in order would be merged again and again.
//!
//! A batch is in both keyspaces or in neither, also after a power cut, because
//! - fjall has one journal for both, and syncs it before it writes a memtable to a table;
//! - a keyspace that lost its files is damage here, and no reason to go on with an empty one, as it would be for fjall.

use std::fs;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::Path;

use bytes::Bytes;
use drey_core::machine::keys::FIRST_STATE_KEY;
use drey_core::store::StoreError;
use fjall::{Database, Iter, Keyspace, KeyspaceCreateOptions};

use crate::store::lsm::failed;

const META: &str = "meta";
const STATE: &str = "state";
/// Where fjall has the files of the keyspaces, a directory for each.
const DIRECTORY: &str = "keyspaces";
/// The file without which fjall takes a keyspace for one that was never finished, and removes it.
const MARKER: &str = "current";

/// The handles of both.
#[derive(Clone)]
pub(super) struct Keyspaces {
    meta: Keyspace,
    state: Keyspace,
}

/// Refuses a directory of which fjall would remove a part when it opens it.
pub(super) fn check_files(directory: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| failed(error.into());
    for keyspace in fs::read_dir(directory.join(DIRECTORY)).map_err(failed)? {
        let marker = keyspace.map_err(failed)?.path().join(MARKER);
        if !marker.try_exists().map_err(failed)? {
            return Err(StoreError::Damaged(format!("{} is missing", marker.display())));
        }
    }
    Ok(())
}

impl Keyspaces {
    /// Makes them, with room for so many bytes in a memtable until fjall itself writes it to a table.
    pub fn make(database: &Database, memtable_bytes_max: u64) -> fjall::Result<Keyspaces> {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes_max);
        let make = |name| database.keyspace(name, options);
        Ok(Keyspaces { meta: make(META)?, state: make(STATE)? })
    }

    /// Those that were made once.
    pub fn open(database: &Database, memtable_bytes_max: u64) -> Result<Keyspaces, StoreError> {
        match [META, STATE].into_iter().find(|name| !database.keyspace_exists(name)) {
            Some(missing) => Err(StoreError::Damaged(format!("the keyspace {missing:?} is missing"))),
            None => Keyspaces::make(database, memtable_bytes_max).map_err(failed),
        }
    }

    /// The one that a key belongs to.
    pub fn of(&self, key: &[u8]) -> &Keyspace {
        if key < FIRST_STATE_KEY { &self.meta } else { &self.state }
    }

    /// The memtables that wait to be written to tables, of the one that has more of them.
    pub fn sealed_memtables(&self) -> usize {
        self.meta.sealed_memtable_count().max(self.state.sealed_memtable_count())
    }

    /// Hands over both memtables to be written to tables: the older keeps the journal as long as it is.
    pub fn rotate_memtables(&self) -> Result<(), StoreError> {
        for keyspace in [&self.meta, &self.state] {
            keyspace.rotate_memtable().map_err(failed)?;
        }
        Ok(())
    }

    /// Visits the pairs of a range, in order or reversed; `read` gives those of one keyspace.
    pub fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
        read: impl Fn(&Keyspace, Range<&[u8]>) -> Iter,
    ) -> Result<(), StoreError> {
        let meta = (&self.meta, start..end.min(FIRST_STATE_KEY));
        let state = (&self.state, start.max(FIRST_STATE_KEY)..end);
        for (keyspace, part) in if reverse { [state, meta] } else { [meta, state] } {
            if part.start < part.end && walk(read(keyspace, part), reverse, visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn walk(
    mut pairs: Iter,
    reverse: bool,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, StoreError> {
    while let Some(pair) = if reverse { pairs.next_back() } else { pairs.next() } {
        let (key, value) = pair.into_inner().map_err(failed)?;
        if visit(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
