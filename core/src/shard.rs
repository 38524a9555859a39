//! All replicas of one core, and the one log that they share. Inputs go in, outputs come out; see the crate's first page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thiserror::Error;

use crate::config::Config;
use crate::disk_watch::{DiskWatch, News};
use crate::error::Error;
use crate::input::Input;
use crate::log::{GroupLog, LogWriter};
use crate::output::{Event, Output};
use crate::placement::{all_groups, shard_of};
use crate::proposals::{Answer, Waiter};
use crate::replica::{Replica, Turn};
use crate::requests::{Asker, Pending, Requests, Stage};
use crate::retention::Retention;
use crate::room::Rooms;
use crate::scrub::Part;
use crate::shard_reads::LeftToLeader;
use crate::snapshots::Receiving;
use crate::spread::Offer;
use crate::storage::{AppliedClock, SnapshotMeta, Staged, StorageDone};
use crate::store::StoreError;
use crate::system::Members;
use crate::transfers::Transfers;
use crate::types::{GroupId, NodeId, RequestId, Tick, Ticket};
use crate::wire::{Body, Envelope};

/// What a node found when it started, for one shard.
#[derive(Debug, Default)]
pub struct Recovered {
    /// A log epoch that was never used: `RecoveredLog::next_epoch`.
    pub epoch: u32,
    /// Of this shard's groups, what the log had.
    pub logs: BTreeMap<GroupId, GroupLog>,
    /// Of each of this shard's groups, what the store has applied.
    pub stored: BTreeMap<GroupId, SnapshotMeta>,
    /// What each group has of a snapshot that was coming in.
    pub staged: BTreeMap<GroupId, Staged>,
    /// Of each of these, where its clock was then.
    pub clocks: BTreeMap<GroupId, AppliedClock>,
    /// The members, if the system group is this shard's and its state has them.
    pub members: Option<Arc<Members>>,
}

/// Why a shard cannot start. The message names the group and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct RecoverError(pub String);

/// One executor's part of a node.
pub struct Shard {
    pub(crate) config: Config,
    pub(crate) replicas: BTreeMap<GroupId, Replica>,
    log: LogWriter,
    disk: DiskWatch,
    pub(crate) rooms: Rooms,
    /// When what is led here was handed over last for want of room.
    pub(crate) made_room_ms: u64,
    transfers: Transfers,
    /// The next moment at which a replica wants a turn.
    wake_ms: Option<u64>,
    /// The next at which it will get one, beside ticks.
    wakes_ms: Option<u64>,
    pub(crate) requests: Requests,
    retention: Retention,
    pub(crate) peers_up: BTreeSet<NodeId>,
    pub(crate) members: Option<Arc<Members>>,
    /// The system group's state changed: all shards of this node are to know.
    pub(crate) members_to_tell: Option<Arc<Members>>,
    pub(crate) spread_ms: u64,
    pub(crate) offered: Option<Offer>,
    /// The leave that was let pass last, and until when it may be on its way.
    pub(crate) judged_leave: Option<(NodeId, u64)>,
    /// Open views of the store, and scans that were refused one.
    pub(crate) views: (u64, u64),
    pub(crate) requests_refused: u64,
    tickets: u64,
    pub(crate) last_tick_ms: u64,
    pub(crate) failed: Option<String>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) left_to_leaders: Vec<LeftToLeader>,
}

impl Shard {
    /// Brings a shard back. `seed` must be drawn anew at each start: it tells this start's questions from earlier ones'.
    pub fn recover(config: Config, seed: u64, now: Tick, mut found: Recovered) -> Result<Shard, RecoverError> {
        let mut log = LogWriter::new(config.log_config(), found.epoch, config.shard.0);
        let mut replicas = BTreeMap::new();
        for group in all_groups(config.groups).filter(|&group| shard_of(group, config.shards) == config.shard) {
            let stored = found.stored.remove(&group).unwrap_or_default();
            let clock = found.clocks.remove(&group).unwrap_or_default();
            let logged = found.logs.remove(&group);
            let mut replica = Replica::recover(group, &config, seed, now, logged, (&stored, clock), &mut log)
                .map_err(RecoverError)?;
            if let Some(staged) = found.staged.remove(&group) {
                replica.receiving = Receiving::resumed(staged, now.mono_ms);
            }
            replicas.insert(group, replica);
        }
        log.earlier_epochs_carried();
        let mut shard = Shard {
            replicas,
            requests: Requests::new(seed),
            retention: Retention::default(),
            peers_up: BTreeSet::new(),
            members: None,
            members_to_tell: found.members,
            spread_ms: now.mono_ms,
            offered: None,
            judged_leave: None,
            views: (0, 0),
            requests_refused: 0,
            tickets: 0,
            last_tick_ms: now.mono_ms,
            failed: None,
            answers: Vec::new(),
            left_to_leaders: Vec::new(),
            log,
            disk: DiskWatch::default(),
            rooms: Rooms::default(),
            made_room_ms: 0,
            transfers: Transfers::default(),
            wake_ms: None,
            wakes_ms: None,
            config,
        };
        // A member that is alone has nobody to wait for.
        let node = shard.config.node;
        let alone = shard.replicas.values_mut().filter(|replica| replica.raft.voters() == [node]);
        alone.for_each(|replica| replica.raft.campaign());
        Ok(shard)
    }

