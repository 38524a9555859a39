//! A node's running process: its shards, driven by core's own `turn`, and what they have asked for that is not done yet.

mod letters;
mod sight;
mod status;

use std::collections::{BTreeMap, VecDeque};

use drey_core::config::{Config, Timing};
use drey_core::log::SegmentId;
use drey_core::mutation::{Mutation, is_on};
use drey_core::placement::shard_of;
use drey_core::storage::{StorageDone, StorageJob, StorageWorker};
use drey_core::wire::handshake::Acquaintances;
use drey_core::{GroupId, Inbox, Input, NodeId, Output, RequestId, Room, Shard, Ticket, turn};

use crate::checker::Violation;
use crate::disk::{Disk, DiskOp};
use crate::driver::Net;
use crate::effects::Performer;
use crate::faults::Fault;
use crate::identity::OfInput;
use crate::links::Links;
use crate::network::CLIENTS;
use crate::node::{Clock, Death, Doom};
use crate::plan::{Plan, StoragePlan};
use crate::rng::Rng;
use crate::room::{ROOMY, is_full};
use crate::shared::Shared;
use crate::store::SharedStore;
use crate::story::words;
use crate::world::TICK_MS;
use status::StatusAsked;

/// The most rounds of turns within one tick: a disk without latency must not stop time.
const ROUNDS_MAX: usize = 6;
/// A request that is not answered so long behind its deadline was forgotten.
const FORGOTTEN_AFTER_MS: u64 = 1_000;
/// More jobs than a shard ever has waiting: it bounds what it starts.
const JOBS_MAX: usize = 4_096;

/// How long until a segment that could not be made is tried again.
pub const PREPARE_RETRY_MS: u64 = 500;

/// Requests that a node makes for itself are numbered from here.
const SUBMITTED: u64 = 1 << 62;
const SUBMIT_TIMEOUT_MS: u64 = 2_000;

/// Something that will be done at its time.
#[derive(Clone, Copy, Debug)]
pub enum Completion {
    /// A log write with its sync.
    Log(usize, Ticket, DiskOp),
    /// A log write whose sync fails.
    LogFails(usize, Ticket, DiskOp),
    /// A segment's preparation.
    Segment(usize, SegmentId, DiskOp),
    /// A segment's preparation is tried again.
    Retry(usize, SegmentId),
    /// The first of a shard's storage jobs.
    Job(usize),
    /// A shard's turn.
    Wake(usize),
}

/// What a process has under way, by the time when it is done.
#[derive(Default)]
pub struct Pending {
    due: BTreeMap<(u64, u64), Completion>,
    count: u64,
}

impl Pending {
    /// Adds one.
    pub fn push(&mut self, due_ms: u64, completion: Completion) {
        self.count += 1;
        self.due.insert((due_ms, self.count), completion);
    }

    fn pop(&mut self, now_ms: u64) -> Option<Completion> {
        let first = self.due.first_entry()?;
        (first.key().0 <= now_ms).then(|| first.remove())
    }
}

/// One shard with its side of the storage thread.
pub struct Running {
    shard: Shard,
    inbox: Inbox,
    worker: StorageWorker<SharedStore>,
    /// What waits for the storage thread.
    pub jobs: VecDeque<StorageJob>,
    /// When it will have done all of them.
    pub busy_until_ms: u64,
    last_turn_ms: u64,
}

/// The process.
pub struct Process {
    host: usize,
    node: NodeId,
    config: Config,
    storage: StoragePlan,
    hand_over_every_ms: u64,
    /// States are compared at indexes that are multiples of this.
    compare_every: u64,
    rumour_every_ms: u64,
    rng: Rng,
    /// What time it thinks that it is.
    pub clock: Clock,
    shards: Vec<Running>,
    links: Links,
    pending: Pending,
    /// Requests of clients, by when they are owed an answer.
    unanswered: BTreeMap<RequestId, u64>,
    /// Questions about the whole of it.
    statuses: Vec<StatusAsked>,
    /// Writes of its own so far.
    submitted: u64,
    replies: Vec<u8>,
    earlier_epochs: Vec<SegmentId>,
    carried: usize,
    /// What it will die of.
    pub doom: Option<Doom>,
    /// When its disk has hung for long enough, and what it dies of then.
    stall: Option<(u64, Death)>,
    /// It died of that.
    pub died: Option<Death>,
    /// Its disk failed.
    sync_failed: bool,
    /// What it writes is not synced before.
    pub disk_hangs_until_ms: u64,
    /// It stands still until then.
    pub paused_until_ms: u64,
    /// What its disk has left.
    room: Room,
    outputs: Vec<Output>,
}

