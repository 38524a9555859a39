//! A member's part in the configuration of its group: who votes, who learns, and how that changes.

use prost11::Message as _;
use raft::StateRole;
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType,
};

use super::membership::Configuration;
use super::node::RaftNode;
use crate::mutation::{Mutation, is_on};
use crate::system::reconcile::Change;
use crate::types::NodeId;

impl RaftNode {
    /// Proposes a change of the configuration: several changes through a joint one, which must be left by
    /// [`Self::leave_joint`]. Nothing happens unless [`Self::is_settled`].
    pub fn propose_change(&mut self, changes: &[Change]) {
        let single = |change: &Change| {
            let (kind, id) = match change {
                Change::AddLearner(id) => (ConfChangeType::AddLearnerNode, id),
                Change::Promote(id) => (ConfChangeType::AddNode, id),
                Change::Remove(id) => (ConfChangeType::RemoveNode, id),
            };
            let mut single = ConfChangeSingle { node_id: id.0, ..Default::default() };
            single.set_change_type(kind);
            single
        };
        let mut change = ConfChangeV2 { changes: changes.iter().map(single).collect(), ..Default::default() };
        if changes.len() > 1 {
            // Left by the leader of the day: raft-rs's own way of leaving is forgotten when the leader changes.
            change.set_transition(ConfChangeTransition::Explicit);
        }
        self.propose_v2(change);
    }

    /// Proposes to leave a joint configuration.
    pub fn leave_joint(&mut self) {
        self.propose_v2(ConfChangeV2::default());
    }

    fn propose_v2(&mut self, change: ConfChangeV2) {
        if is_on(Mutation::ChangeBeforeFirstCommit) {
            self.raw.raft.pending_conf_index = 0;
        }
        if self.is_settled() {
            // An error means that it cannot be done now; it will be tried again.
            let _ = self.raw.propose_conf_change(Vec::new(), change);
        }
        self.settle();
    }

    /// Whether this leader has applied every change of the configuration that its log may hold.
    pub fn is_settled(&self) -> bool {
        let is_pending = self.raw.raft.has_pending_conf() && !is_on(Mutation::ChangeBeforeFirstCommit);
        self.is_leader() && !self.is_handing_over() && !is_pending
    }

    /// Whether this member leads, and its log may hold a change of the configuration that it has not applied.
    pub fn may_hold_change(&self) -> bool {
        self.is_leader() && self.raw.raft.has_pending_conf()
    }

    /// Whether the leadership is on its way to another.
    pub fn is_handing_over(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// Whether a member's log is nearly as long as this leader's, and grows with it.
    pub fn has_caught_up(&self, id: NodeId) -> bool {
        /// So many entries are under way to a member that keeps up.
        const BEHIND_MAX: u64 = 1_000;
        let last = self.raw.raft.raft_log.last_index();
        let keeps_up = |progress: &raft::Progress| match progress.state {
            raft::ProgressState::Replicate => progress.matched + BEHIND_MAX >= last,
            // Its link broke and stands again: as long as there is nothing new to send, raft-rs does not find out that it takes it.
            raft::ProgressState::Probe => {
                progress.matched == last && progress.recent_active && !is_on(Mutation::IdleLearnerWaits)
            }
            raft::ProgressState::Snapshot => false,
        };
        self.is_leader() && self.raw.raft.prs().get(id.0).is_some_and(keeps_up)
    }

    /// The configuration in force.
    pub fn configuration(&self) -> Configuration {
        Configuration::sorted(self.raw.raft.prs().conf().to_conf_state())
    }

    pub(super) fn apply_configuration_change(&mut self, entry: &Entry) -> Option<ConfState> {
        // The guard and the proposer have checked that these decode; an invalid change is skipped by all alike.
        let state = match entry.get_entry_type() {
            EntryType::EntryConfChange => self.raw.apply_conf_change(&ConfChange::decode(entry.data.clone()).ok()?),
            _ => self.raw.apply_conf_change(&ConfChangeV2::decode(entry.data.clone()).ok()?),
        };
        let left = match &state {
            Ok(joint) if is_on(Mutation::JointLeftEarly) && !joint.voters_outgoing.is_empty() => {
                self.raw.apply_conf_change(&ConfChangeV2::default())
            }
            _ => state,
        };
        let raft = &mut self.raw.raft;
        let is_outside = raft.prs().get(raft.id).is_none() && !is_on(Mutation::RemovedLeaderLeads);
        if raft.state != StateRole::Follower && is_outside {
            // It was elected, or campaigns, with its own removal, which another had proposed, in its log. raft-rs leads on, or wins,
            // and panics.
            raft.become_follower(raft.term, raft::INVALID_ID);
        }
        left.ok()
    }

    pub fn voters(&self) -> Vec<NodeId> {
        let mut voters: Vec<NodeId> = self.raw.raft.prs().conf().voters().ids().iter().map(NodeId).collect();
        voters.sort_unstable();
        voters
    }

    /// Whether these members are a quorum: of both configurations while they change.
    pub fn is_quorum(&self, members: &[NodeId]) -> bool {
        self.raw.raft.prs().has_quorum(&members.iter().map(|member| member.0).collect())
    }

    pub fn learners(&self) -> Vec<NodeId> {
        let mut learners: Vec<NodeId> = self.raw.raft.prs().conf().learners().iter().copied().map(NodeId).collect();
        learners.sort_unstable();
        learners
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::log::HardState;
    use crate::raft::node::RaftConfig;
    use crate::types::{GroupId, LogIndex, Term};

    fn member(id: u64, voters: &[u64]) -> RaftNode {
        RaftNode::new(RaftConfig {
            node: NodeId(id),
            group: GroupId(1),
            seed: 1,
            election_ticks: 10,
            heartbeat_ticks: 1,
            hard_state: HardState { term: Term(3), vote: None, commit: LogIndex(5) },
            truncated: (LogIndex(5), Term(3)),
            entries: Vec::new(),
            applied: LogIndex(5),
            configuration: Configuration::of(voters.iter().copied().map(NodeId)),
            entry_bytes_max: 1 << 20,
            append_bytes_max: 1 << 20,
        })
        .unwrap()
    }

    fn asks(member: &mut RaftNode) -> usize {
        member.ready().map_or(0, |ready| ready.messages.len() + ready.messages_after_sync.len())
    }

    #[test]
    fn who_was_removed_asks_for_no_vote() {
        let mut voter = member(1, &[1, 2, 3]);
        voter.campaign();
        assert_eq!(asks(&mut voter), 2);
        let mut outsider = member(1, &[2, 3, 4]);
        outsider.campaign();
        assert_eq!(asks(&mut outsider), 0);
        assert!(!outsider.is_candidate() && outsider.term() == Term(3));
    }
}
