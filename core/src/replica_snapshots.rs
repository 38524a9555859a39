//! The steps of a snapshot's transfer, for both ends. See `snapshots` for the order of things.

use bytes::Bytes;

use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::raft::Message;
use crate::replica::{Replica, Turn};
use crate::snapshots::ChunkVerdict;
use crate::storage::{SnapshotMeta, StorageJob, is_chunk_of};
use crate::types::{NodeId, Ticket};
use crate::wire::Body;

impl Replica {
    /// Opens a view for each peer that Raft wants to send a snapshot to, and ends the transfers that do not move.
    pub(crate) fn open_snapshots(&mut self, turn: &mut Turn) {
        for peer in self.raft.take_wanted_snapshots() {
            // Who asked for a snapshot wants one of all that it has: this view was opened a moment too early.
            if self.sending.to(peer).is_some_and(|transfer| transfer.is_only_offered()) {
                self.raft.offer_snapshot(peer, None);
                if let Some(transfer) = self.sending.end(peer) {
                    turn.out.push(Output::Storage(StorageJob::SnapshotClose { ticket: transfer.ticket }));
                }
            }
            if self.sending.to(peer).is_none() {
                let ticket = turn.ticket();
                self.sending.start(peer, ticket, turn.now.mono_ms);
                turn.out.push(Output::Storage(StorageJob::SnapshotOpen { group: self.group, ticket }));
            }
        }
        let before_ms = turn.now.mono_ms.saturating_sub(turn.config.timing.snapshot_ack_ms);
        for peer in self.sending.stuck(before_ms) {
            self.abort_snapshot(peer, turn);
        }
    }

    /// The view is open: Raft may announce it.
    pub(crate) fn snapshot_opened(&mut self, ticket: Ticket, meta: SnapshotMeta, turn: &mut Turn) {
        match self.sending.by_ticket(ticket) {
            Some((peer, transfer)) => {
                transfer.active_ms = turn.now.mono_ms;
                let configuration = match is_on(Mutation::SnapshotConfigurationAhead) {
                    true => self.raft.configuration().encode(),
                    false => meta.configuration,
                };
                let meta = SnapshotMeta { configuration, ..meta };
                self.raft.offer_snapshot(peer, Some(&meta));
                turn.out.push(Output::Report(Event::SnapshotSending(self.group, peer, meta.index)));
                transfer.meta = Some(meta);
            }
            None => turn.out.push(Output::Storage(StorageJob::SnapshotClose { ticket })),
        }
    }

    /// Raft announces a snapshot: its chunks go first.
    pub(crate) fn announce_snapshot(&mut self, peer: NodeId, message: Message, turn: &mut Turn) {
        self.raft.offer_snapshot(peer, None);
        match self.sending.to(peer) {
            Some(transfer) if transfer.meta == message.snapshot_meta() && transfer.announcement.is_none() => {
                transfer.announcement = Some(message);
                transfer.active_ms = turn.now.mono_ms;
                let (ticket, bytes_max) = (transfer.ticket, turn.config.transfer.chunk_bytes);
                turn.out.push(Output::Storage(StorageJob::SnapshotRead { ticket, bytes_max }));
            }
            _ => self.abort_snapshot(peer, turn),
        }
    }

    /// A chunk was read from the view.
    pub(crate) fn snapshot_chunk(&mut self, ticket: Ticket, data: Bytes, last: bool, turn: &mut Turn) {
        let Some((peer, transfer)) = self.sending.by_ticket(ticket) else { return };
        let Some(meta) = transfer.meta.clone() else { return };
        (transfer.last, transfer.active_ms) = (last, turn.now.mono_ms);
        let chunk = transfer.chunk;
        self.post(peer, Body::SnapshotChunk { transfer: ticket.0, meta, chunk, last, data }, turn);
    }

    /// The peer has staged a chunk, or gives up.
    pub(crate) fn snapshot_ack(&mut self, peer: NodeId, ticket: Ticket, chunk: u64, accepted: bool, turn: &mut Turn) {
        let Some(transfer) = self.sending.to(peer) else { return };
        if transfer.ticket != ticket || transfer.chunk != chunk {
            return;
        }
        if !accepted {
            return self.abort_snapshot(peer, turn);
        }
        transfer.active_ms = turn.now.mono_ms;
        if !transfer.last {
            transfer.chunk += 1;
            let bytes_max = turn.config.transfer.chunk_bytes;
            return turn.out.push(Output::Storage(StorageJob::SnapshotRead { ticket, bytes_max }));
        }
        if let Some(transfer) = self.sending.end(peer) {
            if let Some(announcement) = transfer.announcement {
                self.post(peer, Body::Raft(announcement), turn);
            }
            self.raft.snapshot_sent(peer, true);
            turn.out.push(Output::Storage(StorageJob::SnapshotClose { ticket }));
        }
    }

    /// Ends the transfer to a peer. Raft will want another one if the peer still needs it.
    pub(crate) fn abort_snapshot(&mut self, peer: NodeId, turn: &mut Turn) {
        self.raft.offer_snapshot(peer, None);
        self.raft.snapshot_sent(peer, false);
        if let Some(transfer) = self.sending.end(peer) {
            turn.out.push(Output::Storage(StorageJob::SnapshotClose { ticket: transfer.ticket }));
        }
    }

    /// Ends all transfers.
    pub(crate) fn abort_snapshots(&mut self, turn: &mut Turn) {
        for peer in self.sending.peers() {
            self.abort_snapshot(peer, turn);
        }
    }

    /// A chunk came in from a leader.
    pub(crate) fn receive_chunk(
        &mut self,
        from: NodeId,
        (transfer, chunk, last): (u64, u64, bool),
        meta: &SnapshotMeta,
        data: Bytes,
        turn: &mut Turn,
    ) {
        // While one is installed, nothing may replace what is staged.
        if self.is_installing() || self.raft.is_leader() {
            return;
        }
        if turn.rooms.is_exhausted() {
            return self.post(from, Body::SnapshotAck { transfer, chunk, accepted: false }, turn);
        }
        if !is_chunk_of(data.clone(), self.group, meta, chunk, last) {
            return self.post(from, Body::SnapshotAck { transfer, chunk, accepted: false }, turn);
        }
        match self.receiving.chunk(from, transfer, meta, chunk, last) {
            ChunkVerdict::Ignore => {}
            ChunkVerdict::Refuse => self.post(from, Body::SnapshotAck { transfer, chunk, accepted: false }, turn),
            ChunkVerdict::Stage => {
                turn.out.push(Output::Storage(StorageJob::SnapshotStage { group: self.group, chunk, data }));
            }
        }
    }

    /// The store has staged a chunk, or refused it.
    pub(crate) fn staged(&mut self, chunk: u64, accepted: bool, turn: &mut Turn) {
        if let Some((from, transfer)) = self.receiving.staged(chunk, accepted) {
            self.post(from, Body::SnapshotAck { transfer, chunk, accepted }, turn);
        }
    }
}
