//! The work that a shard gives to its storage thread, and what comes back. Jobs are done strictly in order.
//!
//! `worker::StorageWorker::run` does a job; io calls it on a thread, sim in a queue with delays.

mod chunk;
mod scans;
mod sending;
mod staging;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod worker;

use std::sync::Arc;

use bytes::Bytes;

pub(crate) use chunk::is_chunk_of;
pub use worker::StorageWorker;

use crate::error::Error;
use crate::machine::entry::Stamp;
use crate::machine::{Digest, FullBuckets};
use crate::request::{ReadOp, Reply};
use crate::store::StoreError;
use crate::system::Members;
use crate::types::{GroupId, LogIndex, NodeId, Term, Ticket};

/// A committed entry on its way to the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Committed {
    /// Its position.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Commands as `machine::entry` encodes them; empty for a leader's first entry and for configuration changes.
    pub commands: Bytes,
    /// Whether somebody waits for the replies here.
    pub wants_replies: bool,
    /// The configuration from here on, if this entry changed it, as `raft::membership` encodes it.
    pub configuration: Option<Bytes>,
}

/// What identifies a group's state: everything below `index` is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SnapshotMeta {
    /// The last applied entry.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The configuration at that point, as `raft::membership` encodes it.
    pub configuration: Bytes,
}

/// A transfer of a snapshot, as its receiver knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The sender.
    pub from: NodeId,
    /// The sender's name for the transfer: another one for each, also after a restart.
    pub transfer: u64,
    /// What the whole is.
    pub meta: SnapshotMeta,
}

/// How much of a snapshot is staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Which.
    pub origin: Origin,
    /// The number of the chunk that is to come next.
    pub next_chunk: u64,
    /// There is none: all of it is there.
    pub complete: bool,
}

/// What a group's state says of time, in milliseconds on the group's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AppliedClock {
    /// The highest stamp of an applied entry. What expires up to what the clock shows there is gone.
    pub stamp: Stamp,
    /// When the next key expires, or earlier. None: no key has a time to live.
    pub next_due_ms: Option<u64>,
}

/// A read and the ticket of its completion.
pub type TicketedRead = (Ticket, ReadOp);

/// Work for the storage thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StorageJob {
    /// Applies entries in order, as one batch with the applied index.
    Apply {
        /// Whose.
        group: GroupId,
        /// Contiguous, and behind all that were applied.
        entries: Vec<Committed>,
    },
    /// Reads from the present state. `now_ms` ages the views, `clock_ms` tells the time that entries have left.
    Read {
        /// Whose.
        group: GroupId,
        /// All answered together.
        reads: Vec<TicketedRead>,
        /// [`crate::Tick::mono_ms`] when the job was made.
        now_ms: u64,
        /// An estimate of the group's clock. Nothing expires by it.
        clock_ms: u64,
    },
    /// Makes everything before durable.
    Persist,
    /// Removes up to `limit` keys of dropped buckets, replaced generations and unfinished snapshots; and goes on counting what lies in
    /// buckets whose size is bounded.
    Purge {
        /// Whose.
        group: GroupId,
        /// At most so many keys.
        limit: usize,
    },
    /// Opens a view of the group for sending it as a snapshot.
    SnapshotOpen {
        /// Whose.
        group: GroupId,
        /// Names the view from here on.
        ticket: Ticket,
    },
    /// Reads the next chunk of an open snapshot.
    SnapshotRead {
        /// From `SnapshotOpen`.
        ticket: Ticket,
        /// About so many bytes.
        bytes_max: usize,
    },
    /// Forgets an open snapshot.
    SnapshotClose {
        /// From `SnapshotOpen`.
        ticket: Ticket,
    },
    /// Reads a part of a group's state, as it is right then, to be compared with the others'.
    Scrub {
        /// Whose.
        group: GroupId,
        /// What was applied before.
        index: LogIndex,
        /// Where the part begins: [`crate::machine::Machine::digest`].
        position: Bytes,
        /// About so many bytes.
        bytes_max: u64,
    },
    /// Writes one received chunk beside the present state, which goes on serving. Chunk 0 starts anew.
    SnapshotStage {
        /// Whose.
        group: GroupId,
        /// Kept with the chunk, for a restart.
        origin: Origin,
        /// Counts from 0.
        chunk: u64,
        /// As `SnapshotRead` made it.
        data: Bytes,
    },
    /// Forgets what was staged: nobody goes on with it.
    SnapshotForget {
        /// Whose.
        group: GroupId,
    },
    /// Makes what was staged the group's state, and durable.
    SnapshotInstall {
        /// Whose.
        group: GroupId,
        /// What it is.
        meta: SnapshotMeta,
    },
}

/// What became of a [`StorageJob`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StorageDone {
    /// Of `Apply`.
    Applied {
        /// Whose.
        group: GroupId,
        /// Everything up to here is applied.
        index: LogIndex,
        /// For each entry that wanted replies: one for each of its commands.
        replies: Vec<(LogIndex, Vec<Result<Reply, Error>>)>,
        /// There is something to purge, or to count.
        purge: bool,
        /// The buckets that have reached their bounds, if these are others than before.
        full: Option<Arc<FullBuckets>>,
        /// Where the group's clock is now, and what is due next.
        clock: AppliedClock,
        /// Who the members are now, if these entries changed it.
        members: Option<Arc<Members>>,
    },
    /// Of `Read`.
    Read {
        /// In the order of the job.
        results: Vec<(Ticket, Result<Reply, Error>)>,
        /// Views that are open, and scans that were refused one since the start.
        views: (u64, u64),
    },
    /// Of `Persist`: what each group of this shard had applied then.
    Persisted {
        /// In the order of groups.
        applied: Vec<(GroupId, LogIndex)>,
    },
    /// Of `Purge`.
    Purged {
        /// Whose.
        group: GroupId,
        /// There is more to do.
        more: bool,
        /// The buckets that have reached their bounds, if these are others than before.
        full: Option<Arc<FullBuckets>>,
    },
    /// Of `SnapshotOpen`.
    SnapshotOpened {
        /// Whose.
        group: GroupId,
        /// As given.
        ticket: Ticket,
        /// What the view holds.
        meta: SnapshotMeta,
    },
    /// Of `SnapshotRead`.
    SnapshotChunk {
        /// As given.
        ticket: Ticket,
        /// Opaque; for `SnapshotStage` on the other node, whichever engine it has.
        data: Bytes,
        /// This was the last.
        last: bool,
    },
    /// Of `SnapshotClose`: nothing to do.
    SnapshotClosed,
    /// Of `Scrub`.
    Scrubbed {
        /// Whose.
        group: GroupId,
        /// As given.
        index: LogIndex,
        /// What was read. None: something else is applied than was said, so that nothing was.
        digest: Option<Digest>,
    },
    /// Of `SnapshotStage`.
    SnapshotStaged {
        /// Whose.
        group: GroupId,
        /// As given.
        chunk: u64,
        /// None, or why the data was refused (damaged in flight, out of order).
        refused: Option<String>,
    },
    /// Of `SnapshotForget`: there may be something to purge.
    SnapshotForgotten {
        /// Whose.
        group: GroupId,
    },
    /// Of `SnapshotInstall`.
    SnapshotInstalled {
        /// Whose.
        group: GroupId,
        /// As given.
        meta: SnapshotMeta,
        /// Where the group's clock is now, and what is due next.
        clock: AppliedClock,
        /// Who the members are now, in the system group.
        members: Option<Arc<Members>>,
    },
    /// The store failed: the shard must stop.
    Failed(StoreError),
}
