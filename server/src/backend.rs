//! The shards of a running node as what serves the calls.

use std::rc::Rc;

use drey_core::request::{Operation, Reply};
use drey_core::{ClusterId, Error};
use drey_io::ShardHandle;

use crate::api::{Backend, GroupState, MemberState, NodeStatus};

/// One executor's access to the node.
#[derive(Clone)]
pub struct Shards(pub Rc<ShardHandle>);

impl Backend for Shards {
    fn groups(&self) -> u32 {
        self.0.groups()
    }

    fn member_changes(&self) -> u64 {
        self.0.member_changes()
    }

    fn call(&self, operation: Operation, deadline_ms: u64) -> impl Future<Output = Result<Reply, Error>> {
        self.0.call(operation, deadline_ms)
    }

    async fn status(&self) -> Result<NodeStatus, Error> {
        let status = self.0.status().await?;
        let member = |member: drey_core::system::Member| MemberState {
            id: member.id,
            name: member.name,
            address: member.address,
            leaving: member.leaving.is_some(),
        };
        Ok(NodeStatus {
            node: status.node,
            name: status.name,
            cluster: ClusterId(u128::from_str_radix(&status.cluster, 16).unwrap_or_default()),
            members: status.members.into_iter().map(member).collect(),
            member_changes: status.member_changes,
            groups: status.groups.into_iter().map(|(shard, status)| GroupState { shard, status }).collect(),
            reachable: status.reachable,
            versions: status.versions,
            leader_changes: status.leader_changes,
            limits: status.limits,
            epoch: status.epoch,
            shards: status.shards,
            engine: status.engine,
            uptime_ms: status.uptime_ms,
            disk_bytes: status.disk_bytes,
            room: status.room,
            memory_bytes: status.memory_bytes,
        })
    }
}
