//! What an engine holds after its process or its machine died: the state after some batch, at or behind the last persist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::BufRead;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use drey_core::store::{Read, Store};
use tempfile::TempDir;

use super::batches::{batch, expected};
use super::{Engine, pairs};

const BLOCK: usize = 4096;

/// Which batch was the last. Panics when the state is none between two batches.
fn last_batch<E: Engine>(directory: &Path) -> u64 {
    let store = E::open(directory).unwrap();
    let found = pairs(&store);
    let last = found.get(&b"count"[..]).map_or(0, |count| String::from_utf8_lossy(count).parse().unwrap());
    assert!(found == expected(last), "the state is not that after batch {last}");
    last
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let target = to.join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
}

/// All files below a directory, by their names from there.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(directory).unwrap().to_owned();
                files.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

/// A store's directory as it is after `persisted` synced batches, and after `all` of which the last are not synced.
fn died<E: Engine>(open: fn(&Path) -> E::Handle, persisted: u64, all: u64) -> (TempDir, TempDir) {
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

pub(super) fn a_killed_process_loses_nothing_persisted<E: Engine>() {
    let (synced, unsynced) = died::<E>(|directory| E::open(directory).unwrap(), 40, 60);
    assert_eq!(last_batch::<E>(synced.path()), 40);
    let last = if E::KEEPS_UNSYNCED { 60 } else { 40 };
    assert_eq!(last_batch::<E>(unsynced.path()), last);
    // And it goes on.
    let mut store = E::open(unsynced.path()).unwrap();
    store.write(batch(last + 1)).unwrap();
    store.persist().unwrap();
    drop(store);
    assert_eq!(last_batch::<E>(unsynced.path()), last + 1);
}

/// Set in a child: write into this directory until killed.
const CHILD: &str = "DREY_TEST_WRITE_INTO";

fn write_until_killed<E: Engine>(directory: &Path) -> ! {
    let mut store = E::open_busy(directory);
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

pub(super) fn a_process_killed_amid_its_work_loses_nothing_persisted<E: Engine>(test: &str) {
    if let Some(directory) = std::env::var_os(CHILD) {
        write_until_killed::<E>(Path::new(&directory));
    }
    let directory = TempDir::new().unwrap();
    let mut last = 0;
    for round in 0..5 {
        // This test again, as a process of its own.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("suite::{test}"), "--nocapture"])
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
        last = last_batch::<E>(directory.path());
        assert!(last >= persisted, "{persisted} batches were persisted, {last} are there");
    }
}

pub(super) fn a_power_cut_loses_no_persisted_batch_whatever_blocks_were_written<E: Engine>() {
    let (synced, unsynced) = died::<E>(E::open_until_cut, 20, 40);
    let (before, after) = (files(synced.path()), files(unsynced.path()));
    let mut blocks = Vec::new();
    for (name, bytes) in &after {
        // A file that was made since is not there after a power cut, unless a synced directory has it.
        let Some(before) = before.get(name) else { continue };
        let differ = |at: &usize| before.get(*at..at + BLOCK) != bytes.get(*at..at + BLOCK);
        blocks.extend(
            (0..bytes.len())
                .step_by(BLOCK)
                .filter(differ)
                .map(|at| (name, &bytes[at..(at + BLOCK).min(bytes.len())], at as u64)),
        );
    }
    assert!(blocks.len() > 50, "{} blocks are not synced", blocks.len());
    let mut state = 7u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let directory = TempDir::new().unwrap();
        copy(synced.path(), directory.path());
        // Of the blocks that were not synced, a few or most reached the disk, in no order.
        let lost_in = 1 + random(60);
        for (name, block, at) in &blocks {
            if random(lost_in) > 0 {
                let file = fs::OpenOptions::new().write(true).open(directory.path().join(name)).unwrap();
                file.write_all_at(block, *at).unwrap();
            }
        }
        let last = last_batch::<E>(directory.path());
        assert!((20..=40).contains(&last), "{last}");
        seen.insert(last);
    }
    if E::KEEPS_UNSYNCED {
        assert!(seen.len() > 5, "the cuts were different: {seen:?}");
    } else {
        assert_eq!(seen, [20].into());
    }
}
