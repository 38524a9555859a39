//! Who the members are, as far as this node knows: at first from its identity, then from the system group's state.

use std::sync::{Arc, Mutex, PoisonError};

use drey_core::NodeId;
use drey_core::system::Members;
use drey_core::wire::handshake::Standing;

/// One node's list of members. The system group's shard changes it, all others look.
pub(crate) struct Roster(Mutex<Known>);

struct Known {
    members: Arc<Members>,
    /// From the system group: who is not in it now and had an id is gone.
    certain: bool,
}

impl Roster {
    /// What the node was founded or joined with.
    pub fn new(members: Members) -> Roster {
        Roster(Mutex::new(Known { members: Arc::new(members), certain: false }))
    }

    /// What the system group says.
    pub fn learn(&self, members: Arc<Members>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known { members, certain: true };
    }

    /// All members.
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).members)
    }

    /// How many changes of the members this node knows of.
    pub fn changes(&self) -> u64 {
        self.members().changes()
    }

    /// What a node is to the cluster.
    pub fn standing(&self, id: NodeId) -> Standing {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.members.standing(id) {
            Standing::Gone if !known.certain => Standing::Stranger,
            standing => standing,
        }
    }
}
