//! Reads: a replica answers them from its store, and where it is behind or wrong its leader does, so that a caller may ask any node.
//!
//! A linearizable read goes to the leader when what it waits for is not to come (the disk is full), takes longer than an election
//! or would (the disk hangs), or when this store may not be believed (the state is fetched anew). The leader reads it as if it was
//! its own. Who is asked so asks nobody else.

use std::mem;

use crate::error::Error;
use crate::limits::REQUESTS_PENDING_MAX;
use crate::mutation::{Mutation, is_on};
use crate::output::Output;
use crate::proposals::Waiter;
use crate::reads::Waiting;
use crate::request::{Page, ReadMode, ReadOp, Reply};
use crate::requests::{Asker, Pending, Stage};
use crate::shard::Shard;
use crate::storage::StorageJob;
use crate::types::{GroupId, NodeId, RequestId, Tick, Ticket};
use crate::wire::{Body, Envelope, can_carry};

/// A read that a replica leaves to its leader.
pub(crate) struct LeftToLeader {
    pub group: GroupId,
    pub read: Waiting,
}

impl ReadOp {
    /// The peer that has the view which this goes on with.
    fn view_at(&self) -> Option<NodeId> {
        match self {
            ReadOp::ScanNext { view } | ReadOp::ScanEnd { view } => view.at,
            _ => None,
        }
    }

    /// A view was opened by a read that had its round; what it shows is settled.
    fn is_settled(&self) -> bool {
        matches!(self, ReadOp::ScanNext { .. } | ReadOp::ScanEnd { .. })
    }
}

impl Shard {
    /// A caller of this node asks.
    pub(crate) fn accept_read(
        &mut self,
        now: Tick,
        (id, deadline_ms): (RequestId, u64),
        group: GroupId,
        mode: ReadMode,
        op: ReadOp,
        out: &mut Vec<Output>,
    ) -> Result<(), Error> {
        let shard = self.config.shard;
        let replica = self
            .replicas
            .get_mut(&group)
            .ok_or_else(|| Error::NotReady(format!("group {group} does not live on shard {shard}")))?;
        let pending = Pending { deadline_ms, stage: Stage::Reading, asker: None };
        if let Some(peer) = op.view_at() {
            self.requests.insert(id, pending);
            if self.peers_up.contains(&peer) {
                self.read_at(now, peer, group, id, op, out);
            } else {
                self.answers.push((Waiter::Local(id), view_lost(peer, &op)));
            }
            return Ok(());
        }
        self.requests.insert(id, pending);
        match mode {
            ReadMode::Linearizable if !op.is_settled() && !is_on(Mutation::LocalReadForLinearizable) => {
                replica.reads.push(Waiting { id, op, stays: false });
            }
            _ => replica.read_now(id, op),
        }
        Ok(())
    }

    /// A peer asks, whose replica cannot answer.
    pub(crate) fn read_for_peer(&mut self, now: Tick, asker: Asker, deadline_in_ms: u64, op: ReadOp) {
        if self.requests.len() >= REQUESTS_PENDING_MAX {
            self.requests_refused += 1;
            let error = Error::Overloaded(format!("{REQUESTS_PENDING_MAX} requests are waiting"));
            return self.answers.push((Waiter::Peer(asker.group, asker.peer, asker.forward), Err(error)));
        }
        let Some(replica) = self.replicas.get_mut(&asker.group) else { return };
        let id = self.requests.insert_of_peer(asker, now.mono_ms.saturating_add(deadline_in_ms));
        if op.is_settled() || is_on(Mutation::PeersReadIsLocal) {
            replica.read_now(id, op);
        } else {
            replica.reads.push(Waiting { id, op, stays: false });
        }
    }

    /// What the replicas left to their leaders in this turn goes there.
    pub(crate) fn send_reads_to_leaders(&mut self, now: Tick, out: &mut Vec<Output>) {
        for LeftToLeader { group, read } in mem::take(&mut self.left_to_leaders) {
            // It was answered meanwhile.
            let Some(pending) = self.requests.get_mut(read.id) else { continue };
            let Some(replica) = self.replicas.get_mut(&group) else { continue };
            let leader = replica.raft.leader().filter(|leader| self.peers_up.contains(leader));
            if pending.asker.is_some() || read.stays || !can_carry(&read.op) {
                let why = format!("group {group}: node {} is behind: ask another", self.config.node);
                self.answers.push((Waiter::Local(read.id), Err(Error::NotReady(why))));
            } else if let Some(leader) = leader {
                self.read_at(now, leader, group, read.id, read.op, out);
            } else {
                replica.reads.push(read);
            }
        }
    }

