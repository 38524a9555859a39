//! Equal states at equal indexes (Raft's state machine safety): all replicas of a group that have applied the same entries
//! hold the same data, byte for byte.

use std::collections::BTreeMap;

use drey_core::{GroupId, NodeId};

use super::Violation;

/// The first state that was seen of each group and applied index.
#[derive(Default)]
pub struct States {
    of: BTreeMap<(GroupId, u64), (NodeId, u64)>,
    compared: u64,
}

impl States {
    /// A node's replica has this state at this index.
    pub fn state(&mut self, group: GroupId, applied: u64, node: NodeId, hash: u64) -> Result<(), Violation> {
        let (first, expected) = *self.of.entry((group, applied)).or_insert((node, hash));
        if hash != expected {
            return Err(Violation::new(
                "equal states at equal indexes",
                format!(
                    "group {group} at index {applied}: node {first} has {expected:016x}, node {node} has {hash:016x}"
                ),
            ));
        }
        self.compared += u64::from(first != node);
        Ok(())
    }

    /// How many states were compared with one of another node.
    pub fn compared(&self) -> u64 {
        self.compared
    }
}
