//! Why a group does not decide: which of its voters this node misses. Asked when a call has failed for it, and never before.

use drey_core::request::{GroupStatus, Operation, Reply};
use drey_core::system::{Member, Members};
use drey_core::{Error, GroupId, NodeId};

use crate::shared::Shared;

/// How long a shard may take to say how its groups are: the caller has waited already.
const ASK_TIMEOUT_MS: u64 = 500;

/// The error with what this node knows of its cause, if it is one that a lost quorum can have caused. `ask` asks the group's shard.
pub(crate) async fn explain<A>(
    shared: &Shared,
    group: GroupId,
    error: Error,
    ask: impl FnOnce(Operation, u64) -> A,
) -> Error
where
    A: Future<Output = Result<Reply, Error>>,
{
    if !matches!(error, Error::NoLeader | Error::DeadlineExceeded) {
        return error;
    }
    // A shard that is too busy to say leaves the error as it is.
    let Ok(Reply::Status(status)) = ask(Operation::Status, ASK_TIMEOUT_MS).await else { return error };
    let Some(group) = status.groups.into_iter().find(|of| of.group == group) else { return error };
    let own = NodeId(shared.identity.node);
    let reached = |id: NodeId| id == own || status.reachable.contains(&id);
    match why(&group, reached, &shared.roster.members(), error == Error::NoLeader) {
        Some(why) => Error::Explained { error: Box::new(error), why },
        None => error,
    }
}

/// What keeps a group from deciding, for people. None: nothing that is known here.
fn why(
    group: &GroupStatus,
    reached: impl Fn(NodeId) -> bool,
    members: &Members,
    without_leader: bool,
) -> Option<String> {
    let GroupStatus { group: number, voters, .. } = group;
    if voters.is_empty() {
        return Some(format!(
            "this node has not got group {number} yet, as it joins: try again, or ask another member"
        ));
    }
    let needed = voters.len() / 2 + 1;
    let missing: Vec<NodeId> = voters.iter().copied().filter(|&id| !reached(id)).collect();
    let up = voters.len() - missing.len();
    if up >= needed {
        return without_leader.then(|| {
            format!(
                "this node reaches {up} of the {} members of group {number}: they choose one, try again",
                voters.len()
            )
        });
    }
    let missing: Vec<String> = missing.into_iter().map(|id| name(id, members.get(id))).collect();
    Some(format!(
        "group {number} needs {needed} of {} members and this node reaches {up}; missing: {}; start at least {} of them",
        voters.len(),
        missing.join(", "),
        needed - up
    ))
}

fn name(id: NodeId, member: Option<&Member>) -> String {
    member.map_or_else(|| format!("node {id}"), |member| format!("{} ({})", member.name, member.address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drey_core::system::Founder;
    use drey_core::{LogIndex, Term};

    fn told(voters: &[u64], reached: &[u64], without_leader: bool) -> Option<String> {
        let group = GroupStatus {
            group: GroupId(3),
            leader: None,
            term: Term(1),
            committed: LogIndex(0),
            applied: LogIndex(0),
            voters: voters.iter().copied().map(NodeId).collect(),
            learners: Vec::new(),
            matched: Vec::new(),
            scrub: None,
        };
        let members = Members::found(&[1, 2, 3].map(Founder::numbered));
        why(&group, |id| reached.contains(&id.0), &members, without_leader)
    }

    #[test]
    fn who_is_missing_is_named() {
        let lost = "group 3 needs 2 of 3 members and this node reaches 1; missing: n2 (host2:9000), n3 (host3:9000); \
                    start at least 1 of them";
        for without_leader in [true, false] {
            assert_eq!(told(&[1, 2, 3], &[1], without_leader).as_deref(), Some(lost));
        }
        let unknown = told(&[1, 7], &[1], true).unwrap();
        assert!(unknown.contains("missing: node 7; start at least 1"), "{unknown}");
    }

    #[test]
    fn nothing_is_made_up_where_the_quorum_is_there() {
        assert_eq!(told(&[1, 2, 3], &[1, 3], false), None);
        let electing = told(&[1, 2, 3], &[1, 3], true).unwrap();
        assert!(electing.contains("reaches 2 of the 3 members of group 3"), "{electing}");
        let joining = told(&[], &[1], true).unwrap();
        assert!(joining.contains("has not got group 3 yet"), "{joining}");
    }
}
