//! One group's Raft member.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType};
use raft::{RawNode, ReadOnlyOption, SnapshotStatus, StateRole};

use super::election_timeout::election_timeout;
use super::guard::{self, Receiver, Refused};
use super::log_in_memory::LogInMemory;
use super::membership::Configuration;
use super::message::Message;
use super::outdated;
use crate::limits::UNCOMMITTED_BYTES_MAX;
use crate::log::{HardState, LogEntry};
use crate::mutation::{Mutation, is_on};
use crate::storage::{Committed, SnapshotMeta};
use crate::types::{GroupId, LogIndex, NodeId, Term};

/// The most append messages under way to one follower.
const APPENDS_IN_FLIGHT_MAX: usize = 256;
/// The most committed payload handed out at once.
const COMMITTED_BYTES_MAX: u64 = 4 << 20;

/// What a member is made of.
pub(crate) struct RaftConfig {
    pub node: NodeId,
    pub group: GroupId,
    /// For election timeouts.
    pub seed: u64,
    /// An election timeout is drawn from `[election_ticks, 2 * election_ticks)`.
    pub election_ticks: usize,
    pub heartbeat_ticks: usize,
    pub hard_state: HardState,
    pub truncated: (LogIndex, Term),
    pub entries: Vec<LogEntry>,
    pub applied: LogIndex,
    pub configuration: Configuration,
    /// The largest payload of an entry that the log can hold.
    pub entry_bytes_max: usize,
    /// The most payload of one append message.
    pub append_bytes_max: u64,
}

/// What Raft wants done.
#[derive(Default)]
pub(crate) struct Ready {
    /// For [`RaftNode::persisted`].
    pub number: u64,
    /// To be written.
    pub hard_state: Option<HardState>,
    /// To be written behind the hard state.
    pub entries: Vec<LogEntry>,
    /// To be written behind the entries: what of them is committed, and of those before.
    pub hard_state_behind: Option<HardState>,
    /// To be installed instead of everything; then nothing else of this is set but messages and the hard state.
    pub snapshot: Option<SnapshotMeta>,
    /// May leave at once.
    pub messages: Vec<Message>,
    /// May leave once all records up to this ready are on disk.
    pub messages_after_sync: Vec<Message>,
    /// To be applied.
    pub committed: Vec<Committed>,
    /// The configuration behind `committed`, if they changed it.
    pub configuration: Option<Configuration>,
    /// Read indexes: context and index.
    pub read_indexes: Vec<(u128, LogIndex)>,
}

/// Why nothing was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProposeError {
    NotLeader,
    TooMuchUncommitted,
}

/// The member. Each call that may change Raft's role ends in `settle`.
pub(crate) struct RaftNode {
    pub(super) raw: RawNode<LogInMemory>,
    group: GroupId,
    seed: u64,
    election_ticks: usize,
    entry_bytes_max: usize,
    /// Campaigns since the last change of term, for the election timeout.
    retries: u64,
    timeout_is_for: (u64, StateRole, u64),
    timeout: usize,
    /// The hard state as it was last given out to be written.
    written: HardState,
    /// The last entry that was given out to be applied.
    pub(super) taken: LogIndex,
    /// The last of these that changed the configuration; at a start, the last that the store has.
    pub(super) last_change: LogIndex,
    ticks: u64,
    /// Of a leader: in which tick something came from each member last.
    heard: BTreeMap<NodeId, u64>,
}

impl RaftNode {
    pub fn new(config: RaftConfig) -> Result<RaftNode, String> {
        let hard_state = raft::eraftpb::HardState {
            term: config.hard_state.term.0,
            vote: config.hard_state.vote.map_or(0, |node| node.0),
            commit: config.hard_state.commit.0.max(config.applied.0),
        };
        let entries = config.entries.into_iter().map(to_raft);
        let log = LogInMemory::new(hard_state.clone(), config.configuration.0.clone(), config.truncated, entries);
        if hard_state.commit > log.last() {
            return Err(format!(
                "group {}: entries up to {} were committed here, but the log ends at {}: it was lost or rolled back",
                config.group,
                hard_state.commit,
                log.last()
            ));
        }
        let raft_config = raft::Config {
            id: config.node.0,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: config.applied.0,
            max_size_per_msg: config.append_bytes_max,
            max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_MAX,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX as u64,
            check_quorum: true,
            pre_vote: !is_on(Mutation::NoPreVote),
            // Its batching glues entries to an empty append of another index. A turn proposes one entry at most anyway.
            batch_append: false,
            read_only_option: ReadOnlyOption::Safe,
            ..Default::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config, log, &logger).map_err(|error| error.to_string())?;
        let mut node = RaftNode {
            raw,
            group: config.group,
            seed: config.seed,
            election_ticks: config.election_ticks,
            entry_bytes_max: config.entry_bytes_max,
            retries: 0,
            timeout_is_for: (u64::MAX, StateRole::Follower, 0),
            timeout: 0,
            written: config.hard_state,
            taken: config.applied,
            last_change: config.applied,
            ticks: 0,
            heard: BTreeMap::new(),
        };
        node.settle();
        Ok(node)
    }

