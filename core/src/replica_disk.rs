//! What a replica does while its log's disk hangs: it leads nobody, and does not try to.

use std::collections::BTreeSet;

use crate::mutation::{Mutation, is_on};
use crate::replica::{Replica, Turn};
use crate::types::NodeId;

/// After so many election timeouts without a sync, a leader that found no heir just steps down.
const PATIENCE: u64 = 3;

impl Replica {
    /// A leader whose followers have on disk what it has not holds up everybody: what is committed cannot be applied here. It hands
    /// over; failing that, it falls silent, so that others elect. As long as no quorum gets on without it, nobody would do better.
    pub(crate) fn yield_to_others(&mut self, peers: &BTreeSet<NodeId>, may_lead: impl Fn(NodeId) -> bool, turn: &Turn) {
        if !self.raft.holds_up_others() || is_on(Mutation::HangingDiskLeads) {
            return;
        }
        if turn.disk_waited_ms >= PATIENCE * turn.config.timing.election_ms() {
            self.raft.step_down();
        } else if !self.raft.is_handing_over() {
            self.hand_over(peers, may_lead);
        }
    }
}
