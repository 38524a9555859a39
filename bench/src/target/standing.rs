//! How far a node has come, as it says itself: what it knows to be committed, and what it has applied.

use std::collections::BTreeMap;

use super::{drey, etcd};

/// One node's standing. What etcd has one of is a group of its own here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It sees a leader of every group.
    pub(crate) is_led: bool,
    /// It sees every member, where it says so: etcd does not.
    pub(crate) reaches_all: bool,
    /// By group: the last entry that it knows to be committed.
    committed: BTreeMap<u32, u64>,
    /// By group: the last entry that it has applied.
    applied: BTreeMap<u32, u64>,
}

impl Standing {
    /// Whether it has applied all that another knew to be committed when that one was asked.
    pub(crate) fn has_reached(&self, other: &Standing) -> bool {
        other.committed.iter().all(|(group, committed)| self.applied.get(group) >= Some(committed))
    }
}

impl From<&drey::StatusResponse> for Standing {
    fn from(status: &drey::StatusResponse) -> Self {
        Self {
            is_led: status.is_led(),
            reaches_all: status.members.iter().all(|member| member.reachable),
            committed: status.groups.iter().map(|group| (group.id, group.committed)).collect(),
            applied: status.groups.iter().map(|group| (group.id, group.applied)).collect(),
        }
    }
}

impl From<&etcd::StatusResponse> for Standing {
    fn from(status: &etcd::StatusResponse) -> Self {
        Self {
            is_led: status.leader != 0,
            reaches_all: true,
            committed: BTreeMap::from([(0, status.raft_index)]),
            applied: BTreeMap::from([(0, status.raft_applied_index)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_caught_up_when_it_has_in_every_group() {
        let standing = |applied: [u64; 2], committed: [u64; 2]| {
            let group = |id: u32| drey::GroupStatus {
                id,
                leader: 1,
                committed: committed[id as usize],
                applied: applied[id as usize],
            };
            let groups = (0..2).map(group).collect();
            Standing::from(&drey::StatusResponse { members: Vec::new(), groups })
        };
        let ahead = standing([9, 7], [9, 7]);
        assert!(standing([9, 7], [9, 7]).has_reached(&ahead) && standing([10, 7], [9, 7]).has_reached(&ahead));
        assert!(!standing([9, 6], [9, 7]).has_reached(&ahead));
        assert!(!Standing::default().has_reached(&ahead), "groups that it does not know are not reached");
        let etcd = |raft_index, raft_applied_index| {
            Standing::from(&etcd::StatusResponse { header: None, leader: 1, raft_index, raft_applied_index })
        };
        assert!(etcd(5, 5).has_reached(&etcd(5, 4)) && !etcd(5, 4).has_reached(&etcd(5, 4)));
    }
}
