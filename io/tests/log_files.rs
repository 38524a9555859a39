//! The log's files: written, read back, released, used again, and found after a restart.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{fs, path::Path};

use drey_io::{
    log_files::LogDirectory,
    runtime::{BLOCK, unknown_outcomes},
};
use support::run;

const SEGMENT: u64 = 64 * BLOCK as u64;

fn read(log: &LogDirectory, name: &str) -> Vec<u8> {
    fs::read(log.path().join(name)).unwrap()
}

fn files(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes a segment in several ways and compares what is read back, on the file system of `directory`. Returns whether
/// writes went past the page cache.
fn write_and_read_back(directory: &Path) -> bool {
    let log = LogDirectory::open(directory, SEGMENT, 1).unwrap();
    let direct = run({
        let log = log.clone();
        |_| async move {
            let segment = log.create("a.log", b"header".to_vec()).await.unwrap();
            // One block, several, more than the registered memory, and the last one.
            for (block, blocks) in [(1, 1), (2, 3), (5, 58), (63, 1)] {
                let fill = move |bytes: &mut [u8]| bytes.fill(u8::try_from(block).unwrap());
                segment.write(block * BLOCK as u64, blocks * BLOCK, fill).await.unwrap();
            }
            assert_eq!(unknown_outcomes(), 0);
            segment.is_direct()
        }
    });
    let bytes = read(&log, "a.log");
    assert_eq!(bytes.len() as u64, SEGMENT);
    assert_eq!(&bytes[..6], b"header");
    assert!(bytes[6..BLOCK].iter().all(|&byte| byte == 0));
    for (number, block) in bytes.chunks(BLOCK).enumerate().skip(1) {
        let expected = match number {
            1 => 1,
            2..5 => 2,
            5..63 => 5,
            _ => 63,
        };
        assert!(block.iter().all(|&byte| byte == expected), "block {number}");
    }
    direct
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    write_and_read_back(directory.path());
}

#[test]
fn a_file_system_in_memory_is_written_too() {
    // Every Linux mounts one here; it has no device, and no direct I/O before Linux 6.6.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    write_and_read_back(directory.path());
}

#[test]
fn segments_are_zero_until_written_and_allocated_in_full() {
    let directory = tempfile::tempdir().unwrap();
    let log = LogDirectory::open(directory.path(), SEGMENT, 0).unwrap();
    run({
        let log = log.clone();
        |_| async move { log.create("a.log", vec![]).await.map(drop).unwrap() }
    });
    assert!(read(&log, "a.log").iter().all(|&byte| byte == 0));
    let metadata = fs::metadata(directory.path().join("a.log")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512 >= SEGMENT, "allocated");
}

#[test]
fn released_segments_are_used_again_up_to_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let log = LogDirectory::open(directory.path(), SEGMENT, 1).unwrap();
    run({
        let log = log.clone();
        |_| async move {
            for name in ["1.log", "2.log", "3.log"] {
                log.create(name, name.as_bytes().to_vec()).await.unwrap();
            }
            log.release("1.log").await.unwrap();
            assert_eq!((log.spares(), log.segments().unwrap()), (1, vec!["2.log".to_owned(), "3.log".to_owned()]));
            log.release("2.log").await.unwrap();
            assert_eq!((log.spares(), log.segments().unwrap()), (1, vec!["3.log".to_owned()]), "one is enough");
            let again = log.create("4.log", b"4".to_vec()).await.unwrap();
            assert_eq!(log.spares(), 0);
            again.write(BLOCK as u64, BLOCK, |bytes| bytes.fill(4)).await.unwrap();
        }
    });
    assert_eq!(files(directory.path()), ["3.log", "4.log"]);
    let bytes = read(&log, "4.log");
    assert_eq!(bytes.len() as u64, SEGMENT);
    // The old header was "1.log".
    assert_eq!((&bytes[..5], bytes[BLOCK]), (&b"4\0\0\0\0"[..], 4));
}

