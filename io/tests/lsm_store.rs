//! The LSM store: the contract of all engines, and what it holds after a process or a machine died.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use drey_core::store::{Read, Store, WriteSet, contract};
use drey_io::store::{LsmOptions, LsmStore};
use tempfile::TempDir;

fn open(directory: &Path) -> LsmStore {
    LsmStore::open(directory, LsmOptions::default()).unwrap()
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

#[test]
fn keeps_the_contract() {
    let directory = TempDir::new().unwrap();
    let mut count = 0;
    contract::check(|| {
        count += 1;
        open(&directory.path().join(count.to_string()))
    });
}

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
fn clones_are_handles_of_one_store() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let mut store = store.clone();
            std::thread::spawn(move || {
                for at in 0..200 {
                    store.write(one(&format!("{thread}/{at:03}"), "v")).unwrap();
                }
                store.persist().unwrap();
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(pairs(&store).len(), 800);
}

#[test]
fn a_key_that_the_engine_cannot_take_is_an_error() {
    let directory = TempDir::new().unwrap();
    let mut store = open(directory.path());
    store.write(one("k", "v")).unwrap();
    for key in [Bytes::new(), Bytes::from(vec![1; 65_536])] {
        let mut batch = one("k", "changed");
        batch.changes.insert(key.clone(), None);
        assert!(store.write(batch).is_err());
    }
    assert_eq!(pairs(&store), [("k".into(), "v".into())].into(), "nothing of a refused batch is written");
    store.write(one("k", "later")).unwrap();
    drop(store);
    assert_eq!(pairs(&open(directory.path())), [("k".into(), "later".into())].into());
}

#[test]
fn a_directory_has_one_process() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path());
    let error = LsmStore::open(directory.path(), LsmOptions::default()).err().unwrap();
    assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    drop(store);
    open(directory.path());
}

#[test]
fn a_store_that_was_left_half_made_is_made_again() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let unfinished = directory.path().join("store.unfinished");
    // What fjall has on disk when its creation is cut off early.
    fs::create_dir_all(unfinished.join("keyspaces")).unwrap();
    fs::write(unfinished.join("lock"), "").unwrap();
    fs::write(unfinished.join("0.jnl"), [0; 100]).unwrap();
    let mut store = open(&path);
    store.write(one("k", "v")).unwrap();
    drop(store);
    assert!(!unfinished.exists());
    assert_eq!(pairs(&open(&path)).len(), 1, "a made store is not made again");
}

/// The batch of this number: a count, and two values of which one is large.
fn batch(number: u64) -> WriteSet {
    let filler = |len: u64, salt: u64| -> Bytes {
        // Neither compressible nor ever the same.
        let mut state = (number << 8 | salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..len).map(|_| byte()).collect()
    };
    let mut changes = BTreeMap::new();
    changes.insert("count".into(), Some(number.to_string().into()));
    changes.insert(format!("large/{}", number % 3).into(), Some(filler(30_000, 1)));
    changes
        .insert(format!("small/{}", number % 7).into(), (!number.is_multiple_of(5)).then(|| filler(number % 300, 2)));
    WriteSet { changes }
}

/// What there is after the batches `1..=last`.
fn expected(last: u64) -> BTreeMap<Bytes, Bytes> {
    let mut pairs = BTreeMap::new();
    for (key, change) in (1..=last).flat_map(|number| batch(number).changes) {
        match change {
            Some(value) => pairs.insert(key, value),
            None => pairs.remove(&key),
        };
    }
    pairs
}

