//! One pass of a shard's loop: take what came in, step, and perform what comes out.

use std::collections::VecDeque;

use crate::error::Error;
use crate::input::Input;
use crate::limits::REQUESTS_PENDING_MAX;
use crate::output::{Effects, Output};
use crate::request::Request;
use crate::shard::Shard;
use crate::types::{RequestId, Tick};

/// What waits for the next turn. Requests are bounded; what completes or comes from a peer always has room, since the
/// shard itself bounds what it starts, and links bound what they deliver.
#[derive(Debug, Default)]
pub struct Inbox {
    inputs: VecDeque<Input>,
    requests: usize,
}

impl Inbox {
    /// Adds an event that is no request.
    pub fn push(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    /// Adds a request, or refuses it.
    pub fn request(&mut self, id: RequestId, request: Request) -> Result<(), Error> {
        if self.requests >= REQUESTS_PENDING_MAX {
            return Err(Error::Overloaded(format!("{REQUESTS_PENDING_MAX} requests wait for their turn")));
        }
        self.requests += 1;
        self.inputs.push_back(Input::Request(id, request));
        Ok(())
    }

    /// Whether nothing came in.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }
}

/// One pass. `out` is a buffer to be used again; it is empty before and after.
pub fn turn(shard: &mut Shard, now: Tick, inbox: &mut Inbox, out: &mut Vec<Output>, effects: &mut impl Effects) {
    for input in inbox.inputs.drain(..) {
        shard.step(now, input, out);
    }
    inbox.requests = 0;
    shard.finish(now, out);
    for output in out.drain(..) {
        effects.perform(output);
    }
}