    /// Lets one tick pass.
    pub fn tick(&mut self) {
        self.ticks += 1;
        let term = self.raw.raft.term;
        let timed_out = self.raw.raft.election_elapsed + 1 >= self.timeout;
        self.raw.tick();
        if self.raw.raft.term != term {
            self.retries = 0;
        } else if timed_out && self.raw.raft.state != StateRole::Leader {
            self.retries += 1;
            if is_on(Mutation::CampaignWithUnappliedChange) {
                return self.campaign();
            }
        }
        self.settle();
    }

    /// Starts an election now, if it votes.
    pub fn campaign(&mut self) {
        // raft-rs looks only when the time is up. Who was removed meanwhile would win, and have no place to lead from.
        if !self.raw.raft.promotable() && !is_on(Mutation::RemovedCampaigns) {
            return;
        }
        if is_on(Mutation::CampaignWithUnappliedChange) && self.raw.raft.promotable() && !self.is_leader() {
            self.raw.raft.campaign(b"CampaignPreElection");
        }
        // An error means that it cannot campaign now, which is an outcome like losing.
        let _ = self.raw.campaign();
        self.settle();
    }

    /// Hands the leadership to a member, which campaigns as soon as it has all entries. Nothing is proposed meanwhile.
    pub fn transfer_leadership(&mut self, to: NodeId) {
        self.raw.transfer_leader(to.0);
        self.settle();
    }

    /// As a follower: asks the leader for a snapshot in the place of the state that is here, and takes no entries until it is there. What
    /// was acknowledged stays acknowledged: the snapshot is of the log's last entry, or of a later one. Refused in silence as long as
    /// one is on its way, there is no leader, or nothing is here of its term.
    pub fn request_snapshot(&mut self) {
        let _ = self.raw.request_snapshot();
        self.settle();
    }

    /// Leads no more, of its own accord.
    pub fn step_down(&mut self) {
        let raft = &mut self.raw.raft;
        raft.become_follower(raft.term, raft::INVALID_ID);
        self.settle();
    }

    /// Whether it asks for votes that count: it would forget those it has if it campaigned again.
    pub fn is_candidate(&self) -> bool {
        self.raw.raft.state == StateRole::Candidate
    }

    /// Whether others have on disk what this member has not: with another leader they would go on without it.
    pub fn holds_up_others(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        self.is_leader() && log.committed > log.persisted
    }

    /// There is reason to think that the leader is dead: this member would vote for another at once. If the leader lives, its
    /// next heartbeat says so.
    pub fn doubt_leader(&mut self) {
        if !self.is_leader() {
            self.raw.raft.leader_id = 0;
        }
        self.settle();
    }

    /// Takes a message from a peer.
    pub fn step(&mut self, from: NodeId, message: Message) -> Result<(), Refused> {
        let receiver = Receiver {
            id: NodeId(self.raw.raft.id),
            term: self.raw.raft.term,
            leader: self.raw.raft.leader_id,
            last_index: self.raw.raft.raft_log.last_index(),
            entry_bytes_max: self.entry_bytes_max,
        };
        guard::check(&receiver, from, &message.0)?;
        if let Some(refusal) = self.refuse_outdated(&message.0) {
            self.raw.raft.msgs.push(refusal);
            return Ok(());
        }
        // An error means that Raft ignores the message.
        let _ = self.raw.step(message.0);
        self.settle();
        match self.is_leader() {
            true => drop(self.heard.insert(from, self.ticks)),
            false => self.heard.clear(),
        }
        Ok(())
    }

