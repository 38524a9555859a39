//! Snapshots between the replicas of one group: one transfer to each peer that needs one, one chunk under way.
//!
//! The sender opens a view of its store, offers it to Raft, and when Raft announces the snapshot, sends the view's chunks
//! first and Raft's announcement last. The receiver stages the chunks beside its present state, which goes on serving;
//! with the announcement its Raft decides, and the shard installs.
//!
//! A transfer outlives its link: the sender keeps the view and the chunk under way for a while, and sends that chunk again on the
//! next link. The receiver knows from its store how far it is, so that it may even have been restarted meanwhile.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::mutation::{Mutation, is_on};
use crate::raft::Message;
use crate::storage::{Origin, SnapshotMeta, Staged};
use crate::types::{LogIndex, NodeId, Ticket};

/// What is being sent.
#[derive(Default)]
pub(crate) struct Sending {
    transfers: BTreeMap<NodeId, Transfer>,
    /// When Raft asked for a snapshot last, for whom; in ms.
    wanted: BTreeMap<NodeId, u64>,
}

/// One peer's snapshot.
pub(crate) struct Transfer {
    /// Names the view.
    pub ticket: Ticket,
    /// Known once the view is open.
    pub meta: Option<SnapshotMeta>,
    /// Raft's message, kept back until all chunks have arrived.
    pub announcement: Option<Message>,
    /// The number of the chunk that is to be read, is being read or is under way.
    pub chunk: u64,
    pub step: Step,
    /// Whether there is a link to the peer.
    pub linked: bool,
    /// When something happened last, in ms.
    pub active_ms: u64,
    /// Since when it has to let another go first, in ms.
    pub waits_ms: Option<u64>,
    /// When it began, and the bytes of the chunks that arrived.
    pub begun_ms: u64,
    pub bytes: u64,
}

/// How far a chunk is.
#[derive(PartialEq, Eq)]
pub(crate) enum Step {
    /// It is to be read, when it is allowed.
    Due,
    /// It is being read; or nothing was announced yet.
    Reading,
    /// It is under way. Kept, to be sent again on another link; and whether it is the last.
    Sent(Bytes, bool),
    /// All chunks have arrived, and Raft's announcement is under way. The view is closed; the log waits for the peer.
    Announced,
}

impl Transfer {
    /// The peer has all of it, and has not said that it holds it.
    pub fn is_announced(&self) -> bool {
        self.step == Step::Announced
    }

    /// The view is open, and Raft has not announced it.
    pub fn is_only_offered(&self) -> bool {
        self.meta.is_some() && self.announcement.is_none()
    }
}

impl Sending {
    pub fn start(&mut self, peer: NodeId, ticket: Ticket, now_ms: u64) {
        let transfer = Transfer {
            ticket,
            meta: None,
            announcement: None,
            chunk: 0,
            step: Step::Reading,
            linked: true,
            active_ms: now_ms,
            waits_ms: None,
            begun_ms: now_ms,
            bytes: 0,
        };
        self.transfers.insert(peer, transfer);
    }

    /// Raft would send the peer a snapshot. It says so again with each heartbeat, as long as it does.
    pub fn want(&mut self, peer: NodeId, now_ms: u64) {
        self.wanted.insert(peer, now_ms);
    }

