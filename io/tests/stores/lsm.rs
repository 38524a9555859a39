//! What only the LSM engine does.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use drey_core::store::{Read, Store, StoreError, WriteSet, contract};
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

const BATCHES: usize = 10;

/// A store of so many batches of one pair each, with one journal; and the bytes of each batch there.
fn made() -> (TempDir, usize) {
    let directory = TempDir::new().unwrap();
    let mut store = Lsm::open(directory.path()).unwrap();
    for number in 0..BATCHES {
        store.write(one(&number.to_string(), "value")).unwrap();
    }
    store.persist().unwrap();
    let bytes = fs::read(directory.path().join("0.jnl")).unwrap();
    (directory, (bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1) / BATCHES)
}

fn is_damage(directory: &Path, what: &str) {
    match Lsm::open(directory) {
        Ok(_) => panic!("it opened, though {what}"),
        Err(error) => assert!(matches!(error, StoreError::Damaged(_)), "{what}: {error}"),
    }
}

/// fjall would make an empty one in its place, and say nothing.
#[test]
fn a_keyspace_that_lost_its_files_is_damage() {
    let keyspaces = |directory: &TempDir| {
        let entries = fs::read_dir(directory.path().join("keyspaces")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    for number in 0..keyspaces(&made().0).len() {
        let (directory, _) = made();
        let lost = keyspaces(&directory).swap_remove(number);
        fs::remove_file(lost.join("current")).unwrap();
        is_damage(directory.path(), "the marker of a keyspace is gone");
        fs::remove_dir_all(&lost).unwrap();
        is_damage(directory.path(), "a keyspace is gone");
    }
}

/// fjall would begin a new one, and hide what is in the tables.
#[test]
fn a_missing_journal_is_damage() {
    let (directory, _) = made();
    fs::remove_file(directory.path().join("0.jnl")).unwrap();
    is_damage(directory.path(), "there is no journal");
}

/// fjall takes damage for the end of a journal, and reads the next one on top of it.
#[test]
fn damage_in_a_journal_with_another_behind_it_is_not_passed_over() {
    let (directory, batch_bytes) = made();
    let path = |number: u64| directory.path().join(format!("{number}.jnl"));
    // As if another had been begun behind half of the batches.
    let bytes = fs::read(path(0)).unwrap();
    let (first, second) = bytes.split_at(batch_bytes * BATCHES / 2);
    fs::write(path(0), first).unwrap();
    fs::write(path(1), second).unwrap();
    assert_eq!(pairs(&Lsm::open(directory.path()).unwrap()).len(), BATCHES);
    let mut broken = first.to_vec();
    broken[batch_bytes * 3 / 2] ^= 1;
    fs::write(path(0), broken).unwrap();
    is_damage(directory.path(), "a sealed journal has a hole");
    fs::write(path(0), first).unwrap();
    fs::rename(path(1), path(2)).unwrap();
    is_damage(directory.path(), "a journal is missing in between");
}

/// fjall has no checksum of it: a lower one would be taken for a batch that is in a table already, a higher one for newer than all that follows.
#[test]
fn a_batch_whose_sequence_number_does_not_rise_is_broken() {
    /// START, and the count of items.
    const NUMBER_AT: usize = 1 + 4;
    for flipped in [NUMBER_AT, NUMBER_AT + 6] {
        let (directory, batch_bytes) = made();
        let journal = directory.path().join("0.jnl");
        let mut bytes = fs::read(&journal).unwrap();
        bytes[4 * batch_bytes + flipped] ^= 0x0f;
        fs::write(&journal, bytes).unwrap();
        let store = Lsm::open(directory.path()).unwrap();
        let kept = pairs(&store).len();
        assert!((4..=5).contains(&kept), "what is behind it is not read: {kept}");
        assert!(
            (0..kept).all(|number| store.get(number.to_string().as_bytes()).unwrap().is_some()),
            "all before it is"
        );
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
