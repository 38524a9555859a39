//! Whether a member can be spared: asked by the system group's leader before it proposes that one leaves.

use std::collections::BTreeSet;

use crate::error::Error;
use crate::mutation::{Mutation, is_on};
use crate::system::Members;
use crate::types::NodeId;

/// Refuses to remove `leaving` if those that stay could not decide anything: a majority of them must be reachable now.
/// `voters` are the system group's.
pub(crate) fn check(
    members: &Members,
    voters: &[NodeId],
    leaving: NodeId,
    own: NodeId,
    reachable: &BTreeSet<NodeId>,
) -> Result<(), Error> {
    if !members.stays(leaving) || is_on(Mutation::EveryoneMayGo) {
        // Applying says what that means.
        return Ok(());
    }
    let stay: Vec<NodeId> = voters.iter().copied().filter(|&voter| voter != leaving && members.stays(voter)).collect();
    let (up, down): (Vec<NodeId>, Vec<NodeId>) = stay.iter().partition(|&&id| id == own || reachable.contains(&id));
    let needed = stay.len() / 2 + 1;
    if stay.is_empty() || up.len() >= needed {
        return if stay.is_empty() && voters.contains(&leaving) {
            Err(Error::Refused(format!("{} is the only member that votes", name(members, leaving))))
        } else {
            Ok(())
        };
    }
    let down: Vec<String> = down.into_iter().map(|id| name(members, id)).collect();
    Err(Error::Refused(format!(
        "without {} the cluster would lose its quorum: of the {} that stay, {} are needed, and {} cannot be reached",
        name(members, leaving),
        stay.len(),
        needed,
        down.join(", ")
    )))
}

fn name(members: &Members, id: NodeId) -> String {
    members.get(id).map_or_else(|| format!("node {id}"), |member| member.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Founder;

    #[test]
    fn a_majority_of_those_that_stay_must_be_reachable() {
        let founder = |id: u64| Founder { id: NodeId(id), name: format!("n{id}"), address: format!("h:{id}") };
        let members = Members::found(&[1, 2, 3].map(founder));
        let voters = [1, 2, 3].map(NodeId);
        let check = |leaving, up: &[u64]| {
            let up = up.iter().copied().map(NodeId).collect();
            check(&members, &voters, NodeId(leaving), NodeId(1), &up)
        };
        assert!(check(3, &[2, 3]).is_ok());
        assert!(check(3, &[2]).is_ok(), "a dead one may go");
        assert!(check(2, &[2, 3]).is_ok());
        let refused = check(2, &[2]).expect_err("the third is dead").to_string();
        assert!(refused.contains("n3 cannot be reached"), "{refused}");
    }
}