    /// Takes one event. What follows from it may come out now or at [`Self::finish`].
    pub fn step(&mut self, now: Tick, input: Input, out: &mut Vec<Output>) {
        if self.failed.is_some() {
            return self.step_failed(input, out);
        }
        match input {
            Input::Request(id, request) => self.request(now, id, request, out),
            Input::Message(from, envelope) => self.message(now, from, envelope, out),
            Input::PeerUp(peer) => {
                self.peer_up(peer, out);
                self.each(now, out, |replica, turn| replica.transfer_linked(peer, turn));
            }
            Input::PeerDown(peer) => self.peer_down(now, peer, out),
            Input::PeerGone(peer) => self.each(now, out, |replica, turn| replica.peer_gone(peer, turn.now.mono_ms)),
            Input::Members(members) => self.meet(members, out),
            Input::HandOver => self.hand_over(),
            Input::LogSynced(ticket) => {
                if let Err(why) = self.log.synced(ticket) {
                    return self.fail(why.to_string(), out);
                }
                let news = self.disk.synced(now);
                self.report_disk(news, out);
            }
            Input::LogFailed(_, why) => self.fail(format!("writing the log failed: {why}"), out),
            Input::SegmentReady(segment) => {
                if let Err(why) = self.log.segment_ready(segment) {
                    self.fail(why.to_string(), out);
                }
            }
            Input::Storage(done) => self.stored(now, done, out),
            Input::Room(room) => self.look_at_room(room, out),
            Input::Tick => {}
        }
        self.give_answers(out);
    }

    /// Ends a turn: lets time pass, proposes what came in, and starts what is to be written, sent, applied and read.
    pub fn finish(&mut self, now: Tick, out: &mut Vec<Output>) {
        if self.failed.is_some() {
            return;
        }
        let ticked = self.tick(now);
        // What is answered as not proposed must not be proposed in the same turn.
        self.give_answers(out);
        self.send_to_leaders(now, out);
        if ticked {
            self.reconcile(now, out);
            self.spread(now);
            self.yield_to_others(now, out);
            self.care_for_room(now, out);
            self.scrub(now, out);
        }
        self.each(now, out, |replica, turn| replica.finish(turn));
        self.send_reads_to_leaders(now, out);
        if let Some(members) = self.members_to_tell.take() {
            self.tell_outsiders(&members, out);
            out.push(Output::Members(members));
        }
        self.retain(now, out);
        if ticked {
            self.log.idle();
        }
        let tickets = &mut self.tickets;
        let mut next_ticket = || {
            *tickets += 1;
            Ticket(*tickets)
        };
        self.log.turn(&mut next_ticket, out);
        let news = self.disk.look(self.log.is_waiting(), now, &self.config.timing);
        self.report_disk(news, out);
        self.wake(now, out);
        self.give_answers(out);
    }

    /// Asks for a turn when a replica wants one, unless there is one before.
    fn wake(&mut self, now: Tick, out: &mut Vec<Output>) {
        self.wakes_ms.take_if(|at_ms| *at_ms <= now.mono_ms);
        if let Some(at_ms) = self.wake_ms.take()
            && self.wakes_ms.is_none_or(|wakes_ms| at_ms < wakes_ms)
            && at_ms < self.last_tick_ms + self.config.timing.tick_ms
        {
            self.wakes_ms = Some(at_ms);
            out.push(Output::Wake(at_ms.saturating_sub(now.mono_ms)));
        }
    }

    fn report_disk(&self, news: Option<News>, out: &mut Vec<Output>) {
        let event = match news {
            Some(News::Hangs) => Event::DiskHangs,
            Some(News::Back(waited_ms)) => Event::DiskBack(waited_ms),
            None => return,
        };
        out.push(Output::Report(event));
    }

    /// While the log's disk hangs, others lead.
    fn yield_to_others(&mut self, now: Tick, out: &mut Vec<Output>) {
        if !self.disk.hangs(now, &self.config.timing) {
            return;
        }
        let peers = std::mem::take(&mut self.peers_up);
        let members = self.members.clone();
        let may_lead = |id| members.as_ref().is_none_or(|members| members.stays(id));
        self.each(now, out, |replica, turn| replica.yield_to_others(&peers, may_lead, turn));
        self.peers_up = peers;
    }

