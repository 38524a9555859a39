//! The few words for what nodes and clients do.

use drey_core::name::Key;
use drey_core::raft::MessageKind;
use drey_core::request::{BatchOp, Command, Condition, Operation, ReadMode, ReadOp, Reply, Write};
use drey_core::storage::{StorageDone, StorageJob};
use drey_core::system::SystemWrite;
use drey_core::wire::{Body, Envelope};
use drey_core::{Error, Event as Reported, GroupId, Input, Output};

use super::{Event, Topic, What};

/// The longest word for a key or a value.
const WORD_CHARS_MAX: usize = 24;

/// Bytes as a word: themselves, if they are text, else what they begin with, and how many there are.
fn word(bytes: &[u8]) -> String {
    let is_text = |bytes: &[u8]| bytes.iter().all(|byte| byte.is_ascii_graphic());
    if bytes.len() <= WORD_CHARS_MAX && is_text(bytes) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match bytes.first_chunk() {
        // The values of the workload begin with their numbers.
        Some(number) => format!("#{}", u32::from_le_bytes(*number)),
        None => format!("{} bytes", bytes.len()),
    }
}

fn name(key: &Key) -> String {
    word(key.as_bytes())
}

fn condition(condition: &Option<Condition>) -> String {
    match condition {
        None => String::new(),
        Some(Condition::VersionIs(version)) => format!(" if v{version}"),
        Some(Condition::ValueIs(value)) => format!(" if ={}", word(value)),
        Some(Condition::Exists(exists)) => format!(" if {}", if *exists { "there" } else { "absent" }),
    }
}

fn time_to_live(ttl_ms: &Option<u64>) -> String {
    ttl_ms.map_or(String::new(), |ttl_ms| format!(" for {ttl_ms} ms"))
}

fn step(op: &BatchOp) -> String {
    match op {
        BatchOp::Put { key, value, ttl_ms } => format!("{}={}{}", name(key), word(value), time_to_live(ttl_ms)),
        BatchOp::Delete { key } => format!("delete {}", name(key)),
        BatchOp::Get { key } => format!("get {}", name(key)),
        BatchOp::Increment { key, by } => format!("{}+={by}", name(key)),
        BatchOp::Append { key, value } => format!("{}..={}", name(key), word(value)),
    }
}

fn steps(ops: &[BatchOp]) -> String {
    ops.iter().map(step).collect::<Vec<_>>().join(", ")
}

/// What a write is.
pub fn command(command: &Command) -> String {
    match &command.write {
        Write::CreateBucket { .. } => format!("create bucket {}", command.bucket),
        Write::DropBucket { .. } => format!("drop bucket {}", command.bucket),
        Write::Put { key, value, ttl_ms, condition: only_if, .. } => {
            format!("put {}={}{}{}", name(key), word(value), time_to_live(ttl_ms), condition(only_if))
        }
        Write::Delete { key, condition: only_if, .. } => format!("delete {}{}", name(key), condition(only_if)),
        Write::Expire { key, ttl_ms } => format!("expire {}{}", name(key), time_to_live(ttl_ms)),
        Write::Txn { compare, success, failure } => {
            format!("txn of {} compares: {}; else {}", compare.len(), steps(success), steps(failure))
        }
        Write::OpenSession => "open session".to_owned(),
        Write::Batch { ops } => format!("batch {}", steps(ops)),
        Write::System(SystemWrite::Join { name, .. }) => format!("join {name}"),
        Write::System(SystemWrite::Leave { member }) => format!("leave n{member}"),
        Write::System(SystemWrite::Left { member, group }) => format!("left n{member} g{group}"),
    }
}

/// What is asked.
pub fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Write(write) => command(write),
        Operation::Read(_, mode, read) => {
            let is_choice = !matches!(read, ReadOp::ScanNext { .. } | ReadOp::ScanEnd { .. });
            let local = if *mode == ReadMode::Local && is_choice { "local " } else { "" };
            format!("{local}{}", read_op(read))
        }
        Operation::Transfer(_, to) => format!("transfer to n{to}"),
        Operation::Status => "status".to_owned(),
    }
}

