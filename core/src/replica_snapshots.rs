//! The steps of a snapshot's transfer, for both ends. See `snapshots` for the order of things.

use bytes::Bytes;

use crate::mutation::{Mutation, is_on};
use crate::output::{Event, Output};
use crate::raft::Message;
use crate::replica::{Replica, Turn};
use crate::snapshots::{ChunkVerdict, Step, Transfer};
use crate::storage::{Origin, SnapshotMeta, StorageJob, is_chunk_of};
use crate::types::{LogIndex, NodeId, Ticket};
use crate::wire::Body;

impl Replica {
    /// Opens views for the peers that Raft wants to send a snapshot to, reads what may be read, and ends what does not move.
    pub(crate) fn go_on_with_snapshots(&mut self, turn: &mut Turn) {
        let timing = &turn.config.timing;
        let now_ms = turn.now.mono_ms;
        let ago = |ms: u64| now_ms.saturating_sub(ms);
        // In this time Raft asks again for what it needs.
        let asked_ms = 3 * timing.tick_ms * timing.heartbeat_ticks as u64;
        for peer in self.raft.take_wanted_snapshots() {
            match self.sending.to(peer).is_some_and(|transfer| transfer.is_only_offered()) {
                // Who asked for a snapshot wants one of all that it has: this view was opened a moment too early.
                true => {
                    self.close_view(peer, turn);
                    self.open_snapshot(peer, turn);
                }
                false => self.sending.want(peer, now_ms),
            }
        }
        let truncated = self.raft.truncated().0;
        for peer in self.sending.peers_with(|_, transfer, index| index < truncated && !transfer.is_only_offered()) {
            // What comes behind it is gone already: it would need another.
            self.abort_snapshot(peer, turn);
        }
        let raft = &self.raft;
        let has_it = |peer, transfer: &Transfer, index| transfer.is_announced() && raft.matched_by(peer) >= index;
        for peer in self.sending.peers_with(has_it) {
            self.sending.end(peer);
        }
        for peer in self.sending.wanted_since(ago(asked_ms)) {
            if turn.transfers.begin(peer, self.group, now_ms, asked_ms) {
                self.open_snapshot(peer, turn);
            }
        }
        for peer in self.sending.stuck(ago(asked_ms), ago(timing.snapshot_resume_ms), ago(timing.snapshot_ack_ms)) {
            self.abort_snapshot(peer, turn);
        }
        for peer in self.sending.due() {
            self.read_chunk(peer, turn);
        }
        // The sender gives up after little more than half of this at the latest.
        if self.receiving.is_given_up(now_ms.saturating_sub(2 * timing.snapshot_resume_ms)) && !self.is_installing() {
            self.receiving.clear();
            turn.out.push(Output::Storage(StorageJob::SnapshotForget { group: self.group }));
        }
    }

    /// The entry behind which others will want this log, if they are being brought up. Known to a leader only.
    pub(crate) fn held_for_others(&self) -> Option<LogIndex> {
        [self.sending.oldest(), self.raft.matched_by_others()].into_iter().flatten().min()
    }

    fn close_view(&mut self, peer: NodeId, turn: &mut Turn) {
        self.raft.offer_snapshot(peer, None);
        if let Some(transfer) = self.sending.end(peer) {
            turn.out.push(Output::Storage(StorageJob::SnapshotClose { ticket: transfer.ticket }));
        }
    }