    /// One tick at most: a node that was starved of time must not take that for its leader's silence.
    fn tick(&mut self, now: Tick) -> bool {
        let tick_ms = self.config.timing.tick_ms;
        let passed = now.mono_ms.saturating_sub(self.last_tick_ms);
        if passed < tick_ms {
            return false;
        }
        self.last_tick_ms = if passed < 2 * tick_ms { self.last_tick_ms + tick_ms } else { now.mono_ms };
        // Raft must not campaign between a snapshot's log and its state; nor, in vain, while its disk hangs.
        let disk_hangs = self.disk.hangs(now, &self.config.timing);
        let ticking = self
            .replicas
            .values_mut()
            .filter(|replica| !replica.is_installing() && (!disk_hangs || replica.raft.is_leader()));
        ticking.for_each(|replica| replica.raft.tick());
        self.requests.tick();
        self.read_unanswered(now);
        let late = self.requests.late(now.mono_ms);
        if !late.is_empty() {
            self.replicas.values_mut().for_each(|replica| replica.reads.forget(&late));
        }
        for id in late {
            let error = match self.requests.get_mut(id).map(|pending| &pending.stage) {
                Some(Stage::Leader { .. }) => Error::NoLeader,
                _ => Error::DeadlineExceeded,
            };
            self.answers.push((Waiter::Local(id), Err(error)));
        }
        true
    }

    fn message(&mut self, now: Tick, from: NodeId, envelope: Envelope, out: &mut Vec<Output>) {
        let group = envelope.group;
        if !self.replicas.contains_key(&group) {
            return out.push(Output::Report(Event::RefusedMessage(from, group, "no such group on this shard")));
        }
        match envelope.body {
            Body::Raft(message) => self.one(now, group, out, |replica, turn| replica.message(from, message, turn)),
            Body::Forward { id, command, .. } => {
                let right = command.group(self.config.groups) == group;
                let waiter = Waiter::Peer(group, from, id);
                match command.validate().and_then(|()| self.preflight(now, &command)) {
                    Ok(()) if right => {
                        self.one(now, group, out, |replica, turn| replica.write(&command, waiter, turn));
                    }
                    Ok(()) => self.answers.push((waiter, Err(Error::invalid("the write belongs to another group")))),
                    Err(error) => self.answers.push((waiter, Err(error))),
                }
            }
            Body::Members(members) => self.tell(Some(members)),
            Body::Transfer { to } => self.one(now, group, out, |replica, _| replica.hand_over_to(to)),
            Body::Read { id, deadline_in_ms, op } => {
                self.read_for_peer(now, Asker { peer: from, group, forward: id }, deadline_in_ms, op);
            }
            Body::ForwardReply { id, reply } => self.forward_reply(from, group, id, reply, out),
            Body::SnapshotChunk { transfer, meta, chunk, last, data } => self.one(now, group, out, |replica, turn| {
                replica.receive_chunk(from, (transfer, chunk, last), &meta, data, turn);
            }),
            Body::SnapshotAck { transfer, chunk, accepted } => self.one(now, group, out, |replica, turn| {
                replica.snapshot_ack(from, transfer, chunk, accepted, turn);
            }),
            Body::Scrub { index, term, position, bytes_max } => {
                let part = Part { index, term, asker: from, position, bytes_max };
                self.one(now, group, out, |replica, _| replica.asked_to_scrub(part));
            }
            Body::Scrubbed { index, term, hash } => {
                self.one(now, group, out, |replica, _| replica.scrub_answered(from, index, term, hash));
            }
            Body::Differs { term } => {
                self.one(now, group, out, |replica, turn| replica.told_that_differs(from, term, turn));
            }
            Body::Room(level) => self.rooms.told(from, level, now.mono_ms),
            Body::ClockAsk { round } => {
                self.one(now, group, out, |replica, turn| replica.tell_clock(from, round, turn));
            }
            Body::ClockTell { round, told } => {
                self.one(now, group, out, |replica, turn| replica.clock_told(from, round, told, turn.now));
            }
        }
    }

    fn peer_down(&mut self, now: Tick, peer: NodeId, out: &mut Vec<Output>) {
        self.peers_up.remove(&peer);
        self.each(now, out, |replica, turn| {
            replica.raft.unreachable(peer);
            replica.transfer_unlinked(peer, turn);
        });
        for id in self.requests.with_peer(peer) {
            match self.requests.get_mut(id).map(|pending| &pending.stage) {
                Some(Stage::ReadingAt { .. }) => self.read_again(id, false),
                _ => self.answers.push((Waiter::Local(id), Err(Error::OutcomeUnknown))),
            }
        }
    }

