//! Snapshots between the replicas of one group: one transfer to each peer that needs one, one chunk under way.
//!
//! The sender opens a view of its store, offers it to Raft, and when Raft announces the snapshot, sends the view's chunks
//! first and Raft's announcement last. The receiver stages the chunks beside its present state, which goes on serving;
//! with the announcement its Raft decides, and the shard installs.

use std::collections::BTreeMap;

use crate::mutation::{Mutation, is_on};
use crate::raft::Message;
use crate::storage::SnapshotMeta;
use crate::types::{NodeId, Ticket};

/// What is being sent.
#[derive(Default)]
pub(crate) struct Sending {
    transfers: BTreeMap<NodeId, Transfer>,
}

/// One peer's snapshot.
pub(crate) struct Transfer {
    /// Names the view, and the transfer on the wire.
    pub ticket: Ticket,
    /// Known once the view is open.
    pub meta: Option<SnapshotMeta>,
    /// Raft's message, kept back until all chunks have arrived.
    pub announcement: Option<Message>,
    /// The chunk that is being read or is under way.
    pub chunk: u64,
    /// It is the last one.
    pub last: bool,
    /// When something happened last, in ms.
    pub active_ms: u64,
}

impl Transfer {
    /// The view is open, and Raft has not announced it.
    pub fn is_only_offered(&self) -> bool {
        self.meta.is_some() && self.announcement.is_none()
    }
}

impl Sending {
    pub fn start(&mut self, peer: NodeId, ticket: Ticket, now_ms: u64) {
        let transfer = Transfer { ticket, meta: None, announcement: None, chunk: 0, last: false, active_ms: now_ms };
        self.transfers.insert(peer, transfer);
    }

    pub fn to(&mut self, peer: NodeId) -> Option<&mut Transfer> {
        self.transfers.get_mut(&peer)
    }

    pub fn by_ticket(&mut self, ticket: Ticket) -> Option<(NodeId, &mut Transfer)> {
        let found = self.transfers.iter_mut().find(|(_, transfer)| transfer.ticket == ticket);
        found.map(|(&peer, transfer)| (peer, transfer))
    }

    pub fn end(&mut self, peer: NodeId) -> Option<Transfer> {
        self.transfers.remove(&peer)
    }

    /// Peers whose transfer has not moved since `before_ms`.
    pub fn stuck(&self, before_ms: u64) -> Vec<NodeId> {
        let stuck = self.transfers.iter().filter(|(_, transfer)| transfer.active_ms < before_ms);
        stuck.map(|(&peer, _)| peer).collect()
    }

    pub fn peers(&self) -> Vec<NodeId> {
        self.transfers.keys().copied().collect()
    }
}

/// What is being received: at most one transfer a group, the latest.
#[derive(Default)]
pub(crate) struct Receiving {
    from: Option<(NodeId, u64)>,
    meta: SnapshotMeta,
    /// The chunk that is being staged, and whether it is the last.
    staging: Option<(u64, bool)>,
    next_chunk: u64,
    complete: bool,
}

/// What to do with a chunk that came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChunkVerdict {
    Stage,
    Refuse,
    /// It comes a second time: it is being staged, or was.
    Ignore,
}

impl Receiving {
    pub fn chunk(&mut self, from: NodeId, transfer: u64, meta: &SnapshotMeta, chunk: u64, last: bool) -> ChunkVerdict {
        let is_mixed = is_on(Mutation::TransfersMixed) && self.from.is_some_and(|(known, _)| known == from);
        if self.from != Some((from, transfer)) && !is_mixed {
            // Only one chunk is staged at a time, so that the stage's answer is never taken for another transfer's.
            if chunk != 0 || self.staging.is_some() {
                return ChunkVerdict::Refuse;
            }
            *self = Receiving { from: Some((from, transfer)), meta: meta.clone(), ..Default::default() };
        }
        if chunk < self.next_chunk || self.staging.is_some_and(|(staging, _)| staging == chunk) {
            return ChunkVerdict::Ignore;
        }
        if chunk != self.next_chunk || self.complete || self.meta != *meta {
            return ChunkVerdict::Refuse;
        }
        self.staging = Some((chunk, last));
        ChunkVerdict::Stage
    }

    /// The chunk was staged, or refused by the store. Says whom to answer: peer, transfer, chunk.
    pub fn staged(&mut self, chunk: u64, accepted: bool) -> Option<(NodeId, u64)> {
        let (staging, last) = self.staging.take()?;
        assert_eq!(staging, chunk, "chunks are staged one at a time");
        let answer_to = self.from;
        if accepted {
            self.next_chunk = chunk + 1;
            self.complete = last;
        } else {
            *self = Receiving::default();
        }
        answer_to
    }

    /// Whether all of this snapshot is staged.
    pub fn has(&self, meta: &SnapshotMeta) -> bool {
        self.complete && self.meta == *meta
    }

    /// What was staged is installed or of no use.
    pub fn clear(&mut self) {
        *self = Receiving::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogIndex, Term};

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta { index: LogIndex(index), term: Term(1), ..Default::default() }
    }

    #[test]
    fn chunks_are_taken_in_order_and_once() {
        let mut receiving = Receiving::default();
        let (peer, other) = (NodeId(2), NodeId(3));
        assert_eq!(receiving.chunk(peer, 7, &meta(5), 1, false), ChunkVerdict::Refuse, "the first is missing");
        assert_eq!(receiving.chunk(peer, 7, &meta(5), 0, false), ChunkVerdict::Stage);
        assert_eq!(receiving.chunk(peer, 7, &meta(5), 0, false), ChunkVerdict::Ignore);
        assert_eq!(receiving.chunk(other, 1, &meta(6), 0, true), ChunkVerdict::Refuse, "the stage is busy");
        assert_eq!(receiving.staged(0, true), Some((peer, 7)));
        assert_eq!(receiving.chunk(peer, 7, &meta(6), 1, true), ChunkVerdict::Refuse, "of another snapshot");
        assert_eq!(receiving.chunk(peer, 7, &meta(5), 1, true), ChunkVerdict::Stage);
        assert!(!receiving.has(&meta(5)));
        receiving.staged(1, true);
        assert!(receiving.has(&meta(5)) && !receiving.has(&meta(6)));
    }
}
