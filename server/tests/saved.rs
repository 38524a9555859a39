//! A lone node whose files are damaged: `drey recover` says what can be saved, and saves it.

#![allow(clippy::unwrap_used)]

mod processes;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use drey_client::Client;
use processes::Cluster;

const KEYS: usize = 6_000;
const VALUE_BYTES: usize = 4 << 10;

/// What `drey recover` said, and the keys that it saved.
fn recover(data: &Path) -> (Output, BTreeSet<String>) {
    let saved = tempfile::tempdir().unwrap();
    let file = saved.path().join("saved.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_drey"))
        .args(["recover", "--output", "text", "--data-dir"])
        .arg(data)
        .arg("--save")
        .arg(&file)
        .output()
        .unwrap();
    let key = |line: &str| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["bucket"], "default");
        assert_eq!(entry["value"].as_str().unwrap().len(), VALUE_BYTES, "{entry}");
        entry["key"].as_str().unwrap().to_owned()
    };
    let keys = fs::read_to_string(&file).unwrap_or_default().lines().map(key).collect();
    (output, keys)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A node that was killed with some of its keys in tables, and the last ones in its log.
fn killed(engine: &str) -> (Cluster, PathBuf) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start_lone_with(&["--engine", engine, "--shards", "1"]);
        let client = Client::builder(cluster.addresses()).timeout(Duration::from_secs(60)).connect().unwrap();
        let bucket = client.bucket("default");
        let puts = (0..KEYS).map(|at| {
            let bucket = bucket.clone();
            async move { bucket.put(format!("key-{at:05}"), vec![b'v'; VALUE_BYTES]).await.unwrap() }
        });
        let mut puts = puts.collect::<Vec<_>>().into_iter();
        loop {
            let some: Vec<_> = puts.by_ref().take(64).map(tokio::spawn).collect();
            if some.is_empty() {
                break;
            }
            for put in some {
                put.await.unwrap();
            }
        }
        cluster.kill(0);
        let data = cluster.data_dir(0);
        (cluster, data)
    })
}

#[test]
fn all_of_a_whole_node_is_saved() {
    for engine in ["lsm", "btree"] {
        let (mut cluster, data) = killed(engine);
        let (output, keys) = recover(&data);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("6000 keys"), "{}", said(&output));
        assert_eq!(keys.len(), KEYS);
        // Nothing was changed: it starts as if nobody had looked.
        cluster.start_node(0);
        cluster.command(0, &["get", "key-05999"]);
        let (running, _) = recover(&data);
        assert_eq!(running.status.code(), Some(5));
        assert!(said(&running).contains("in use by process"), "{}", said(&running));
    }
}

#[test]
fn what_is_not_damaged_is_saved() {
    let (_cluster, data) = killed("lsm");
    let tables = fs::read_dir(data.join("store/keyspaces/1/tables")).unwrap();
    let table = tables.map(|file| file.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 20_000].fill(0);
    fs::write(&table, bytes).unwrap();
    let (output, keys) = recover(&data);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("LOST: what may be between key-"), "{}", said(&output));
    assert!((KEYS - 40..KEYS - 2).contains(&keys.len()), "{} keys: {}", keys.len(), said(&output));

    // The log, too.
    fs::remove_dir_all(data.join("log")).unwrap();
    let (output, fewer) = recover(&data);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("what was written last, and stands in the log alone"), "{}", said(&output));
    assert!(fewer.len() <= keys.len() && fewer.len() > KEYS / 2, "{} keys: {}", fewer.len(), said(&output));

    // And all of the store.
    fs::write(data.join("store/version"), "?").unwrap();
    let (output, none) = recover(&data);
    assert!(none.is_empty() && said(&output).contains("the engine lsm cannot open it"), "{}", said(&output));
}