/// Which batch was the last. Panics when the state is none between two batches.
fn last_batch(directory: &Path) -> u64 {
    let store = open(directory);
    let found = pairs(&store);
    let last = found.get(&b"count"[..]).map_or(0, |count| String::from_utf8_lossy(count).parse().unwrap());
    assert!(found == expected(last), "the state is not that after batch {last}");
    last
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

fn journal(directory: &Path) -> PathBuf {
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    let journals: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(is_journal).collect();
    assert_eq!(journals.len(), 1);
    journals[0].clone()
}

/// A store's directory as it is after `persisted` synced batches, and after `all` of which the last are not synced.
fn died(persisted: u64, all: u64) -> (TempDir, TempDir) {
    let lived = TempDir::new().unwrap();
    let mut store = open(lived.path());
    (1..=persisted).for_each(|number| store.write(batch(number)).unwrap());
    store.persist().unwrap();
    let [synced, unsynced] = [(); 2].map(|()| TempDir::new().unwrap());
    copy(lived.path(), synced.path());
    (persisted + 1..=all).for_each(|number| store.write(batch(number)).unwrap());
    // Copied while it is open: nothing is done on closing.
    copy(lived.path(), unsynced.path());
    (synced, unsynced)
}

#[test]
fn a_killed_process_loses_nothing() {
    let (synced, unsynced) = died(40, 60);
    assert_eq!(last_batch(synced.path()), 40);
    assert_eq!(last_batch(unsynced.path()), 60);
    // And it goes on.
    let mut store = open(unsynced.path());
    store.write(batch(61)).unwrap();
    drop(store);
    assert_eq!(last_batch(unsynced.path()), 61);
}

/// Set in a child: write into this directory until killed.
const CHILD: &str = "DREY_TEST_WRITE_INTO";

/// So small a memtable that the child flushes and compacts all the time.
fn open_busy(directory: &Path) -> LsmStore {
    LsmStore::open(directory, LsmOptions { memtable_bytes: 100 << 10, cache_bytes: 1 << 20 }).unwrap()
}

fn write_until_killed(directory: &Path) -> ! {
    let mut store = open_busy(directory);
    let count = store.get(b"count").unwrap().map_or(0, |count| String::from_utf8_lossy(&count).parse().unwrap());
    for number in count + 1.. {
        store.write(batch(number)).unwrap();
        if number % 8 == 0 {
            store.persist().unwrap();
            println!("persisted {number}");
        }
    }
    unreachable!("the numbers do not end");
}

#[test]
fn a_process_killed_amid_flushes_loses_nothing_persisted() {
    if let Some(directory) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&directory));
    }
    let directory = TempDir::new().unwrap();
    let mut last = 0;
    for round in 0..5 {
        // This test again, as a process of its own.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_killed_amid_flushes_loses_nothing_persisted", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut persisted = 0;
        for line in std::io::BufReader::new(child.stdout.take().unwrap()).lines() {
            // The first line has the name of the test in front.
            let line = line.unwrap();
            if let Some((_, number)) = line.split_once("persisted ") {
                persisted = number.parse().unwrap();
            }
            if persisted >= last + 40 + 7 * round {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(persisted > last, "the child ended early");
        last = last_batch(directory.path());
        assert!(last >= persisted, "{persisted} batches were persisted, {last} are there");
    }
}

#[test]
fn a_power_cut_loses_no_persisted_batch_whatever_blocks_were_written() {
    const BLOCK: usize = 4096;
    let (synced, unsynced) = died(20, 40);
    let before = fs::read(journal(synced.path())).unwrap();
    let after = fs::read(journal(unsynced.path())).unwrap();
    let blocks: Vec<usize> = (0..after.len())
        .step_by(BLOCK)
        .filter(|at| before.get(*at..at + BLOCK) != after.get(*at..at + BLOCK))
        .collect();
    assert!(blocks.len() > 100, "{} blocks are not synced", blocks.len());
    let mut state = 7u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let directory = TempDir::new().unwrap();
        copy(synced.path(), directory.path());
        let file = fs::OpenOptions::new().write(true).open(journal(directory.path())).unwrap();
        // Of the blocks that were not synced, a few or most reached the disk, in no order.
        let lost_in = 1 + random(60);
        for at in &blocks {
            if random(lost_in) > 0 {
                file.write_all_at(&after[*at..(at + BLOCK).min(after.len())], *at as u64).unwrap();
            }
        }
        drop(file);
        let last = last_batch(directory.path());
        assert!((20..=40).contains(&last), "{last}");
        seen.insert(last);
    }
    assert!(seen.len() > 5, "the cuts were different: {seen:?}");
}
