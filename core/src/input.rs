//! What happens to a shard. Completions have reserved room in every inbox; only requests can be refused as `Overloaded`.

use std::sync::Arc;

use crate::log::SegmentId;
use crate::request::Request;
use crate::room::Room;
use crate::storage::StorageDone;
use crate::system::Members;
use crate::types::{NodeId, RequestId, Ticket};
use crate::wire::Envelope;

/// One event. The caller hands it to [`crate::Shard::step`], in the order in which things happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody on this node asks. Answered by exactly one `Output::Reply`.
    Request(RequestId, Request),
    /// A peer sent this.
    Message(NodeId, Envelope),
    /// A link to the peer stands: what is sent from now on may arrive.
    PeerUp(NodeId),
    /// The link broke: what was sent may be lost.
    PeerDown(NodeId),
    /// Nobody listens where the peer did: its process is gone. It is evidence, and not proof: the peer may be reached by others.
    PeerGone(NodeId),
    /// Who the members are, as the system group's state on this node has it.
    Members(Arc<Members>),
    /// This node is about to stop: what it leads, others should lead.
    HandOver,
    /// The write of this ticket is on disk.
    LogSynced(Ticket),
    /// The write of this ticket failed: the shard serves no more.
    LogFailed(Ticket, String),
    /// The segment is preallocated and its header synced: it can be written.
    SegmentReady(SegmentId),
    /// A storage job is done.
    Storage(StorageDone),
    /// How much room the disks have left. Told at the start, and every now and then.
    Room(Room),
    /// Nothing happened but time. The caller sends it when a turn would otherwise be empty for a tick.
    Tick,
}
