//! What a leader must not commit, and does under two of the mutations.

use raft::Raft;

use super::log_in_memory::LogInMemory;
use crate::mutation::{Mutation, is_on};

/// Commits what a majority has though it is of an older term, or what would be a majority if learners voted.
pub(super) fn commit_what_should_wait(raft: &mut Raft<LogInMemory>) {
    let committed = raft.raft_log.committed;
    if is_on(Mutation::OlderTermCommitted) {
        let (index, _) = raft.mut_prs().maximal_committed_index();
        raft.raft_log.commit_to(index.max(committed));
    }
    if is_on(Mutation::LearnerCounts) {
        let mut matched: Vec<u64> = raft.prs().iter().map(|(_, progress)| progress.matched).collect();
        matched.sort_unstable_by(|one, other| other.cmp(one));
        let voters = raft.prs().conf().voters().ids().iter().count();
        let index = matched.get(voters / 2).copied().unwrap_or_default();
        let term = raft.term;
        raft.raft_log.maybe_commit(index, term);
    }
}
