//! One group's member on this shard: Raft, what waits for it, and the way of its entries to log and store.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::GroupClock;
use crate::config::Config;
use crate::error::Error;
use crate::limits::{ENTRY_BYTES_MAX, UNAPPLIED_BYTES_MAX};
use crate::log::{GroupLog, HardState, LogWriter, Record, Restated};
use crate::machine::FullBuckets;
use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::proposals::{Answer, Proposals, Waiter};
use crate::raft::{Configuration, Message, ProposeError, RaftConfig, RaftNode, Ready, Refused};
use crate::reads::Reads;
use crate::replica_clock::last_stamp;
use crate::replica_install::Install;
use crate::replica_membership::Confirmation;
use crate::request::{Command, GroupStatus, ReadOp};
use crate::room::{Rooms, Verdict, check_bound};
use crate::scrub::Scrub;
use crate::shard_reads::LeftToLeader;
use crate::snapshots::{Receiving, Sending};
use crate::storage::{AppliedClock, Committed, SnapshotMeta};
use crate::succession::Succession;
use crate::transfers::Transfers;
use crate::types::{GroupId, LogIndex, NodeId, RequestId, Term, Tick, Ticket};
use crate::wire::{Body, Envelope};

/// The log position of a group that has just been founded, as if an entry there had set up its members.
pub const FOUNDED: (LogIndex, Term) = (LogIndex(1), Term(1));

/// What a replica needs from its shard during a call.
pub(crate) struct Turn<'a> {
    pub now: Tick,
    pub config: &'a Config,
    pub log: &'a mut LogWriter,
    pub out: &'a mut Vec<Output>,
    pub answers: &'a mut Vec<Answer>,
    pub left_to_leaders: &'a mut Vec<LeftToLeader>,
    pub tickets: &'a mut u64,
    /// How long the log's disk has been waited for.
    pub disk_waited_ms: u64,
    /// Who has room for what is written.
    pub rooms: &'a mut Rooms,
    /// The next moment at which something is due, if that is before the next tick.
    pub wake_ms: &'a mut Option<u64>,
    /// Which snapshots go out.
    pub transfers: &'a mut Transfers,
}

impl Turn<'_> {
    pub fn ticket(&mut self) -> Ticket {
        *self.tickets += 1;
        Ticket(*self.tickets)
    }

    /// Whether it would be useless to lead: nothing that is written gets to the disk.
    pub fn disk_hangs(&self) -> bool {
        self.disk_waited_ms >= self.config.timing.election_ms()
    }

    pub fn wake(&mut self, at_ms: u64) {
        *self.wake_ms = Some(self.wake_ms.map_or(at_ms, |other_ms| other_ms.min(at_ms)));
    }
}

/// The member.
pub(crate) struct Replica {
    pub group: GroupId,
    pub node: NodeId,
    /// Drawn anew at each start.
    pub seed: u64,
    pub raft: RaftNode,
    pub proposals: Proposals,
    pub reads: Reads,
    pub clock: GroupClock,
    /// As of the last applied entry.
    pub applied_clock: AppliedClock,
    /// The last entry with a stamp that this leader proposed, and the last that was nothing but a stamp.
    pub last_stamped: LogIndex,
    pub last_bare_stamp: LogIndex,
    pub sending: Sending,
    pub receiving: Receiving,
    pub install: Option<Install>,
    pub scrub: Scrub,
    pub(crate) applied: LogIndex,
    pub(crate) unapplied_bytes: usize,
    /// Sizes of the entries that are on their way to the store.
    pub(crate) applying: VecDeque<(LogIndex, usize)>,
    pub(crate) to_apply: Vec<Committed>,
    unsynced: VecDeque<Unsynced>,
    /// What the log has been given; what is on disk may lag.
    pub(crate) logged_hard_state: HardState,
    pub(crate) logged_mark: u64,
    /// Of the hard state on disk.
    pub(crate) durable_term: Term,
    led_term: Option<Term>,
    /// Since when it leads.
    pub led_since_ms: Option<u64>,
    pub confirmation: Confirmation,
    pub refused: RefusedCounts,
    /// How often the group got another leader.
    pub leader_changes: u64,
    last_leader: Option<NodeId>,
    /// When the system group was last told that a member was let go.
    pub reported_ms: Option<u64>,
    followed: Option<(Term, Option<NodeId>)>,
    pub(crate) reads_now: Vec<(RequestId, ReadOp)>,
    succession: Option<Succession>,
    pub(crate) purging: bool,
    pub purge: bool,
    /// The buckets that have reached their bounds.
    pub full: Arc<FullBuckets>,
}

