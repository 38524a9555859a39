//! The language of the text tests: one command a line. `testdata/README.md` lists the commands.

use bytes::Bytes;
use drey_core::log::SegmentId;
use drey_core::machine::keys::Generation;
use drey_core::name::{BucketName, KeyRange};
use drey_core::placement::{SYSTEM_GROUP, all_groups, group_of};
use drey_core::raft::Message;
use drey_core::request::{BatchOp, Command, Operation, ReadMode, ReadOp, Write, WriteId};
use drey_core::store::{Read, Store, WriteSet};
use drey_core::system::SystemWrite;
use drey_core::wire::{Body, Envelope};
use drey_core::{GroupId, Incarnation, Input, NodeId, Room, Version};
use prost11::Message as _;
use raft::eraftpb;

use super::Cluster;
use super::disk::Torn;
use super::node::Node;
use super::trace::time;
use super::words::{DEADLINE_MS, Words, condition, key, number, pair};

/// What a script works on.
pub struct Script {
    cluster: Cluster,
    copies: std::collections::BTreeMap<u64, Copy>,
}

/// A node's disk and store, as they once were.
struct Copy {
    files: std::collections::BTreeMap<SegmentId, Vec<u8>>,
    store: super::store::SharedStore,
}

impl Script {
    pub fn new() -> Script {
        Script { cluster: Cluster::new(), copies: Default::default() }
    }

    /// Runs one command and says what happened.
    pub fn run(&mut self, line: &str) -> String {
        let words = Words::parse(line);
        self.command(&words);
        self.cluster.trace.take()
    }

