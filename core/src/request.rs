//! What a caller can ask of a shard, and what it answers. Every protocol (gRPC now, others later) maps to these.

use std::sync::Arc;

use bytes::Bytes;

use crate::name::{BucketName, Key, KeyRange};
use crate::placement::{SYSTEM_GROUP, group_of};
use crate::room::{Room, RoomLevel};
use crate::system::{Members, SystemWrite};
use crate::types::{GroupId, LogIndex, NodeId, ShardId, Term, Version, ViewId};

/// A request with its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// When to answer `deadline_exceeded` if nothing else was answered, on [`crate::Tick::mono_ms`]'s clock.
    pub deadline_ms: u64,
    /// What to do.
    pub operation: Operation,
}

/// What to do. The caller sends it to the shard that [`crate::placement`] names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Goes through the log of the bucket's group.
    Write(Command),
    /// Reads the store of this node; or the leader's, where this node's is behind or wrong and the read is linearizable.
    Read(GroupId, ReadMode, ReadOp),
    /// Has the leader of a group hand its leadership to this member, which must vote and be up to date. Best effort: whether it
    /// came to that, a status tells. Answers [`Reply::Done`].
    Transfer(GroupId, NodeId),
    /// This shard's view of its groups. Never waits.
    Status,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// Sees every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// This node's copy, possibly stale.
    Local,
}

/// A write: what travels in the log. See `machine::command` for its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// The bucket that it is about.
    pub bucket: BucketName,
    /// With an id the write may be retried: the same (session, sequence) is applied once, and answered alike.
    pub id: Option<WriteId>,
    /// What to do.
    pub write: Write,
}

impl Operation {
    /// The group whose shard has it, of `groups`; none: any shard will do.
    pub fn group(&self, groups: u32) -> Option<GroupId> {
        match self {
            Operation::Write(command) => Some(command.group(groups)),
            Operation::Read(group, ..) | Operation::Transfer(group, _) => Some(*group),
            Operation::Status => None,
        }
    }
}

impl Command {
    /// The group that it goes to, of `groups`.
    pub fn group(&self, groups: u32) -> GroupId {
        match self.write {
            Write::System(_) => SYSTEM_GROUP,
            _ => group_of(&self.bucket, groups),
        }
    }

    /// A write to the system group.
    pub fn system(write: SystemWrite) -> Command {
        Command { bucket: BucketName::DEFAULT, id: None, write: Write::System(write) }
    }
}

/// A write's name within a client's session, which [`Write::OpenSession`] opened in the bucket's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WriteId {
    /// The version that opened the session.
    pub session: u64,
    /// Starts at 1, grows by 1.
    pub sequence: u64,
    /// All answers below may be forgotten.
    pub first_unacked: u64,
}

/// The kinds of writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// Makes a bucket. Answers [`Reply::Created`].
    CreateBucket {
        /// What a put without a time to live gets, and a key that an increment or an append makes; as in [`Write::Put`].
        default_ttl_ms: Option<u64>,
        /// A bound on keys and values together.
        max_bytes: Option<u64>,
        /// An existing bucket is an answer, not an error.
        if_not_exists: bool,
        /// The wall clock of the node that took the request: for people only, nothing is decided by it.
        created_ms: u64,
    },
    /// Removes a bucket with all in it. Answers [`Reply::Dropped`].
    DropBucket {
        /// Only the bucket that was made by this version.
        created_version: Option<Version>,
    },
    /// Sets a key. Answers [`Reply::Put`].
    Put {
        /// The key.
        key: Key,
        /// Its value, empty allowed.
        value: Bytes,
        /// Time to live, 1 to [`crate::limits::TTL_MS_MAX`]: so long after the write, on the group's clock, the key is gone.
        /// None: the bucket's default, if it has one; else the key stays.
        ttl_ms: Option<u64>,
        /// Nothing is written unless it holds.
        condition: Option<Condition>,
        /// Answer with the entry as it was before.
        return_previous: bool,
    },
    /// Removes a key. Answers [`Reply::Delete`].
    Delete {
        /// The key.
        key: Key,
        /// Nothing is removed unless it holds.
        condition: Option<Condition>,
        /// Answer with the entry as it was before.
        return_previous: bool,
    },
    /// Sets the time to live of a key that exists, anew from now on, and leaves its value. Answers [`Reply::Expire`].
    Expire {
        /// The key.
        key: Key,
        /// As in [`Write::Put`]; none: the key stays, whatever the bucket's default is.
        ttl_ms: Option<u64>,
    },
    /// Compares, then does one of two lists of operations, all or nothing, under one version. Answers [`Reply::Txn`].
    Txn {
        /// All must hold for `success`.
        compare: Vec<(Key, Condition)>,
        /// What is done if they do.
        success: Vec<BatchOp>,
        /// What is done if not.
        failure: Vec<BatchOp>,
    },
    /// Opens a session in the bucket's group, whether the bucket exists or not. Answers [`Reply::SessionOpened`].
    OpenSession,
    /// Operations in order, all or nothing, under one version. Answers [`Reply::Batch`].
    Batch {
        /// At most [`crate::limits::BATCH_OPS_MAX`].
        ops: Vec<BatchOp>,
    },
    /// Changes who the members are. Goes to the system group, whatever the bucket.
    System(SystemWrite),
}