/// What was refused, since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RefusedCounts {
    /// Writes and appends, because too much waited to be applied.
    pub unapplied: u64,
    /// Entries, because too much waited for the quorum.
    pub uncommitted: u64,
}

/// A ready whose records are not on disk yet.
struct Unsynced {
    mark: u64,
    number: u64,
    term: Term,
    messages: Vec<Message>,
}

impl Replica {
    /// Brings a group back from what was found, and writes it all into the new epoch's log.
    pub fn recover(
        group: GroupId,
        config: &Config,
        seed: u64,
        now: Tick,
        found: Option<GroupLog>,
        (stored, applied_clock): (&SnapshotMeta, AppliedClock),
        log: &mut LogWriter,
    ) -> Result<Replica, String> {
        let mut state = found.unwrap_or_default();
        if state.truncated.0 < FOUNDED.0 && !config.founders.is_empty() {
            state.truncated = FOUNDED;
            state.hard_state.term = state.hard_state.term.max(FOUNDED.1);
            state.hard_state.commit = state.hard_state.commit.max(FOUNDED.0);
        }
        if let Some(intent) = state.intent.take()
            && stored.index >= intent.index
        {
            // The crash came between the store's switch and its record: the snapshot is in.
            state.truncated = (intent.index, intent.term);
            state.entries.clear();
        }
        if stored.index < state.truncated.0 {
            return Err(format!(
                "group {group}: the store ends at entry {}, the log begins behind {}: the store was lost or rolled back. \
                 Remove this member and let it join anew with an empty data directory",
                stored.index, state.truncated.0
            ));
        }
        let configuration = match stored.index {
            // It joined, and has heard nothing yet.
            LogIndex(0) => Configuration::default(),
            _ => Configuration::decode(&stored.configuration)?,
        };
        let (term, stamp) = match last_stamp(&state.entries) {
            Some((term, stamp)) if stamp.clock_ms >= applied_clock.stamp.clock_ms => (term, stamp),
            _ => (stored.term, applied_clock.stamp),
        };
        let clock = GroupClock::recovered(term, stamp, now);
        state.restate(group).into_iter().for_each(|record| log.push(record));
        let confirmation = Confirmation::recovered(configuration.steady_voters(), &config.founders);
        let entry_bytes_max = config.log_config().entry_bytes_max().min(ENTRY_BYTES_MAX);
        let raft = RaftNode::new(RaftConfig {
            node: config.node,
            group,
            seed,
            election_ticks: config.timing.election_ticks,
            heartbeat_ticks: config.timing.heartbeat_ticks,
            hard_state: state.hard_state,
            truncated: state.truncated,
            entries: state.entries,
            applied: stored.index,
            configuration,
            entry_bytes_max,
            append_bytes_max: config.transfer.append_bytes_max,
        })?;
        Ok(Replica {
            group,
            node: config.node,
            seed,
            raft,
            proposals: Proposals::new(entry_bytes_max),
            reads: Reads::new(config.node.0, seed),
            clock,
            applied_clock,
            last_stamped: LogIndex(0),
            last_bare_stamp: LogIndex(0),
            sending: Sending::default(),
            receiving: Receiving::default(),
            install: None,
            scrub: Scrub::default(),
            applied: stored.index,
            unapplied_bytes: 0,
            applying: VecDeque::new(),
            to_apply: Vec::new(),
            unsynced: VecDeque::new(),
            logged_hard_state: state.hard_state,
            logged_mark: log.mark(),
            durable_term: Term(0),
            led_term: None,
            led_since_ms: None,
            confirmation,
            refused: RefusedCounts::default(),
            leader_changes: 0,
            last_leader: None,
            reported_ms: None,
            followed: None,
            reads_now: Vec::new(),
            succession: None,
            purging: false,
            purge: true,
            full: Arc::default(),
        })
    }

