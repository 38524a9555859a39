//! What a cluster does, in words.

use std::collections::BTreeMap;

use drey_core::request::{BucketInfo, Entry, OpResult, Reply};
use drey_core::wire::{Body, Envelope};
use drey_core::{Error, Event, GroupId, NodeId, RequestId};

use super::node::WALL_MS;

/// The lines since they were last taken.
#[derive(Default)]
pub struct Trace {
    lines: Vec<String>,
    /// Every message that is sent.
    pub messages: bool,
    /// Every write of a log.
    pub log: bool,
    /// Nothing but answers.
    pub answers_only: bool,
    /// Nothing at all.
    pub mute: bool,
    /// No answers.
    pub hide_answers: bool,
    /// Answers are counted, not shown.
    pub count_answers: bool,
    answers: BTreeMap<String, usize>,
    /// Which group is meant, if there are several.
    pub name_groups: bool,
    /// The system group, too.
    pub system_group: bool,
}

impl Trace {
    pub fn line(&mut self, line: String) {
        if !self.mute {
            self.lines.push(line);
        }
    }

    /// What happened; `ok` if nothing worth a line did.
    pub fn take(&mut self) -> String {
        if self.lines.is_empty() {
            return "ok\n".into();
        }
        std::mem::take(&mut self.lines).into_iter().map(|line| line + "\n").collect()
    }

    /// How often each answer was given while they were counted.
    pub fn take_answers(&mut self) -> BTreeMap<String, usize> {
        std::mem::take(&mut self.answers)
    }

    pub fn shows(&self, group: GroupId) -> bool {
        group.0 != 0 || self.system_group
    }

    fn of(&self, group: GroupId) -> String {
        if self.name_groups { format!(" (group {group})") } else { String::new() }
    }

    pub fn note(&mut self, id: u64, note: String) {
        if self.log {
            self.line(format!("{id} {note}"));
        }
    }

    pub fn message(&mut self, id: u64, to: u64, envelope: &Envelope) {
        if !self.messages || !self.shows(envelope.group) {
            return;
        }
        let what = match &envelope.body {
            Body::Raft(message) => format!("{message:?}"),
            Body::Forward { .. } => format!("Forward {id}->{to}"),
            Body::Read { .. } => format!("Read {id}->{to}"),
            Body::ForwardReply { reply, .. } => format!("ForwardReply {id}->{to} {}", answer(reply)),
            Body::Members(members) => format!("Members {id}->{to} {members}"),
            Body::Transfer { .. } => format!("Transfer {id}->{to}"),
            Body::SnapshotChunk { meta, chunk, last, .. } => {
                let last = if *last { ", the last" } else { "" };
                format!("SnapshotChunk {id}->{to} of {}: chunk {chunk}{last}", meta.index)
            }
            Body::Scrub { index, .. } => format!("Scrub {id}->{to} behind entry {index}"),
            Body::Scrubbed { index, .. } => format!("Scrubbed {id}->{to} behind entry {index}"),
            Body::Differs { .. } => format!("Differs {id}->{to}"),
            Body::Room(level) => format!("Room {id}->{to} {level}"),
            Body::SnapshotAck { chunk, accepted, .. } => format!("SnapshotAck {id}->{to} chunk {chunk} {accepted}"),
            Body::ClockAsk { round } => format!("ClockAsk {id}->{to} term {round}"),
            Body::ClockTell { round, told } => {
                let clock = match (told.counted, told.logged.clock_ms) {
                    (Some(counted), _) => format!("the clock shows {}", time(counted.clock_ms)),
                    (None, 0) => "the clock has not begun".into(),
                    (None, ms) => format!("the clock shows {} or later", time(ms)),
                };
                format!("ClockTell {id}->{to} term {round}: {clock}, the wall clock {}", time(told.wall_ms))
            }
        };
        self.line(format!("{what}{}", self.of(envelope.group)));
    }

    pub fn answer(&mut self, id: u64, request: RequestId, reply: &Result<Reply, Error>) {
        if self.count_answers {
            let first_words: String = answer(reply).split([',', '(']).next().unwrap_or_default().into();
            *self.answers.entry(first_words).or_default() += 1;
        } else if !self.hide_answers {
            self.line(format!("{id} answers r{request}: {}", answer(reply)));
        }
    }