    fn command(&mut self, words: &Words) {
        let cluster = &mut self.cluster;
        match words.at(0) {
            "settings" => settings(cluster, words),
            "trace" => {
                cluster.trace.messages = words.has("messages");
                cluster.trace.log = words.has("log");
                cluster.trace.answers_only = words.has("answers");
                cluster.trace.system_group = words.has("system");
                cluster.trace.name_groups |= words.has("system");
            }
            "add-nodes" => {
                cluster.trace.name_groups = cluster.settings.groups > 1;
                cluster.trace.mute = true;
                cluster.add_nodes(words.number(1), words.option("shards").map_or(1, |shards| number(shards) as u32));
                cluster.stabilize();
                cluster.trace.mute = false;
            }
            "add-node" => cluster.add_joined(words.number(1), words.option("shards").map_or(1, |n| number(n) as u32)),
            "join" | "leave" => cluster.write(words.number(1), words.deadline_ms(), Command::system(system(words))),
            "members" => {
                let mode = if words.has("local") { ReadMode::Local } else { ReadMode::Linearizable };
                cluster.read(words.number(1), words.deadline_ms(), SYSTEM_GROUP, mode, ReadOp::Members);
            }
            "transfer" => {
                let (group, to) = (GroupId(words.number(2) as u32), NodeId(words.number(3)));
                cluster.request(words.number(1), group, DEADLINE_MS, Operation::Transfer(group, to), true);
            }
            "silence" => silence(cluster, &words.numbers(1)),
            "campaign" => cluster.campaign(words.number(1)),
            "elect" => elect(cluster, words.number(1)),
            "tick" => {
                let all: Vec<u64> = cluster.nodes.keys().copied().collect();
                let some = words.numbers(2);
                for _ in 0..words.number(1) {
                    for &id in if some.is_empty() { &all } else { &some } {
                        cluster.tick(id);
                    }
                }
            }
            "run" => cluster.run(words.number(1) as usize),
            "advance" => {
                let tick_ms = cluster.settings.timing.tick_ms;
                assert!(duration_ms(words.at(1)).is_multiple_of(tick_ms), "whole ticks pass");
                cluster.run((duration_ms(words.at(1)) / tick_ms) as usize);
            }
            "down" => {
                let stopped = cluster.nodes.values_mut().filter(|node| !node.is_running());
                let ms = duration_ms(words.at(1));
                stopped.for_each(|node| (node.now.mono_ms, node.now.wall_ms) = (7, node.now.wall_ms + ms));
            }
            "wall" => {
                let (back, word) = match words.at(2).split_at_checked(1).expect("+ or - and a duration") {
                    ("+", word) => (false, word),
                    ("-", word) => (true, word),
                    _ => panic!("neither forward nor back"),
                };
                let wall_ms = &mut cluster.node(words.number(1)).now.wall_ms;
                *wall_ms = if back { *wall_ms - duration_ms(word) } else { *wall_ms + duration_ms(word) };
            }
            "clock" => clocks(cluster, words),
            "pass-ms" => cluster.pass_time(words.number(1), words.number(2)),
            "stabilize" if words.has("counting") => counting(cluster, Cluster::stabilize),
            "stabilize" => cluster.stabilize(),
            "deliver" => {
                cluster.deliver(words.plain.get(1).map(|word| pair(word)));
            }
            "work" => words.numbers(1).into_iter().for_each(|id| cluster.work(id)),
            "put" | "delete" | "expire" | "batch" | "txn" | "create" | "drop-bucket" | "open-session" => {
                cluster.write(words.number(1), words.deadline_ms(), command(words));
            }
            "get" | "scan" | "buckets" => read(cluster, words),
            "fill" => fill(cluster, words),
            "flood" => flood(cluster, words),
            "drop" => {
                let lost = cluster.network.lose(pair(words.at(1)));
                cluster.trace.line(format!("{lost} frames lost"));
            }
            "duplicate" => {
                let count = cluster.network.duplicate(pair(words.at(1)));
                cluster.trace.line(format!("{count} frames come twice"));
            }
            "hold" => words.plain[1..].iter().for_each(|word| cluster.network.hold(pair(word), true)),
            "release" => words.plain[1..].iter().for_each(|word| cluster.network.hold(pair(word), false)),
            "under-way" => {
                for ((from, to), frames) in cluster.network.under_way() {
                    cluster.trace.line(format!("{from}->{to}: {frames} frames"));
                }
            }
            "partition" => partition(cluster, words),
            "heal" => cluster.network.heal(),
            "disconnect" => cluster.disconnect(words.number(1), words.number(2)),
            "hand-over" => cluster.hand_over(words.number(1)),
            "gone" => cluster.gone(words.number(1), words.number(2)),
            "connect" => cluster.connect(words.number(1), words.number(2)),
            "hold-disk" => words.numbers(1).into_iter().for_each(|id| cluster.node(id).disk.held = true),
            "release-disk" => words.numbers(1).into_iter().for_each(|id| cluster.node(id).disk.held = false),
            "fail-disk" => cluster.node(words.number(1)).disk.failing = true,
            "hold-store" => words.numbers(1).into_iter().for_each(|id| cluster.node(id).store_held = true),
            "release-store" => words.numbers(1).into_iter().for_each(|id| cluster.node(id).store_held = false),
            "crash" => {
                let torn = match (words.has("torn"), words.has("written")) {
                    (true, _) => Torn::FirstBlock,
                    (_, true) => Torn::Whole,
                    _ => Torn::Lost,
                };
                let keep =
                    words.option("store-keeps").map_or(Some(0), |keep| (keep != "all").then(|| number(keep) as usize));
                for word in words.plain[1..].iter().filter(|word| word.chars().all(char::is_numeric)) {
                    cluster.crash(number(word), torn, keep);
                }
            }
            "restart" => {
                let shards = words.option("shards").map(|shards| number(shards) as u32);
                words.numbers(1).into_iter().for_each(|id| cluster.restart(id, shards));
            }
            "limits" => limits(cluster, words.number(1)),
            "status" => status(cluster, words.plain.get(1).map(|word| number(word))),
            "log-dump" => log_dump(cluster, words.number(1)),
            "segments" => {
                let segments: Vec<String> =
                    cluster.node(words.number(1)).disk.segments().map(|segment| segment.to_string()).collect();
                segments.into_iter().for_each(|segment| cluster.trace.line(segment));
            }
            "damage" => {
                let disk = &mut cluster.node(words.number(1)).disk;
                let segment = disk.segments().nth(words.number(2) as usize).expect("so many segments");
                disk.damage(segment, words.number(3) as usize);
            }
            "room" => {
                let room = Room { free_bytes: words.number(2) << 20, reserve_bytes: words.number(3) << 20 };
                cluster.node(words.number(1)).tell(&Input::Room(room));
            }
            "alter" => alter(cluster.node(words.number(1)), words.at(2)),
            "copy-disk" => {
                let node = cluster.node(words.number(1));
                let copy = Copy { files: node.disk.copy(), store: node.store.copy() };
                self.copies.insert(words.number(1), copy);
            }
            "restore-disk" => {
                let copy = self.copies.remove(&words.number(1)).expect("copied before");
                let node = cluster.node(words.number(1));
                node.disk.restore(copy.files);
                node.store = copy.store;
            }
            "compare" => compare(cluster),
            "inject" => inject(cluster, words),
            other => panic!("no such command: {other}"),
        }
    }
}

