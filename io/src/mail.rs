//! What reaches an executor from other threads.

use std::sync::Arc;

use drey_core::request::{Operation, Reply};
use drey_core::storage::StorageDone;
use drey_core::system::Members;
use drey_core::wire::Envelope;
use drey_core::{Error, NodeId, Room};

use crate::listener::Connection;
use crate::mailbox::ReplySender;

/// How much mail an executor holds. Requests are refused when it is full; completions and peers wait for room.
pub(crate) const MAIL_MAX: usize = 16_384;

/// One piece.
pub(crate) enum Mail {
    /// Somebody connected.
    Connection(Connection),
    /// A request from another executor or another runtime.
    Call(Operation, u64, ReplySender<Result<Reply, Error>>),
    /// From a peer, for replicas of this shard, received by another shard.
    Peer(NodeId, Vec<Envelope>),
    /// The system group's shard says who the members are.
    Members(Arc<Members>),
    /// The storage thread has done this.
    Stored(Vec<StorageDone>),
    /// The disks have so much room.
    Room(Room),
    /// The node stops.
    Stop,
}