    /// The peers that want a snapshot and get none, if Raft asked for it after `since_ms`.
    pub fn wanted_since(&mut self, since_ms: u64) -> Vec<NodeId> {
        let transfers = &self.transfers;
        let is_under_way = |peer: &NodeId| transfers.get(peer).is_some_and(|transfer| !transfer.is_announced());
        self.wanted.retain(|peer, asked_ms| *asked_ms >= since_ms && !is_under_way(peer));
        self.wanted.keys().copied().collect()
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

    /// Peers whose transfer has not moved since then: since one time if it was offered and Raft did not take it up, since another
    /// while there is no link, and since a third otherwise; all in ms.
    pub fn stuck(&self, offered_ms: u64, unlinked_ms: u64, otherwise_ms: u64) -> Vec<NodeId> {
        let since = |transfer: &Transfer| match transfer {
            transfer if transfer.is_only_offered() => offered_ms,
            Transfer { step: Step::Announced, .. } => unlinked_ms,
            Transfer { linked: false, .. } => unlinked_ms,
            _ => otherwise_ms,
        };
        let stuck = self.transfers.iter().filter(|(_, transfer)| transfer.active_ms < since(transfer));
        stuck.map(|(&peer, _)| peer).collect()
    }

    /// Peers whose next chunk is to be read.
    pub fn due(&self) -> Vec<NodeId> {
        let due = self.transfers.iter().filter(|(_, transfer)| transfer.linked && transfer.step == Step::Due);
        due.map(|(&peer, _)| peer).collect()
    }

    /// Peers of whose transfers this holds, of those whose views are open or were.
    pub fn peers_with(&self, holds: impl Fn(NodeId, &Transfer, LogIndex) -> bool) -> Vec<NodeId> {
        let index = |transfer: &Transfer| transfer.meta.as_ref().map(|meta| meta.index);
        let found = self
            .transfers
            .iter()
            .filter(|(peer, transfer)| index(transfer).is_some_and(|index| holds(**peer, transfer, index)));
        found.map(|(&peer, _)| peer).collect()
    }

    /// The first entry that some receiver will want when it has its snapshot.
    pub fn oldest(&self) -> Option<LogIndex> {
        self.transfers.values().filter_map(|transfer| Some(transfer.meta.as_ref()?.index)).min()
    }

    pub fn peers(&self) -> Vec<NodeId> {
        self.transfers.keys().copied().collect()
    }
}

/// What is being received: at most one transfer a group, the latest.
#[derive(Default)]
pub(crate) struct Receiving {
    origin: Option<Origin>,
    /// The chunk that is being staged, and whether it is the last.
    staging: Option<(u64, bool)>,
    next_chunk: u64,
    complete: bool,
    /// When something happened last, in ms.
    active_ms: u64,
}

/// What to do with a chunk that came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChunkVerdict {
    Stage,
    Refuse,
    /// It comes a second time, on another link: it was staged.
    Staged,
    /// It comes a second time, and is being staged.
    Ignore,
}

impl Receiving {
    /// Goes on where the store is.
    pub fn resumed(staged: Staged, now_ms: u64) -> Receiving {
        let Staged { origin, next_chunk, complete } = staged;
        Receiving { origin: Some(origin), staging: None, next_chunk, complete, active_ms: now_ms }
    }

    pub fn chunk(&mut self, origin: &Origin, chunk: u64, last: bool, now_ms: u64) -> ChunkVerdict {
        let is_mixed =
            is_on(Mutation::TransfersMixed) && self.origin.as_ref().is_some_and(|known| known.from == origin.from);
        if self.origin.as_ref() != Some(origin) && !is_mixed {
            // Only one chunk is staged at a time, so that the stage's answer is never taken for another transfer's.
            if chunk != 0 || self.staging.is_some() {
                return ChunkVerdict::Refuse;
            }
            *self = Receiving { origin: Some(origin.clone()), ..Default::default() };
        }
        if self.staging.is_some_and(|(staging, _)| staging == chunk) {
            return ChunkVerdict::Ignore;
        }
        if chunk < self.next_chunk {
            return ChunkVerdict::Staged;
        }
        let is_of_another = self.origin.as_ref().is_some_and(|known| known.meta != origin.meta);
        if chunk != self.next_chunk || self.complete || self.staging.is_some() || is_of_another {
            return ChunkVerdict::Refuse;
        }
        self.staging = Some((chunk, last));
        self.active_ms = now_ms;
        ChunkVerdict::Stage
    }

    /// The chunk was staged, or refused by the store. Says where it came from.
    pub fn staged(&mut self, chunk: u64, accepted: bool) -> Option<Origin> {
        let (staging, last) = self.staging.take()?;
        assert_eq!(staging, chunk, "chunks are staged one at a time");
        let answer_to = self.origin.clone();
        if accepted {
            self.next_chunk = chunk + 1;
            self.complete = last;
        } else {
            *self = Receiving::default();
        }
        answer_to
    }

