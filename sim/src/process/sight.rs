//! What is to be seen of a process from outside: what it has applied, whom it follows, who votes.

use std::ops::ControlFlow;

use bytes::Bytes;
use drey_core::name::KeyRange;
use drey_core::raft::Configuration;
use drey_core::store::Read;
use drey_core::{GroupId, NodeId};

use super::Process;
use crate::hunts::Sighting;

impl Process {
    pub(super) fn applied(&self, group: GroupId) -> u64 {
        self.shards[self.shard_of(group)].worker.group(group).map_or(0, |machine| machine.applied().0)
    }

    /// How much of a group is applied here, and a hash of what that came to.
    pub fn state(&self, group: GroupId) -> (u64, u64) {
        let worker = &self.shards[self.shard_of(group)].worker;
        (self.applied(group), worker.state_hash(group).unwrap_or_default())
    }

    /// The values of a group that its store holds for good, with their keys in the store.
    pub fn lasting_values(&self, group: GroupId) -> Vec<(Bytes, Bytes)> {
        let worker = &self.shards[self.shard_of(group)].worker;
        let mut values = Vec::new();
        let Some(machine) = worker.group(group) else { return values };
        for bucket in machine.buckets().values() {
            let (start, end) = machine.generation().data(bucket.created_version).range(&KeyRange::default());
            let found = worker.store().scan(&start, &end, false, &mut |key, value| {
                values.push((key, value));
                ControlFlow::Continue(())
            });
            found.unwrap_or_default();
        }
        // The others have a flag for the time at which they go.
        values.retain(|(_, value)| value.first() == Some(&0));
        values
    }

    /// Who votes and who learns in a group, as of what is applied here, and how much that is.
    pub fn configuration(&self, group: GroupId) -> (u64, Configuration) {
        let machine = self.shards[self.shard_of(group)].worker.group(group);
        let configuration = machine.and_then(|machine| Configuration::decode(machine.configuration()).ok());
        (machine.map_or(0, |machine| machine.applied().0), configuration.unwrap_or_default())
    }

    /// The term in which this node is in a group.
    pub fn term(&self, group: GroupId) -> Option<u64> {
        Some(self.shards[self.shard_of(group)].shard.group_status(group)?.term.0)
    }

    /// What is to be seen of a group here.
    pub fn sighting(&self, group: GroupId) -> Option<Sighting> {
        let shard = &self.shards[self.shard_of(group)].shard;
        let status = shard.group_status(group)?;
        Some(Sighting {
            host: self.host,
            node: self.node,
            term: status.term.0,
            leads: status.leader == Some(self.node),
            campaigns: shard.is_candidate(group),
            unsettled: shard.is_unsettled(group),
            committed: status.committed.0,
            configuration: shard.configuration(group)?,
        })
    }

    /// A learner that has all of a group's log, if this node leads the group.
    pub fn equal_learner(&self, group: GroupId) -> Option<NodeId> {
        let status = self.shards[self.shard_of(group)].shard.group_status(group)?;
        let has_all = |learner: &&NodeId| {
            status.matched.iter().any(|(node, matched)| node == *learner && *matched == status.committed)
        };
        status.learners.iter().find(has_all).copied()
    }

    /// Who votes in a group for sure, if this node leads it.
    pub fn sure_voters(&self, group: GroupId) -> Option<Vec<NodeId>> {
        let status = self.shards[self.shard_of(group)].shard.group_status(group)?;
        (status.leader == Some(self.node)).then_some(status.voters)
    }
}
