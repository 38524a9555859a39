//! Who the members are, as far as this node knows: at first from its identity, then from the system group's state.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use drey_core::NodeId;
use drey_core::system::Members;
use drey_core::wire::handshake::Standing;

/// One node's list of members. The system group's shard changes it, all others look.
pub(crate) struct Roster {
    known: Mutex<Known>,
    /// As `known` has it, for who asks with every call.
    changes: AtomicU64,
}

struct Known {
    members: Arc<Members>,
    /// From the system group: who is not in it now and had an id is gone.
    certain: bool,
}

impl Roster {
    /// What the node was founded or joined with.
    pub fn new(members: Members) -> Roster {
        let changes = AtomicU64::new(members.changes());
        Roster { known: Mutex::new(Known { members: Arc::new(members), certain: false }), changes }
    }

    /// What the system group says.
    pub fn learn(&self, members: Arc<Members>) {
        self.changes.store(members.changes(), Ordering::Relaxed);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known { members, certain: true };
    }

    /// All members.
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner).members)
    }

    /// How many changes of the members this node knows of.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// What a node is to the cluster.
    pub fn standing(&self, id: NodeId) -> Standing {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.members.standing(id) {
            Standing::Gone if !known.certain => Standing::Stranger,
            standing => standing,
        }
    }
}
