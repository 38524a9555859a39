//! One node: its shards, driven by `turn`, and what lies under them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

use drey_core::config::{LogLimits, ScrubLimits, Timing, TransferLimits};
use drey_core::log::SegmentId;
use drey_core::machine::Machine;
use drey_core::name::{BucketName, KeyRange};
use drey_core::placement::shard_of;
use drey_core::request::{Command, Operation, Reply, Request, ShardStatus};
use drey_core::storage::{AppliedClock, StorageJob, StorageWorker};
use drey_core::store::Read;
use drey_core::system::Founder;
use drey_core::wire::Envelope;
use drey_core::wire::frame::FrameReader;
use drey_core::{
    ClusterId, Config, Effects, GroupId, Inbox, Input, NodeId, Output, RequestId, Shard, ShardId, Tick, start_shard,
    turn,
};

use super::disk::{Disk, Done, Torn};
use super::network::Frame;
use super::store::SharedStore;

/// Requests that shards made by themselves are numbered from here.
const SUBMITTED: u64 = 1 << 62;

/// What wall clocks show when a test begins.
pub const WALL_MS: u64 = 1_700_000_000_000;

/// What all nodes of a cluster have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    pub groups: u32,
    pub founders: Vec<Founder>,
    pub timing: Timing,
    pub log: LogLimits,
    pub transfer: TransferLimits,
    pub scrub: ScrubLimits,
}

/// A node, running or not.
pub struct Node {
    pub id: u64,
    pub shards: u32,
    pub disk: Disk,
    pub store: SharedStore,
    /// The storage thread does nothing.
    pub store_held: bool,
    pub now: Tick,
    starts: u64,
    /// Writes that its shards asked for by themselves.
    submitted: u64,
    settings: Settings,
    running: Option<Running>,
}

struct Running {
    shards: Vec<Executor>,
    readers: BTreeMap<(u64, u32), FrameReader>,
    /// The segments of earlier starts, until all shards have carried over what is theirs.
    earlier: Vec<SegmentId>,
    carried: BTreeSet<u32>,
}

struct Executor {
    shard: Shard,
    worker: StorageWorker<SharedStore>,
    inbox: Inbox,
    jobs: VecDeque<StorageJob>,
}

/// What a node did that others see.
pub enum Seen {
    Sent {
        shard: u32,
        to: u64,
        envelopes: Vec<Envelope>,
    },
    Output(Box<Output>),
    /// For traces.
    Note(String),
}

#[derive(Default)]
struct Performed(Vec<Output>);

impl Effects for Performed {
    fn perform(&mut self, output: Output) {
        self.0.push(output);
    }
}

impl Node {
    pub fn new(id: u64, shards: u32, settings: Settings) -> Node {
        Node {
            id,
            shards,
            disk: Disk::default(),
            store: SharedStore::new(),
            store_held: false,
            now: Tick { mono_ms: 1_000_000, wall_ms: WALL_MS },
            starts: 0,
            submitted: 0,
            settings,
            running: None,
        }
    }