    fn open_snapshot(&mut self, peer: NodeId, turn: &mut Turn) {
        let ticket = turn.ticket();
        self.sending.start(peer, ticket, turn.now.mono_ms);
        turn.out.push(Output::Storage(StorageJob::SnapshotOpen { group: self.group, ticket }));
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
                self.raft.send_append(peer);
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
                transfer.step = Step::Due;
                self.read_chunk(peer, turn);
            }
            _ => self.abort_snapshot(peer, turn),
        }
    }

    /// Reads the next chunk, unless it has to wait its time.
    fn read_chunk(&mut self, peer: NodeId, turn: &mut Turn) {
        let Some(transfer) = self.sending.to(peer) else { return };
        let limits = &turn.config.transfer;
        let bytes_max = limits.chunk_bytes;
        // Waiting for this is no standing still.
        let now_ms = turn.now.mono_ms;
        transfer.active_ms = now_ms;
        if !turn.transfers.goes_on(peer, self.group, transfer.bytes) {
            // Unless it is for so long that it is better to begin anew than to keep the view, and the log behind it.
            if now_ms >= *transfer.waits_ms.get_or_insert(now_ms) + turn.config.timing.snapshot_resume_ms {
                self.abort_snapshot(peer, turn);
            }
            return;
        }
        transfer.waits_ms = None;
        match turn.transfers.take((peer, self.group), bytes_max, limits.bytes_per_second, now_ms) {
            Ok(()) => {
                transfer.step = Step::Reading;
                let ticket = transfer.ticket;
                turn.out.push(Output::Storage(StorageJob::SnapshotRead { ticket, bytes_max }));
            }
            Err(at_ms) => turn.wake(at_ms),
        }
    }

    /// A chunk was read from the view.
    pub(crate) fn snapshot_chunk(&mut self, ticket: Ticket, data: Bytes, last: bool, turn: &mut Turn) {
        let Some((peer, transfer)) = self.sending.by_ticket(ticket) else { return };
        let limits = &turn.config.transfer;
        turn.transfers.correct(limits.chunk_bytes, data.len(), limits.bytes_per_second);
        transfer.step = Step::Sent(data, last);
        transfer.active_ms = turn.now.mono_ms;
        self.send_chunk(peer, turn);
    }

    /// Sends the chunk under way: for the first time, or again.
    fn send_chunk(&mut self, peer: NodeId, turn: &mut Turn) {
        let transfer_id = self.transfer_id(peer);
        let Some(transfer) = self.sending.to(peer).filter(|transfer| transfer.linked) else { return };
        let (Some(meta), Step::Sent(data, last)) = (&transfer.meta, &transfer.step) else { return };
        let body = Body::SnapshotChunk {
            transfer: transfer_id,
            meta: meta.clone(),
            chunk: transfer.chunk,
            last: *last,
            data: data.clone(),
        };
        self.post(peer, body, turn);
    }

    /// What a transfer is called on the wire: never the same, whenever this node was started.
    fn transfer_id(&mut self, peer: NodeId) -> u64 {
        let seed = self.seed;
        self.sending.to(peer).map_or(0, |transfer| seed.wrapping_add(transfer.ticket.0))
    }

    /// The link to a peer broke: its transfer waits for another, unless there is nothing to lose.
    pub(crate) fn transfer_unlinked(&mut self, peer: NodeId, turn: &mut Turn) {
        // Who asked for a snapshot, and has a log that goes on without, may have forgotten that it asked.
        let needs_none = self.raft.matched_by(peer) >= self.raft.truncated().0;
        let Some(transfer) = self.sending.to(peer) else { return };
        if transfer.announcement.is_none() || (needs_none && !transfer.is_announced()) {
            return self.abort_snapshot(peer, turn);
        }
        (transfer.linked, transfer.active_ms) = (false, turn.now.mono_ms);
        turn.transfers.step_back(peer, self.group);
    }

    /// There is a link to a peer again: what was under way may be lost, or its answer. Links go one way each, and come up one after the
    /// other, so that both ends say again what they said last.
    pub(crate) fn transfer_linked(&mut self, peer: NodeId, turn: &mut Turn) {
        if let Some((transfer, chunk)) = self.receiving.last_of(peer) {
            self.post(peer, Body::SnapshotAck { transfer, chunk, accepted: true }, turn);
        }
        let Some(transfer) = self.sending.to(peer) else { return };
        (transfer.linked, transfer.active_ms) = (true, turn.now.mono_ms);
        if let (Some(meta), Some(_)) = (&transfer.meta, &transfer.announcement) {
            turn.out.push(Output::Report(Event::SnapshotGoesOn(self.group, peer, meta.index)));
        }
        match &transfer.announcement {
            Some(announcement) if transfer.is_announced() => {
                let announcement = announcement.clone();
                self.post(peer, Body::Raft(announcement), turn);
            }
            _ => self.send_chunk(peer, turn),
        }
    }

    /// The peer has staged a chunk, or gives up.
    pub(crate) fn snapshot_ack(&mut self, peer: NodeId, transfer: u64, chunk: u64, accepted: bool, turn: &mut Turn) {
        let is_known = self.transfer_id(peer) == transfer;
        let Some(transfer) = self.sending.to(peer).filter(|known| is_known && known.chunk == chunk) else { return };
        let Step::Sent(data, last) = &transfer.step else { return };
        if !accepted {
            return self.abort_snapshot(peer, turn);
        }
        transfer.active_ms = turn.now.mono_ms;
        transfer.bytes += data.len() as u64;
        if !last {
            transfer.chunk += 1;
            transfer.step = Step::Due;
            return self.read_chunk(peer, turn);
        }
        transfer.step = Step::Announced;
        let Transfer { ticket, meta, announcement, bytes, begun_ms, .. } = transfer;
        let (ticket, bytes, took_ms) = (*ticket, *bytes, turn.now.mono_ms.saturating_sub(*begun_ms));
        let index = meta.as_ref().map(|meta| meta.index).unwrap_or_default();
        let announcement = announcement.clone();
        turn.transfers.end(peer, self.group, turn.now.mono_ms);
        turn.out.push(Output::Report(Event::SnapshotSent(self.group, peer, index, bytes, took_ms)));
        if let Some(announcement) = announcement {
            self.post(peer, Body::Raft(announcement), turn);
        }
        self.raft.snapshot_sent(peer, true);
        turn.out.push(Output::Storage(StorageJob::SnapshotClose { ticket }));
    }

    /// Ends the transfer to a peer. Raft will want another one if the peer still needs it.
    pub(crate) fn abort_snapshot(&mut self, peer: NodeId, turn: &mut Turn) {
        if self.sending.to(peer).is_some_and(|transfer| transfer.is_announced()) {
            self.sending.end(peer);
            return;
        }
        self.raft.snapshot_sent(peer, false);
        turn.transfers.end(peer, self.group, turn.now.mono_ms);
        self.close_view(peer, turn);
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
        let origin = Origin { from, transfer, meta: meta.clone() };
        match self.receiving.chunk(&origin, chunk, last, turn.now.mono_ms) {
            ChunkVerdict::Ignore => {}
            ChunkVerdict::Refuse => self.post(from, Body::SnapshotAck { transfer, chunk, accepted: false }, turn),
            ChunkVerdict::Staged => self.post(from, Body::SnapshotAck { transfer, chunk, accepted: true }, turn),
            ChunkVerdict::Stage => {
                turn.out.push(Output::Storage(StorageJob::SnapshotStage { group: self.group, origin, chunk, data }));
            }
        }
    }

    /// The store has staged a chunk, or refused it.
    pub(crate) fn staged(&mut self, chunk: u64, accepted: bool, turn: &mut Turn) {
        // What earlier attempts left is garbage now.
        self.purge |= chunk == 0;
        if let Some(Origin { from, transfer, .. }) = self.receiving.staged(chunk, accepted) {
            self.post(from, Body::SnapshotAck { transfer, chunk, accepted }, turn);
            if !accepted {
                turn.out.push(Output::Storage(StorageJob::SnapshotForget { group: self.group }));
            }
        }
    }
}