impl Process {
    /// A process whose shards have just come up.
    pub fn new(
        (host, config, storage): (usize, Config, StoragePlan),
        plan: &Plan,
        rng: Rng,
        clock: Clock,
        shards: Vec<(Shard, StorageWorker<SharedStore>)>,
        links: Links,
        earlier_epochs: Vec<SegmentId>,
    ) -> Process {
        let running = |(shard, worker)| Running {
            shard,
            worker,
            inbox: Inbox::default(),
            jobs: VecDeque::new(),
            busy_until_ms: 0,
            last_turn_ms: 0,
        };
        let mut shards: Vec<Running> = shards.into_iter().map(running).collect();
        // What recovery wants written must not wait for the first tick.
        shards.iter_mut().for_each(|shard| shard.inbox.push(Input::Tick));
        Process {
            host,
            node: config.node,
            config,
            storage,
            hand_over_every_ms: plan.hand_over_every_ms,
            compare_every: plan.compare_every(),
            rumour_every_ms: plan.network.rumour_every_ms,
            rng,
            clock,
            shards,
            links,
            pending: Pending::default(),
            unanswered: BTreeMap::new(),
            statuses: Vec::new(),
            submitted: 0,
            replies: Vec::new(),
            earlier_epochs,
            carried: 0,
            doom: None,
            stall: None,
            died: None,
            sync_failed: false,
            disk_hangs_until_ms: 0,
            paused_until_ms: 0,
            room: ROOMY,
            outputs: Vec::new(),
        }
    }

    /// Whether it died within a turn.
    pub fn is_dead(&self) -> bool {
        self.died.is_some()
    }

    /// Calms its disk and store.
    pub fn calm(&mut self, storage: StoragePlan) {
        self.storage = storage;
        (self.doom, self.stall) = (None, None);
        self.paused_until_ms = 0;
    }

    /// The link to a peer breaks, and will stand again.
    pub fn break_link(&mut self, peer: NodeId, shared: &mut Shared) {
        if self.links.break_off(shared.now_ms, peer) {
            shared.happened(self.host, Fault::LinkBroken, format_args!("to node {peer}"));
            self.tell_all(&Input::PeerDown(peer), shared);
        }
    }

    /// Its disk has so much room.
    pub fn has_room(&mut self, room: Room, shared: &mut Shared) {
        self.room = room;
        self.tell_all(&Input::Room(room), shared);
    }

    /// Its disk hangs from now on, and then it dies.
    pub fn stall(&mut self, until_ms: u64, death: Death) {
        self.disk_hangs_until_ms = until_ms;
        self.stall = Some((until_ms, death));
    }

    fn shard_of(&self, group: GroupId) -> usize {
        shard_of(group, self.config.shards).0 as usize
    }

    /// Everything that happens within a tick.
    pub fn tick(&mut self, disk: &mut Disk, known: &mut Acquaintances, shared: &mut Shared, net: &mut dyn Net) {
        if self.is_dead() || shared.now_ms < self.paused_until_ms {
            return;
        }
        if let Some((at_ms, death)) = self.stall
            && shared.now_ms >= at_ms
        {
            shared.happened(self.host, Fault::DiedStalled, format_args!("node {}", self.node));
            self.died = Some(death);
            return;
        }
        for datagram in shared.receive(net, self.host) {
            match datagram.from {
                CLIENTS => self.asked(&datagram, shared),
                _ => self.heard(&datagram, known, shared),
            }
        }
        for peer in self.links.silent(shared.now_ms) {
            self.tell_all(&Input::PeerDown(peer), shared);
        }
        self.dial(shared);
        // It need not stop then.
        if self.now_and_then(self.hand_over_every_ms) {
            shared.faults.happened(Fault::HandedOver);
            self.tell_all(&Input::HandOver, shared);
        }
        if self.now_and_then(self.rumour_every_ms) {
            let peers: Vec<NodeId> = self.links.peers().collect();
            if !peers.is_empty() {
                let peer = *self.rng.pick(&peers);
                self.say_gone(peer, shared);
            }
        }
        for _ in 0..ROUNDS_MAX {
            self.complete(disk, shared);
            if !self.take_turns(disk, shared) || self.is_dead() {
                break;
            }
        }
        // What was sent before a death in a turn may have got out.
        if self.is_dead() && self.rng.chance(500) {
            return;
        }
        self.flush(shared, net);
        if self.is_dead() {
            return;
        }
        self.check_unanswered(shared);
    }