fn read_op(read: &ReadOp) -> String {
    match read {
        ReadOp::Get { key, .. } => format!("get {}", name(key)),
        ReadOp::GetMany { keys, .. } => {
            let keys: Vec<_> = keys.iter().map(name).collect();
            format!("get {}", keys.join(", "))
        }
        ReadOp::Scan { .. } => "scan".to_owned(),
        ReadOp::ScanNext { .. } => "next page".to_owned(),
        ReadOp::ScanEnd { .. } => "end scan".to_owned(),
        ReadOp::ListBuckets { .. } => "list buckets".to_owned(),
        ReadOp::DescribeBucket { bucket } => format!("describe {bucket}"),
        ReadOp::Members => "members".to_owned(),
    }
}

fn entry(entry: &Option<drey_core::request::Entry>) -> String {
    entry.as_ref().map_or("absent".to_owned(), |entry| format!("{} v{}", word(&entry.value), entry.version))
}

/// What is answered.
pub fn answer(answer: &Result<Reply, Error>) -> String {
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => return error.code().to_owned(),
    };
    match reply {
        Reply::Put { applied: true, version, .. } => format!("ok v{version}"),
        Reply::Put { version, .. } => format!("not applied, v{version}"),
        Reply::Delete { applied: true, existed, .. } => if *existed { "ok" } else { "ok, was absent" }.to_owned(),
        Reply::Delete { .. } => "not applied".to_owned(),
        Reply::Batch { version, .. } | Reply::Txn { version, .. } => format!("ok v{version}"),
        Reply::Expire { existed, .. } => if *existed { "ok" } else { "absent" }.to_owned(),
        Reply::SessionOpened { session } => format!("session {session}"),
        Reply::Members { members, .. } => format!("members {}", members.iter().count()),
        Reply::Entry(found) => entry(found),
        Reply::Entries(found) => found.iter().map(entry).collect::<Vec<_>>().join(", "),
        Reply::Page(page) => format!("{} entries", page.entries.len()),
        Reply::Buckets(buckets) => format!("{} buckets", buckets.len()),
        Reply::Created { .. } | Reply::Dropped { .. } | Reply::Status(_) | Reply::Done => "ok".to_owned(),
    }
}

/// What a message is about, and what it says.
pub fn envelope(envelope: &Envelope) -> (Topic, String) {
    let text = match &envelope.body {
        Body::Raft(message) => {
            let topic = match message.kind() {
                MessageKind::Heartbeat | MessageKind::HeartbeatResponse => Topic::Heartbeat,
                MessageKind::RequestPreVote
                | MessageKind::RequestPreVoteResponse
                | MessageKind::RequestVote
                | MessageKind::RequestVoteResponse
                | MessageKind::TimeoutNow => Topic::Vote,
                _ => Topic::Message,
            };
            return (topic, message.to_string());
        }
        Body::Forward { command: write, .. } => format!("Forward {}", command(write)),
        Body::Read { op, .. } => format!("Read {}", read_op(op)),
        Body::ForwardReply { reply, .. } => format!("ForwardReply {}", answer(reply)),
        Body::Transfer { to } => format!("Transfer to n{to}"),
        Body::Members(_) => "Members".to_owned(),
        Body::SnapshotChunk { chunk, last, .. } => {
            format!("SnapshotChunk {chunk}{}", if *last { ", the last" } else { "" })
        }
        Body::SnapshotAck { chunk, accepted, .. } => {
            format!("SnapshotAck {chunk}{}", if *accepted { "" } else { " no" })
        }
        Body::ClockAsk { .. } => "ClockAsk".to_owned(),
        Body::Room(level) => format!("Room {level}"),
        Body::Scrub { index, .. } => format!("Scrub at {index}"),
        Body::Scrubbed { index, hash, .. } => format!("Scrubbed at {index}: {hash:016x}"),
        Body::Differs { .. } => "Differs".to_owned(),
        Body::ClockTell { .. } => "ClockTell".to_owned(),
    };
    (Topic::Message, text)
}

