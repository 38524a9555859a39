//! drey's engine without input and output. (The contract essay follows.)

pub mod error;
mod input;
pub mod limits;
pub mod log;
pub mod machine;
pub mod name;
mod output;
pub mod placement;
pub mod raft;
pub mod request;
pub mod storage;
pub mod store;
mod types;
pub mod wire;

pub use error::Error;
pub use input::Input;
pub use output::{Effects, Event, Output};
pub use types::{
    ClusterId, GroupId, Incarnation, LogIndex, NodeId, RequestId, ShardId, Term, Tick, Ticket, Version, ViewId,
};
