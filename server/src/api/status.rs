//! `Cluster.Status`: one node's view of itself, its peers and its groups.

use std::collections::BTreeMap;

use drey_client::proto::{self, StatusResponse, member::Role};
use drey_core::request::{GroupStatus, LimitStatus, ScrubStatus};
use drey_core::{ClusterId, Error, NodeId, Room, RoomLevel, ShardId};

use super::Backend;

/// A node as its shards describe it together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeStatus {
    /// This node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub cluster: ClusterId,
    /// All members, this one included.
    pub members: Vec<MemberState>,
    /// How many changes of the members led to these.
    pub member_changes: u64,
    /// All groups that live here.
    pub groups: Vec<GroupState>,
    /// The peers that can be reached now.
    pub reachable: Vec<NodeId>,
    /// What those peers run, as far as they said.
    pub versions: BTreeMap<NodeId, String>,
    /// How often a group got another leader, as seen here since the start.
    pub leader_changes: u64,
    /// What is bounded.
    pub limits: Vec<LimitStatus>,
    /// The cluster's epoch.
    pub epoch: u64,
    /// How many shards the node runs.
    pub shards: u32,
    /// The engine's name: `lsm`, `btree` or `memory`.
    pub engine: String,
    /// Since the node started.
    pub uptime_ms: u64,
    /// What the log and the store take on disk.
    pub disk_bytes: u64,
    /// What the disks have left, and what that means.
    pub room: (Room, RoomLevel),
    /// The process's resident memory.
    pub memory_bytes: u64,
}

/// A member as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberState {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where peers and clients reach it.
    pub address: String,
    /// It is on its way out.
    pub leaving: bool,
}

/// A group's replica on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// The shard that owns it here.
    pub shard: ShardId,
    /// The replica.
    pub status: GroupStatus,
}

/// `Cluster.Status`.
pub async fn cluster_status<B: Backend>(backend: &B) -> Result<StatusResponse, Error> {
    backend.status().await.map(response)
}

fn response(node: NodeStatus) -> StatusResponse {
    let members = node.members.iter().map(|member| self::member(&node, member)).collect();
    StatusResponse {
        node: node.node.0,
        cluster: node.cluster.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        members,
        groups: node.groups.iter().map(group).collect(),
        leader_changes: node.leader_changes,
        member_changes: node.member_changes,
        limits: node.limits.iter().map(limit).collect(),
        shards: node.shards,
        uptime_ms: node.uptime_ms,
        disk_bytes: node.disk_bytes,
        memory_bytes: node.memory_bytes,
        name: node.name,
        engine: node.engine,
        room: Some(room(node.room)),
    }
}

fn member(node: &NodeStatus, member: &MemberState) -> proto::Member {
    let statuses = || node.groups.iter().map(|group| &group.status);
    let leads = statuses().filter(|group| group.leader == Some(member.id)).count();
    // It votes when it does so in every group that this node knows.
    let votes = statuses().all(|group| group.voters.contains(&member.id));
    let role = match (member.leaving, votes) {
        (true, _) => Role::Leaving,
        (false, true) => Role::Voter,
        (false, false) => Role::Learner,
    };
    let here = member.id == node.node;
    proto::Member {
        id: member.id.0,
        name: member.name.clone(),
        address: member.address.clone(),
        leads: u32::try_from(leads).unwrap_or(u32::MAX),
        role: role.into(),
        reachable: here || node.reachable.contains(&member.id),
        version: match node.versions.get(&member.id) {
            _ if here => env!("CARGO_PKG_VERSION").to_owned(),
            version => version.cloned().unwrap_or_default(),
        },
        http_address: String::new(),
        redis_address: String::new(),
    }
}

fn room((Room { free_bytes, reserve_bytes }, level): (Room, RoomLevel)) -> proto::Room {
    proto::Room { free_bytes, reserve_bytes, level: level.to_string() }
}

fn limit(limit: &LimitStatus) -> proto::Limit {
    let LimitStatus { name, now, max, refused } = *limit;
    proto::Limit { name: name.to_owned(), now, max, refused }
}

fn group(group: &GroupState) -> proto::GroupStatus {
    let GroupState { shard, status } = group;
    proto::GroupStatus {
        id: status.group.0,
        leader: status.leader.map_or(0, |leader| leader.0),
        term: status.term.0,
        committed: status.committed.0,
        applied: status.applied.0,
        shard: shard.0,
        matched: status.matched.iter().map(|(member, index)| (member.0, index.0)).collect(),
        scrub: status.scrub.as_ref().map(scrub),
    }
}

fn scrub(scrub: &ScrubStatus) -> proto::Scrub {
    proto::Scrub {
        passes: scrub.passes,
        under_way: scrub.is_under_way,
        bytes: scrub.bytes,
        bytes_before: scrub.bytes_before,
        ended_ms_ago: scrub.ended_ms_ago,
        differences: scrub.differences,
        unanswered: scrub.unanswered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drey_core::{GroupId, LogIndex, Term};

    #[test]
    fn a_member_has_the_role_and_the_groups_that_the_replicas_tell() {
        let id = [NodeId(1), NodeId(2), NodeId(3)];
        let status = |group, leader| GroupStatus {
            group: GroupId(group),
            leader,
            term: Term(4),
            committed: LogIndex(9),
            applied: LogIndex(8),
            voters: vec![id[0], id[1]],
            learners: vec![id[2]],
            matched: vec![(id[1], LogIndex(7))],
            scrub: None,
        };
        let groups = [status(0, Some(id[0])), status(1, Some(id[1])), status(2, None)];
        let node = NodeStatus {
            node: id[0],
            members: id
                .map(|id| MemberState { id, name: format!("n{id}"), address: format!("h:{id}"), leaving: false })
                .to_vec(),
            groups: groups.map(|status| GroupState { shard: ShardId(0), status }).to_vec(),
            reachable: vec![id[2]],
            versions: [(id[2], "0.0.9".to_owned())].into(),
            ..NodeStatus::default()
        };
        let response = response(node);
        let told: Vec<_> =
            response.members.iter().map(|member| (member.leads, member.role(), member.reachable)).collect();
        assert_eq!(told, [(1, Role::Voter, true), (1, Role::Voter, false), (0, Role::Learner, true)]);
        let versions: Vec<_> = response.members.iter().map(|member| member.version.as_str()).collect();
        assert_eq!(versions, [env!("CARGO_PKG_VERSION"), "", "0.0.9"]);
        assert_eq!(response.groups[2].leader, 0);
        assert_eq!(response.groups[0].matched, [(2, 7)].into());
    }
}
