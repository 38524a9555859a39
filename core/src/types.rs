//! The small words of drey: ids, indexes, terms, time. Each is a type of its own, so that one is never taken for another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A member of the cluster. Never 0, never used twice.
    NodeId(u64)
);
number!(
    /// A Raft group. Group 0 is the system group; buckets live in 1..=groups.
    GroupId(u32)
);
number!(
    /// An executor thread of a node and all that it owns: 0..shards.
    ShardId(u32)
);
number!(
    /// A Raft term.
    Term(u64)
);
number!(
    /// The position of an entry in a group's Raft log; the first is 1.
    LogIndex(u64)
);
number!(
    /// A group's count of applied writes; a key's version is that of the write that made it. 0: no write.
    Version(u64)
);
number!(
    /// Names a caller's request until its reply, within one shard. Chosen by the caller below [`RequestId::OWN`], unique among the
    /// unanswered.
    RequestId(u64)
);
number!(
    /// Names an effect until its completion, within one shard.
    Ticket(u64)
);
number!(
    /// What a node drew at random when its data directory was made: another number is another disk.
    Incarnation(u64)
);

impl RequestId {
    /// From here on they are the shard's own: for what peers ask of it.
    pub const OWN: RequestId = RequestId(1 << 63);
}

/// Names an open view of a store (a scan in progress), within one shard of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId {
    /// Counts that node's views.
    pub number: u64,
    /// The peer that has it; none: this node.
    pub at: Option<NodeId>,
}

impl ViewId {
    /// A view of this node.
    pub fn here(number: u64) -> ViewId {
        ViewId { number, at: None }
    }
}

impl Version {
    /// Versions of an epoch are numbered within so many bits.
    const EPOCH_BITS: u32 = 40;

    /// Where versions go on when a cluster is recovered or restored from what may not be the last of it: past any that was ever
    /// handed out, known here or not, as long as fewer than 2^40 writes of a group are not known.
    pub fn of_next_epoch(self) -> Version {
        Version(((self.0 >> Self::EPOCH_BITS) + 2) << Self::EPOCH_BITS)
    }
}

/// The cluster's name for machines, fixed when it is bootstrapped. Shown as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The time as the caller of core tells it: core has no clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Milliseconds since an arbitrary start; never falls.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch, as this node's clock has it. May jump.
    pub wall_ms: u64,
}
