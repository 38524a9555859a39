//! The write-ahead log of a shard: the Raft logs and hard states of all its replicas in one sequence of segments.
//! Bytes and rules; no files.

use bytes::Bytes;

use crate::storage::SnapshotMeta;
use crate::types::{GroupId, LogIndex, NodeId, Term};

/// Writes are whole blocks at block boundaries: a block that holds synced bytes is never written again.
pub const BLOCK_BYTES: usize = 4096;

/// A segment's name. Segments of one (epoch, shard) form a chain by number; a node starts a new epoch at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Grows at each start of the node.
    pub epoch: u32,
    /// Of the shard that wrote it.
    pub shard: u32,
    /// Counts from 0 without gaps.
    pub number: u64,
}

/// An entry of a group's Raft log, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Raft's entry type: 0 commands, 1 and 2 a configuration change.
    pub kind: u8,
    /// The payload.
    pub data: Bytes,
    /// Raft's context, mostly empty.
    pub context: Bytes,
}

/// What a replica must never forget, beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// Known to be committed.
    pub commit: LogIndex,
}

/// One statement of the log about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Replaces the one before.
    HardState(GroupId, HardState),
    /// These entries, and nothing behind them: what was at or behind the first one's index is gone.
    Append(GroupId, Vec<LogEntry>),
    /// Entries that were appended earlier, written again so that an old segment can go. Removes nothing.
    Carried(GroupId, Vec<LogEntry>),
    /// Entries up to this one (of this term) are gone: the store holds what they did, durably.
    Truncated(GroupId, LogIndex, Term),
    /// A snapshot is about to be installed.
    SnapshotIntent(GroupId, SnapshotMeta),
    /// It was installed: all entries are gone, and the log goes on behind it.
    SnapshotDone(GroupId, SnapshotMeta),
}

/// A batch with its place, ready to be written.
#[derive(Debug)]
pub struct LogWrite {
    /// The file.
    pub segment: SegmentId,
    /// Where in it, in bytes; a multiple of [`BLOCK_BYTES`].
    pub offset: u64,
}