/// Lets a node become leader: those that follow another one have not heard from it for an election timeout, and then the node
/// campaigns.
fn elect(cluster: &mut Cluster, id: u64) {
    let follows = |node: &mut Node| {
        let this = NodeId(node.id);
        let statuses = node.statuses();
        let groups = statuses.iter().flat_map(|(_, status)| &status.groups);
        groups.into_iter().any(|group| group.leader.is_some_and(|leader| leader != this))
    };
    let followers: Vec<u64> = cluster
        .nodes
        .values_mut()
        .filter(|node| node.id != id && node.is_running())
        .filter_map(|node| follows(node).then_some(node.id))
        .collect();
    silence(cluster, &followers);
    cluster.campaign(id);
    cluster.stabilize();
}

/// For an election timeout these nodes hear nothing, and what they say is lost.
fn silence(cluster: &mut Cluster, ids: &[u64]) {
    for &id in ids {
        for _ in 0..cluster.settings.timing.election_ticks {
            cluster.tick(id);
            cluster.work(id);
        }
    }
    cluster.network.take(None);
}

fn settings(cluster: &mut Cluster, words: &Words) {
    for (name, value) in &words.options {
        let settings = &mut cluster.settings;
        match *name {
            "groups" => settings.groups = number(value) as u32,
            "segment-bytes" => settings.log.segment_bytes = number(value),
            "chunk-bytes" => settings.transfer.chunk_bytes = number(value) as usize,
            "snapshot-rate" => settings.transfer.bytes_per_second = number(value),
            "scrub-every" => settings.scrub.every_ms = duration_ms(value),
            "scrub-part-bytes" => settings.scrub.part_bytes = number(value),
            "held-bytes" => settings.log.held_bytes_max = number(value),
            "segments-kept" => settings.log.segments_kept = number(value) as usize,
            other => panic!("no such setting: {other}"),
        }
    }
}

fn command(words: &Words) -> Command {
    let bucket = words.bucket(2);
    let (condition, return_previous) = (words.condition(), words.has("previous"));
    let write = match words.at(0) {
        "put" => Write::Put {
            key: key(words.at(3)),
            value: match words.option("bytes") {
                Some(bytes) => vec![b'x'; number(bytes) as usize].into(),
                None => Bytes::from(words.at(4).to_owned()),
            },
            ttl_ms: words.option("ttl").map(duration_ms),
            condition,
            return_previous,
        },
        "expire" => {
            Write::Expire { key: key(words.at(3)), ttl_ms: (words.at(4) != "never").then(|| duration_ms(words.at(4))) }
        }
        "delete" => Write::Delete { key: key(words.at(3)), condition, return_previous },
        "batch" => Write::Batch { ops: words.plain[3..].iter().map(|word| op(word)).collect() },
        "txn" => {
            let mut lists = words.plain[3..].split(|word| *word == "then" || *word == "else");
            let compare = lists.next().unwrap_or_default().iter().map(|word| {
                let (name, test) = word.split_once('?').expect("KEY?TEST");
                (key(name), self::condition(test))
            });
            let compare = compare.collect();
            let mut ops = || lists.next().unwrap_or_default().iter().map(|word| op(word)).collect();
            Write::Txn { compare, success: ops(), failure: ops() }
        }
        "create" => Write::CreateBucket {
            default_ttl_ms: words.option("ttl").map(duration_ms),
            max_bytes: words.option("max-bytes").map(number),
            if_not_exists: words.has("if-not-exists"),
            created_ms: 0,
        },
        "drop-bucket" => Write::DropBucket { created_version: words.option("created").map(|v| Version(number(v))) },
        "open-session" => Write::OpenSession,
        other => panic!("no write: {other}"),
    };
    Command { bucket, id: words.option("id").map(write_id), write }
}

