//! What a node is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::{fmt, future::Future, pin::Pin};

use drey_core::config::{LogLimits, ScrubLimits, Timing, TransferLimits};
use serde::{Deserialize, Serialize};

use crate::identity::Member;
use crate::runtime::TcpStream;
use crate::shard_handle::ShardHandle;

/// What a node keeps free on its disks if nothing else is said, in bytes.
pub const MIN_FREE_DISK: u64 = 256 << 20;

/// The engine under the replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// An LSM tree on disk.
    #[default]
    Lsm,
    /// A B-tree in one file: reads are cheaper, writes dearer.
    Btree,
    /// In memory. After a restart it is filled from the log, as far as that goes back.
    Memory,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Lsm => "lsm",
            Engine::Btree => "btree",
            Engine::Memory => "memory",
        })
    }
}

/// Serves a connection that is no peer's, on the executor that calls it.
pub type ConnectionHandler = Arc<dyn Fn(Rc<ShardHandle>, TcpStream) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// A founding member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingMember {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where its peers reach it: `host:port`.
    pub address: String,
}

/// What a cluster told a node that joins it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// The cluster's epoch.
    pub epoch: u64,
    /// How many groups hold buckets.
    pub groups: u32,
    /// The id that this node got.
    pub node: u64,
    /// All members, this one too.
    pub members: Vec<Member>,
    /// It was another member before, whose files were damaged: settings that were given to found that one are no contradiction.
    pub repaired: bool,
}

/// A node's settings. What a data directory is made with stays: later, a setting that says otherwise is refused, and none
/// means what it was made with.
#[derive(Clone)]
pub struct Config {
    /// Its name; for a new node, none is `n1`.
    pub name: Option<String>,
    /// Where it listens. Port 0 has the system choose one.
    pub listen: SocketAddr,
    /// Where others reach it, if not where it listens.
    pub advertise: Option<String>,
    /// Its directory: identity, lock, store.
    pub data_dir: PathBuf,
    /// The log's directory, if it is not `log` in the data directory.
    pub log_dir: Option<PathBuf>,
    /// The engine; for a new node, none is the default.
    pub engine: Option<Engine>,
    /// How many executors; none: one below four cores, else one per core less one for storage.
    pub shards: Option<u32>,
    /// How many groups buckets are spread over; for a new cluster, none is 16.
    pub groups: Option<u32>,
    /// All members of a new cluster, this one among them; empty: a cluster of one.
    pub initial_members: Vec<FoundingMember>,
    /// For an empty directory: the cluster that this node has joined, under the incarnation that [`crate::look_into`] drew.
    /// `Node::join` (feature `join`) asks for it.
    pub joined: Option<Joined>,
    /// The most connections.
    pub connections_max: usize,
    /// Raft's times.
    pub timing: Timing,
    /// The log's size. What it keeps for others is shared by the shards.
    pub log: LogLimits,
    /// How fast this node sends snapshots to others, all together, in bytes a second, 1 MiB at least: slower ones are given up by who
    /// receives them. 0: as fast as it can.
    pub snapshot_rate: u64,
    /// How replicas are compared. What this node leads is, by its settings.
    pub scrub: ScrubLimits,
    /// What is kept free on the disks, in bytes: with less, others lead, and what needs room is refused where no majority has it. 0: no
    /// bound.
    pub min_free_disk: u64,
    /// What serves clients.
    pub on_connection: Option<ConnectionHandler>,
}

impl Config {
    /// A node that stands alone, in this directory, on a port that the system chooses.
    pub fn new(data_dir: impl Into<PathBuf>) -> Config {
        Config {
            name: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            data_dir: data_dir.into(),
            log_dir: None,
            engine: None,
            shards: None,
            groups: None,
            initial_members: Vec::new(),
            joined: None,
            connections_max: 4_096,
            timing: Timing::default(),
            log: LogLimits::default(),
            snapshot_rate: TransferLimits::default().bytes_per_second,
            scrub: ScrubLimits::default(),
            min_free_disk: MIN_FREE_DISK,
            on_connection: None,
        }
    }

    /// The number of executors to start.
    pub(crate) fn shard_count(&self) -> u32 {
        self.shards.unwrap_or_else(|| {
            let cores = crate::cpus::allowed().map_or(1, |cpus| cpus.len()) as u32;
            if cores < 4 { 1 } else { cores - 1 }
        })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("listen", &self.listen)
            .field("data_dir", &self.data_dir)
            .field("engine", &self.engine)
            .field("initial_members", &self.initial_members)
            .finish_non_exhaustive()
    }
}
