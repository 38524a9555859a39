//! The only place that names raft-rs.

/// A message between two replicas, checked by the guard before Raft sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(pub(crate) raft::eraftpb::Message);