    pub fn event(&mut self, id: u64, event: &Event) {
        let (group, line) = match event {
            Event::BecameLeader(group, term) => (*group, format!("{id} leads in term {term}")),
            Event::Follows(group, term, Some(leader)) => (*group, format!("{id} follows {leader} in term {term}")),
            Event::Follows(group, term, None) => (*group, format!("{id} knows no leader in term {term}")),
            Event::Configured(group, voters, learners) => {
                let learners = if learners.is_empty() { String::new() } else { format!(", {} learn", ids(learners)) };
                (*group, format!("{id} has {} vote{learners}", ids(voters)))
            }
            Event::RefusedMessage(from, group, why) => (*group, format!("{id} refuses a message from {from}: {why}")),
            Event::DiskHangs => return self.line(format!("{id}: the disk hangs")),
            Event::DiskBack(waited_ms) => return self.line(format!("{id}: the disk goes on after {waited_ms} ms")),
            Event::RoomChanged(room, level) => {
                return self.line(format!("{id}: {} MiB are free, which is {level}", room.free_bytes >> 20));
            }
            Event::FetchesAnew(group) => (*group, format!("{id} fetches its state anew")),
            Event::ReplicasDiffer { group, index, replicas, majority } => {
                let known = if *majority { "a majority agrees" } else { "no majority agrees" };
                (*group, format!("{id} finds that {} differ behind entry {index}, {known}", ids(replicas)))
            }
            Event::Damaged(why) => return self.line(format!("{id} is damaged: {why}")),
            Event::Failed(why) => return self.line(format!("{id} stops serving: {why}")),
            Event::SnapshotSending(group, to, index) => {
                (*group, format!("{id} sends {to} a snapshot of entry {index}"))
            }
            Event::SnapshotGoesOn(group, to, index) => {
                (*group, format!("{id} goes on sending {to} the snapshot of entry {index}"))
            }
            Event::SnapshotSent(..) => return,
            Event::SnapshotInstalled(group, index) => (*group, format!("{id} installed a snapshot of entry {index}")),
            Event::ClockJumped { group, from_ms, to_ms } => {
                (*group, format!("{id} moved the group's clock from {} to {}", time(*from_ms), time(*to_ms)))
            }
            Event::Truncated(group, index) => (*group, format!("{id} truncated its log up to entry {index}")),
        };
        if self.shows(group) && !self.answers_only {
            self.line(line + &self.of(group));
        }
    }
}

/// A time of a clock, from the test's beginning on.
pub fn time(ms: u64) -> String {
    match ms.checked_sub(WALL_MS) {
        Some(since) => format!("{}.{:03} s", since / 1000, since % 1000),
        None => format!("-{}.{:03} s", (WALL_MS - ms) / 1000, (WALL_MS - ms) % 1000),
    }
}

/// An answer in a few words.
fn answer(reply: &Result<Reply, Error>) -> String {
    match reply {
        Err(Error::NoLeader) => "no_leader".into(),
        Err(Error::OutcomeUnknown) => "outcome_unknown".into(),
        Err(Error::DeadlineExceeded) => "deadline_exceeded".into(),
        Err(error) => format!("{} ({error})", error.code()),
        Ok(Reply::Put { applied, version, previous }) => {
            let put = if *applied { "put, version" } else { "not put, the key's version is" };
            format!("{put} {version}{}", before(previous.as_ref()))
        }
        Ok(Reply::Delete { applied, existed, version, previous }) => {
            let deleted = match (applied, existed) {
                (true, true) => "deleted",
                (true, false) => "there was no such key",
                (false, _) => "not deleted",
            };
            format!("{deleted}, version {version}{}", before(previous.as_ref()))
        }
        Ok(Reply::Batch { version, results }) => {
            let results: Vec<String> = results.iter().map(result).collect();
            format!("batch of version {version}: {}", results.join(", "))
        }
        Ok(Reply::Expire { existed: true, version }) => format!("time to live set, version {version}"),
        Ok(Reply::Expire { existed: false, version }) => format!("there was no such key, version {version}"),
        Ok(Reply::Created { bucket, created: true }) => format!("created, version {}", bucket.created_version),
        Ok(Reply::Created { bucket, created: false }) => {
            format!("exists already, created by version {}", bucket.created_version)
        }
        Ok(Reply::Dropped { existed: true }) => "dropped".into(),
        Ok(Reply::Dropped { existed: false }) => "there was no such bucket".into(),
        Ok(Reply::Entry(None)) => "nothing".into(),
        Ok(Reply::Entry(Some(entry))) => text(entry),
        Ok(Reply::Entries(entries)) => {
            let entries: Vec<String> =
                entries.iter().map(|entry| entry.as_ref().map_or("nothing".into(), text)).collect();
            entries.join(", ")
        }
        Ok(Reply::Page(page)) => {
            let entries: Vec<String> = page.entries.iter().map(text).collect();
            format!("[{}]", entries.join(", "))
        }
        Ok(Reply::Buckets(buckets)) => buckets.iter().map(described).collect::<Vec<_>>().join(", "),
        Ok(Reply::Status(status)) => format!("{status:?}"),
        Ok(Reply::Txn { succeeded, version, results }) => {
            let results: Vec<String> = results.iter().map(result).collect();
            let branch = if *succeeded { "succeeded" } else { "failed" };
            format!("txn {branch}, version {version}: {}", results.join(", "))
        }
        Ok(Reply::SessionOpened { session }) => format!("session {session}"),
        Ok(Reply::Members { id: NodeId(0), members }) => format!("members {members}"),
        Ok(Reply::Members { id, members }) => format!("{id} of members {members}"),
        Ok(Reply::Done) => "done".into(),
    }
}

fn ids(ids: &[NodeId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn before(previous: Option<&Entry>) -> String {
    previous.map_or(String::new(), |entry| format!(", before: {}", text(entry)))
}

fn text(entry: &Entry) -> String {
    let (key, value) = (String::from_utf8_lossy(&entry.key), String::from_utf8_lossy(&entry.value));
    let value = if value.len() > 16 { format!("({} bytes)", value.len()) } else { value.into_owned() };
    let left = entry.ttl_ms.map_or(String::new(), |ttl_ms| format!(", {ttl_ms} ms left"));
    format!("{key} = {value} (version {}{left})", entry.version)
}

fn result(result: &OpResult) -> String {
    match &result.entry {
        Some(entry) => format!("got {}", text(entry)),
        None => format!("{} affected", result.affected),
    }
}

fn described(bucket: &BucketInfo) -> String {
    format!("{} ({} keys, created by version {})", bucket.name, bucket.keys_estimate, bucket.created_version)
}