/// `join NODE NAME [disk=N]`, `leave NODE MEMBER`.
fn system(words: &Words) -> SystemWrite {
    match words.at(0) {
        "join" => SystemWrite::Join {
            name: words.at(2).to_owned(),
            address: format!("{}:9000", words.at(2).replace('n', "host")),
            incarnation: words.option("disk").map(|disk| Incarnation(number(disk))),
        },
        _ => SystemWrite::Leave { member: NodeId(words.number(2)) },
    }
}

fn op(word: &str) -> BatchOp {
    let parts: Vec<&str> = word.split(':').collect();
    match parts.as_slice() {
        ["put", name, value] => BatchOp::Put { key: key(name), value: Bytes::from(value.to_string()), ttl_ms: None },
        ["put", name, value, ttl] => {
            BatchOp::Put { key: key(name), value: Bytes::from(value.to_string()), ttl_ms: Some(duration_ms(ttl)) }
        }
        ["get", name] => BatchOp::Get { key: key(name) },
        ["delete", name] => BatchOp::Delete { key: key(name) },
        ["increment", name, by] => BatchOp::Increment { key: key(name), by: by.parse().expect("a number") },
        ["append", name, value] => BatchOp::Append { key: key(name), value: Bytes::from(value.to_string()) },
        _ => panic!("no operation: {word}"),
    }
}

/// 50ms, 3s, 2h.
/// Flips a bit of a value in the bucket `default`, where it lies in a node's store.
fn alter(node: &mut Node, key: &str) {
    let group = group_of(&BucketName::DEFAULT, node.config(0).groups);
    let key = Generation::new(group, 0).data(Version(0)).key(key.as_bytes());
    let mut value = node.store.get(&key).expect("the store works").expect("the key is there").to_vec();
    *value.last_mut().expect("a value has flags") ^= 1;
    let changes = [(key, Some(value.into()))].into();
    node.store.write(WriteSet { changes }).expect("the store works");
}

fn duration_ms(word: &str) -> u64 {
    let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let unit_ms = match &word[digits..] {
        "ms" => 1,
        "s" => 1000,
        "h" => 3_600_000,
        _ => panic!("no duration: {word}"),
    };
    number(&word[..digits]) * unit_ms
}

/// What each replica's store says of time, and how many keys of the bucket lie in it.
fn clocks(cluster: &mut Cluster, words: &Words) {
    let bucket = words.bucket(1);
    let group = group_of(&bucket, cluster.settings.groups);
    let mut lines = Vec::new();
    for node in cluster.nodes.values() {
        let Some(clock) = node.clock(group) else { continue };
        let due = clock.next_due_ms.map_or("nothing is due".into(), |due| format!("due at {}", time(due)));
        let keys = node.stored_keys(group, &bucket);
        let clock_ms = clock.stamp.clock_ms;
        let shows = if clock_ms == 0 { "not begun".into() } else { time(clock_ms) };
        lines.push(format!("{}: {shows}, {due}, {keys} keys stored", node.id));
    }
    lines.into_iter().for_each(|line| cluster.trace.line(line));
}