/// What happened to a node, if that is worth a word: requests and messages have words of their own.
pub fn input(host: usize, input: &Input) -> Option<Event> {
    Some(match input {
        Input::PeerUp(peer) => Event::new(host, Topic::Link, format!("sees n{peer}")),
        Input::PeerDown(peer) => Event::new(host, Topic::Link, format!("sees n{peer} no more")),
        Input::PeerGone(peer) => Event::new(host, Topic::Link, format!("hears n{peer} is gone")),
        Input::HandOver => Event::new(host, Topic::Fault, "told to hand over"),
        Input::Room(room) => Event::new(host, Topic::Fault, format!("{} MiB are free", room.free_bytes >> 20)),
        Input::LogSynced(ticket) => Event::new(host, Topic::Log, format!("synced {}", ticket.0)),
        Input::LogFailed(ticket, _) => Event::new(host, Topic::Log, format!("sync {} failed", ticket.0)),
        Input::Storage(done) => return storage_done(host, done),
        Input::Request(..) | Input::Message(..) | Input::Members(_) | Input::SegmentReady(_) | Input::Tick => {
            return None;
        }
    })
}

fn storage_done(host: usize, done: &StorageDone) -> Option<Event> {
    let (topic, group, text) = match done {
        StorageDone::Applied { group, index, .. } => (Topic::Apply, Some(*group), format!("applied {index}")),
        StorageDone::Persisted { .. } => (Topic::Store, None, "persisted".to_owned()),
        StorageDone::SnapshotOpened { group, meta, .. } => {
            (Topic::Store, Some(*group), format!("snapshot of {}", meta.index))
        }
        StorageDone::SnapshotStaged { group, chunk, refused, .. } => {
            let refused = if refused.is_some() { " refused" } else { "" };
            (Topic::Store, Some(*group), format!("chunk {chunk} staged{refused}"))
        }
        StorageDone::SnapshotForgotten { group } => {
            (Topic::Store, Some(*group), "a staged snapshot forgotten".to_owned())
        }
        StorageDone::SnapshotInstalled { group, meta, .. } => {
            (Topic::Apply, Some(*group), format!("installed {}", meta.index))
        }
        StorageDone::Scrubbed { group, index, .. } => (Topic::Store, Some(*group), format!("scrubbed at {index}")),
        StorageDone::Failed(error) => (Topic::Store, None, format!("store failed: {error}")),
        StorageDone::Read { .. }
        | StorageDone::Purged { .. }
        | StorageDone::SnapshotChunk { .. }
        | StorageDone::SnapshotClosed => return None,
    };
    Some(Event::new(host, topic, text).of(group))
}

/// What a node does, if that is worth a word: messages and answers have words of their own.
pub fn output(host: usize, output: &Output) -> Option<Event> {
    Some(match output {
        Output::WriteLog(ticket, write) => {
            Event::new(host, Topic::Log, format!("writes {}: {} bytes", ticket.0, write.len()))
        }
        Output::Storage(StorageJob::Apply { group, entries, .. }) => {
            let (first, last) = (entries.first()?.index, entries.last()?.index);
            let text = if first == last { format!("committed {first}") } else { format!("committed {first}..{last}") };
            Event::new(host, Topic::Commit, text).of(*group)
        }
        Output::Report(event) => return reported(host, event),
        _ => return None,
    })
}

