//! What a group's leader changes next, so that the group's configuration becomes what the members are.
//!
//! A new member learns before it votes, so that it never counts in a quorum that it cannot help. What can change at once,
//! changes at once, through a joint configuration: a member is replaced without a moment in which one less would do.

use crate::raft::Configuration;
use crate::system::Members;
use crate::types::{GroupId, NodeId};

/// One change of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It gets the log, and has no vote.
    AddLearner(NodeId),
    /// It votes from now on.
    Promote(NodeId),
    /// It is no part of the group any more.
    Remove(NodeId),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The configuration is what it should be, as far as it can be.
    Nothing,
    /// Leave the joint configuration.
    LeaveJoint,
    /// This leader is to leave: another must lead first.
    HandOver,
    /// Change the configuration.
    Change(Vec<Change>),
}

/// Compares. `own` is the leader; `caught_up` says whether a learner has nearly all of the log.
pub(crate) fn next(
    members: &Members,
    group: GroupId,
    now: &Configuration,
    own: NodeId,
    caught_up: impl Fn(NodeId) -> bool,
) -> Step {
    if now.is_joint() {
        return Step::LeaveJoint;
    }
    let (voters, learners) = (now.voters(), now.learners());
    let mut changes = Vec::new();
    for member in members.iter().filter(|member| member.leaving.is_none()) {
        if !voters.contains(&member.id) && !learners.contains(&member.id) {
            changes.push(Change::AddLearner(member.id));
        }
    }
    for learner in learners {
        if members.is_to_go(learner, group) {
            changes.push(Change::Remove(learner));
        } else if members.stays(learner) && caught_up(learner) {
            changes.push(Change::Promote(learner));
        }
    }
    let promoted = changes.iter().filter(|change| matches!(change, Change::Promote(_))).count();
    let staying = voters.iter().filter(|voter| members.stays(**voter)).count();
    if staying + promoted == 0 {
        // Nobody could take over yet.
        changes.retain(|change| matches!(change, Change::AddLearner(_)));
    } else if staying < voters.len() {
        if !members.stays(own) && staying > 0 {
            return Step::HandOver;
        }
        let leaving = voters.iter().filter(|voter| members.is_to_go(**voter, group) && **voter != own);
        changes.extend(leaving.map(|voter| Change::Remove(*voter)));
    }
    if changes.is_empty() { Step::Nothing } else { Step::Change(changes) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::placement::SYSTEM_GROUP;
    use crate::system::Founder;
    use crate::types::Incarnation;

    const GROUP: GroupId = GroupId(2);

    fn members(count: u64) -> Members {
        let founder = |id: u64| Founder { id: NodeId(id), name: format!("n{id}"), address: format!("h:{id}") };
        Members::found(&(1..=count).map(founder).collect::<Vec<_>>())
    }

    fn of(voters: &[u64], learners: &[u64]) -> Configuration {
        let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        Configuration::with_learners(ids(voters), ids(learners))
    }

    #[test]
    fn a_new_member_learns_first_and_votes_when_it_has_caught_up() {
        let mut wanted = members(3);
        let own = NodeId(1);
        assert_eq!(next(&wanted, GROUP, &of(&[1, 2, 3], &[]), own, |_| true), Step::Nothing);
        wanted.join("n4", "h:4", Some(Incarnation(4))).unwrap();
        let four = NodeId(4);
        assert_eq!(
            next(&wanted, GROUP, &of(&[1, 2, 3], &[]), own, |_| true),
            Step::Change(vec![Change::AddLearner(four)])
        );
        assert_eq!(next(&wanted, GROUP, &of(&[1, 2, 3], &[4]), own, |_| false), Step::Nothing);
        assert_eq!(
            next(&wanted, GROUP, &of(&[1, 2, 3], &[4]), own, |_| true),
            Step::Change(vec![Change::Promote(four)])
        );
    }

    #[test]
    fn a_leaving_leader_hands_over_and_others_are_removed() {
        let mut wanted = members(3);
        wanted.leave(NodeId(3), [SYSTEM_GROUP, GROUP].into_iter()).unwrap();
        let now = of(&[1, 2, 3], &[]);
        assert_eq!(next(&wanted, GROUP, &now, NodeId(3), |_| true), Step::HandOver);
        assert_eq!(next(&wanted, GROUP, &now, NodeId(1), |_| true), Step::Change(vec![Change::Remove(NodeId(3))]));
    }

    #[test]
    fn the_system_group_lets_go_last() {
        let (mut wanted, three) = (members(3), NodeId(3));
        wanted.leave(three, [SYSTEM_GROUP, GROUP].into_iter()).unwrap();
        let now = of(&[1, 2, 3], &[]);
        assert_eq!(next(&wanted, SYSTEM_GROUP, &now, NodeId(1), |_| true), Step::Nothing);
        assert_eq!(next(&wanted, SYSTEM_GROUP, &of(&[1, 2], &[3]), NodeId(1), |_| true), Step::Nothing);
        assert_eq!(next(&wanted, SYSTEM_GROUP, &now, three, |_| true), Step::HandOver);
        wanted.left(three, GROUP);
        let gone = Step::Change(vec![Change::Remove(three)]);
        assert_eq!(next(&wanted, SYSTEM_GROUP, &now, NodeId(1), |_| true), gone);
    }

    #[test]
    fn a_member_is_replaced_in_one_change() {
        let mut wanted = members(3);
        let four = wanted.join("n4", "h:4", Some(Incarnation(4))).unwrap();
        wanted.leave(NodeId(3), [SYSTEM_GROUP, GROUP].into_iter()).unwrap();
        let changes = vec![Change::Promote(four), Change::Remove(NodeId(3))];
        assert_eq!(next(&wanted, GROUP, &of(&[1, 2, 3], &[4]), NodeId(1), |_| true), Step::Change(changes));
    }

    #[test]
    fn the_only_voter_waits_for_an_heir() {
        let mut wanted = members(1);
        let two = wanted.join("n2", "h:2", Some(Incarnation(2))).unwrap();
        wanted.leave(NodeId(1), [SYSTEM_GROUP, GROUP].into_iter()).unwrap();
        assert_eq!(
            next(&wanted, GROUP, &of(&[1], &[]), NodeId(1), |_| false),
            Step::Change(vec![Change::AddLearner(two)])
        );
        assert_eq!(next(&wanted, GROUP, &of(&[1], &[2]), NodeId(1), |_| false), Step::Nothing);
        assert_eq!(
            next(&wanted, GROUP, &of(&[1], &[2]), NodeId(1), |_| true),
            Step::Change(vec![Change::Promote(two)])
        );
        assert_eq!(next(&wanted, GROUP, &of(&[1, 2], &[]), NodeId(1), |_| true), Step::HandOver);
    }
}
