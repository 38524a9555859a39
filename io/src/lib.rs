//! drey's production runtime: executors on io_uring, the log on disk, peer links, stores, and the embeddable [`Node`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
pub mod cpus;
mod effects;
mod handle;
pub mod hyper_io;
mod identity;
mod inspect;
#[cfg(feature = "join")]
mod join;
mod keeper;
pub mod listener;
pub mod lock;
pub mod log_files;
mod mail;
pub mod mailbox;
mod node;
mod notes;
pub mod notify;
mod peer_link;
pub mod probe;
mod quorum;
mod recovery;
#[cfg(feature = "join")]
mod repair;
pub mod resolve;
pub mod room;
mod roster;
pub mod runtime;
mod salvage;
mod shard_handle;
mod shard_loop;
mod shared;
mod status;
mod storage_thread;
pub mod store;

pub use config::{Config, ConnectionHandler, Engine, FoundingMember, Joined};
pub use handle::Handle;
pub use identity::{DataDir, IdentityError, Member, look_into};
pub use inspect::{Files, Finding};
#[cfg(feature = "join")]
pub use join::{JoinAttempt, JoinError};
pub use listener::BindError;
pub use lock::LockError;
pub use node::{EndError, Node, StartError};
#[cfg(feature = "join")]
pub use repair::{Repair, RepairAttempt, RepairError};
pub use salvage::SalvageReport;
pub use shard_handle::ShardHandle;
pub use status::NodeStatus;