fn reported(host: usize, event: &Reported) -> Option<Event> {
    let said = |topic, group: &GroupId, text: String| Event::new(host, topic, text).of(*group);
    Some(match event {
        Reported::BecameLeader(group, term) => said(Topic::Leader, group, format!("leads t{term}")).did(What::Leads),
        Reported::Follows(group, term, Some(leader)) => {
            said(Topic::Leader, group, format!("follows n{leader} t{term}")).did(What::Follows)
        }
        Reported::Follows(group, term, None) => {
            said(Topic::Leader, group, format!("no leader t{term}")).did(What::Follows)
        }
        Reported::Configured(group, voters, learners) => {
            said(Topic::Members, group, format!("voters {}, learners {}", ids(voters), ids(learners)))
        }
        Reported::RefusedMessage(from, group, why) => {
            said(Topic::Message, group, format!("refused n{from}'s message: {why}"))
        }
        Reported::DiskHangs => Event::new(host, Topic::Fault, "disk hangs"),
        Reported::DiskBack(after_ms) => Event::new(host, Topic::Fault, format!("disk is back after {after_ms} ms")),
        Reported::RoomChanged(_, level) => Event::new(host, Topic::Fault, format!("room is {level}")),
        Reported::Damaged(why) => Event::new(host, Topic::Process, format!("damaged: {why}")),
        Reported::ReplicasDiffer { group, index, replicas, .. } => {
            said(Topic::Process, group, format!("at {index} differ: {}", ids(replicas)))
        }
        Reported::FetchesAnew(group) => said(Topic::Process, group, "fetches its state anew".to_owned()),
        Reported::Failed(why) => Event::new(host, Topic::Process, format!("failed: {why}")),
        Reported::SnapshotSending(group, to, index) => {
            said(Topic::Store, group, format!("sends snapshot {index} to n{to}"))
        }
        Reported::SnapshotGoesOn(group, to, index) => {
            said(Topic::Store, group, format!("goes on sending snapshot {index} to n{to}"))
        }
        Reported::SnapshotSent(group, to, index, bytes, _) => {
            said(Topic::Store, group, format!("has sent snapshot {index} to n{to}: {bytes} bytes"))
        }
        Reported::SnapshotInstalled(group, index) => said(Topic::Store, group, format!("has snapshot {index}")),
        Reported::Truncated(group, index) => said(Topic::Log, group, format!("truncated to {index}")),
        Reported::ClockJumped { group, from_ms, to_ms } => {
            said(Topic::Leader, group, format!("clock jumped {} ms", to_ms.saturating_sub(*from_ms)))
        }
    })
}

fn ids(nodes: &[drey_core::NodeId]) -> String {
    let nodes: Vec<_> = nodes.iter().map(|node| format!("n{node}")).collect();
    if nodes.is_empty() { "none".to_owned() } else { nodes.join(" ") }
}

/// Ways that are cut or healed: pairs of which both ways are, then single ones.
pub fn ways(ways: &[(usize, usize)]) -> String {
    let both = |&&(from, to): &&(usize, usize)| from < to && ways.contains(&(to, from));
    let single = |&&(from, to): &&(usize, usize)| !ways.contains(&(to, from));
    let name = |host: usize| if host == crate::network::CLIENTS { "clients".to_owned() } else { format!("h{host}") };
    let both = ways.iter().filter(both).map(|&(from, to)| format!("{}|{}", name(from), name(to)));
    let single = ways.iter().filter(single).map(|&(from, to)| format!("{}->{}", name(from), name(to)));
    both.chain(single).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_words() {
        assert_eq!(word(b"value"), "value");
        assert_eq!(word(&[7, 0, 0, 0, 200, 201]), "#7");
        assert_eq!(word(&[1, 2]), "2 bytes");
        assert_eq!(word(b""), "");
    }

    #[test]
    fn ways_that_are_cut_both_ways_are_said_once() {
        assert_eq!(ways(&[(1, 2), (2, 1), (3, 1)]), "h1|h2 h3->h1");
        assert_eq!(ways(&[(0, 2), (2, 0)]), "clients|h2");
    }
}