    /// Takes a write as leader. It is proposed at the end of the turn.
    pub fn write(&mut self, command: &Command, waiter: Waiter, turn: &mut Turn) {
        if !self.raft.is_leader() {
            turn.answers.push((waiter, Err(Error::NoLeader)));
        } else if !self.proposals.fits(command) {
            let message = format!("the write has {} bytes, more than a log segment holds", command.encoded_len());
            turn.answers.push((waiter, Err(Error::invalid(message))));
        } else if self.unapplied_bytes + self.proposals.gathered_bytes() > UNAPPLIED_BYTES_MAX {
            self.refused.unapplied += 1;
            let message = format!("group {} has {} bytes waiting to be applied", self.group, self.unapplied_bytes);
            turn.answers.push((waiter, Err(Error::Overloaded(message))));
        } else {
            if let Err(error) = check_bound(command, &self.full) {
                return turn.answers.push((waiter, Err(error)));
            }
            match turn.rooms.judge(command, self.node, || self.raft.voters()) {
                Verdict::Goes => self.proposals.push(command, waiter),
                Verdict::Elsewhere => turn.answers.push((waiter, Err(Error::NoLeader))),
                Verdict::Refused(error) => {
                    turn.rooms.refused += 1;
                    turn.answers.push((waiter, Err(error)));
                }
            }
        }
    }

    /// Serves a read from the present state, however old.
    pub fn read_now(&mut self, id: RequestId, op: ReadOp) {
        self.reads_now.push((id, op));
    }

    /// Takes Raft's message from a peer.
    pub fn message(&mut self, from: NodeId, message: Message, turn: &mut Turn) {
        let takes_all = is_on(Mutation::EntriesDuringInstallation);
        if self.is_installing() && !takes_all {
            // What a peer says now it will say again. Entries behind the snapshot, above all, would be lost with its ready.
            return;
        }
        if turn.disk_hangs() && message.is_timeout_now() {
            // It is asked to lead. The leader goes on when it has waited in vain.
            return;
        }
        if self.unapplied_bytes > UNAPPLIED_BYTES_MAX && message.has_entries() {
            // The store is far behind. The leader sends them again after its next heartbeat was answered.
            self.refused.unapplied += 1;
            return;
        }
        if turn.rooms.is_exhausted() && message.has_entries() {
            // The leader sends them again, once there is room.
            return;
        }
        if let Some(meta) = message.snapshot_meta()
            && !self.receiving.has(&meta)
        {
            return;
        }
        if let Err(refused) = self.raft.step(from, message) {
            let event = match refused {
                Refused::Malformed(why) => Event::RefusedMessage(from, self.group, why),
                Refused::RolledBack => Event::Damaged(format!(
                    "group {}: its leader confirmed entries that are gone here: the disk was rolled back",
                    self.group
                )),
            };
            turn.out.push(Output::Report(event));
        }
    }

    /// A peer's process is gone. If it led, or may have been about to lead, another should soon.
    pub fn peer_gone(&mut self, peer: NodeId, now_ms: u64) {
        if self.raft.leader().is_none_or(|leader| leader == peer) {
            self.raft.doubt_leader();
            self.succession = Succession::new(self.group, self.node, peer, &self.raft.voters(), now_ms);
        }
    }

    /// Since when it leads, if it knew that at the end of its last turn.
    pub fn leads_since(&self) -> Option<u64> {
        let leads = self.raft.is_leader() && self.led_term == Some(self.raft.term());
        self.led_since_ms.filter(|_| leads)
    }

    /// Whether this member leads others.
    pub fn leads_others(&self) -> bool {
        self.raft.is_leader() && self.raft.voters().len() > 1
    }

