//! How any thread, on any runtime, reaches a node's shards: by mail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use drey_core::placement::shard_of;
use drey_core::request::{Operation, ReadMode, ReadOp, Reply};
use drey_core::{Error, GroupId, ShardId};

use crate::mail::Mail;
use crate::mailbox::{ReplySender, SendError, Sender, reply};
use crate::quorum;
use crate::shared::Shared;
use crate::status::NodeStatus;

const STATUS_TIMEOUT_MS: u64 = 5_000;

/// Reaches a node's shards from any thread and any runtime.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mailboxes: Vec<Sender<Mail>>,
}

impl Handle {
    /// Tells the node to stop, without waiting.
    pub fn begin_stop(&self) {
        self.mailboxes.iter().for_each(stop);
    }

    /// How many groups hold buckets.
    pub fn groups(&self) -> u32 {
        self.shared.identity.groups
    }

    /// Does an operation on the shard that has it, within `timeout_ms`. If it fails for want of a quorum, the error says who is
    /// missing ([`Error::Explained`]).
    pub async fn call(&self, operation: Operation, timeout_ms: u64) -> Result<Reply, Error> {
        let group =
            operation.group(self.groups()).ok_or_else(|| Error::invalid("ask for the status with Handle::status"))?;
        let shard = shard_of(group, self.shared.shards);
        match self.call_shard(shard, operation, timeout_ms).await {
            Ok(reply) => Ok(reply),
            Err(error) => {
                let ask = |operation, timeout_ms| self.call_shard(shard, operation, timeout_ms);
                Err(quorum::explain(&self.shared, group, error, ask).await)
            }
        }
    }

    /// Reads from the bucket's group.
    pub async fn read(&self, group: GroupId, mode: ReadMode, op: ReadOp, timeout_ms: u64) -> Result<Reply, Error> {
        self.call(Operation::Read(group, mode, op), timeout_ms).await
    }

    /// The node as of now.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        let mut shards = Vec::new();
        for shard in (0..self.shared.shards).map(ShardId) {
            match self.call_shard(shard, Operation::Status, STATUS_TIMEOUT_MS).await? {
                Reply::Status(status) => shards.push(status),
                other => return Err(Error::NotReady(format!("an unexpected answer: {other:?}"))),
            }
        }
        Ok(self.shared.status(shards))
    }

    async fn call_shard(&self, shard: ShardId, operation: Operation, timeout_ms: u64) -> Result<Reply, Error> {
        let (sender, answer) = reply();
        let unanswered = unanswered(&operation);
        self.send_call(shard, operation, timeout_ms, sender)?;
        answer.await.unwrap_or(Err(unanswered))
    }

    /// Sends a request to a shard; the answer goes to `sender`.
    pub(crate) fn send_call(
        &self,
        shard: ShardId,
        operation: Operation,
        timeout_ms: u64,
        sender: ReplySender<Result<Reply, Error>>,
    ) -> Result<(), Error> {
        let mailbox = self
            .mailboxes
            .get(shard.0 as usize)
            .ok_or_else(|| Error::NotReady(format!("there is no shard {shard} on this node")))?;
        mailbox.send(Mail::Call(operation, timeout_ms, sender)).map_err(|error| match error {
            SendError::Full(_) => {
                self.shared.inbox_refused.fetch_add(1, Ordering::Relaxed);
                Error::Overloaded("the shard's mailbox is full".into())
            }
            SendError::Closed(_) => Error::NotReady("the node is stopping".into()),
        })
    }
}

/// What a caller is told whose request the node took and did not answer before it stopped: a write may have been proposed.
pub(crate) fn unanswered(operation: &Operation) -> Error {
    match operation {
        Operation::Write(_) => Error::OutcomeUnknown,
        Operation::Read(..) | Operation::Transfer(..) | Operation::Status => {
            Error::NotReady("the node is stopping".into())
        }
    }
}

/// Ends an executor's loop.
fn stop(mailbox: &Sender<Mail>) {
    // A full mailbox gets it when there is room; a closed one has stopped.
    if mailbox.send(Mail::Stop).is_err() {
        let mailbox = mailbox.clone();
        std::thread::spawn(move || drop(mailbox.send_blocking(Mail::Stop)));
    }
}
