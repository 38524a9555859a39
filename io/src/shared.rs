//! What all executors of a node know, and none changes on its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use drey_core::limits::REQUESTS_PENDING_MAX;
use drey_core::request::{LimitStatus, ShardStatus};
use drey_core::wire::format::FORMAT;
use drey_core::wire::handshake::{Acquaintances, HandshakeError, Hello, Refusal};
use drey_core::wire::outbox::OUTBOX_BYTES_MAX;
use drey_core::{Incarnation, NodeId, ShardId};

use crate::identity::{self, Identity};
use crate::roster::Roster;
use crate::status::NodeStatus;

/// One node's common knowledge.
pub(crate) struct Shared {
    pub identity: Identity,
    /// The identity was decided at this start.
    pub is_new: bool,
    pub roster: Roster,
    pub shards: u32,
    pub data_dir: PathBuf,
    pub log_dir: PathBuf,
    pub started: Instant,
    pub met: Mutex<Acquaintances>,
    /// What peers run, as they said when they were linked to last.
    pub versions: Mutex<BTreeMap<NodeId, String>>,
    /// Shards that still need the log's earlier epochs.
    pub need_earlier_epochs: AtomicU32,
    /// Names links: grows over restarts, as long as they take longer than a millisecond each.
    pub next_link: AtomicU64,
    /// Why the node stops by itself. Every turn looks, without a lock.
    pub ending: OnceLock<Ending>,
    /// The most bytes that waited for a link when something was added to it last.
    pub link_bytes: AtomicU64,
    /// Messages to peers that were dropped because too much waited for their link.
    pub link_refused: AtomicU64,
    /// Requests that found an inbox or a mailbox full.
    pub inbox_refused: AtomicU64,
}

/// Why a node stops by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was told to leave its cluster, and every group has let it go.
    Left,
    /// It cannot go on.
    Failed(String),
    /// What is on its disks is not what it wrote.
    Damaged(String),
}

impl Shared {
    /// What this node says first to a peer.
    pub fn hello(&self, to: NodeId, shard: ShardId) -> Hello {
        Hello {
            format: FORMAT,
            cluster: self.identity.cluster(),
            epoch: self.identity.epoch,
            from: NodeId(self.identity.node),
            incarnation: Incarnation(self.identity.incarnation),
            to,
            shard: shard.0,
            shards: self.shards,
            link: self.next_link.fetch_add(1, Ordering::Relaxed),
            members: self.roster.changes(),
            refused: None,
        }
    }

    /// Judges a peer's first words. A peer that is met for the first time is remembered, on disk, before this returns.
    pub fn judge(&self, own: &Hello, peer: &Hello) -> Result<(), HandshakeError> {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let mut judged = met.clone();
        if judged.judge(own, self.roster.standing(peer.from), peer).inspect_err(|error| self.suspect(peer, error))? {
            identity::save_acquaintances(&self.data_dir, &judged)
                .map_err(|error| HandshakeError::Mismatch(format!("this node cannot remember its peers: {error}")))?;
            *met = judged;
        }
        Ok(())
    }

    /// A peer that is linked to now runs this.
    pub fn heard_version(&self, peer: NodeId, version: Option<String>) {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        match version {
            Some(version) => drop(versions.insert(peer, version)),
            None => drop(versions.remove(&peer)),
        }
    }

    /// Some refusals mean that this node must not run on.
    fn suspect(&self, peer: &Hello, error: &HandshakeError) {
        match error {
            HandshakeError::Refused(Refusal { reason, for_good: true }) => {
                let own = NodeId(self.identity.node);
                if self.roster.members().get(own).is_some_and(|own| own.leaving.is_some()) {
                    if self.ending.set(Ending::Left).is_ok() {
                        tracing::info!("this node has left its cluster");
                        // Without the note it is told so again at its next start.
                        if let Err(error) = self.identity.leave(&self.data_dir) {
                            tracing::warn!(%error, "cannot note that this node has left");
                        }
                    }
                } else {
                    self.end(Ending::Failed(format!("a member of its cluster says: {reason}")));
                }
            }
            // A node that founded a cluster of its own just now, and is known as another's member, was that before its disk was
            // lost.
            HandshakeError::Mismatch(_)
                if self.is_new && peer.cluster != self.identity.cluster() && self.identity.members.len() == 1 =>
            {
                self.end(Ending::Failed(format!(
                    "this new node was about to found a cluster of its own, but members of cluster {} know its address as that \
                     of their member {}: if its data directory was lost, remove that member there and start with an empty \
                     directory and --join",
                    peer.cluster, peer.to
                )));
            }
            _ => {}
        }
    }

    fn versions_of(&self, reachable: &[NodeId]) -> BTreeMap<NodeId, String> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = reachable.iter().filter_map(|id| versions.get_key_value(id));
        known.map(|(id, version)| (*id, version.clone())).collect()
    }

    /// Notes why the node stops; the first reason stays.
    pub fn end(&self, ending: Ending) {
        let _ = self.ending.set(ending);
    }

    pub fn status(&self, shards: Vec<ShardStatus>) -> NodeStatus {
        let mut reachable: Vec<NodeId> = shards.iter().flat_map(|shard| shard.reachable.iter().copied()).collect();
        reachable.sort_unstable();
        reachable.dedup();
        let members = self.roster.members();
        let leader_changes = shards.iter().map(|shard| shard.leader_changes).sum();
        let room = shards.iter().map(|shard| shard.room).max_by_key(|(_, level)| *level).unwrap_or_default();
        let mut limits = limits_of(&shards);
        limits.push(LimitStatus {
            name: "link_bytes",
            now: self.link_bytes.load(Ordering::Relaxed),
            max: OUTBOX_BYTES_MAX as u64,
            refused: self.link_refused.load(Ordering::Relaxed),
        });
        limits.push(LimitStatus {
            name: "inbox_requests",
            now: 0,
            max: REQUESTS_PENDING_MAX as u64,
            refused: self.inbox_refused.load(Ordering::Relaxed),
        });
        let mut groups: Vec<_> = shards
            .into_iter()
            .flat_map(|shard| shard.groups.into_iter().map(move |group| (shard.shard, group)))
            .collect();
        groups.sort_unstable_by_key(|(_, status)| status.group);
        let log_bytes = if self.log_dir.starts_with(&self.data_dir) { 0 } else { disk_bytes(&self.log_dir) };
        NodeStatus {
            node: NodeId(self.identity.node),
            name: self.identity.name.clone(),
            cluster: self.identity.cluster().to_string(),
            member_changes: members.changes(),
            members: members.iter().cloned().collect(),
            versions: self.versions_of(&reachable),
            reachable,
            groups,
            leader_changes,
            limits,
            epoch: self.identity.epoch,
            shards: self.shards,
            engine: self.identity.engine.to_string(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            disk_bytes: disk_bytes(&self.data_dir) + log_bytes,
            room,
            memory_bytes: memory_bytes(),
        }
    }
}

/// Of each limit the fullest shard's, and what all refused.
fn limits_of(shards: &[ShardStatus]) -> Vec<LimitStatus> {
    let mut limits: Vec<LimitStatus> = Vec::new();
    for limit in shards.iter().flat_map(|shard| &shard.limits) {
        match limits.iter_mut().find(|known| known.name == limit.name) {
            Some(known) => {
                known.now = known.now.max(limit.now);
                known.refused += limit.refused;
            }
            None => limits.push(*limit),
        }
    }
    limits
}

/// What a directory's files take on disk. A node has some tens of files.
fn disk_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// The process's resident memory.
fn memory_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()));
    pages.unwrap_or(0) * 4096
}