    fn succeed(&mut self, turn: &mut Turn) {
        let tick_ms = turn.config.timing.tick_ms;
        let Some(succession) = &mut self.succession else { return };
        if self.raft.leader().is_some() {
            self.succession = None;
            return;
        }
        let is_due = succession.is_due(turn.now.mono_ms, tick_ms);
        if let Some(at_ms) = succession.next_ms(tick_ms) {
            turn.wake(at_ms);
        }
        if is_due && !self.is_installing() && !self.raft.is_candidate() && !turn.disk_hangs() {
            self.raft.campaign();
        }
    }

    /// The end of a turn: proposes, asks for read indexes, and does what Raft wants done until it wants nothing.
    pub fn finish(&mut self, turn: &mut Turn) {
        self.succeed(turn);
        self.notice_roles(turn);
        self.settle_clock(turn);
        self.propose(turn);
        self.confirm_configuration(turn);
        self.stamp_when_due(turn);
        if self.raft.leader().is_some()
            && let Some(context) = self.reads.ask(turn.now.mono_ms, self.raft.term(), turn.config.timing.read_retry_ms)
        {
            self.raft.read_index(context);
        }
        self.pump(turn);
        self.apply(turn);
        self.serve_reads(turn);
        self.go_on_with_snapshots(turn);
        self.purge(turn);
    }

    /// Proposes what was gathered, unless the clock that stamps it is not settled: then it waits.
    fn propose(&mut self, turn: &mut Turn) {
        let Some(stamp) = self.clock.stamp(turn.now) else { return };
        let (raft, last_stamped, refused) = (&mut self.raft, &mut self.last_stamped, &mut self.refused);
        let propose = |commands| match raft.propose(commands) {
            Ok((term, index)) => {
                *last_stamped = index;
                Ok((term, index))
            }
            Err(ProposeError::NotLeader) => Err(Error::NoLeader),
            Err(ProposeError::TooMuchUncommitted) => {
                refused.uncommitted += 1;
                Err(Error::Overloaded("too much is waiting for the quorum".into()))
            }
        };
        self.proposals.flush((turn.config.epoch, stamp), propose, turn.answers);
    }

    /// Does what Raft wants done.
    fn pump(&mut self, turn: &mut Turn) {
        self.release_synced(turn);
        while (self.install.is_none() || is_on(Mutation::EntriesDuringInstallation))
            && let Some(ready) = self.raft.ready()
        {
            self.take(ready, turn);
            self.release_synced(turn);
        }
        self.notice_roles(turn);
    }

    fn take(&mut self, ready: Ready, turn: &mut Turn) {
        for (context, index) in ready.read_indexes {
            self.reads.confirm(context, index, turn.now.mono_ms);
        }
        let mut waiting = Vec::new();
        for message in ready.messages {
            match message.is_of_a_term_up_to(self.durable_term) {
                true => self.send(message, turn),
                // A lone voter leads before its vote for itself is on disk. If it forgot that vote, it would lead once more in the same
                // term, and a learner would take other entries for those that it has.
                false => waiting.push(message),
            }
        }
        if let Some(meta) = ready.snapshot {
            self.install(ready.number, meta, ready.hard_state, ready.messages_after_sync, turn);
            return;
        }
        if let Some(hard_state) = ready.hard_state {
            self.log_hard_state(hard_state, turn.log);
        }
        if !ready.entries.is_empty() {
            self.see_stamps(&ready.entries, turn.now);
            turn.log.push(Record::Append(self.group, ready.entries));
            self.logged_mark = turn.log.mark();
        }
        if let Some(hard_state) = ready.hard_state_behind {
            self.log_hard_state(hard_state, turn.log);
        }
        for message in ready.messages_after_sync {
            match message.may_leave_before_sync(self.durable_term) {
                true => self.send(message, turn),
                false => waiting.push(message),
            }
        }
        let term = self.logged_hard_state.term;
        self.unsynced.push_back(Unsynced { mark: self.logged_mark, number: ready.number, term, messages: waiting });
        for mut entry in ready.committed {
            entry.wants_replies = self.proposals.committed(entry.index, entry.term, turn.answers);
            self.unapplied_bytes += entry.commands.len();
            self.applying.push_back((entry.index, entry.commands.len()));
            self.to_apply.push(entry);
        }
        if let Some(configuration) = ready.configuration {
            self.confirmation.begin(&configuration.voters());
            self.report_configuration(turn);
        }
    }

