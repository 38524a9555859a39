//! What a shard is told about its node and cluster.

use crate::system::Founder;
use crate::types::{ClusterId, NodeId, ShardId};

/// The settings of one shard. All shards of a node have the same but for `shard`.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its epoch: raised when it is recovered from a lost quorum.
    pub epoch: u64,
    /// This shard.
    pub shard: ShardId,
    /// How many the node has.
    pub shards: u32,
    /// How many groups hold buckets: ids 1..=groups. Group 0 is the system group.
    pub groups: u32,
    /// The members that the cluster was founded with, if this node is one of them: the configuration of a group without a
    /// state. A node that joined has none: it gets all its state from the others.
    pub founders: Vec<Founder>,
    /// Times.
    pub timing: Timing,
    /// The log.
    pub log: LogLimits,
    /// Messages between replicas.
    pub transfer: TransferLimits,
    /// Comparing replicas.
    pub scrub: ScrubLimits,
}

impl Config {
    /// What the log is told.
    pub fn log_config(&self) -> crate::log::LogConfig {
        crate::log::LogConfig {
            cluster: self.cluster,
            node: self.node,
            shards: self.shards,
            segment_bytes: self.log.segment_bytes,
        }
    }
}

/// Times, in milliseconds or in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Raft's unit.
    pub tick_ms: u64,
    /// Between heartbeats.
    pub heartbeat_ticks: usize,
    /// A follower that hears nothing for one to two times as long campaigns.
    pub election_ticks: usize,
    /// How long a request waits for a leader before it is answered `no_leader`.
    pub leader_wait_ms: u64,
    /// A read index that was not answered for so long is asked for again.
    pub read_retry_ms: u64,
    /// A snapshot's chunk that was not answered for so long ends the transfer, while there is a link.
    pub snapshot_ack_ms: u64,
    /// A transfer without a link ends after so long.
    pub snapshot_resume_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            tick_ms: 100,
            heartbeat_ticks: 1,
            election_ticks: 10,
            leader_wait_ms: 4_000,
            read_retry_ms: 300,
            snapshot_ack_ms: 10_000,
            snapshot_resume_ms: 60_000,
        }
    }
}

impl Timing {
    /// The shortest election timeout.
    pub fn election_ms(&self) -> u64 {
        self.tick_ms * self.election_ticks as u64
    }
}

/// How much one message brings. Smaller ones are slower, and show what happens between two of them.
#[derive(Clone, Copy, Debug)]
pub struct TransferLimits {
    /// The most payload of an append, in bytes, unless it is a single entry.
    pub append_bytes_max: u64,
    /// About the size of a snapshot's chunk, in bytes.
    pub chunk_bytes: usize,
    /// How fast a shard sends snapshots, all together, in bytes; 0: as fast as it can.
    pub bytes_per_second: u64,
}

impl Default for TransferLimits {
    fn default() -> TransferLimits {
        TransferLimits { append_bytes_max: 1 << 20, chunk_bytes: 256 << 10, bytes_per_second: 64 << 20 }
    }
}

/// How replicas are compared.
#[derive(Clone, Copy, Debug)]
pub struct ScrubLimits {
    /// From the beginning of a pass to that of the next one, in milliseconds; 0: never.
    pub every_ms: u64,
    /// About how much is compared at once, in bytes. One part a tick at most.
    pub part_bytes: u64,
}

impl Default for ScrubLimits {
    fn default() -> ScrubLimits {
        ScrubLimits { every_ms: 24 * 3_600_000, part_bytes: 256 << 10 }
    }
}

/// The log of a shard.
#[derive(Clone, Copy, Debug)]
pub struct LogLimits {
    /// The size of a segment file.
    pub segment_bytes: u64,
    /// Live segments beyond which the oldest is cleared: the store is synced and the log truncated. One more is always
    /// prepared, and a few may be waiting to be cleared under load.
    pub segments_kept: usize,
    /// So much of what members that are being brought up will want next is kept for them beyond that, in bytes of payload.
    pub held_bytes_max: u64,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits { segment_bytes: 16 << 20, segments_kept: 3, held_bytes_max: 48 << 20 }
    }
}
