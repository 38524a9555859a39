//! What the benchmarks share: the puts that they make, and a cluster without disks and sockets.
#![allow(dead_code, reason = "each benchmark uses a part")]

pub mod cluster;

use bytes::Bytes;
use drey_core::name::{BucketName, Key};
use drey_core::request::{Command, Write};
use drey_core::system::Founder;
use drey_core::{ClusterId, Config, GroupId, NodeId, ShardId, config};

/// The values' size, as in the comparison of whole systems.
pub const VALUE_BYTES: usize = 256;
/// How many keys there are; each put takes the next, scattered.
pub const KEYS: u64 = 100_000;
/// How many puts share a turn, where they do.
pub const BATCH: u64 = 64;
/// The group of all buckets: there is one.
pub const GROUP: GroupId = GroupId(1);

/// One shard's configuration, on one of `nodes` nodes.
pub fn config(node: u64, nodes: u64) -> Config {
    Config {
        node: NodeId(node),
        cluster: ClusterId(7),
        epoch: 0,
        shard: ShardId(0),
        shards: 1,
        groups: 1,
        founders: (1..=nodes).map(Founder::numbered).collect(),
        timing: config::Timing::default(),
        log: config::LogLimits::default(),
        transfer: config::TransferLimits::default(),
        scrub: config::ScrubLimits::default(),
    }
}

/// The key of a number. Neighbours are far apart.
pub fn key(number: u64) -> Key {
    let scattered = (number % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Key::new(format!("key-{scattered:016x}").into_bytes()).expect("a good key")
}

/// A put of the key of a number.
pub fn put(number: u64) -> Command {
    let write = Write::Put {
        key: key(number),
        value: Bytes::from(vec![number as u8; VALUE_BYTES]),
        ttl_ms: None,
        condition: None,
        return_previous: false,
    };
    Command { bucket: BucketName::DEFAULT, id: None, write }
}
