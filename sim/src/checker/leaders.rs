//! One leader in each term of each group (Raft's election safety).

use std::collections::BTreeMap;

use drey_core::{GroupId, NodeId};

use super::Violation;

/// Who led when.
#[derive(Default)]
pub struct Leaders {
    of: BTreeMap<(GroupId, u64), NodeId>,
}

impl Leaders {
    /// A node says that it leads. The same node may say so again: it restarted in the term that it had won and was elected
    /// once more only if the term is another, so that a second report of a term by its own leader is broken as well.
    pub fn leads(&mut self, group: GroupId, term: u64, node: NodeId) -> Result<(), Violation> {
        match self.of.insert((group, term), node) {
            None => Ok(()),
            Some(other) => Err(Violation::new(
                "one leader per term",
                format!("group {group} term {term}: node {other} and node {node} both became its leader"),
            )),
        }
    }

    /// How many elections were won.
    pub fn elections(&self) -> usize {
        self.of.len()
    }
}
