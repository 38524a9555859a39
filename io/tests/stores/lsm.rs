//! What only the LSM engine does.

use bytes::Bytes;
use drey_core::store::{Store, WriteSet, contract};
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
