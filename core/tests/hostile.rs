//! Peers gone wrong: random and damaged messages into the replicas of a running cluster. Whatever they say, no shard panics
//! and none stops. What such peers can break is the group's data, not the program.

mod cluster;

use cluster::Cluster;
use drey_core::raft::Message;
use drey_core::request::{Command, Page, ReadOp, Reply, Write};
use drey_core::storage::SnapshotMeta;
use drey_core::wire::frame::FrameReader;
use drey_core::wire::{Body, Envelope};
use drey_core::{Error, GroupId, Input, LogIndex, NodeId, Term, Version, ViewId};
use prost11::Message as _;
use raft::eraftpb::{self, Entry};

const CLUSTERS: u64 = 150;
const MESSAGES_PER_CLUSTER: u64 = 300;
const NODES: u64 = 3;

/// A small generator: the same seed, the same messages.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Mostly near a value that means something, sometimes anything.
    fn number(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 => u64::MAX - self.below(3),
            2 => (1 << 48) - 1 - self.below(3),
            _ => self.below(12),
        }
    }
}

#[test]
fn hostile_messages_never_stop_a_shard() {
    for seed in 0..CLUSTERS {
        let mut random = Random(seed);
        let mut cluster = busy_cluster(&mut random);
        for _ in 0..MESSAGES_PER_CLUSTER {
            step(&mut cluster, &mut random);
        }
        for id in 1..=NODES {
            assert_eq!(cluster.node(id).failed(), None, "node {id} of the cluster with seed {seed}");
        }
    }
}

/// Three nodes, mostly with a leader, with something in their logs.
fn busy_cluster(random: &mut Random) -> Cluster {
    let mut cluster = Cluster::new();
    cluster.trace.mute = true;
    cluster.settings.log.segment_bytes = 64 << 10;
    cluster.settings.log.segments_kept = 2;
    cluster.add_nodes(NODES, 1);
    cluster.run(30);
    for n in 0..random.below(6) {
        put(&mut cluster, 1 + random.below(NODES), n);
        cluster.stabilize();
    }
    cluster
}

fn put(cluster: &mut Cluster, id: u64, n: u64) {
    let key = drey_core::name::Key::new(n.to_string()).expect("a key");
    let value = vec![0; 4000].into();
    let write = Write::Put { key, value, ttl_ms: None, condition: None, return_previous: false };
    cluster.write(id, 10_000, Command { bucket: drey_core::name::BucketName::DEFAULT, id: None, write });
}

/// Something hostile happens, and something normal.
fn step(cluster: &mut Cluster, random: &mut Random) {
    let to = 1 + random.below(NODES);
    let from = 1 + random.below(NODES + 1);
    let body = match random.below(16) {
        0 => Body::SnapshotChunk {
            transfer: random.number(),
            meta: meta(random),
            chunk: random.below(3),
            last: random.one_in(2),
            data: vec![0; random.below(64) as usize].into(),
        },
        1 => Body::SnapshotAck { transfer: random.number(), chunk: random.below(3), accepted: random.one_in(2) },
        3 => Body::Scrub {
            index: LogIndex(random.below(20)),
            term: Term(random.below(4)),
            position: vec![b'd'; random.below(4) as usize].into(),
            bytes_max: random.below(100),
        },
        4 => Body::Scrubbed { index: LogIndex(random.below(20)), term: Term(random.below(4)), hash: random.number() },
        5 => Body::Differs { term: Term(random.below(4)) },
        6 => Body::Read {
            id: random.number(),
            deadline_in_ms: if random.one_in(2) { random.number() } else { random.below(2_000) },
            op: match random.below(4) {
                0 => ReadOp::Members,
                1 => ReadOp::ScanNext { view: ViewId::here(random.below(3)) },
                2 => ReadOp::ScanEnd { view: ViewId::here(random.below(3)) },
                _ => ReadOp::ListBuckets { prefix: String::new() },
            },
        },
        2 => Body::ForwardReply {
            id: random.number(),
            reply: match random.below(3) {
                0 => Err(Error::NoLeader),
                1 => Ok(Reply::Done),
                _ => {
                    let next = Some(ViewId::here(random.below(3)));
                    Ok(Reply::Page(Page { entries: Vec::new(), version: Version(1), next, more: false }))
                }
            },
        },
        _ => Body::Raft(random_message(random, from, to)),
    };
    hostile(cluster, from, to, body);
    match random.below(8) {
        0 => cluster.tick(1 + random.below(NODES)),
        1 => put(cluster, 1 + random.below(NODES), random.0 % 100),
        2 => (1..=NODES).for_each(|id| cluster.work(id)),
        3 => {
            // What is really under way arrives, each message once as it is and once damaged.
            for ((from, to), frame) in cluster.network.take(None) {
                let envelopes = FrameReader::default().read(frame.bytes.clone()).expect("as sent").unwrap_or_default();
                for envelope in envelopes {
                    if to <= NODES
                        && let Body::Raft(message) = envelope.body
                        && let Some(damaged) = damaged(&message, random)
                    {
                        hostile(cluster, from, to, Body::Raft(damaged));
                    }
                }
                // A peer that is no member was answered: nobody is there to hear it.
                if to <= NODES {
                    cluster.node(to).receive(from, frame);
                    cluster.turn(to, false);
                }
            }
        }
        _ => {}
    }
}