/// One step of a batch. It sees what the steps before it did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BatchOp {
    /// Sets a key.
    Put {
        /// The key.
        key: Key,
        /// Its value.
        value: Bytes,
        /// Time to live, as in [`Write::Put`].
        ttl_ms: Option<u64>,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Key,
    },
    /// Reads a key.
    Get {
        /// The key.
        key: Key,
    },
    /// Adds to a value that is a decimal number, or is not there, which counts as 0. Its result has the entry that it made. A key
    /// that is there keeps its time to live.
    Increment {
        /// The key.
        key: Key,
        /// What to add.
        by: i64,
    },
    /// Adds bytes behind a value, or makes one. A key that is there keeps its time to live.
    Append {
        /// The key.
        key: Key,
        /// The bytes.
        value: Bytes,
    },
}

/// What must hold for a write to be applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The key's version; 0: it does not exist.
    VersionIs(Version),
    /// The key exists with this value.
    ValueIs(Bytes),
    /// Whether the key exists.
    Exists(bool),
}

/// The kinds of reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReadOp {
    /// One key. Answers [`Reply::Entry`].
    Get {
        /// The bucket.
        bucket: BucketName,
        /// The key.
        key: Key,
    },
    /// Several keys in one view. Answers [`Reply::Entries`].
    GetMany {
        /// The bucket.
        bucket: BucketName,
        /// The keys, at most [`crate::limits::GET_MANY_KEYS_MAX`].
        keys: Vec<Key>,
    },
    /// Opens a view and answers its first page, [`Reply::Page`].
    Scan {
        /// The bucket.
        bucket: BucketName,
        /// Which keys.
        range: KeyRange,
        /// At most so many entries in all pages; 0: no limit.
        limit: u64,
        /// From the last key to the first.
        reverse: bool,
        /// Leave the values empty.
        keys_only: bool,
    },
    /// The next page of a view, [`Reply::Page`]. Always [`ReadMode::Local`]: the view decides what is seen.
    ScanNext {
        /// From the page before.
        view: ViewId,
    },
    /// Ends a scan early. Answers [`Reply::Done`].
    ScanEnd {
        /// From the page before.
        view: ViewId,
    },
    /// The group's buckets whose names begin with `prefix`. Answers [`Reply::Buckets`].
    ListBuckets {
        /// A part of a name, or empty.
        prefix: String,
    },
    /// One bucket. Answers [`Reply::Buckets`] with one.
    DescribeBucket {
        /// Its name.
        bucket: BucketName,
    },
    /// The members, from the system group. Answers [`Reply::Members`].
    Members,
}

