//! What only the LSM engine does.

use bytes::Bytes;
use drey_core::store::{Store, contract};
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
