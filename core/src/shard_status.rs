//! What a shard says of itself.

use crate::limits::{REQUESTS_PENDING_MAX, UNAPPLIED_BYTES_MAX, UNCOMMITTED_BYTES_MAX, VIEWS_MAX};
use crate::raft::Configuration;
use crate::replica::Replica;
use crate::request::{GroupStatus, LimitStatus, ShardStatus};
use crate::shard::Shard;
use crate::types::GroupId;

impl Shard {
    /// Whether somebody would miss this shard if it ended now: it leads others, or has not answered.
    pub fn is_needed(&self) -> bool {
        self.failed.is_none() && (self.requests.len() > 0 || self.replicas.values().any(Replica::leads_others))
    }

    /// Whether the shard serves no more, and why.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// This shard as it describes itself.
    pub fn status(&self) -> ShardStatus {
        ShardStatus {
            shard: self.config.shard,
            groups: self.replicas.values().map(|replica| replica.status(self.last_tick_ms)).collect(),
            reachable: self.peers_up.iter().copied().collect(),
            leader_changes: self.replicas.values().map(|replica| replica.leader_changes).sum(),
            limits: self.limits(),
            room: self.rooms.own(),
        }
    }

    /// One of its groups.
    pub fn group_status(&self, group: GroupId) -> Option<GroupStatus> {
        self.replicas.get(&group).map(|replica| replica.status(self.last_tick_ms))
    }

    /// Who votes and who learns in a group, by what is known here to be committed.
    pub fn configuration(&self, group: GroupId) -> Option<Configuration> {
        self.replicas.get(&group).map(|replica| replica.raft.configuration())
    }

    /// Whether this node asks for votes of a group that count.
    pub fn is_candidate(&self, group: GroupId) -> bool {
        self.replicas.get(&group).is_some_and(|replica| replica.raft.is_candidate())
    }

    /// Whether this node leads a group whose log may hold a change of the configuration that is not applied, or whose configuration a
    /// majority may not know yet.
    pub fn is_unsettled(&self, group: GroupId) -> bool {
        let unsettled = |replica: &Replica| {
            replica.raft.may_hold_change() || (replica.raft.is_leader() && replica.confirmation.is_wanted())
        };
        self.replicas.get(&group).is_some_and(unsettled)
    }

    fn limits(&self) -> Vec<LimitStatus> {
        let fullest = |used: fn(&Replica) -> u64| self.replicas.values().map(used).max().unwrap_or_default();
        let refused = |count: fn(&Replica) -> u64| self.replicas.values().map(count).sum();
        let limit = |name, now, max: usize, refused| LimitStatus { name, now, max: max as u64, refused };
        let (views, views_refused) = self.views;
        vec![
            limit("requests_pending", self.requests.len() as u64, REQUESTS_PENDING_MAX, self.requests_refused),
            limit(
                "unapplied_bytes",
                fullest(|replica| replica.unapplied_bytes() as u64),
                UNAPPLIED_BYTES_MAX,
                refused(|replica| replica.refused.unapplied),
            ),
            limit(
                "uncommitted_bytes",
                fullest(|replica| replica.raft.uncommitted_bytes()),
                UNCOMMITTED_BYTES_MAX,
                refused(|replica| replica.refused.uncommitted),
            ),
            limit("views", views, VIEWS_MAX, views_refused),
            self.rooms.limit(),
        ]
    }
}
