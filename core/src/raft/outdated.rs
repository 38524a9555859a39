//! Who campaigns by a configuration that others know to be outdated is not elected.
//!
//! raft-rs goes by the configuration that a member has applied, so one that has not heard of the last change yet campaigns by the one
//! before. By that alone nothing is wrong, since a majority of each has a member in common. Two changes behind, that is not so: of three
//! voters that have become five, two could elect one leader, and the other three another in the same term. Hence a change waits until
//! a majority knows the one before as committed, on disk (see `replica_membership`), and whoever knows a change to be committed has no
//! vote for a candidate that does not: it tells the candidate instead, who applies the change, and campaigns once more.

use raft::eraftpb::{EntryType, Message, MessageType};
use raft::storage::GetEntriesContext;

use super::node::RaftNode;
use crate::mutation::{Mutation, is_on};

impl RaftNode {
    /// The answer to a candidate that does not know of the last change of the configuration, if this is one's question.
    pub(super) fn refuse_outdated(&self, message: &Message) -> Option<Message> {
        let kind = message.get_msg_type();
        let raft = &self.raw.raft;
        // The candidate is in the term before the one that it asks about at first.
        let (answer, term) = match kind {
            MessageType::MsgRequestVote => (MessageType::MsgRequestVoteResponse, message.term),
            MessageType::MsgRequestPreVote => (MessageType::MsgRequestPreVoteResponse, message.term.saturating_sub(1)),
            _ => return None,
        };
        if message.term < raft.term || message.commit >= self.last_known_change() || are_elected() {
            return None;
        }
        let (commit, commit_term) = raft.raft_log.commit_info();
        let mut refusal =
            Message { to: message.from, from: raft.id, term, reject: true, commit, commit_term, ..Message::default() };
        refusal.set_msg_type(answer);
        Some(refusal)
    }

    /// The index of the last change of the configuration that is known to be committed. At a start nobody knows where in the store it
    /// was: then it is the last that the store has.
    fn last_known_change(&self) -> u64 {
        let log = &self.raw.raft.raft_log;
        let unseen = log.slice(self.taken.0 + 1, log.committed + 1, None, GetEntriesContext::empty(false));
        let unseen = unseen.unwrap_or_default();
        let change = unseen.iter().rev().find(|entry| entry.get_entry_type() != EntryType::EntryNormal);
        change.map_or(self.last_change.0, |entry| entry.index)
    }
}

/// Without this rule, and what belongs to it. It guards against what a change does that comes too early, which would otherwise hardly ever
/// do harm.
pub(super) fn are_elected() -> bool {
    is_on(Mutation::OutdatedAreElected) || is_on(Mutation::ChangeBeforeFirstCommit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

    use super::*;
    use crate::log::{HardState, LogEntry};
    use crate::raft::membership::Configuration;
    use crate::raft::message::Message as Wrapped;
    use crate::raft::node::RaftConfig;
    use crate::types::{GroupId, LogIndex, NodeId, Term};

    /// Five entries of term 3, of which the fourth adds a voter.
    fn member(id: u64, commit: u64) -> RaftNode {
        let mut single = ConfChangeSingle { node_id: 4, ..Default::default() };
        single.set_change_type(ConfChangeType::AddNode);
        let change = ConfChangeV2 { changes: vec![single], ..Default::default() };
        let entry = |index| LogEntry {
            index: LogIndex(index),
            term: Term(3),
            kind: if index == 4 { 2 } else { 0 },
            context: Default::default(),
            data: if index == 4 { prost11::Message::encode_to_vec(&change).into() } else { Default::default() },
        };
        let mut member = RaftNode::new(RaftConfig {
            node: NodeId(id),
            group: GroupId(1),
            seed: 1,
            election_ticks: 10,
            heartbeat_ticks: 1,
            hard_state: HardState { term: Term(3), vote: None, commit: LogIndex(commit) },
            truncated: (LogIndex(1), Term(3)),
            entries: (2..=5).map(entry).collect(),
            applied: LogIndex(1),
            configuration: Configuration::of([1, 2, 3].map(NodeId)),
            entry_bytes_max: 1 << 20,
            append_bytes_max: 1 << 20,
        })
        .unwrap();
        sent(&mut member);
        member
    }

    fn sent(member: &mut RaftNode) -> Vec<Wrapped> {
        let mut sent = Vec::new();
        while let Some(ready) = member.ready() {
            sent.extend(ready.messages);
            sent.extend(ready.messages_after_sync);
            member.persisted(ready.number);
            if let Some(last) = ready.committed.last() {
                member.applied(last.index);
            }
        }
        sent
    }

    /// One asks the other, which answers.
    fn asks(candidate: &mut RaftNode, voter: &mut RaftNode) {
        candidate.campaign();
        let to_voter = |message: &Wrapped| message.to() == NodeId(2);
        for question in sent(candidate).into_iter().filter(to_voter) {
            voter.step(NodeId(1), question).unwrap();
        }
        for answer in sent(voter) {
            candidate.step(NodeId(2), answer).unwrap();
        }
    }

    #[test]
    fn who_is_behind_a_change_is_told_and_asks_again() {
        let (mut candidate, mut voter) = (member(1, 3), member(2, 5));
        assert_eq!((candidate.voters().len(), voter.voters().len()), (3, 4));
        asks(&mut candidate, &mut voter);
        sent(&mut candidate);
        assert!(!candidate.is_candidate(), "it has no vote");
        assert_eq!((candidate.term(), voter.term()), (Term(3), Term(3)), "and disturbs nobody");
        assert_eq!(candidate.voters().len(), 4, "but knows now");
        assert!(candidate.refuse_outdated(&Message::default()).is_none());
    }

    #[test]
    fn who_knows_the_last_change_need_not_know_what_is_behind_it() {
        let (mut candidate, mut voter) = (member(1, 4), member(2, 5));
        let mut third = member(3, 5);
        candidate.campaign();
        for question in sent(&mut candidate) {
            let voter = match question.to() {
                NodeId(2) => &mut voter,
                NodeId(3) => &mut third,
                _ => continue,
            };
            voter.step(NodeId(1), question).unwrap();
        }
        for (from, voter) in [(2, &mut voter), (3, &mut third)] {
            for answer in sent(voter) {
                candidate.step(NodeId(from), answer).unwrap();
            }
        }
        assert!(candidate.is_candidate(), "three of four would vote for it");
    }

    #[test]
    fn who_hears_of_a_change_again_after_a_power_loss_writes_it_down_before_it_answers() {
        let append = |commit| {
            let mut message = Message { from: 1, to: 2, term: 3, index: 5, log_term: 3, commit, ..Message::default() };
            message.set_msg_type(MessageType::MsgAppend);
            Wrapped(message)
        };
        let written = |commit| {
            let mut voter = member(2, 3);
            voter.step(NodeId(1), append(commit)).unwrap();
            let ready = voter.ready().unwrap();
            assert!(!ready.messages_after_sync.is_empty());
            ready.hard_state_behind.map(|hard_state| hard_state.commit)
        };
        assert_eq!(written(4), Some(LogIndex(4)));
        assert_eq!(written(5), Some(LogIndex(5)));
        assert_eq!(written(3), None, "nothing new");
    }
}