/// SESSION.SEQUENCE or SESSION.SEQUENCE.FIRST-UNACKNOWLEDGED.
fn write_id(text: &str) -> WriteId {
    match text.split('.').map(number).collect::<Vec<_>>()[..] {
        [session, sequence] => WriteId { session, sequence, first_unacked: 1 },
        [session, sequence, first_unacked] => WriteId { session, sequence, first_unacked },
        _ => panic!("no id: {text}"),
    }
}

fn read(cluster: &mut Cluster, words: &Words) {
    let mode = if words.has("local") { ReadMode::Local } else { ReadMode::Linearizable };
    let bucket = words.bucket(2);
    let group = group_of(&bucket, cluster.settings.groups);
    let op = match words.at(0) {
        "get" => ReadOp::Get { bucket, key: key(words.at(3)) },
        "scan" => ReadOp::Scan { bucket, range: KeyRange::default(), limit: 0, reverse: false, keys_only: false },
        _ => ReadOp::ListBuckets { prefix: String::new() },
    };
    cluster.read(words.number(1), words.deadline_ms(), group, mode, op);
}

/// Puts so many keys with values of so many bytes, one after the other, and shows only what else happens.
fn fill(cluster: &mut Cluster, words: &Words) {
    let (id, bucket, count, bytes) = (words.number(1), words.bucket(2), words.number(3), words.number(4) as usize);
    for n in 0..count {
        let write = Write::Put {
            key: key(&format!("fill{n:04}")),
            value: vec![b'x'; bytes].into(),
            ttl_ms: words.option("ttl").map(duration_ms),
            condition: None,
            return_previous: false,
        };
        cluster.trace.hide_answers = true;
        cluster.write(id, DEADLINE_MS, Command { bucket: bucket.clone(), id: None, write });
        cluster.stabilize();
        cluster.trace.hide_answers = false;
    }
}

/// So many puts come in before the node's next turn. Only counts are shown.
fn flood(cluster: &mut Cluster, words: &Words) {
    let (id, bucket, count) = (words.number(1), words.bucket(2), words.number(3));
    let group = group_of(&bucket, cluster.settings.groups);
    counting(cluster, |cluster| {
        for n in 0..count {
            let write = Write::Put {
                key: key(&format!("flood{n}")),
                value: Bytes::new(),
                ttl_ms: None,
                condition: None,
                return_previous: false,
            };
            let command = Command { bucket: bucket.clone(), id: None, write };
            cluster.request(id, group, DEADLINE_MS, Operation::Write(command), false);
        }
        cluster.turn(id, false);
        cluster.stabilize();
    });
}

/// Counts the answers that come meanwhile instead of showing them.
fn counting(cluster: &mut Cluster, then: impl FnOnce(&mut Cluster)) {
    cluster.trace.count_answers = true;
    then(cluster);
    cluster.trace.count_answers = false;
    for (answer, count) in cluster.trace.take_answers() {
        cluster.trace.line(format!("{count} times: {answer}"));
    }
}

fn partition(cluster: &mut Cluster, words: &Words) {
    let line = words.plain[1..].join(" ");
    let sides: Vec<Vec<u64>> = line.split('|').map(|side| side.split_whitespace().map(number).collect()).collect();
    for (n, side) in sides.iter().enumerate() {
        for &from in side {
            for &to in sides.iter().enumerate().filter(|(m, _)| *m != n).flat_map(|(_, other)| other) {
                cluster.network.block((from, to));
            }
        }
    }
}

/// The limits of which something is used, or that have refused something.
fn limits(cluster: &mut Cluster, id: u64) {
    for (_, status) in cluster.node(id).statuses() {
        for limit in status.limits.into_iter().filter(|limit| limit.now > 0 || limit.refused > 0) {
            let (name, now, max, refused) = (limit.name, limit.now, limit.max, limit.refused);
            cluster.trace.line(format!("{id}: {name} {now} of {max}, {refused} refused"));
        }
    }
}