#[test]
fn a_restart_keeps_segments_and_spares_and_removes_what_is_unfinished() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = LogDirectory::open(&path, SEGMENT, 3).unwrap();
    run(|_| async move {
        for name in ["2.log", "1.log", "3.log", "4.log"] {
            log.create(name, vec![]).await.unwrap();
        }
        log.release("3.log").await.unwrap();
        log.release("4.log").await.unwrap();
    });
    fs::write(path.join("7.new"), "a crash while it was filled").unwrap();
    fs::write(path.join("8.log.spare"), "of another size").unwrap();
    let log = LogDirectory::open(&path, SEGMENT, 3).unwrap();
    assert_eq!((log.segments().unwrap(), log.spares()), (vec!["1.log".to_owned(), "2.log".to_owned()], 2));
    assert_eq!(files(&path), ["1.log", "2.log", "3.log.spare", "4.log.spare"]);
    let fewer = LogDirectory::open(&path, SEGMENT, 1).unwrap();
    assert_eq!((fewer.spares(), files(&path).len()), (1, 3));
    fs::remove_file(path.join("1.log")).unwrap();
    fs::remove_file(path.join("2.log")).unwrap();
    LogDirectory::open(&path, SEGMENT, 3).unwrap();
    assert!(files(&path).is_empty(), "a log that begins again does not meet its former self");
}

#[test]
fn a_seal_is_written_into_a_closed_segment() {
    let directory = tempfile::tempdir().unwrap();
    let log = LogDirectory::open(directory.path(), SEGMENT, 0).unwrap();
    run({
        let log = log.clone();
        |_| async move { log.create("a.log", vec![1; BLOCK]).await.map(drop).unwrap() }
    });
    log.seal("a.log", 2 * BLOCK as u64, &[9; BLOCK]).unwrap();
    let bytes = read(&log, "a.log");
    assert_eq!((bytes[0], bytes[BLOCK], bytes[2 * BLOCK], bytes[3 * BLOCK]), (1, 0, 9, 0));
    assert_eq!(bytes.len() as u64, SEGMENT);
}

#[test]
fn a_write_that_nobody_waits_for_is_made_before_the_executor_ends() {
    let directory = tempfile::tempdir().unwrap();
    let log = LogDirectory::open(directory.path(), SEGMENT, 0).unwrap();
    run({
        let log = log.clone();
        |_| async move {
            let segment = log.create("a.log", vec![]).await.unwrap();
            drop(segment.write(0, BLOCK, |bytes| bytes.fill(7)));
        }
    });
    assert_eq!(read(&log, "a.log")[BLOCK - 1], 7);
}

#[test]
fn errors_name_the_file_and_what_was_tried() {
    let directory = tempfile::tempdir().unwrap();
    let log = LogDirectory::open(directory.path(), SEGMENT, 0).unwrap();
    let errors = run({
        let log = log.clone();
        |_| async move {
            let segment = log.create("a.log", vec![]).await.unwrap();
            let beyond = segment.write(SEGMENT - BLOCK as u64, 2 * BLOCK, |_| ()).await.unwrap_err();
            let parts = segment.write(0, 100, |_| ()).await.unwrap_err();
            let between = segment.write(100, BLOCK, |_| ()).await.unwrap_err();
            let taken = log.create("a.log", vec![]).await.unwrap_err();
            let missing = log.release("b.log").await.unwrap_err();
            let elsewhere = log.create("../c.log", vec![]).await.unwrap_err();
            [beyond, parts, between, taken, missing, elsewhere]
        }
    });
    let path = directory.path().display();
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(told[0].starts_with(&format!("cannot write the log's {path}/a.log: ")), "{}", told[0]);
    assert!(told[1].ends_with("not whole blocks"), "{}", told[1]);
    assert!(told[2].ends_with("not at a block's start"), "{}", told[2]);
    assert!(told[3].starts_with(&format!("cannot create the log's {path}/a.log: ")), "{}", told[3]);
    assert!(told[4].starts_with(&format!("cannot release the log's {path}/b.log: ")), "{}", told[4]);
    assert_eq!(errors[4].errno(), Some(2));
    assert!(told[5].ends_with("not a segment's name"), "{}", told[5]);
    assert_eq!(files(directory.path()), ["a.log"], "nothing unfinished is left");
}