    /// Once in so many milliseconds, on average; 0: never.
    fn now_and_then(&mut self, every_ms: u64) -> bool {
        every_ms > 0 && self.rng.below(every_ms / TICK_MS) == 0
    }

    fn tell_all(&mut self, input: &Input, shared: &mut Shared) {
        shared.trace.identified(&(self.node, OfInput(input)), format_args!("n{} <- {input:?}", self.node));
        let own = self.host;
        shared.trace.tell(|| words::input(own, input));
        shared.coverage.inputs(input, self.shards.len());
        self.shards.iter_mut().for_each(|shard| shard.inbox.push(input.clone()));
    }

    /// What is done by now is said to the shards.
    fn complete(&mut self, disk: &mut Disk, shared: &mut Shared) {
        while let Some(completion) = self.pending.pop(shared.now_ms) {
            let (number, input) = match completion {
                Completion::Log(number, ticket, op) => {
                    disk.finish(op);
                    (number, Input::LogSynced(ticket))
                }
                Completion::LogFails(number, ticket, op) => {
                    shared.happened(self.host, Fault::SyncFailed, format_args!("node {} shard {number}", self.node));
                    disk.fail(op, &mut shared.faults);
                    if is_on(Mutation::FailedSyncTakenAsDone) {
                        (number, Input::LogSynced(ticket))
                    } else {
                        self.sync_failed = true;
                        (number, Input::LogFailed(ticket, "the disk says so".to_owned()))
                    }
                }
                Completion::Segment(number, segment, op) => {
                    disk.finish(op);
                    (number, Input::SegmentReady(segment))
                }
                Completion::Job(number) => {
                    let Some(job) = self.shards[number].jobs.pop_front() else { continue };
                    let done = self.shards[number].worker.run(job);
                    self.look_at_state(number, &done, shared);
                    (number, Input::Storage(done))
                }
                Completion::Retry(number, segment) => {
                    self.prepare_again(number, segment, disk, shared);
                    continue;
                }
                Completion::Wake(number) => (number, Input::Tick),
            };
            let synced = disk.synced_hash();
            let identity = (self.node, number, OfInput(&input), synced);
            shared.trace.identified(&identity, format_args!("n{}.{number} <- {input:?} disk {synced:016x}", self.node));
            shared.coverage.input(&input);
            let own = self.host;
            shared.trace.tell(|| words::input(own, &input));
            self.shards[number].inbox.push(input);
        }
    }

    /// A segment could not be made for want of room, and is tried again.
    fn prepare_again(&mut self, number: usize, segment: SegmentId, disk: &mut Disk, shared: &mut Shared) {
        let at_ms = shared.now_ms + PREPARE_RETRY_MS;
        if is_full(self.room) {
            return self.pending.push(at_ms, Completion::Retry(number, segment));
        }
        match disk.prepare_for(&self.config.log_config(), segment, &mut shared.faults) {
            Ok(op) => self.pending.push(at_ms, Completion::Segment(number, segment, op)),
            Err(seen) => {
                let seen = format!("node {} shard {number}: {seen}", self.node);
                shared.violated(Violation::new("the log's rules for its files", seen));
            }
        }
    }

    fn look_at_state(&self, number: usize, done: &StorageDone, shared: &mut Shared) {
        match done {
            StorageDone::Applied { group, .. } | StorageDone::SnapshotInstalled { group, .. } => {
                // Everybody at the same indexes, however the entries were batched.
                let applied = self.applied(*group);
                let is_altered = shared.altered.contains(&(*group, self.node));
                if applied.is_multiple_of(self.compare_every) && !is_altered {
                    let (_, hash) = self.state(*group);
                    let judged = shared.watch.state(*group, applied, self.node, hash);
                    shared.judge(judged);
                }
            }
            StorageDone::Failed(error) => {
                let seen = format!("node {} shard {number}: {error}", self.node);
                shared.violated(Violation::new("the store takes what core gives it", seen));
            }
            _ => {}
        }
    }

