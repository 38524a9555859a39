//! What travels between nodes: a handshake, then frames of envelopes, a frame for each peer and turn.

mod body;
pub mod format;
pub mod frame;
pub mod handshake;
pub mod outbox;
mod read;
pub mod redial;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::read::can_carry;

use crate::clock::Told;
use crate::error::Error;
use crate::raft::Message;
use crate::request::{Command, ReadOp, Reply};
use crate::room::RoomLevel;
use crate::storage::SnapshotMeta;
use crate::system::Members;
use crate::types::{GroupId, LogIndex, NodeId, Term};

/// A message between the replicas of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Which.
    pub group: GroupId,
    /// What.
    pub body: Body,
}

/// The kinds of messages.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Raft's own.
    Raft(Message),
    /// A write for the leader.
    Forward {
        /// Chosen by the sender, comes back in the reply.
        id: u64,
        /// Milliseconds until nobody waits any more.
        deadline_in_ms: u64,
        /// The write.
        command: Command,
    },
    /// A linearizable read that the sender's replica cannot answer soon; or a page of a scan that began so.
    Read {
        /// As in [`Body::Forward`].
        id: u64,
        /// Milliseconds until nobody waits any more.
        deadline_in_ms: u64,
        /// The read.
        op: ReadOp,
    },
    /// The answer to a forwarded write or read.
    ForwardReply {
        /// As given.
        id: u64,
        /// The answer.
        reply: Result<Reply, Error>,
    },
    /// Asks the leader to hand its leadership to this member.
    Transfer {
        /// To whom.
        to: NodeId,
    },
    /// Who the members are, as far as the sender knows: for a node that was away while they changed.
    Members(Arc<Members>),
    /// Tells a leader how much room the sender's disks have left.
    Room(RoomLevel),
    /// A leader has a part of the state compared: see `scrub`.
    Scrub {
        /// Behind which entry.
        index: LogIndex,
        /// The entry's, and the leader's.
        term: Term,
        /// Where the part begins.
        position: Bytes,
        /// About how long it is.
        bytes_max: u64,
    },
    /// What a replica has there.
    Scrubbed {
        /// As asked.
        index: LogIndex,
        /// As asked.
        term: Term,
        /// Its hash.
        hash: u64,
    },
    /// A majority has something else than this replica told.
    Differs {
        /// The leader's, when it was told.
        term: Term,
    },
    /// A part of a snapshot.
    SnapshotChunk {
        /// Names the transfer; chosen by the sender.
        transfer: u64,
        /// What the whole is.
        meta: SnapshotMeta,
        /// Counts from 0.
        chunk: u64,
        /// There are no more.
        last: bool,
        /// The part, opaque.
        data: Bytes,
    },
    /// The receiver's answer to a chunk.
    SnapshotAck {
        /// As given.
        transfer: u64,
        /// As given.
        chunk: u64,
        /// False: give up.
        accepted: bool,
    },
    /// A new leader, or a replica that was not told since it follows this one, asks what others know of the time.
    ClockAsk {
        /// The asking one's term.
        round: Term,
    },
    /// The answer; and what a leader says without being asked as soon as it knows.
    ClockTell {
        /// As asked; or the leader's term.
        round: Term,
        /// What it knows.
        told: Told,
    },
}