/// The answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// To [`Write::Put`].
    Put {
        /// False: the condition did not hold.
        applied: bool,
        /// The write's version; when not applied, the version of the existing entry, or 0.
        version: Version,
        /// The entry before, if asked for and there was one.
        previous: Option<Entry>,
    },
    /// To [`Write::Delete`].
    Delete {
        /// False: the condition did not hold.
        applied: bool,
        /// Whether there was such a key.
        existed: bool,
        /// The group's version after the write.
        version: Version,
        /// The entry before, if asked for and there was one.
        previous: Option<Entry>,
    },
    /// To [`Write::Batch`].
    Batch {
        /// The batch's one version.
        version: Version,
        /// One for each operation.
        results: Vec<OpResult>,
    },
    /// To [`Write::Txn`].
    Txn {
        /// Whether all that was compared held.
        succeeded: bool,
        /// The group's version after it.
        version: Version,
        /// One for each operation that was done.
        results: Vec<OpResult>,
    },
    /// To [`Write::Expire`].
    Expire {
        /// Whether there was such a key.
        existed: bool,
        /// The group's version after the write: that of the key, if it existed.
        version: Version,
    },
    /// To [`Write::CreateBucket`].
    Created {
        /// The bucket, new or not.
        bucket: BucketInfo,
        /// Whether it is new.
        created: bool,
    },
    /// To [`Write::DropBucket`].
    Dropped {
        /// Whether there was such a bucket.
        existed: bool,
    },
    /// To [`Write::OpenSession`].
    SessionOpened {
        /// Its id: the version that opened it.
        session: u64,
    },
    /// To [`Write::System`] and [`ReadOp::Members`].
    Members {
        /// The member that the write was about; 0 for a read.
        id: NodeId,
        /// All of them, thereafter.
        members: Arc<Members>,
    },
    /// To [`ReadOp::Get`].
    Entry(Option<Entry>),
    /// To [`ReadOp::GetMany`], in the order asked.
    Entries(Vec<Option<Entry>>),
    /// To [`ReadOp::Scan`] and [`ReadOp::ScanNext`].
    Page(Page),
    /// To [`ReadOp::ListBuckets`] and [`ReadOp::DescribeBucket`].
    Buckets(Vec<BucketInfo>),
    /// To [`Operation::Status`].
    Status(ShardStatus),
    /// To [`ReadOp::ScanEnd`] and [`Operation::Transfer`].
    Done,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value; empty when only keys were asked for.
    pub value: Bytes,
    /// Of the write that made it.
    pub version: Version,
    /// Time left, when the key expires: at least 1. In the answer to a write it is exact; in the answer to a read it is told by
    /// this node's estimate of the group's clock.
    pub ttl_ms: Option<u64>,
}

/// What one step of a batch did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpResult {
    /// How many keys it wrote or removed.
    pub affected: u64,
    /// What a get found.
    pub entry: Option<Entry>,
}

/// A part of a scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// In the scan's order.
    pub entries: Vec<Entry>,
    /// The group's version in this view.
    pub version: Version,
    /// Where to go on; none: this was the last page and the view is closed.
    pub next: Option<ViewId>,
    /// On the last page: the limit cut the scan, there are more keys.
    pub more: bool,
}

/// A bucket as it is described.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BucketInfo {
    /// Its name.
    pub name: BucketName,
    /// Its group.
    pub group: GroupId,
    /// Keys: exact for small buckets, a floor for others.
    pub keys_estimate: u64,
    /// Bytes of the keys and values that `keys_estimate` counted.
    pub bytes_estimate: u64,
    /// As given at creation.
    pub default_ttl_ms: Option<u64>,
    /// As given at creation.
    pub max_bytes: Option<u64>,
    /// As given at creation.
    pub created_ms: u64,
    /// The version of the write that made it.
    pub created_version: Version,
}

/// A shard as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShardStatus {
    /// Which.
    pub shard: ShardId,
    /// Its groups, in order.
    pub groups: Vec<GroupStatus>,
    /// The peers that can be reached now.
    pub reachable: Vec<NodeId>,
    /// How often a group got another leader, since the start.
    pub leader_changes: u64,
    /// What is bounded.
    pub limits: Vec<LimitStatus>,
    /// What the node's disks have left, and what that means.
    pub room: (Room, RoomLevel),
}

/// A bound, how far it is used, and how often something was refused for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LimitStatus {
    /// Its name.
    pub name: &'static str,
    /// How much there is now; of the fullest, where there are several of a kind.
    pub now: u64,
    /// How much there may be.
    pub max: u64,
    /// How often something was refused, or put off, since the start.
    pub refused: u64,
}

/// A replica as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupStatus {
    /// Which.
    pub group: GroupId,
    /// The leader, if known.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: Term,
    /// Known to be committed.
    pub committed: LogIndex,
    /// Applied to this node's store.
    pub applied: LogIndex,
    /// The voters: while the configuration changes, those who vote in both the former and the next one.
    pub voters: Vec<NodeId>,
    /// The learners.
    pub learners: Vec<NodeId>,
    /// How far each member's log matches; known to the leader alone.
    pub matched: Vec<(NodeId, LogIndex)>,
    /// How far its replicas are compared; known to the leader alone.
    pub scrub: Option<ScrubStatus>,
}

/// How far a leader has come with comparing what its group's replicas hold, since it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScrubStatus {
    /// Whole passes through the state.
    pub passes: u64,
    /// A pass is under way.
    pub is_under_way: bool,
    /// Bytes that were read in this pass, or in the last one if none is under way.
    pub bytes: u64,
    /// Bytes that were read in the last whole pass: about as many as in this one.
    pub bytes_before: u64,
    /// Since the end of the last whole pass, in milliseconds.
    pub ended_ms_ago: Option<u64>,
    /// Parts in which replicas differed.
    pub differences: u64,
    /// Replicas that did not answer in this pass, or in the last one, and were left out from then on.
    pub unanswered: u64,
}
