//! The system group's state: who the members are, and what brings every other group there.
//!
//! Group 0 decides who is a member; it is told through the log, as everything is. Each node tells the members to its shards,
//! and there each group's leader moves its own group towards them, one change at a time ([`reconcile`]). A member that leaves
//! stays one until every group has let it go: only then is it forgotten, and its id is never used again.

mod members;
pub(crate) mod preflight;
pub(crate) mod reconcile;
mod write;

pub use members::{Founder, Member, Members, check_name};

use crate::types::{GroupId, Incarnation, NodeId};

/// A write to the system group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SystemWrite {
    /// Adds a member. Repeating it with the same incarnation changes nothing. Answers [`crate::request::Reply::Members`].
    Join {
        /// Its name, unique among the members.
        name: String,
        /// Where the others reach it.
        address: String,
        /// Of its data directory. None: a place is kept for it, which a node of this name and address may take.
        incarnation: Option<Incarnation>,
    },
    /// A member is to leave every group. Answers [`crate::request::Reply::Members`].
    Leave {
        /// Which.
        member: NodeId,
    },
    /// A group has let a leaving member go: said by that group's leader. Answers [`crate::request::Reply::Members`].
    Left {
        /// Which.
        member: NodeId,
        /// Whose leader says so.
        group: GroupId,
    },
}