fn status(cluster: &mut Cluster, only: Option<u64>) {
    for id in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        if only.is_some_and(|only| only != id) {
            continue;
        }
        let node = cluster.node(id);
        if !node.is_running() {
            cluster.trace.line(format!("{id}: stopped"));
            continue;
        }
        if let Some(why) = node.failed() {
            cluster.trace.line(format!("{id}: failed: {why}"));
            continue;
        }
        for (shard, status) in node.statuses() {
            for group in status.groups {
                if !cluster.trace.shows(group.group) {
                    continue;
                }
                let of = if cluster.trace.name_groups {
                    format!(" group {} on shard {shard}", group.group)
                } else {
                    String::new()
                };
                let leader = group.leader.map_or("none".into(), |leader| leader.to_string());
                let matched: Vec<String> =
                    group.matched.iter().map(|(peer, index)| format!("{peer}: {index}")).collect();
                let matched =
                    if matched.is_empty() { String::new() } else { format!(", matched {}", matched.join(" ")) };
                cluster.trace.line(format!(
                    "{id}:{of} leader {leader}, term {}, committed {}, applied {}{matched}",
                    group.term, group.committed, group.applied
                ));
            }
        }
    }
}

fn log_dump(cluster: &mut Cluster, id: u64) {
    let node = cluster.node(id);
    let config = node.config(0).log_config();
    match node.disk.scan(&config) {
        Err(damage) => cluster.trace.line(damage.to_string()),
        Ok(found) => {
            for (group, log) in
                found.groups.iter().filter(|(group, _)| cluster.trace.shows(**group)).collect::<Vec<_>>()
            {
                let state = log.hard_state;
                let vote = state.vote.map_or("none".into(), |vote| vote.to_string());
                let entries: Vec<String> =
                    log.entries.iter().map(|entry| format!("{}/{}", entry.index, entry.term)).collect();
                let intent = log.intent.as_ref().map_or(String::new(), |meta| format!(", installing {}", meta.index));
                cluster.trace.line(format!(
                    "group {group}: term {}, vote {vote}, truncated {}/{}, entries [{}]{intent}",
                    state.term,
                    log.truncated.0,
                    log.truncated.1,
                    entries.join(" ")
                ));
            }
        }
    }
}

/// Whether all running replicas of each group that applied equally much hold the same.
fn compare(cluster: &mut Cluster) {
    for group in all_groups(cluster.settings.groups) {
        if !cluster.trace.shows(group) {
            continue;
        }
        let mut hashes: Vec<Option<u64>> =
            cluster.nodes.values().filter(|node| node.is_running()).map(|node| node.state_hash(group)).collect();
        let count = hashes.len();
        hashes.dedup();
        let equal = if hashes.len() == 1 { "equal" } else { "different" };
        let of = if cluster.trace.name_groups { format!(" (group {group})") } else { String::new() };
        cluster.trace.line(format!("{count} replicas hold {equal} states{of}"));
    }
}

/// A peer gone wrong: a message of this type with these numbers, as if it came over the link.
fn inject(cluster: &mut Cluster, words: &Words) {
    let (from, to) = pair(words.at(1));
    let mut message = eraftpb::Message { from, to, ..Default::default() };
    message.msg_type = eraftpb::MessageType::from_str_name(words.at(2)).expect("a type of message") as i32;
    for (name, value) in &words.options {
        let value = number(value);
        match *name {
            "from" => message.from = value,
            "to" => message.to = value,
            "term" => message.term = value,
            "index" => message.index = value,
            "log-term" => message.log_term = value,
            "commit" => message.commit = value,
            "entry" => {
                let index = value;
                message.entries.push(eraftpb::Entry { index, term: message.term, ..Default::default() });
            }
            other => panic!("no such field: {other}"),
        }
    }
    let message = Message::decode(message.encode_to_vec().into()).expect("a message");
    let group = GroupId(1);
    let node = cluster.node(to);
    let shard = node.shard_of(group);
    node.inbox(shard).push(Input::Message(NodeId(from), Envelope { group, body: Body::Raft(message) }));
    cluster.turn(to, false);
}
