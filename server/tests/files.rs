//! A node's files, looked at without a node: `drey check` and `drey log dump`, on whole files and on damaged ones, of each engine.

#![allow(clippy::unwrap_used)]

mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use processes::Cluster;

fn drey(data: &Path, command: &str) -> Output {
    let words = command.split(' ');
    Command::new(env!("CARGO_BIN_EXE_drey")).args(words).arg("--data-dir").arg(data).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The parts of a node that are not whole, and what is said of them.
fn damaged(data: &Path) -> Vec<(String, String)> {
    let output = drey(data, "check --output json");
    let said = text(&output.stdout);
    assert!(!text(&output.stderr).contains("panicked at"), "{}", text(&output.stderr));
    let parts = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let damaged: Vec<_> = parts
        .filter(|part| part["whole"] == false)
        .map(|part| (part["part"].as_str().unwrap().to_owned(), part["found"].as_str().unwrap().to_owned()))
        .collect();
    let code = if damaged.is_empty() { 0 } else { 5 };
    assert_eq!(output.status.code(), Some(code), "{said}{}", text(&output.stderr));
    damaged
}

/// The same with these bytes there, then as it was.
fn with(file: &Path, at: usize, bytes: &[u8], then: impl FnOnce()) {
    let whole = fs::read(file).unwrap();
    let mut changed = whole.clone();
    changed[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(file, changed).unwrap();
    then();
    fs::write(file, whole).unwrap();
}

fn stopped_with(engine: &str) -> (Cluster, PathBuf) {
    let mut cluster = Cluster::start_lone_with(&["--engine", engine, "--shards", "1", "--groups", "1"]);
    for number in 0..20 {
        cluster.command(0, &["set", &format!("key-{number}"), &"value".repeat(100)]);
    }
    let data = cluster.data_dir(0);
    let running = drey(&data, "check");
    assert_eq!(running.status.code(), Some(5));
    assert!(text(&running.stderr).contains("in use by process"), "{}", text(&running.stderr));
    cluster.kill(0);
    (cluster, data)
}

#[test]
fn whole_files_are_called_whole_and_the_log_can_be_read() {
    for engine in ["lsm", "btree", "memory"] {
        let (_cluster, data) = stopped_with(engine);
        assert_eq!(damaged(&data), [], "{engine}");
        let all = text(&drey(&data, "log dump").stdout);
        assert!(all.contains("put default/key-7: 500 bytes"), "{all}");
        assert!(all.contains("batch 1: "), "{all}");
        let system = text(&drey(&data, "log dump --group 0").stdout);
        assert!(!system.contains("key-7") && system.contains("group 0: "), "{system}");
        let (written, next) = ("00000001-0000-0000000000000000.log", "00000001-0000-0000000000000001.log");
        let one = |segment: &str| text(&drey(&data, &format!("log dump {segment}")).stdout);
        assert_eq!(one(written) + &one(next), all, "there are no others");
        assert_eq!(drey(&data, "log dump nothing.log").status.code(), Some(1));
    }
    let nobody = tempfile::tempdir().unwrap();
    for command in ["check", "log dump"] {
        let output = drey(nobody.path(), command);
        assert_eq!(output.status.code(), Some(5));
        assert!(text(&output.stderr).contains("is not the data directory of a node"), "{}", text(&output.stderr));
    }
}

#[test]
fn damage_is_named() {
    for engine in ["lsm", "btree"] {
        let (_cluster, data) = stopped_with(engine);
        let name = "00000001-0000-0000000000000000.log";
        // Records of a batch that a later one attests.
        with(&data.join("log").join(name), 3 * 4096 + 100, b"damage", || {
            let found = damaged(&data);
            assert_eq!(found.len(), 1, "{engine}: {found:?}");
            assert!(found[0].0 == "log" && found[0].1.contains(name) && found[0].1.contains("byte 12288"), "{found:?}");
            let dumped = text(&drey(&data, "log dump").stdout);
            assert!(dumped.contains("\n     12288  its records are damaged"), "{dumped}");
        });
        fs::write(data.join("peers.json"), "?").unwrap();
        assert_eq!(damaged(&data)[0].0, "peers");
        fs::remove_file(data.join("peers.json")).unwrap();
        assert_eq!(damaged(&data), [], "{engine}");
        // The log reaches back to the beginning.
        fs::rename(data.join("store"), data.join("aside")).unwrap();
        assert_eq!(damaged(&data), [], "{engine}");
        assert!(!data.join("store").exists(), "who looks makes nothing");
    }
}

/// A node with the engine `btree` that was stopped in order, which makes its store durable, and a place in the file where values lie.
fn stopped_b_tree() -> (Cluster, PathBuf, PathBuf, usize) {
    let (mut cluster, data) = stopped_with("btree");
    cluster.start_node(0);
    cluster.command(0, &["set", "last", "value"]);
    cluster.stop(0);
    let file = data.join("store").join("btree.redb");
    let bytes = fs::read(&file).unwrap();
    let at = bytes.windows(10).position(|bytes| bytes == b"valuevalue").unwrap();
    (cluster, data, file, at)
}

#[test]
fn damage_in_a_b_tree_is_found_and_nothing_is_changed() {
    let (_cluster, data, file, at) = stopped_b_tree();
    let before = fs::read(&file).unwrap();
    assert_eq!(damaged(&data), []);
    assert!(fs::read(&file).unwrap() == before, "a whole one is as it was");
    assert!(!data.join("store.copy").exists());
    with(&file, at, b"d", || {
        let changed = fs::read(&file).unwrap();
        let found = damaged(&data);
        assert!(found.iter().any(|(part, _)| part == "store"), "{found:?}");
        assert!(fs::read(&file).unwrap() == changed, "a damaged one, too");
    });
}

#[test]
fn a_node_whose_store_makes_its_engine_panic_says_so_and_ends() {
    let (mut cluster, _data, file, at) = stopped_b_tree();
    // Behind the number of pairs: where each ends in its page.
    let page = at / 4096 * 4096;
    let mut bytes = fs::read(&file).unwrap();
    bytes[page + 4..page + 64].fill(0xff);
    fs::write(&file, bytes).unwrap();
    cluster.start_node(0);
    // If it starts at all, the first read of that page ends it.
    let address = cluster.address(0).to_owned();
    for key in (0..20).map(|number| format!("key-{number}")) {
        let get = ["--server", &address, "--timeout", "1s", "get", &key];
        Command::new(env!("CARGO_BIN_EXE_drey")).args(get).output().unwrap();
    }
    assert_eq!(cluster.wait_end(0, Duration::from_secs(20)), Some(5), "{}", cluster.logs());
    assert!(cluster.log(0).contains("the engine panicked"), "{}", cluster.logs());
}