    /// Proposes an entry. It may still be overwritten: its fate is told by (term, index).
    pub fn propose(&mut self, commands: Vec<u8>) -> Result<(Term, LogIndex), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        let before = self.raw.raft.raft_log.last_index();
        let outcome = self.raw.propose(Vec::new(), commands);
        self.settle();
        let last = self.raw.raft.raft_log.last_index();
        match outcome {
            Ok(()) if last > before => Ok((Term(self.raw.raft.term), LogIndex(last))),
            // A leader that is handing over refuses as well: as good as having none.
            _ if self.raw.raft.lead_transferee.is_some() => Err(ProposeError::NotLeader),
            _ => Err(ProposeError::TooMuchUncommitted),
        }
    }

    /// Asks for a read index. The answer may never come: ask again, with another context.
    pub fn read_index(&mut self, context: u128) {
        let raft = &mut self.raw.raft;
        if is_on(Mutation::ReadBeforeFirstCommit) && raft.state == StateRole::Leader && !raft.commit_to_current_term() {
            let request_ctx = context.to_le_bytes().to_vec();
            let index = raft.raft_log.committed;
            raft.read_states.push(raft::ReadState { index, request_ctx });
        }
        self.raw.read_index(context.to_le_bytes().to_vec());
        self.settle();
    }

    /// What is to be done, if anything. The log in memory has the entries from here on.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut raw = self.raw.ready();
        let mut ready = Ready { number: raw.number(), ..Default::default() };

        if raw.snapshot().is_empty() {
            let entries = raw.take_entries();
            self.raw.raft.mut_store().append(&entries);
            ready.entries = entries.into_iter().map(from_raft).collect();
        } else {
            self.raw.raft.mut_store().restore(raw.snapshot());
            let meta = meta_of(raw.snapshot());
            (self.taken, self.last_change) = (meta.index, meta.index);
            ready.snapshot = Some(meta);
        }
        let first = ready.entries.first().map(|entry| entry.index);
        ready.hard_state = self.hard_state_to_write(first, ready.snapshot.is_some());
        ready.hard_state_behind = match (first, ready.entries.last()) {
            // What had been committed before it came, and not what came with it.
            (Some(first), Some(_)) if outdated::are_elected() => self.commit_to_write(LogIndex(first.0 - 1)),
            (_, Some(last)) => self.commit_to_write(last.index),
            _ => None,
        };
        ready.messages = raw.take_messages().into_iter().map(Message).collect();
        ready.messages_after_sync = raw.take_persisted_messages().into_iter().map(Message).collect();
        ready.read_indexes = raw.take_read_states().into_iter().filter_map(read_index_of).collect();
        let committed = raw.take_committed_entries();
        self.raw.advance_append_async(raw);

        for entry in committed {
            self.take_committed(entry, &mut ready);
        }
        let is_guarded = !outdated::are_elected() && !is_on(Mutation::ChangeNotConfirmed);
        if ready.hard_state_behind.is_none() && self.written.commit < self.last_change && is_guarded {
            // A power loss may have left its entries and not what came behind them.
            ready.hard_state_behind = self.commit_to_write(LogIndex(u64::MAX));
        }
        self.settle();
        Some(ready)
    }

    /// What is promised to others goes before the entries, which are of that term. It never says more of them than that those before
    /// them are committed, since they may go into a later batch.
    fn hard_state_to_write(&mut self, first_entry: Option<LogIndex>, with_snapshot: bool) -> Option<HardState> {
        let before_entries = first_entry.map_or(LogIndex(u64::MAX), |first| LogIndex(first.0 - 1));
        let new = self.hard_state_up_to(before_entries);
        let promise_changed = (new.term, new.vote) != (self.written.term, self.written.vote);
        let is_due = promise_changed || (with_snapshot && new != self.written);
        is_due.then(|| {
            self.written = new;
            new
        })
    }

    /// A change of the commit index alone is not worth a write: the leader tells it again. With entries it is written, and where it
    /// covers a change of the configuration, so that whoever acknowledges an entry knows, after a crash too, which of the changes
    /// before it were committed when it was sent.
    fn commit_to_write(&mut self, up_to: LogIndex) -> Option<HardState> {
        let new = self.hard_state_up_to(up_to);
        let is_due = new != self.written && !is_on(Mutation::HardStateNotWithEntries);
        is_due.then(|| {
            self.written = new;
            new
        })
    }

    fn hard_state_up_to(&self, index: LogIndex) -> HardState {
        let now = self.raw.raft.hard_state();
        HardState {
            term: Term(now.term),
            vote: (now.vote != 0).then_some(NodeId(now.vote)),
            commit: LogIndex(now.commit.min(index.0)),
        }
    }

    fn take_committed(&mut self, entry: Entry, ready: &mut Ready) {
        self.taken = LogIndex(entry.index);
        let mut configuration = None;
        let commands = match entry.get_entry_type() {
            EntryType::EntryNormal => entry.data,
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                self.last_change = self.taken;
                if let Some(changed) = self.apply_configuration_change(&entry) {
                    let changed = Configuration::sorted(changed);
                    configuration = Some(changed.encode());
                    ready.configuration = Some(changed);
                }
                Bytes::new()
            }
        };
        ready.committed.push(Committed {
            index: LogIndex(entry.index),
            term: Term(entry.term),
            commands,
            wants_replies: false,
            configuration,
        });
    }

    /// Everything up to the ready of this number is on disk.
    pub fn persisted(&mut self, number: u64) {
        self.raw.on_persist_ready(number);
        self.settle();
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: LogIndex) {
        self.raw.advance_apply_to(index.0);
        self.settle();
    }

    /// Drops entries up to `index` from memory.
    pub fn truncate(&mut self, index: LogIndex) {
        self.raw.raft.mut_store().truncate(index);
    }

    /// The link to a peer broke.
    pub fn unreachable(&mut self, peer: NodeId) {
        self.raw.report_unreachable(peer.0);
        self.settle();
    }

    /// The peers that need a snapshot.
    pub fn take_wanted_snapshots(&mut self) -> std::collections::BTreeSet<NodeId> {
        self.raw.raft.mut_store().take_wanted_snapshots()
    }

    /// A view is open for sending to `peer` (or no longer): Raft's next append to it becomes a snapshot.
    pub fn offer_snapshot(&mut self, peer: NodeId, meta: Option<&SnapshotMeta>) {
        let meta = meta.and_then(|meta| Some((meta, Configuration::decode(&meta.configuration).ok()?.0)));
        self.raw.raft.mut_store().offer_snapshot(peer, meta);
    }

    /// Sends a peer what it lacks, unless something is under way already: also the snapshot that was just offered.
    pub fn send_append(&mut self, peer: NodeId) {
        if self.is_leader() && self.raw.raft.prs().get(peer.0).is_some() {
            self.raw.raft.send_append(peer.0);
        }
    }

    /// Whether a snapshot was taken in that no ready has handed out yet.
    pub fn has_new_snapshot(&self) -> bool {
        self.raw.raft.raft_log.unstable.snapshot.is_some()
    }

    /// The transfer of a snapshot ended.
    pub fn snapshot_sent(&mut self, peer: NodeId, arrived: bool) {
        let status = if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.raw.report_snapshot(peer.0, status);
        self.settle();
    }

    /// What waits for the quorum, as leader.
    pub fn uncommitted_bytes(&self) -> u64 {
        self.raw.raft.uncommitted_size() as u64
    }

    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub fn leader(&self) -> Option<NodeId> {
        Some(NodeId(self.raw.raft.leader_id)).filter(|leader| leader.0 != 0)
    }

    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    pub fn committed(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    pub fn truncated(&self) -> (LogIndex, Term) {
        self.raw.store().truncated()
    }

    pub fn last_index(&self) -> LogIndex {
        LogIndex(self.raw.store().last())
    }

    /// The entries from `first` to `last`, both included.
    pub fn entries(&self, first: LogIndex, last: LogIndex) -> Vec<LogEntry> {
        self.raw.store().entries_between(first, last).cloned().map(from_raft).collect()
    }

    /// About how many bytes the entries behind `index` have.
    pub fn bytes_behind(&self, index: LogIndex) -> u64 {
        self.bytes_between(index, self.last_index())
    }

    /// The same, but of those up to `last` only.
    pub fn bytes_between(&self, index: LogIndex, last: LogIndex) -> u64 {
        self.raw.store().bytes_between(index, last)
    }

    /// Whether something came from a member within two election timeouts. raft-rs forgets that with each check of the quorum, until the
    /// next answer.
    fn is_heard(&self, member: u64) -> bool {
        let lately = 2 * self.election_ticks as u64;
        self.heard.get(&NodeId(member)).is_some_and(|tick| self.ticks - tick <= lately)
    }

    /// The last entry that all members have of which something was heard lately; and that those will have who are being sent a
    /// snapshot, or were sent one and have not said yet that they have it. None: there is nobody whose log goes on where this one is not truncated. Known to a leader only.
    pub fn matched_by_others(&self) -> Option<LogIndex> {
        let (own, truncated) = (self.raw.raft.id, self.truncated().0);
        let progress = self.raw.raft.prs().iter().filter(|(id, _)| **id != own && self.is_leader());
        let has = |(id, progress): (&u64, &raft::Progress)| match progress.state {
            raft::ProgressState::Snapshot => Some(progress.pending_snapshot),
            raft::ProgressState::Probe => self.is_heard(*id).then_some(progress.next_idx.saturating_sub(1)),
            raft::ProgressState::Replicate => self.is_heard(*id).then_some(progress.matched),
        };
        progress.filter_map(has).map(LogIndex).filter(|index| *index >= truncated).min()
    }

    /// How far each member's log is known to match; known to a leader only.
    pub fn matched(&self) -> Vec<(NodeId, LogIndex)> {
        if !self.is_leader() {
            return Vec::new();
        }
        let progress = self.raw.raft.prs().iter();
        let mut matched: Vec<_> = progress.map(|(&id, progress)| (NodeId(id), LogIndex(progress.matched))).collect();
        matched.sort_unstable();
        matched
    }

    /// How far a member's log is known to match; known to a leader only.
    pub fn matched_by(&self, peer: NodeId) -> LogIndex {
        let progress = self.raw.raft.prs().get(peer.0).filter(|_| self.is_leader());
        LogIndex(progress.map_or(0, |progress| progress.matched))
    }

    /// Puts drey's election timeout in the place of the one that raft-rs drew.
    pub(super) fn settle(&mut self) {
        let raft = &mut self.raw.raft;
        #[cfg(feature = "mutations")]
        if raft.state == StateRole::Leader {
            super::miscount::commit_what_should_wait(raft);
        }
        let wait = (raft.term, raft.state, self.retries);
        if wait != self.timeout_is_for {
            let steps_down = wait.1 == StateRole::Follower && self.timeout_is_for.1 != StateRole::Follower;
            if is_on(Mutation::VoteForgottenOnStepDown) && steps_down && wait.0 == self.timeout_is_for.0 {
                raft.vote = raft::INVALID_ID;
            }
            if wait.0 != self.timeout_is_for.0 {
                self.retries = 0;
            }
            self.timeout_is_for = (raft.term, raft.state, self.retries);
            self.timeout = election_timeout(
                self.seed,
                self.group,
                NodeId(raft.id),
                raft.term,
                raft.state,
                self.retries,
                self.election_ticks,
            );
        }
        if raft.randomized_election_timeout() != self.timeout {
            raft.set_randomized_election_timeout(self.timeout);
        }
    }
}

