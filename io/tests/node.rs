//! Whole nodes in this process: alone, three together, stopped and started again.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use drey_core::Error;
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{Command, Operation, ReadMode, ReadOp, Reply, Write};
use drey_io::{Config, Engine, FoundingMember, Handle, Node};
use futures_lite::future::block_on;

const TIMEOUT_MS: u64 = 10_000;

fn key(text: &str) -> Key {
    Key::new(text.as_bytes().to_vec()).expect("a good key")
}

fn try_put(handle: &Handle, name: &str, value: &str) -> Result<Reply, Error> {
    let write = Write::Put {
        key: key(name),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ttl_ms: None,
        condition: None,
        return_previous: false,
    };
    block_on(handle.call(Operation::Write(Command { bucket: BucketName::DEFAULT, id: None, write }), TIMEOUT_MS))
}

fn put(handle: &Handle, name: &str, value: &str) {
    let reply = try_put(handle, name, value);
    assert!(matches!(reply, Ok(Reply::Put { applied: true, .. })), "{reply:?}");
}

fn get(handle: &Handle, name: &str, mode: ReadMode) -> Option<String> {
    let op = ReadOp::Get { bucket: BucketName::DEFAULT, key: key(name) };
    let group = group_of(&BucketName::DEFAULT, handle.groups());
    match block_on(handle.read(group, mode, op, TIMEOUT_MS)) {
        Ok(Reply::Entry(entry)) => entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()),
        other => panic!("{other:?}"),
    }
}

fn config(directory: &Path, name: &str) -> Config {
    let _ = tracing_subscriber::fmt().with_env_filter("warn").with_test_writer().try_init();
    Config { name: Some(name.into()), ..Config::new(directory.join(name)) }
}

#[test]
fn a_lone_node_keeps_what_it_took_through_restarts_with_other_shard_counts() {
    for engine in [Engine::Lsm, Engine::Memory] {
        let directory = tempfile::tempdir().unwrap();
        for (round, shards) in [1, 3, 2, 1].into_iter().enumerate() {
            let config = Config { engine: Some(engine), shards: Some(shards), ..config(directory.path(), "n1") };
            let node = Node::start(config).unwrap();
            let handle = node.handle();
            for before in 0..round {
                assert_eq!(get(&handle, &format!("k{before}"), ReadMode::Linearizable).unwrap(), "v");
            }
            put(&handle, &format!("k{round}"), "v");
            assert_eq!(block_on(handle.status()).unwrap().groups.len(), 17);
            node.stop().unwrap();
        }
    }
}

#[test]
fn a_second_process_on_the_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(config(directory.path(), "n1")).unwrap();
    let Err(second) = Node::start(config(directory.path(), "n1")) else { panic!("started twice") };
    assert!(second.to_string().contains("in use"), "{second}");
    node.stop().unwrap();
}

/// Ports that were free just now.
fn members() -> Vec<FoundingMember> {
    let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let name = |number: usize| format!("n{}", number + 1);
    listeners
        .iter()
        .enumerate()
        .map(|(number, listener)| FoundingMember {
            name: name(number),
            address: listener.local_addr().unwrap().to_string(),
        })
        .collect()
}

fn start_member(directory: &Path, members: &[FoundingMember], number: usize, shards: u32) -> Node {
    let member = &members[number];
    Node::start(Config {
        listen: member.address.parse().unwrap(),
        initial_members: members.to_vec(),
        shards: Some(shards),
        ..config(directory, &member.name)
    })
    .unwrap()
}

#[test]
fn three_nodes_take_writes_on_any_of_them_and_go_on_without_one() {
    let directory = tempfile::tempdir().unwrap();
    let members = members();
    let mut nodes: Vec<Node> =
        (0..3).map(|number| start_member(directory.path(), &members, number, 1 + number as u32 % 2)).collect();
    for round in 0..20 {
        put(&nodes[round % 3].handle(), &format!("k{round}"), &round.to_string());
        let read = get(&nodes[(round + 1) % 3].handle(), &format!("k{round}"), ReadMode::Linearizable);
        assert_eq!(read.unwrap(), round.to_string());
    }
    nodes.remove(0).stop().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while try_put(&nodes[0].handle(), "without", "one").is_err() {
        assert!(Instant::now() < deadline, "two of three do not go on");
    }
    nodes.push(start_member(directory.path(), &members, 0, 2));
    assert_eq!(get(&nodes[2].handle(), "without", ReadMode::Linearizable).unwrap(), "one");
    for node in nodes {
        node.stop().unwrap();
    }
}