    fn read_at(&mut self, now: Tick, peer: NodeId, group: GroupId, id: RequestId, op: ReadOp, out: &mut Vec<Output>) {
        let forward = self.requests.forward(id);
        let Some(pending) = self.requests.get_mut(id) else { return };
        let left_ms = pending.deadline_ms.saturating_sub(now.mono_ms);
        // A page that is asked for twice would be two pages.
        let (deadline_in_ms, until_ms) = if op.is_settled() {
            (left_ms, u64::MAX)
        } else {
            let wait_ms = self.config.timing.leader_wait_ms;
            (left_ms.min(wait_ms), now.mono_ms + wait_ms)
        };
        out.push(Output::Send(
            peer,
            Envelope { group, body: Body::Read { id: forward, deadline_in_ms, op: op.clone() } },
        ));
        pending.stage = Stage::ReadingAt { group, op, peer, forward, until_ms };
    }

    /// A tick passes: what a peer did not answer (it may be gone, or its program too old) is read here again, and stays as long as
    /// no other leads.
    pub(crate) fn read_unanswered(&mut self, now: Tick) {
        for id in self.requests.unanswered(now.mono_ms) {
            self.read_again(id, true);
        }
    }

    /// A read that was sent to a peer comes back to this node's replica.
    pub(crate) fn read_again(&mut self, id: RequestId, stays: bool) {
        let Some(Stage::ReadingAt { group, op, peer, .. }) = self.requests.take_back(id) else { return };
        if op.is_settled() {
            return self.answers.push((Waiter::Local(id), view_lost(peer, &op)));
        }
        if let (Some(pending), Some(replica)) = (self.requests.get_mut(id), self.replicas.get_mut(&group)) {
            pending.stage = Stage::Reading;
            // Another leader may answer.
            let stays = stays && replica.raft.leader() == Some(peer);
            replica.reads.push(Waiting { id, op, stays });
        }
    }

    /// A peer answers a read.
    pub(crate) fn read_answered(
        &mut self,
        from: NodeId,
        group: GroupId,
        id: RequestId,
        mut reply: Result<Reply, Error>,
    ) {
        let is_settled = matches!(
            self.requests.get_mut(id).map(|pending| &pending.stage),
            Some(Stage::ReadingAt { op, .. }) if op.is_settled()
        );
        let leader = self.replicas.get(&group).and_then(|replica| replica.raft.leader());
        match &mut reply {
            // Its deadline was that of the question.
            Err(Error::DeadlineExceeded) if !is_settled => return self.read_again(id, true),
            // It leads no more, as far as is known here.
            Err(Error::NotReady(_)) if !is_settled && leader != Some(from) => {
                return self.read_again(id, false);
            }
            // Where a scan goes on is with the peer.
            Ok(Reply::Page(Page { next: Some(view), .. })) => view.at = Some(from),
            _ => {}
        }
        self.answers.push((Waiter::Local(id), reply));
    }

    /// A peer answers what nobody waits for any more: a view that it keeps for it is closed.
    pub(crate) fn late_answer(
        &mut self,
        from: NodeId,
        group: GroupId,
        reply: Result<Reply, Error>,
        out: &mut Vec<Output>,
    ) {
        if let Ok(Reply::Page(Page { next: Some(view), .. })) = reply {
            let (id, deadline_in_ms) = (self.requests.unanswered_forward(), self.config.timing.leader_wait_ms);
            let body = Body::Read { id, deadline_in_ms, op: ReadOp::ScanEnd { view } };
            out.push(Output::Send(from, Envelope { group, body }));
        }
    }

    /// A page came to whom nobody waits: its view is closed.
    pub(crate) fn close_view(&self, id: RequestId, answer: &Result<Reply, Error>, out: &mut Vec<Output>) {
        if let Ok(Reply::Page(Page { next: Some(view), .. })) = answer
            && view.at.is_none()
            && let Some(&group) = self.replicas.keys().next()
        {
            let reads = vec![(Ticket(id.0), ReadOp::ScanEnd { view: *view })];
            let now_ms = self.last_tick_ms;
            out.push(Output::Storage(StorageJob::Read { group, reads, now_ms, clock_ms: 0 }));
        }
    }
}

/// What goes on with a view of a peer that cannot be reached. That a view which is to end is gone is no error.
fn view_lost(peer: NodeId, op: &ReadOp) -> Result<Reply, Error> {
    match op {
        ReadOp::ScanEnd { .. } => Ok(Reply::Done),
        _ => Err(Error::Compacted(format!(
            "node {peer}, which has the scan's view, cannot be reached: start a new scan and resume after the last key that came"
        ))),
    }
}
