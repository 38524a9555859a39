//! Reads: a replica answers them from its store, and where it is behind or wrong its leader does, so that a caller may ask any node.
//!
//! A linearizable read goes to the leader when what it waits for is not to come (the disk is full), takes longer than an election
//! or would (the disk hangs), or may not be believed (the state is fetched anew). The leader reads it as if it was its own. Who is asked so asks nobody else.

use std::mem;

use crate::error::Error;
use crate::limits::REQUESTS_PENDING_MAX;
use crate::mutation::{Mutation, is_on};
use crate::output::Output;
use crate::proposals::Waiter;
use crate::request::{ReadMode, ReadOp, Reply};
use crate::requests::{Asker, Pending, Stage};
use crate::shard::Shard;
use crate::types::{GroupId, NodeId, RequestId, Tick};
use crate::wire::{Body, Envelope, can_carry};

/// A read that a replica leaves to its leader.
pub(crate) struct LeftToLeader {
    pub group: GroupId,
    pub id: RequestId,
    pub op: ReadOp,
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
            if !self.peers_up.contains(&peer) {
                return Err(view_lost(peer));
            }
            self.requests.insert(id, pending);
            self.read_at(now, peer, LeftToLeader { group, id, op }, out);
            return Ok(());
        }
        self.requests.insert(id, pending);
        match mode {
            ReadMode::Linearizable if !op.is_settled() && !is_on(Mutation::LocalReadForLinearizable) => {
                replica.reads.push(id, op);
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
            replica.reads.push(id, op);
        }
    }

    /// What the replicas left to their leaders in this turn goes there.
    pub(crate) fn send_reads_to_leaders(&mut self, now: Tick, out: &mut Vec<Output>) {
        for left in mem::take(&mut self.left_to_leaders) {
            // It was answered meanwhile.
            let Some(pending) = self.requests.get_mut(left.id) else { continue };
            let Some(replica) = self.replicas.get_mut(&left.group) else { continue };
            let leader = replica.raft.leader().filter(|leader| self.peers_up.contains(leader));
            if pending.asker.is_some() || !can_carry(&left.op) {
                let why = format!("group {}: node {} is behind: ask another", left.group, self.config.node);
                self.answers.push((Waiter::Local(left.id), Err(Error::NotReady(why))));
            } else if let Some(leader) = leader {
                self.read_at(now, leader, left, out);
            } else {
                replica.reads.push(left.id, left.op);
            }
        }
    }

    fn read_at(&mut self, now: Tick, peer: NodeId, read: LeftToLeader, out: &mut Vec<Output>) {
        let LeftToLeader { group, id, op } = read;
        let forward = self.requests.forward(id);
        let Some(pending) = self.requests.get_mut(id) else { return };
        let deadline_in_ms = pending.deadline_ms.saturating_sub(now.mono_ms);
        // A page that is asked for twice would be two pages.
        let until_ms = if op.is_settled() { u64::MAX } else { now.mono_ms + self.config.timing.leader_wait_ms };
        out.push(Output::Send(
            peer,
            Envelope { group, body: Body::Read { id: forward, deadline_in_ms, op: op.clone() } },
        ));
        pending.stage = Stage::ReadingAt { group, op, peer, forward, until_ms };
    }

    /// A tick passes: what a peer did not answer (it may be gone, or its program too old) is read here again.
    pub(crate) fn read_unanswered(&mut self, now: Tick) {
        for id in self.requests.unanswered(now.mono_ms) {
            self.read_again(id);
        }
    }

    /// A read that was sent to a peer comes back to this node's replica.
    pub(crate) fn read_again(&mut self, id: RequestId) {
        let Some(Stage::ReadingAt { group, op, peer, .. }) = self.requests.take_back(id) else { return };
        if op.is_settled() {
            return self.answers.push((Waiter::Local(id), Err(view_lost(peer))));
        }
        if let (Some(pending), Some(replica)) = (self.requests.get_mut(id), self.replicas.get_mut(&group)) {
            pending.stage = Stage::Reading;
            replica.reads.push(id, op);
        }
    }
}

/// A peer's answer, as a caller of this node gets it: where a scan goes on is with the peer.
pub(crate) fn answered_by(peer: NodeId, mut reply: Result<Reply, Error>) -> Result<Reply, Error> {
    if let Ok(Reply::Page(page)) = &mut reply
        && let Some(view) = &mut page.next
    {
        view.at = Some(peer);
    }
    reply
}

fn view_lost(peer: NodeId) -> Error {
    Error::Compacted(format!(
        "node {peer}, which has the scan's view, cannot be reached: start a new scan and resume after the last key that came"
    ))
}
