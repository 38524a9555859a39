//! The write-ahead log of a shard: the Raft logs and hard states of all its replicas in one sequence of segments.
//! Bytes and rules; no files. The bytes are drawn in `docs/log-format.md`.
//!
//! Invariants worth naming:
//! - One write and one sync are in flight per chain. So a batch that is there says that all before it were synced.
//! - A block that holds synced bytes is never written again, and no segment is appended to by a later start of the node.
//! - Nothing is deleted before a synced batch says that it is not needed ([`LogWriter::release_oldest`],
//!   [`LogWriter::earlier_epochs_carried`]): recovery knows of each missing file whether it may be missing.
//! - A group's [`Record::Restated`], with the entries carried behind it, says all that there is to know of the group,
//!   whatever older files are still lying about.

use bytes::Bytes;

use crate::storage::SnapshotMeta;
use crate::types::{ClusterId, GroupId, LogIndex, NodeId, Term};

mod batch;
mod damage;
mod dump;
mod merge;
mod ranges;
mod record;
mod recovery;
pub mod retention;
mod scan;
mod segment;
mod write;
mod writer;

pub use damage::{Damage, DamageKind};
pub use dump::{DumpLine, dump};
pub use merge::GroupLog;
pub use ranges::Ranges;
pub use recovery::{LogScan, RecoveredLog, SealWrite};
pub use segment::{SegmentHeader, SegmentId};
pub use write::LogWrite;
pub use writer::{LogWriter, Oldest, UnknownCompletion};

/// Writes are whole blocks at block boundaries: a block that holds synced bytes is never written again.
pub const BLOCK_BYTES: usize = 4096;
/// A batch holds no more, unless a single entry is larger: what else is pending waits for the next write.
pub const LOG_BATCH_BYTES_MAX: usize = 4 << 20;
/// The size of a segment when nothing else is configured.
pub const SEGMENT_BYTES_DEFAULT: u64 = 16 << 20;
/// The smallest segment: a header, a little data, and the block that is kept for the seal.
pub const SEGMENT_BYTES_MIN: u64 = 4 * BLOCK_BYTES as u64;
/// The largest segment.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// What a log must be told: whose it is, and how large its files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Files of another cluster are refused.
    pub cluster: ClusterId,
    /// Files of another node are refused.
    pub node: NodeId,
    /// How many shards this start of the node has: recovery must know when all of them have carried their groups over.
    pub shards: u32,
    /// The size of each segment, a multiple of [`BLOCK_BYTES`] within [`SEGMENT_BYTES_MIN`] and [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
}

impl LogConfig {
    /// Whether the numbers make sense; the error is for people.
    pub fn check(&self) -> Result<(), String> {
        if self.shards == 0 {
            return Err("a node has at least one shard".into());
        }
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(BLOCK_BYTES as u64)
        {
            return Err(format!(
                "a log segment must be a multiple of {BLOCK_BYTES} bytes, from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}, \
                 not {}",
                self.segment_bytes
            ));
        }
        Ok(())
    }

    /// The largest payload and context, together, of an entry that a segment can hold.
    pub fn entry_bytes_max(&self) -> usize {
        segment::payload_room(self.segment_bytes, BLOCK_BYTES as u64) - record::ENTRY_RECORD_OVERHEAD_BYTES
    }

    /// What to write as the first block of a segment.
    pub fn header(&self, segment: SegmentId) -> SegmentHeader {
        SegmentHeader { cluster: self.cluster, node: self.node, segment, segment_bytes: self.segment_bytes }
    }
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

/// One statement of the log about one group. The entries of one record follow each other without gaps.
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
    /// All that holds of the group now, but for the entries themselves: those that only older segments hold follow
    /// as [`Record::Carried`]. Written before a segment or an epoch is released.
    Restated(GroupId, Restated),
}

/// What a group's log is at a point, without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restated {
    /// The hard state.
    pub hard_state: HardState,
    /// The last entry that is gone, and its term. Entries up to it are gone.
    pub truncated: (LogIndex, Term),
    /// The last entry that there is; [`Restated::truncated`]'s index if there is none. Entries behind it are gone.
    pub last: LogIndex,
    /// A snapshot that is being installed.
    pub intent: Option<SnapshotMeta>,
}
