//! Raft, by raft-rs: the only folder that names it. What goes in and out are drey's own types.
//!
//! [`RaftNode`] drives one group's member. It adds what raft-rs leaves to its caller: a [`guard`] before every message
//! from a peer, election timeouts that are a function of a seed, and the log in memory that raft-rs reads from.

mod changes;
mod election_timeout;
mod guard;
mod log_in_memory;
mod membership;
mod message;
#[cfg(feature = "mutations")]
mod miscount;
mod node;
mod outdated;

pub(crate) use guard::NUMBER_MAX;
pub use guard::Refused;
pub use membership::{Configuration, change_in_words};
pub use message::{Message, MessageKind};
pub(crate) use node::{ProposeError, RaftConfig, RaftNode, Ready};