fn hostile(cluster: &mut Cluster, from: u64, to: u64, body: Body) {
    // What a peer sends comes through the decoder.
    let mut bytes = Vec::new();
    let group = GroupId(1);
    drey_core::wire::frame::encode(1, 1, &[Envelope { group, body }], &mut bytes);
    let Ok(Some(envelopes)) = FrameReader::default().read(bytes.into()) else { return };
    for envelope in envelopes {
        cluster.node(to).inbox(0).push(Input::Message(NodeId(from), envelope));
    }
    cluster.turn(to, false);
}

fn random_message(random: &mut Random, from: u64, to: u64) -> Message {
    let mut message = eraftpb::Message {
        msg_type: random.below(20) as i32,
        from: if random.one_in(20) { random.number() } else { from },
        to: if random.one_in(20) { random.number() } else { to },
        // A term from the far end leaves all others behind for ever: seldom.
        term: if random.one_in(60) { random.number() } else { random.below(6) },
        log_term: random.number().min(random.number()),
        index: random.number(),
        commit: random.number(),
        commit_term: random.number(),
        reject: random.one_in(3),
        reject_hint: random.number(),
        request_snapshot: if random.one_in(4) { random.number() } else { 0 },
        ..Default::default()
    };
    let mut index = message.index;
    for _ in 0..random.below(4) {
        index = if random.one_in(10) { random.number() } else { index.wrapping_add(1) };
        message.entries.push(entry(random, index));
    }
    if random.one_in(4) {
        message.context = vec![random.below(256) as u8; random.below(70) as usize].into();
    }
    if message.msg_type == eraftpb::MessageType::MsgSnapshot as i32 || random.one_in(30) {
        let metadata = message.mut_snapshot().mut_metadata();
        metadata.index = random.number();
        metadata.term = random.number();
        metadata.mut_conf_state().voters = (0..random.below(4)).map(|_| random.below(5)).collect();
        metadata.mut_conf_state().learners = (0..random.below(2)).map(|_| random.below(5)).collect();
        metadata.mut_conf_state().voters_outgoing = (0..random.below(2)).map(|_| random.below(5)).collect();
    }
    decoded(&message).expect("it was encoded just now")
}

fn entry(random: &mut Random, index: u64) -> Entry {
    Entry {
        entry_type: if random.one_in(4) { random.below(4) as i32 } else { 0 },
        term: if random.one_in(4) { random.number() } else { 2 },
        index,
        data: vec![random.below(256) as u8; random.below(20) as usize].into(),
        ..Default::default()
    }
}

fn meta(random: &mut Random) -> SnapshotMeta {
    let configuration = vec![random.below(20) as u8; random.below(8) as usize].into();
    SnapshotMeta { index: LogIndex(random.number()), term: Term(random.number()), configuration }
}

/// A message with one of its fields, or one of its bytes, changed.
fn damaged(message: &Message, random: &mut Random) -> Option<Message> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    if random.one_in(3) {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        return Message::decode(bytes.into()).ok();
    }
    let mut message = eraftpb::Message::decode(bytes.as_slice()).ok()?;
    match random.below(8) {
        0 => message.term = random.below(6),
        1 => message.index = random.number(),
        2 => message.commit = random.number(),
        3 => message.log_term = random.number(),
        4 => message.reject = !message.reject,
        5 => message.msg_type = random.below(20) as i32,
        6 => message.entries.push(entry(random, message.index)),
        _ => message.reject_hint = random.number(),
    }
    decoded(&message)
}

fn decoded(message: &eraftpb::Message) -> Option<Message> {
    Message::decode(message.encode_to_vec().into()).ok()
}