fn to_raft(entry: LogEntry) -> Entry {
    Entry {
        entry_type: i32::from(entry.kind),
        term: entry.term.0,
        index: entry.index.0,
        data: entry.data,
        context: entry.context,
        ..Default::default()
    }
}

fn from_raft(entry: Entry) -> LogEntry {
    LogEntry {
        index: LogIndex(entry.index),
        term: Term(entry.term),
        kind: entry.entry_type as u8,
        data: entry.data,
        context: entry.context,
    }
}

fn meta_of(snapshot: &raft::eraftpb::Snapshot) -> SnapshotMeta {
    let meta = snapshot.get_metadata();
    SnapshotMeta {
        index: LogIndex(meta.index),
        term: Term(meta.term),
        configuration: Configuration::sorted(meta.get_conf_state().clone()).encode(),
    }
}

fn read_index_of(state: raft::ReadState) -> Option<(u128, LogIndex)> {
    let context = state.request_ctx.as_slice().try_into().ok()?;
    Some((u128::from_le_bytes(context), LogIndex(state.index)))
}

impl Message {
    /// What an announced snapshot is.
    pub(crate) fn snapshot_meta(&self) -> Option<SnapshotMeta> {
        self.is_snapshot().then(|| meta_of(self.0.get_snapshot()))
    }

    /// Whether its sender cannot forget the term that it is of, the terms on disk being `durable`.
    pub(crate) fn is_of_a_term_up_to(&self, durable: Term) -> bool {
        Term(self.0.term) <= durable || is_on(Mutation::LoneVoterLeadsEarly)
    }

    /// Whether it may leave before the records of its ready are on disk, the terms on disk being `durable`.
    pub(crate) fn may_leave_before_sync(&self, durable: Term) -> bool {
        let is_early = (is_on(Mutation::VoteBeforeSync) && self.is_vote())
            || (is_on(Mutation::ReplyBeforeSync) && self.is_append_response());
        is_early || (self.promises_nothing() && (self.0.term == 0 || Term(self.0.term) == durable))
    }
}
