//! A node as it describes itself.

use std::collections::BTreeMap;

use drey_core::request::{GroupStatus, LimitStatus};
use drey_core::system::Member;
use drey_core::{NodeId, Room, RoomLevel, ShardId};

/// This node's view of itself and its cluster.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// The members, this one too.
    pub members: Vec<Member>,
    /// How many changes of the members led to these.
    pub member_changes: u64,
    /// The peers that this node has links to now.
    pub reachable: Vec<NodeId>,
    /// What those peers run, as far as they said.
    pub versions: BTreeMap<NodeId, String>,
    /// All groups, in order, each with its shard.
    pub groups: Vec<(ShardId, GroupStatus)>,
    /// How often a group got another leader, as its replicas here saw it since the start.
    pub leader_changes: u64,
    /// What is bounded: of the fullest shard each, with what all shards refused.
    pub limits: Vec<LimitStatus>,
    /// The cluster's epoch.
    pub epoch: u64,
    /// How many executors it has.
    pub shards: u32,
    /// Its engine.
    pub engine: String,
    /// Since it started.
    pub uptime_ms: u64,
    /// What its files take on disk.
    pub disk_bytes: u64,
    /// What its disks have left, and what that means.
    pub room: (Room, RoomLevel),
    /// Its resident memory.
    pub memory_bytes: u64,
}
