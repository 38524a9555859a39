//! drey's engine without input and output: Raft, commands, the log's records, the peers' frames, the storage logic.
//!
//! Nothing here has a clock, a socket, a file, a thread or a random generator. A [`Shard`] is a state machine: it takes an
//! [`Input`] and the time, and says in [`Output`]s what it wants done. Whoever drives it (`drey-io` for real, `drey-sim`
//! in a simulated world) only performs. The same inputs give the same outputs, byte for byte.
//!
//! # What the caller owes
//!
//! - **Start.** Open the store; scan the log's segments in order with [`log::LogScan`]; sync each file that gets a seal, write
//!   the seal, and sync it again; then [`start_shard`] for each shard, with a seed that is drawn anew at each start.
//! - **Order.** Inputs are handed over in the order in which things happened; outputs are performed in the order given.
//!   Frames between two shards arrive in order or not at all ([`wire::frame::FrameReader`] sees to it).
//! - **Completions.** Every `WriteLog`, `PrepareSegment` and `Storage` is completed by exactly one input. A log write is
//!   `LogSynced` only when its bytes would survive a power cut. A write or sync that failed is `LogFailed`, never tried
//!   again as if nothing had happened.
//! - **Storage.** The jobs of one shard are done strictly in order. A store may lose batches at a power cut, but only
//!   those behind the last `Persist`, and never a part of one.
//! - **Time.** [`turn()`] is called whenever something came in, and at least once a tick. `mono_ms` never falls.
//! - **Answers.** Each request is answered exactly once, at its deadline at the latest (to within a tick).
//!
//! # What the caller gets
//!
//! Nothing is acknowledged before a quorum has it on disk. A linearizable read sees every write acknowledged before it.
//! A write whose fate is not known is never reported as refused: `no_leader` means that nothing was proposed.

mod clock;
pub mod config;
mod disk_watch;
pub mod error;
mod input;
pub mod limits;
pub mod log;
pub mod machine;
pub mod mutation;
pub mod name;
mod output;
pub mod placement;
mod proposals;
pub mod raft;
mod reads;
mod replica;
mod replica_clock;
mod replica_disk;
mod replica_install;
mod replica_membership;
mod replica_scrub;
mod replica_snapshots;
mod replica_store;
pub mod request;
mod requests;
mod retention;
mod room;
pub mod salvage;
mod scrub;
mod shard;
mod shard_membership;
mod shard_reads;
mod shard_requests;
mod shard_room;
mod shard_scrub;
mod shard_status;
mod snapshots;
mod spread;
mod start;
pub mod storage;
pub mod store;
mod succession;
pub mod system;
mod transfers;
mod turn;
mod types;
pub mod wire;
mod words;

pub use clock::Told;
pub use config::Config;
pub use error::Error;
pub use input::Input;
pub use output::{Effects, Event, Output};
pub use replica::FOUNDED;
pub use room::{Room, RoomLevel};
pub use shard::{RecoverError, Recovered, Shard};
pub use start::start_shard;
pub use turn::{Inbox, turn};
pub use types::{
    ClusterId, GroupId, Incarnation, LogIndex, NodeId, RequestId, ShardId, Term, Tick, Ticket, Version, ViewId,
};