    fn log_hard_state(&mut self, hard_state: HardState, log: &mut LogWriter) {
        log.push(Record::HardState(self.group, hard_state));
        self.logged_hard_state = hard_state;
        self.logged_mark = log.mark();
    }

    /// What is on disk may be told: to Raft, and to peers.
    fn release_synced(&mut self, turn: &mut Turn) {
        let durable = turn.log.durable_mark();
        while let Some(synced) = self.unsynced.pop_front_if(|first| first.mark <= durable) {
            self.durable_term = synced.term;
            self.raft.persisted(synced.number);
            for message in synced.messages {
                self.send(message, turn);
            }
        }
        if self.unsynced.is_empty() {
            self.go_on_installing(durable, turn);
        }
    }

    pub(crate) fn send(&mut self, message: Message, turn: &mut Turn) {
        let peer = message.to();
        if message.is_snapshot() {
            self.announce_snapshot(peer, message, turn);
        } else {
            self.post(peer, Body::Raft(message), turn);
        }
    }

    /// Sends any message of this group.
    pub fn post(&self, peer: NodeId, body: Body, turn: &mut Turn) {
        turn.out.push(Output::Send(peer, Envelope { group: self.group, body }));
    }

    fn notice_roles(&mut self, turn: &mut Turn) {
        // What it votes for may still be on its way to the disk, if it needs no other vote: then it could lead in the term again.
        let is_elected = self.durable_term == self.raft.term() || is_on(Mutation::LoneVoterLeadsEarly);
        let leads = self.raft.is_leader() && is_elected;
        let led = leads.then(|| self.raft.term());
        if self.led_term != led {
            if self.led_term.is_some() {
                self.proposals.lose_leadership(turn.answers);
                self.clock.stand_down();
                self.scrub.stand_down();
                self.abort_snapshots(turn);
            }
            if let Some(term) = led {
                turn.out.push(Output::Report(Event::BecameLeader(self.group, term)));
                self.lead_clock(term, turn.now);
                self.settle_clock(turn);
            }
            self.led_term = led;
            self.led_since_ms = led.map(|_| turn.now.mono_ms);
        }
        if let Some(leader) = self.raft.leader()
            && self.last_leader != Some(leader)
        {
            self.leader_changes += u64::from(self.last_leader.is_some());
            self.last_leader = Some(leader);
        }
        let followed = (!self.raft.is_leader()).then(|| (self.raft.term(), self.raft.leader()));
        if self.followed != followed {
            if let Some((term, leader)) = followed {
                turn.out.push(Output::Report(Event::Follows(self.group, term, leader)));
            }
            let term = |followed: Option<(Term, _)>| followed.map(|(term, _)| term);
            if term(self.followed) != term(followed) {
                // Who was told that its leader is gone, and hears from it again in the same term, still owes it an answer.
                self.scrub.stand_down();
            }
            self.followed = followed;
        }
    }

    /// What the log has of this replica, but for its entries. Not while a snapshot is being installed.
    pub fn restated(&self) -> Restated {
        assert!(self.install.is_none(), "the log in memory is ahead of the one on disk");
        Restated {
            hard_state: self.logged_hard_state,
            truncated: self.raft.truncated(),
            last: self.raft.last_index(),
            intent: None,
        }
    }

    /// This replica as it describes itself.
    pub fn status(&self, now_ms: u64) -> GroupStatus {
        GroupStatus {
            group: self.group,
            leader: self.raft.leader(),
            term: self.raft.term(),
            committed: self.raft.committed(),
            applied: self.applied,
            voters: self.sure_voters(),
            learners: self.raft.learners(),
            matched: self.raft.matched(),
            scrub: self.raft.is_leader().then(|| self.scrub.status(now_ms)),
        }
    }
}