    fn stored(&mut self, now: Tick, done: StorageDone, out: &mut Vec<Output>) {
        match done {
            StorageDone::Applied { group, index, replies, purge, full, clock, members } => {
                self.tell(members);
                self.one(now, group, out, |replica, turn| {
                    for (index, replies) in replies {
                        turn.answers.extend(replica.proposals.applied(index).into_iter().zip(replies));
                    }
                    replica.applied(index, clock);
                    replica.purge |= purge;
                    replica.filled(full);
                });
            }
            StorageDone::Read { results, views } => {
                self.views = views;
                let answers = results.into_iter().map(|(ticket, result)| (Waiter::Local(RequestId(ticket.0)), result));
                self.answers.extend(answers);
            }
            StorageDone::Persisted { applied } => self.retention.persisted(applied.into_iter().collect()),
            StorageDone::Purged { group, more, full } => self.one(now, group, out, |replica, _| {
                replica.purged(more);
                replica.filled(full);
            }),
            StorageDone::SnapshotOpened { group, ticket, meta } => {
                self.one(now, group, out, |replica, turn| replica.snapshot_opened(ticket, meta, turn));
            }
            StorageDone::SnapshotChunk { ticket, data, last } => {
                self.each(now, out, |replica, turn| replica.snapshot_chunk(ticket, data.clone(), last, turn));
            }
            StorageDone::SnapshotClosed => {}
            StorageDone::Scrubbed { group, index, digest } => {
                self.one(now, group, out, |replica, turn| replica.scrubbed(index, digest, turn));
            }
            StorageDone::SnapshotStaged { group, chunk, refused } => {
                self.one(now, group, out, |replica, turn| replica.staged(chunk, refused.is_none(), turn));
            }
            StorageDone::SnapshotForgotten { group } => self.one(now, group, out, |replica, _| replica.purge = true),
            StorageDone::SnapshotInstalled { group, clock, members, .. } => {
                self.tell(members);
                self.one(now, group, out, |replica, turn| replica.installed(clock, turn));
            }
            StorageDone::Failed(error) => {
                if let StoreError::Damaged(_) = error {
                    out.push(Output::Report(Event::Damaged(error.to_string())));
                }
                self.fail(error.to_string(), out);
            }
        }
    }

    /// Clears the oldest segment when there are too many.
    fn retain(&mut self, now: Tick, out: &mut Vec<Output>) {
        // A replica in the middle of an installation has no log that could be written again.
        if self.replicas.values().all(|replica| replica.install.is_none()) {
            let Shard { config, retention, log, replicas, .. } = self;
            retention.go_on(now.mono_ms, &config.log, log, replicas, out);
        }
    }

    pub(crate) fn one(
        &mut self,
        now: Tick,
        group: GroupId,
        out: &mut Vec<Output>,
        then: impl FnOnce(&mut Replica, &mut Turn),
    ) {
        let (replicas, mut turn) = self.replicas_turn(now, out);
        if let Some(replica) = replicas.get_mut(&group) {
            then(replica, &mut turn);
        }
    }

    pub(crate) fn each(&mut self, now: Tick, out: &mut Vec<Output>, mut then: impl FnMut(&mut Replica, &mut Turn)) {
        let (replicas, mut turn) = self.replicas_turn(now, out);
        replicas.values_mut().for_each(|replica| then(replica, &mut turn));
    }

    /// The replicas, and what they need from their shard.
    fn replicas_turn<'a>(
        &'a mut self,
        now: Tick,
        out: &'a mut Vec<Output>,
    ) -> (&'a mut BTreeMap<GroupId, Replica>, Turn<'a>) {
        let turn = Turn {
            now,
            config: &self.config,
            log: &mut self.log,
            out,
            answers: &mut self.answers,
            left_to_leaders: &mut self.left_to_leaders,
            tickets: &mut self.tickets,
            disk_waited_ms: self.disk.waited_ms(now),
            rooms: &mut self.rooms,
            wake_ms: &mut self.wake_ms,
            transfers: &mut self.transfers,
        };
        (&mut self.replicas, turn)
    }

    /// Stops serving. What was proposed may survive elsewhere; reads were not answered.
    fn fail(&mut self, why: String, out: &mut Vec<Output>) {
        self.answers.clear();
        for id in self.requests.all() {
            let Some(Pending { stage, asker: None, .. }) = self.requests.remove(id) else { continue };
            let error = match stage {
                Stage::Leader { .. } | Stage::Reading | Stage::ReadingAt { .. } => Error::NotReady(why.clone()),
                _ => Error::OutcomeUnknown,
            };
            out.push(Output::Reply(id, Err(error)));
        }
        out.push(Output::Report(Event::Failed(why.clone())));
        self.failed = Some(why);
    }

    fn step_failed(&mut self, input: Input, out: &mut Vec<Output>) {
        if let (Input::Request(id, _), Some(why)) = (input, &self.failed) {
            out.push(Output::Reply(id, Err(Error::NotReady(why.clone()))));
        }
    }
}
