//! The unanswered requests of a shard: each is answered once, at its deadline at the latest.

use std::collections::BTreeMap;

use crate::request::{Command, ReadOp};
use crate::types::{GroupId, NodeId, RequestId};

/// A request that waits.
pub(crate) struct Pending {
    pub deadline_ms: u64,
    pub stage: Stage,
    /// Who asked, unless it was a caller of this node.
    pub asker: Option<Asker>,
}

/// A peer that asks for a read, in which group, and its number for it.
pub(crate) struct Asker {
    pub peer: NodeId,
    pub group: GroupId,
    pub forward: u64,
}

/// What it waits for.
pub(crate) enum Stage {
    /// For its group's leader to become known; then it is forwarded or proposed.
    Leader { group: GroupId, command: Command, until_ms: u64 },
    /// For a peer's answer. The command is kept: a peer that did not propose it says so, and it is sent elsewhere.
    Peer { group: GroupId, command: Command, peer: NodeId, forward: u64, until_ms: u64 },
    /// For this node's log and store: it is proposed, or about to be.
    Here,
    /// For a read index and this node's store. Nothing depends on whether it happened.
    Reading,
    /// For a peer's store, as this node's is behind or wrong. Without an answer until then it is read here again.
    ReadingAt { group: GroupId, op: ReadOp, peer: NodeId, forward: u64, until_ms: u64 },
}

impl Stage {
    /// The peer whose answer it waits for, and under which number.
    fn sent_to(&self) -> Option<(NodeId, u64)> {
        match self {
            Stage::Peer { peer, forward, .. } | Stage::ReadingAt { peer, forward, .. } => Some((*peer, *forward)),
            _ => None,
        }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Requests {
    pending: BTreeMap<RequestId, Pending>,
    forwards: BTreeMap<u64, RequestId>,
    /// Those in `Stage::Leader`, and maybe some that no longer are.
    leaderless: Vec<RequestId>,
    /// Those that a peer did not take, until the next tick.
    refused: Vec<RequestId>,
    next_forward: u64,
    /// How many were asked for by peers.
    of_peers: u64,
}

impl Requests {
    /// `boot` must differ between this start of the node and all others: an answer to a write that was forwarded before a
    /// crash must not be taken for that of a new one.
    pub fn new(boot: u64) -> Requests {
        Requests { next_forward: boot, ..Default::default() }
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// A request that waits for something here.
    pub fn insert(&mut self, id: RequestId, pending: Pending) {
        if matches!(pending.stage, Stage::Leader { .. }) {
            self.leaderless.push(id);
        }
        let replaced = self.pending.insert(id, pending);
        assert!(replaced.is_none(), "request ids are unique among the unanswered");
    }

    /// A read that a peer asks for gets a number of this shard.
    pub fn insert_of_peer(&mut self, asker: Asker, deadline_ms: u64) -> RequestId {
        let id = RequestId(RequestId::OWN.0 + self.of_peers);
        self.of_peers += 1;
        self.insert(id, Pending { deadline_ms, stage: Stage::Reading, asker: Some(asker) });
        id
    }

    pub fn get_mut(&mut self, id: RequestId) -> Option<&mut Pending> {
        self.pending.get_mut(&id)
    }

    /// Lets a request wait for a leader again, from the next tick on: as long as this node takes the peer that refused it for
    /// the leader, the two would send it to and fro as fast as the network can.
    pub fn wait_for_leader(&mut self, id: RequestId, stage: Stage) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.stage = stage;
            self.refused.push(id);
        }
    }

    /// A tick passes: what was refused is tried again.
    pub fn tick(&mut self) {
        self.leaderless.append(&mut self.refused);
    }

    /// A number for forwarding this request.
    pub fn forward(&mut self, id: RequestId) -> u64 {
        let forward = self.unanswered_forward();
        self.forwards.insert(forward, id);
        forward
    }

    /// A number for a message whose answer nobody waits for.
    pub fn unanswered_forward(&mut self) -> u64 {
        self.next_forward = self.next_forward.wrapping_add(1);
        self.next_forward
    }

    /// The request that was forwarded to this peer under this number. The number is used up.
    pub fn forwarded(&mut self, peer: NodeId, forward: u64) -> Option<RequestId> {
        let id = *self.forwards.get(&forward)?;
        let waits = self.pending.get(&id)?.stage.sent_to().is_some_and(|(to, _)| to == peer);
        waits.then(|| self.forwards.remove(&forward)).flatten()
    }

    pub fn remove(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        if let Some((_, forward)) = pending.stage.sent_to() {
            self.forwards.remove(&forward);
        }
        Some(pending)
    }

    /// A request that was sent to a peer is not any more: what it waited for.
    pub fn take_back(&mut self, id: RequestId) -> Option<Stage> {
        let pending = self.pending.get_mut(&id)?;
        let (_, forward) = pending.stage.sent_to()?;
        self.forwards.remove(&forward);
        Some(std::mem::replace(&mut pending.stage, Stage::Here))
    }

    /// The reads that a peer did not answer in time, sorted.
    pub fn unanswered(&self, now_ms: u64) -> Vec<RequestId> {
        let is_late = |stage: &Stage| matches!(stage, Stage::ReadingAt { until_ms, .. } if *until_ms <= now_ms);
        self.pending.iter().filter(|(_, pending)| is_late(&pending.stage)).map(|(&id, _)| id).collect()
    }

    /// The requests whose deadline has passed, or whose wait for a leader has, sorted.
    pub fn late(&self, now_ms: u64) -> Vec<RequestId> {
        let late = self.pending.iter().filter(|(_, pending)| {
            let leader_is_late = matches!(pending.stage, Stage::Leader { until_ms, .. } if until_ms <= now_ms);
            pending.deadline_ms <= now_ms || leader_is_late
        });
        late.map(|(&id, _)| id).collect()
    }

    /// The requests that wait for a leader. The caller puts back those that go on waiting.
    pub fn take_leaderless(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.leaderless)
    }

    /// Goes on waiting.
    pub fn keep_leaderless(&mut self, ids: Vec<RequestId>) {
        self.leaderless.extend(ids);
    }

    /// The requests that were forwarded to this peer and not answered.
    pub fn with_peer(&self, peer: NodeId) -> Vec<RequestId> {
        let with = self.pending.iter().filter(|(_, p)| p.stage.sent_to().is_some_and(|(to, _)| to == peer));
        with.map(|(&id, _)| id).collect()
    }

    pub fn all(&self) -> Vec<RequestId> {
        self.pending.keys().copied().collect()
    }
}
