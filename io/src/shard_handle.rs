//! How code on an executor reaches the node's shards: its own without a hop, the others by mail.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

use drey_core::placement::shard_of;
use drey_core::request::{Operation, Reply, Request};
use drey_core::{Error, Inbox, Input, NodeId, RequestId, ShardId};

use crate::handle::{Handle, unanswered};
use crate::mailbox::{ReplySender, reply};
use crate::notify::Notify;
use crate::quorum;
use crate::runtime;
use crate::status::NodeStatus;

/// One executor's access to the node.
pub struct ShardHandle {
    pub(crate) node: Handle,
    pub(crate) shard: ShardId,
    pub(crate) inbox: RefCell<Inbox>,
    pub(crate) arrived: Notify,
    pub(crate) stopping: Cell<bool>,
    /// What ends the links that peers dialed.
    pub(crate) listeners: RefCell<Vec<(NodeId, Notify)>>,
    waiting: RefCell<HashMap<RequestId, ReplySender<Result<Reply, Error>>>>,
    next_request: Cell<u64>,
}

impl ShardHandle {
    pub(crate) fn new(node: Handle, shard: ShardId) -> ShardHandle {
        ShardHandle {
            node,
            shard,
            inbox: RefCell::default(),
            arrived: Notify::new(),
            stopping: Cell::new(false),
            listeners: RefCell::default(),
            waiting: RefCell::default(),
            next_request: Cell::new(0),
        }
    }

    /// How many groups hold buckets.
    pub fn groups(&self) -> u32 {
        self.node.groups()
    }

    /// Does an operation on the shard that has it, within `timeout_ms`. [`Operation::Status`] asks this shard. If it fails for
    /// want of a quorum, the error says who is missing ([`Error::Explained`]).
    pub async fn call(&self, operation: Operation, timeout_ms: u64) -> Result<Reply, Error> {
        let group = operation.group(self.groups());
        let shard = group.map_or(self.shard, |group| shard_of(group, self.node.shared.shards));
        match (self.call_shard(shard, operation, timeout_ms).await, group) {
            (Err(error), Some(group)) => {
                let ask = |operation, timeout_ms| self.call_shard(shard, operation, timeout_ms);
                Err(quorum::explain(&self.node.shared, group, error, ask).await)
            }
            (answer, _) => answer,
        }
    }

    /// How many changes of the members this node knows of: grows with each. Costs next to nothing.
    pub fn member_changes(&self) -> u64 {
        self.node.shared.roster.changes()
    }

    /// Does an operation on this shard.
    pub async fn call_shard(&self, shard: ShardId, operation: Operation, timeout_ms: u64) -> Result<Reply, Error> {
        let (sender, answer) = reply();
        let unanswered = unanswered(&operation);
        if shard == self.shard {
            self.accept(operation, timeout_ms, sender);
        } else {
            self.node.send_call(shard, operation, timeout_ms, sender)?;
        }
        answer.await.unwrap_or(Err(unanswered))
    }

    /// This node and its groups as of now.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        self.node.status().await
    }

    /// Puts a request into this shard's next turn.
    pub(crate) fn accept(&self, operation: Operation, timeout_ms: u64, sender: ReplySender<Result<Reply, Error>>) {
        let id = RequestId(self.next_request.get());
        self.next_request.set(id.0 + 1);
        let request = Request { deadline_ms: runtime::now().mono_ms.saturating_add(timeout_ms), operation };
        match self.inbox.borrow_mut().request(id, request) {
            Ok(()) => {
                self.waiting.borrow_mut().insert(id, sender);
                self.arrived.notify();
            }
            // Nobody may be waiting any more.
            Err(error) => {
                self.node.shared.inbox_refused.fetch_add(1, Ordering::Relaxed);
                drop(sender.send(Err(error)));
            }
        }
    }

    pub(crate) fn answer(&self, id: RequestId, answer: Result<Reply, Error>) {
        if let Some(sender) = self.waiting.borrow_mut().remove(&id) {
            // The caller may have gone.
            let _ = sender.send(answer);
        }
    }

    pub(crate) fn push(&self, input: Input) {
        self.inbox.borrow_mut().push(input);
        self.arrived.notify();
    }
}