    /// Every shard that has something to do, or that should see time pass, takes a turn. Whether any did.
    fn take_turns(&mut self, disk: &mut Disk, shared: &mut Shared) -> bool {
        let now = self.clock.read(shared.now_ms);
        let tick_ms = self.config.timing.tick_ms;
        let mut any = false;
        for number in 0..self.shards.len() {
            let running = &mut self.shards[number];
            if running.inbox.is_empty() {
                if shared.now_ms < running.last_turn_ms + tick_ms {
                    continue;
                }
                shared.trace.silently(&OfInput(&Input::Tick));
                shared.coverage.input(&Input::Tick);
                running.inbox.push(Input::Tick);
            }
            // A turn sees the time.
            shared.trace.silently(&(self.node, number, now.mono_ms, now.wall_ms));
            running.last_turn_ms = shared.now_ms;
            any = true;
            shared.coverage.turns += 1;
            let Running { shard, inbox, jobs, busy_until_ms, .. } = running;
            let mut performer = Performer {
                host: self.host,
                node: self.node,
                number,
                config: &self.config,
                storage: &self.storage,
                is_full: is_full(self.room),
                disk_hangs_until_ms: &mut self.disk_hangs_until_ms,
                rng: &mut self.rng,
                jobs,
                busy_until_ms,
                links: &mut self.links,
                pending: &mut self.pending,
                disk,
                shared,
                doom: &mut self.doom,
                stall: &mut self.stall,
                died: &mut self.died,
                answers: Vec::new(),
                told: None,
                gone: Vec::new(),
                submitted: Vec::new(),
                carried: &mut self.carried,
            };
            turn(shard, now, inbox, &mut self.outputs, &mut performer);
            let Performer { answers, told, gone, submitted, .. } = performer;
            for (id, answer) in answers {
                self.answer(id, answer, shared);
            }
            for peer in gone {
                self.tell_all(&Input::PeerDown(peer), shared);
            }
            if let Some(members) = told {
                shared.exchange.members.insert(self.host, members.clone());
                self.tell_all(&Input::Members(members), shared);
            }
            for command in submitted {
                self.submit(command, now.mono_ms, shared);
            }
            if self.is_dead() {
                return true;
            }
            self.check_shard(number, shared);
            if self.is_dead() {
                return true;
            }
        }
        self.release_earlier_epochs(disk);
        any
    }

    fn check_shard(&mut self, number: usize, shared: &mut Shared) {
        let running = &self.shards[number];
        if let Some(why) = running.shard.failed() {
            if self.sync_failed {
                // What it has is not known any more: the process ends, and the next one reads what there is.
                self.died = Some(Death::Kill);
                return;
            }
            let seen = format!("node {} shard {number}: {why}", self.node);
            shared.violated(Violation::new("a shard serves while nothing failed", seen));
        }
        if running.jobs.len() > JOBS_MAX {
            let seen = format!("node {} shard {number}: {} storage jobs wait", self.node, running.jobs.len());
            shared.violated(Violation::new("queues are bounded", seen));
        }
    }

    fn release_earlier_epochs(&mut self, disk: &mut Disk) {
        if self.carried == self.shards.len() {
            std::mem::take(&mut self.earlier_epochs).into_iter().for_each(|segment| disk.delete(segment));
        }
    }

    fn check_unanswered(&mut self, shared: &mut Shared) {
        // Requests are numbered as they are asked, so that the oldest come first, give or take a deadline's length.
        let Timing { leader_wait_ms, .. } = self.config.timing;
        let Some((&id, &deadline_ms)) = self.unanswered.first_key_value() else { return };
        let since_pause_ms = shared.now_ms.saturating_sub(self.paused_until_ms);
        if shared.now_ms > deadline_ms + FORGOTTEN_AFTER_MS && since_pause_ms > FORGOTTEN_AFTER_MS {
            let seen = format!(
                "node {} forgot {id}: its deadline passed {} ms ago (a leader is waited for {leader_wait_ms} ms)",
                self.node,
                shared.now_ms - deadline_ms
            );
            shared.violated(Violation::new("each request is answered once", seen));
        }
    }
}
