//! A group's configuration: who votes, who learns. Stored with the applied index, so that it never runs ahead of it.

use std::fmt;

use bytes::Bytes;
use prost11::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};

use crate::limits::MEMBERS_MAX;
use crate::types::NodeId;

/// A configuration as Raft has it, joint ones included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration(pub(super) ConfState);

impl Configuration {
    /// A plain configuration: the same for the same members, in whichever order they are given.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        let mut voters: Vec<u64> = voters.into_iter().map(|id| id.0).collect();
        voters.sort_unstable();
        Configuration(ConfState { voters, ..Default::default() })
    }

    /// Raft's own lists are in the order of a hash table, which is another on each node.
    pub(super) fn sorted(mut state: ConfState) -> Configuration {
        let ConfState { voters, learners, voters_outgoing, learners_next, .. } = &mut state;
        [voters, learners, voters_outgoing, learners_next].into_iter().for_each(|list| list.sort_unstable());
        Configuration(state)
    }

    /// The same with learners.
    #[cfg(test)]
    pub(crate) fn with_learners(
        voters: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Configuration {
        let mut configuration = Configuration::of(voters);
        configuration.0.learners = learners.into_iter().map(|id| id.0).collect();
        configuration
    }

    /// Whether two configurations hold together, on the way from one to the other.
    pub fn is_joint(&self) -> bool {
        !self.0.voters_outgoing.is_empty()
    }

    /// Whether a node has any part in it.
    pub fn has(&self, id: NodeId) -> bool {
        let ConfState { voters, learners, voters_outgoing, learners_next, .. } = &self.0;
        [voters, learners, voters_outgoing, learners_next].iter().any(|list| list.contains(&id.0))
    }

    /// Who votes now.
    pub fn voters(&self) -> Vec<NodeId> {
        self.0.voters.iter().map(|&id| NodeId(id)).collect()
    }

    /// Whether these members are a majority of all whose majority it needs: of those who voted before, too, while it is joint.
    pub fn is_quorum(&self, members: &[NodeId]) -> bool {
        let is_majority =
            |voters: &[u64]| 2 * voters.iter().filter(|&&id| members.contains(&NodeId(id))).count() > voters.len();
        is_majority(&self.0.voters) && (!self.is_joint() || is_majority(&self.0.voters_outgoing))
    }

    /// Who votes now and will go on: in a joint configuration, those who vote in both.
    pub fn steady_voters(&self) -> Vec<NodeId> {
        let votes_in_both = |id: &&u64| !self.is_joint() || self.0.voters_outgoing.contains(id);
        self.0.voters.iter().filter(votes_in_both).map(|&id| NodeId(id)).collect()
    }

    /// Who learns.
    pub fn learners(&self) -> Vec<NodeId> {
        self.0.learners.iter().map(|&id| NodeId(id)).collect()
    }

    /// The bytes that a store keeps.
    pub fn encode(&self) -> Bytes {
        self.0.encode_to_vec().into()
    }

    /// Reads and checks what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Configuration, &'static str> {
        let state = ConfState::decode(bytes).map_err(|_| "a configuration that is no protobuf")?;
        check(&state)?;
        Ok(Configuration(state))
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfState { voters, learners, voters_outgoing, learners_next, .. } = &self.0;
        write!(f, "voters {voters:?}")?;
        for (what, list) in
            [("learners", learners), ("voters before", voters_outgoing), ("later learners", learners_next)]
        {
            if !list.is_empty() {
                write!(f, ", {what} {list:?}")?;
            }
        }
        Ok(())
    }
}

/// What an entry of Raft's kind `kind` changes.
pub fn change_in_words(kind: u8, data: &[u8]) -> String {
    // Raft's other kind is one change, on its own.
    let changes = match kind {
        1 => ConfChange::decode(data)
            .map(|change| vec![ConfChangeSingle { change_type: change.change_type, node_id: change.node_id }]),
        2 => ConfChangeV2::decode(data).map(|change| change.changes),
        kind => return format!("an entry of kind {kind}, which this drey does not know"),
    };
    let Ok(changes) = changes else { return "a change of the configuration that cannot be read".to_owned() };
    if changes.is_empty() {
        return "the joint configuration is left".to_owned();
    }
    let word = |change: &ConfChangeSingle| match change.get_change_type() {
        ConfChangeType::AddNode => format!("node {} votes", change.node_id),
        ConfChangeType::AddLearnerNode => format!("node {} learns", change.node_id),
        ConfChangeType::RemoveNode => format!("node {} goes", change.node_id),
    };
    changes.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Refuses what would make raft-rs panic: empty, overlapping or repeated members, a half-made joint configuration.
pub(super) fn check(state: &ConfState) -> Result<(), &'static str> {
    let lists = [&state.voters, &state.learners, &state.voters_outgoing, &state.learners_next];
    for list in lists {
        let mut sorted = list.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != list.len() || list.len() > MEMBERS_MAX || list.contains(&0) {
            return Err("a configuration with repeated, too many or impossible members");
        }
    }
    let overlap = |a: &[u64], b: &[u64]| a.iter().any(|id| b.contains(id));
    if state.voters.is_empty() {
        return Err("a configuration without voters");
    }
    if overlap(&state.voters, &state.learners)
        || overlap(&state.voters_outgoing, &state.learners)
        || overlap(&state.learners_next, &state.learners)
    {
        return Err("a configuration whose voters also learn");
    }
    if !state.learners_next.iter().all(|id| state.voters_outgoing.contains(id)) {
        return Err("a configuration whose next learners are not leaving");
    }
    if state.voters_outgoing.is_empty() && state.auto_leave {
        return Err("a configuration that leaves a joint one without being in it");
    }
    Ok(())
}
