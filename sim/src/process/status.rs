//! What a node says of itself: each of its shards tells its part, as behind the real server.

use drey_core::request::{Operation, Reply, Request, ShardStatus};
use drey_core::{Error, RequestId};

use super::{Process, SUBMIT_TIMEOUT_MS, SUBMITTED};
use crate::shared::Shared;

/// A question whose answer the shards put together.
pub(super) struct StatusAsked {
    id: RequestId,
    /// What the shards are asked under these numbers.
    parts: Vec<RequestId>,
    status: ShardStatus,
}

impl Process {
    /// Asks all shards.
    pub(super) fn ask_all(&mut self, id: RequestId, shared: &mut Shared) {
        let deadline_ms = self.clock.read(shared.now_ms).mono_ms + SUBMIT_TIMEOUT_MS;
        let mut asked = StatusAsked { id, parts: Vec::new(), status: ShardStatus::default() };
        for number in 0..self.shards.len() {
            self.submitted += 1;
            let part = RequestId(SUBMITTED + self.submitted);
            let request = Request { deadline_ms, operation: Operation::Status };
            shared.trace.silently(&(self.node, number, part, &request));
            shared.coverage.request(&request);
            if let Err(error) = self.shards[number].inbox.request(part, request) {
                return self.answer(id, Err(error), shared);
            }
            asked.parts.push(part);
        }
        self.statuses.push(asked);
    }

    /// Takes a shard's answer, if it is one to that. The last one is the node's.
    pub(super) fn collect(&mut self, part: RequestId, answer: &Result<Reply, Error>, shared: &mut Shared) {
        let Some(at) = self.statuses.iter().position(|asked| asked.parts.contains(&part)) else { return };
        let asked = &mut self.statuses[at];
        asked.parts.retain(|waiting| *waiting != part);
        match answer {
            Ok(Reply::Status(status)) => asked.status.groups.extend(status.groups.iter().cloned()),
            Ok(_) => return,
            Err(error) => {
                let StatusAsked { id, .. } = self.statuses.remove(at);
                return self.answer(id, Err(error.clone()), shared);
            }
        }
        if asked.parts.is_empty() {
            let StatusAsked { id, mut status, .. } = self.statuses.remove(at);
            status.groups.sort_unstable_by_key(|group| group.group);
            self.answer(id, Ok(Reply::Status(status)), shared);
        }
    }
}
