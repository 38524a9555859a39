//! What only the LSM engine does.

use std::fs;

use bytes::Bytes;
use drey_core::store::{Store, StoreError, WriteSet, contract};
use drey_io::store::{LsmOptions, LsmStore};
use tempfile::TempDir;

use super::{Engine, Lsm, one, pairs};

#[test]
fn keeps_the_contract_while_it_flushes_and_compacts() {
    let directory = TempDir::new().unwrap();
    let mut count = 0;
    contract::check(|| {
        count += 1;
        // So small that each few batches make a table.
        let options = LsmOptions { memtable_bytes: 1 << 10, cache_bytes: 1 << 20 };
        LsmStore::open(&directory.path().join(count.to_string()), options).unwrap()
    });
}

#[test]
fn a_key_that_the_engine_cannot_take_is_an_error() {
    let directory = TempDir::new().unwrap();
    let mut store = Lsm::open(directory.path()).unwrap();
    store.write(one("k", "v")).unwrap();
    for key in [Bytes::new(), Bytes::from(vec![1; 65_536])] {
        let mut batch = one("k", "changed");
        batch.changes.insert(key.clone(), None);
        assert!(store.write(batch).is_err());
    }
    assert_eq!(pairs(&store), [("k".into(), "v".into())].into(), "nothing of a refused batch is written");
    store.write(one("k", "later")).unwrap();
    drop(store);
    assert_eq!(pairs(&Lsm::open(directory.path()).unwrap()), [("k".into(), "later".into())].into());
}

/// fjall would make empty ones in their place, and say nothing.
#[test]
fn a_keyspace_that_lost_its_files_is_damage() {
    let make = || {
        let directory = TempDir::new().unwrap();
        let mut store = Lsm::open(directory.path()).unwrap();
        store.write(one("\0meta", "v")).unwrap();
        store.write(one("k", "v")).unwrap();
        store.persist().unwrap();
        directory
    };
    let keyspaces = |directory: &TempDir| {
        let entries = fs::read_dir(directory.path().join("keyspaces")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let count = keyspaces(&make()).len();
    assert_eq!(count, 3, "fjall's own, and two");
    for number in 0..count {
        for whole in [false, true] {
            let directory = make();
            let lost = keyspaces(&directory).swap_remove(number);
            if whole {
                fs::remove_dir_all(&lost).unwrap()
            } else {
                fs::remove_file(lost.join("current")).unwrap()
            }
            let error = Lsm::open(directory.path()).err().unwrap_or_else(|| panic!("{} was opened", lost.display()));
            assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        }
    }
}

/// Writes come so fast, and merging takes so long, that fjall's own way of writing memtables out comes to a standstill.
#[test]
fn what_is_in_memory_is_bounded_while_tables_are_merged() {
    const MEMTABLE_BYTES: u64 = 256 << 10;
    let directory = TempDir::new().unwrap();
    let options = LsmOptions { memtable_bytes: MEMTABLE_BYTES, cache_bytes: 1 << 20 };
    let mut store = LsmStore::open(directory.path(), options).unwrap();
    let mut most = 0;
    for number in 0..30_000u64 {
        // All over the place, so that every table overlaps with all others.
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let batch =
            WriteSet { changes: [(Bytes::copy_from_slice(&key), Some(vec![number as u8; 1000].into()))].into() };
        store.write(batch).unwrap();
        most = most.max(store.unwritten_bytes());
    }
    // One that is filled, to twice its size at most, and four that wait; fjall counts a little more for each record.
    assert!(most < 8 * MEMTABLE_BYTES, "{most} bytes were in memory");
    assert!(most > MEMTABLE_BYTES, "{most} bytes: nothing waited");
}