    pub fn config(&self, shard: u32) -> Config {
        Config {
            node: NodeId(self.id),
            cluster: ClusterId(7),
            epoch: 0,
            shard: ShardId(shard),
            shards: self.shards,
            groups: self.settings.groups,
            founders: self.settings.founders.clone(),
            timing: self.settings.timing,
            log: self.settings.log,
            transfer: self.settings.transfer,
            scrub: self.settings.scrub,
        }
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts it on what its disk and store hold.
    pub fn start(&mut self) -> Result<(), String> {
        self.starts += 1;
        let found = self.disk.recover(&self.config(0).log_config()).map_err(|damage| damage.to_string())?;
        let mut shards = Vec::new();
        for number in 0..self.shards {
            let seed = self.id * 1000 + self.starts;
            let (shard, worker) = start_shard(self.config(number), seed, self.now, &found, self.store.clone())
                .map_err(|error| error.to_string())?;
            shards.push(Executor { shard, worker, inbox: Inbox::default(), jobs: VecDeque::new() });
        }
        let running = Running { shards, readers: BTreeMap::new(), earlier: found.segments, carried: BTreeSet::new() };
        self.running = Some(running);
        Ok(())
    }

    /// The power goes. Of the store's batches that were not persisted, `keep` survive.
    pub fn crash(&mut self, torn: Torn, keep: Option<usize>) {
        self.running = None;
        self.disk.crash(torn);
        self.disk.held = false;
        self.disk.failing = false;
        self.store_held = false;
        self.store.crash(keep);
    }

    /// It joins: all that it will know comes from the others.
    pub fn joined(id: u64, shards: u32, settings: Settings) -> Node {
        Node::new(id, shards, Settings { founders: Vec::new(), ..settings })
    }

    /// The number of the shard that has a group.
    pub fn shard_of(&self, group: GroupId) -> u32 {
        shard_of(group, self.shards).0
    }

    /// The inbox of a shard, of a running node.
    pub fn inbox(&mut self, shard: u32) -> &mut Inbox {
        let running = self.running.as_mut().expect("the node runs");
        &mut running.shards[shard as usize].inbox
    }

    /// What each shard says of itself.
    pub fn statuses(&mut self) -> Vec<(u32, ShardStatus)> {
        let now = self.now;
        let shards = self.running.iter_mut().flat_map(|running| &mut running.shards);
        let status = |(number, executor): (usize, &mut Executor)| {
            let request = Request { deadline_ms: u64::MAX, operation: Operation::Status };
            let mut out = Vec::new();
            executor.shard.step(now, Input::Request(RequestId(0), request), &mut out);
            match out.pop() {
                Some(Output::Reply(_, Ok(Reply::Status(status)))) => (number as u32, status),
                other => panic!("not a status: {other:?}"),
            }
        };
        shards.enumerate().map(status).collect()
    }

    /// Whether the shard stopped serving, and why.
    pub fn failed(&self) -> Option<String> {
        let shards = &self.running.as_ref()?.shards;
        shards.iter().find_map(|executor| executor.shard.failed().map(str::to_owned))
    }

    /// Tells all shards.
    pub fn tell(&mut self, input: &Input) {
        for executor in self.running.iter_mut().flat_map(|running| &mut running.shards) {
            executor.inbox.push(input.clone());
        }
    }

    /// A frame arrives. False: it was ignored.
    pub fn receive(&mut self, from: u64, frame: Frame) -> bool {
        let shards = self.shards;
        let Some(running) = &mut self.running else { return false };
        let reader = running.readers.entry((from, frame.shard)).or_default();
        let read = reader.read(frame.bytes).expect("frames arrive as they were sent");
        for envelope in read.iter().flatten() {
            let shard = shard_of(envelope.group, shards).0 as usize;
            running.shards[shard].inbox.push(Input::Message(NodeId(from), envelope.clone()));
        }
        read.is_some()
    }

    /// The disk and the storage thread do what they were asked for, unless they are held.
    pub fn work(&mut self) {
        let Some(running) = &mut self.running else { return };
        for done in self.disk.work() {
            let (shard, input) = match done {
                Done::Synced { shard, ticket } => (shard, Input::LogSynced(ticket)),
                Done::Prepared { shard, segment } => (shard, Input::SegmentReady(segment)),
                Done::Failed { shard, ticket } => (shard, Input::LogFailed(ticket, "input/output error".into())),
            };
            running.shards[shard as usize].inbox.push(input);
        }
        for executor in &mut running.shards {
            while !self.store_held
                && let Some(job) = executor.jobs.pop_front()
            {
                let done = executor.worker.run(job);
                executor.inbox.push(Input::Storage(done));
            }
        }
    }

    /// A turn of each shard that has something to do (of all of them, if `all`).
    pub fn turn(&mut self, all: bool) -> Vec<Seen> {
        let mut seen = Vec::new();
        for number in 0..self.shards {
            let now = self.now;
            let Some(running) = &mut self.running else { continue };
            let executor = &mut running.shards[number as usize];
            if executor.inbox.is_empty() && !all {
                continue;
            }
            let mut performed = Performed::default();
            turn(&mut executor.shard, now, &mut executor.inbox, &mut Vec::new(), &mut performed);
            self.perform(number, performed.0, &mut seen);
        }
        seen
    }

    fn perform(&mut self, number: u32, outputs: Vec<Output>, seen: &mut Vec<Seen>) {
        let config = self.config(number).log_config();
        let mut sent: BTreeMap<u64, Vec<Envelope>> = BTreeMap::new();
        for output in outputs {
            let running = self.running.as_mut().expect("it just took a turn");
            match output {
                Output::WriteLog(ticket, write) => {
                    let (bytes, at, segment) = (write.len(), write.offset, write.segment.number);
                    seen.push(Seen::Note(format!("writes {bytes} bytes at {at} of log segment {segment}")));
                    self.disk.write(number, ticket, &write);
                }
                Output::PrepareSegment(segment) => self.disk.prepare(number, config, segment),
                Output::ReleaseSegment(segment) => {
                    seen.push(Seen::Note(format!("releases log segment {}", segment.number)));
                    self.disk.remove(segment);
                }
                Output::ReleaseEarlierEpochs => {
                    assert!(running.carried.insert(number), "said once");
                    if running.carried.len() == self.shards as usize {
                        std::mem::take(&mut running.earlier).into_iter().for_each(|segment| self.disk.remove(segment));
                    }
                }
                Output::Send(to, envelope) => sent.entry(to.0).or_default().push(envelope),
                Output::Members(members) => self.tell(&Input::Members(members)),
                Output::Submit(command) => self.submit(command),
                // Time passes by whole ticks here, in which everybody has a turn.
                Output::Wake(_) => {}
                Output::Reply(RequestId(id), _) if id >= SUBMITTED => {}
                Output::Storage(job) => running.shards[number as usize].jobs.push_back(job),
                other => seen.push(Seen::Output(Box::new(other))),
            }
        }
        seen.extend(sent.into_iter().map(|(to, envelopes)| Seen::Sent { shard: number, to, envelopes }));
    }

    /// A write of its own, which nobody waits for.
    fn submit(&mut self, command: Command) {
        self.submitted += 1;
        let id = RequestId(SUBMITTED + self.submitted);
        let shard = self.shard_of(command.group(self.settings.groups));
        let deadline_ms = self.now.mono_ms + 1_000;
        let request = Request { deadline_ms, operation: Operation::Write(command) };
        self.inbox(shard).request(id, request).expect("there is room");
    }

    /// What a group's clock shows and when something is due, as its store has it.
    pub fn clock(&self, group: GroupId) -> Option<AppliedClock> {
        let running = self.running.as_ref()?;
        running.shards[self.shard_of(group) as usize].worker.group(group).map(Machine::clock)
    }

    /// How many keys of a bucket lie in the store, expired or not.
    pub fn stored_keys(&self, group: GroupId, bucket: &BucketName) -> usize {
        let Some(running) = &self.running else { return 0 };
        let machine = running.shards[self.shard_of(group) as usize].worker.group(group).expect("the group is here");
        let created = machine.buckets()[bucket].created_version;
        let (start, end) = machine.generation().data(created).range(&KeyRange::default());
        let mut count = 0;
        let scanned = self.store.scan(&start, &end, false, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        });
        scanned.expect("a memory store does not fail");
        count
    }

    /// Whether something waits for a turn, the disk or the store, and is not held.
    pub fn is_busy(&self) -> bool {
        let Some(running) = &self.running else { return false };
        let busy = |executor: &Executor| !executor.inbox.is_empty() || (!self.store_held && !executor.jobs.is_empty());
        running.shards.iter().any(busy) || self.disk.has_work()
    }

    /// The hash of a group's applied state.
    pub fn state_hash(&self, group: GroupId) -> Option<u64> {
        let running = self.running.as_ref()?;
        let executor = &running.shards[self.shard_of(group) as usize];
        Some(executor.worker.state_hash(group).expect("a memory store does not fail"))
    }
}