    /// The transfer that comes from this peer, and its last chunk that was staged: the answer may have been lost.
    pub fn last_of(&self, peer: NodeId) -> Option<(u64, u64)> {
        let origin = self.origin.as_ref().filter(|origin| origin.from == peer)?;
        Some((origin.transfer, self.next_chunk.checked_sub(1)?))
    }

    /// Whether all of this snapshot is staged.
    pub fn has(&self, meta: &SnapshotMeta) -> bool {
        self.complete && self.origin.as_ref().is_some_and(|origin| origin.meta == *meta)
    }

    /// Whether there is a part of a snapshot of which nothing has come since `before_ms`.
    pub fn is_given_up(&self, before_ms: u64) -> bool {
        self.origin.is_some() && self.staging.is_none() && self.active_ms < before_ms
    }

    /// What was staged is installed or of no use.
    pub fn clear(&mut self) {
        *self = Receiving::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    fn origin(from: u64, transfer: u64, index: u64) -> Origin {
        let meta = SnapshotMeta { index: LogIndex(index), term: Term(1), ..Default::default() };
        Origin { from: NodeId(from), transfer, meta }
    }

    #[test]
    fn chunks_are_taken_in_order_and_once() {
        let mut receiving = Receiving::default();
        let (first, other) = (origin(2, 7, 5), origin(3, 1, 6));
        assert_eq!(receiving.chunk(&first, 1, false, 0), ChunkVerdict::Refuse, "the first is missing");
        assert_eq!(receiving.chunk(&first, 0, false, 0), ChunkVerdict::Stage);
        assert_eq!(receiving.chunk(&first, 0, false, 0), ChunkVerdict::Ignore);
        assert_eq!(receiving.last_of(NodeId(2)), None, "it is not staged yet");
        assert_eq!(receiving.chunk(&first, 1, false, 0), ChunkVerdict::Refuse, "one at a time");
        assert_eq!(receiving.chunk(&other, 0, true, 0), ChunkVerdict::Refuse, "the stage is busy");
        assert_eq!(receiving.staged(0, true), Some(first.clone()));
        assert_eq!(receiving.chunk(&first, 0, false, 0), ChunkVerdict::Staged, "its answer was lost");
        assert_eq!((receiving.last_of(NodeId(2)), receiving.last_of(NodeId(3))), (Some((7, 0)), None));
        assert_eq!(receiving.chunk(&origin(2, 7, 6), 1, true, 0), ChunkVerdict::Refuse, "of another snapshot");
        assert_eq!(receiving.chunk(&first, 1, true, 0), ChunkVerdict::Stage);
        assert!(!receiving.has(&first.meta));
        receiving.staged(1, true);
        assert!(receiving.has(&first.meta) && !receiving.has(&other.meta));
        assert_eq!(receiving.chunk(&first, 1, true, 0), ChunkVerdict::Staged);
        assert_eq!(receiving.chunk(&first, 2, true, 0), ChunkVerdict::Refuse, "it was complete");
    }

    #[test]
    fn a_restarted_receiver_goes_on_where_its_store_is() {
        let staged = |complete| Staged { origin: origin(2, 7, 5), next_chunk: 3, complete };
        let mut receiving = Receiving::resumed(staged(false), 1000);
        assert_eq!(receiving.chunk(&origin(2, 8, 5), 3, false, 1000), ChunkVerdict::Refuse, "of another transfer");
        assert_eq!(
            receiving.chunk(&origin(2, 7, 5), 4, false, 1000),
            ChunkVerdict::Refuse,
            "chunk 3 was lost with the power"
        );
        assert_eq!(receiving.chunk(&origin(2, 7, 5), 2, false, 1000), ChunkVerdict::Staged);
        assert!(receiving.is_given_up(1001) && !receiving.is_given_up(1000));
        assert_eq!(receiving.chunk(&origin(2, 7, 5), 3, true, 2000), ChunkVerdict::Stage);
        assert!(!receiving.is_given_up(5000), "while it is being staged");
        receiving.staged(3, true);
        assert!(receiving.has(&origin(2, 7, 5).meta) && receiving.is_given_up(2001));
        assert!(Receiving::resumed(staged(true), 0).has(&origin(2, 7, 5).meta));
    }
}
