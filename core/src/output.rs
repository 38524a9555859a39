//! What a shard wants done. Performed in the order given; a completion comes back as an `Input`.

use std::sync::Arc;

use crate::error::Error;
use crate::log::{LogWrite, SegmentId};
use crate::request::{Command, Reply};
use crate::room::{Room, RoomLevel};
use crate::storage::StorageJob;
use crate::system::Members;
use crate::types::{GroupId, LogIndex, NodeId, RequestId, Term, Ticket};
use crate::wire::Envelope;

/// One effect.
#[derive(Debug)]
pub enum Output {
    /// Write these bytes there and sync them. Comes back as `LogSynced` or `LogFailed`. Never more than one under way.
    WriteLog(Ticket, LogWrite),
    /// Make a segment: preallocated, zero-filled or recycled, its header written and synced. Comes back as `SegmentReady`.
    PrepareSegment(SegmentId),
    /// Delete or recycle a segment. No completion.
    ReleaseSegment(SegmentId),
    /// All that this shard owns of logs of earlier epochs is in the present one, on disk. When every shard of the node has
    /// said so, the segments of earlier epochs are deleted or recycled. No completion. Said once.
    ReleaseEarlierEpochs,
    /// Send to a peer, best effort, in order for each peer. Lost when there is no link.
    Send(NodeId, Envelope),
    /// Hand to the storage thread. Comes back as `Storage`.
    Storage(StorageJob),
    /// Tell every shard of this node who the members are, this one too: each gets `Input::Members`. No completion.
    Members(Arc<Members>),
    /// Keep links to these members, and to no others. No completion.
    Link(Arc<Members>),
    /// A write that nobody waits for: a request to the shard of its group, whose answer is dropped. No completion.
    Submit(Command),
    /// Take a turn after so many milliseconds, since something will be due before the next tick. No completion.
    Wake(u64),
    /// The answer to a request.
    Reply(RequestId, Result<Reply, Error>),
    /// For people and metrics; nothing depends on it.
    Report(Event),
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// This replica became its group's leader.
    BecameLeader(GroupId, Term),
    /// This replica follows another, or none.
    Follows(GroupId, Term, Option<NodeId>),
    /// The group's configuration changed: who votes, who learns.
    Configured(GroupId, Vec<NodeId>, Vec<NodeId>),
    /// A message from a peer was refused before Raft saw it.
    RefusedMessage(NodeId, GroupId, &'static str),
    /// The log's disk has not synced a write for longer than an election timeout. What is led here is handed over.
    DiskHangs,
    /// It goes on, after so many milliseconds.
    DiskBack(u64),
    /// The disks have less room left than before, or more again.
    RoomChanged(Room, RoomLevel),
    /// What is on this node's disks is not what it wrote, or less: it must not go on with it. Said before `Failed`, or alone if the shard
    /// itself could go on. The node should stop, leave, and join anew.
    Damaged(String),
    /// Replicas that applied the same entries hold different states.
    ReplicasDiffer {
        /// Of this group.
        group: GroupId,
        /// Up to here.
        index: LogIndex,
        /// Those that differ from a majority; without one, all that were compared.
        replicas: Vec<NodeId>,
        /// A majority agrees, so that those are wrong.
        majority: bool,
    },
    /// This replica's state is not what a majority has: it is not read until it is replaced by the leader's.
    FetchesAnew(GroupId),
    /// The shard serves no more: why. The node should stop.
    Failed(String),
    /// A snapshot is being sent.
    SnapshotSending(GroupId, NodeId, LogIndex),
    /// There is a link again on which this one goes on sending a snapshot, of this index.
    SnapshotGoesOn(GroupId, NodeId, LogIndex),
    /// All of a snapshot arrived: the group, whom it was for, its index, its bytes, and how long it took, in milliseconds.
    SnapshotSent(GroupId, NodeId, LogIndex, u64, u64),
    /// A snapshot was installed.
    SnapshotInstalled(GroupId, LogIndex),
    /// The log was truncated up to here.
    Truncated(GroupId, LogIndex),
    /// This replica became its group's leader, and the group's clock moved forward by more than
    /// [`crate::limits::CLOCK_JUMP_MS_MAX`]: keys whose time to live ended meanwhile are gone.
    ClockJumped {
        /// Whose.
        group: GroupId,
        /// What it showed, as far as was known, in milliseconds.
        from_ms: u64,
        /// What it shows now.
        to_ms: u64,
    },
}

/// Performs outputs: the one thing that io and sim implement differently.
pub trait Effects {
    /// Starts the effect, without waiting for it.
    fn perform(&mut self, output: Output);
}
