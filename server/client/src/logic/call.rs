//! One call on its way: what it may do, what it tried, and the words the router and its caller exchange about it.

use super::EndpointId;
use crate::Code;

/// What a call does to the cluster, which decides where it goes and when it may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changes nothing: goes to the leader, and may be sent as often as need be.
    Read,
    /// Changes nothing and may be answered by whichever node is near.
    LocalRead,
    /// Changes something: sent again only if it was certainly not proposed.
    Write,
    /// Changes something under an id, so that it is applied once however often it is sent: goes to the leader, again and again.
    RepeatableWrite,
}

/// What to do next for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the request to this endpoint and tell it and yourself that it has `timeout_ms`.
    Send {
        /// Where to.
        endpoint: EndpointId,
        /// How long to wait for the answer.
        timeout_ms: u64,
    },
    /// Ask again at this time.
    Wait {
        /// On the clock of the router's caller.
        until_ms: u64,
    },
    /// The call is over.
    GiveUp(Code),
}

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The node answered with what was asked for.
    Answered,
    /// No connection, so that not one byte of the request left.
    NotSent,
    /// The request left, the connection broke, and no answer came.
    Lost,
    /// The attempt's time was over before an answer came.
    TimedOut,
    /// The node answered with an error.
    Refused {
        /// Which error.
        code: Code,
        /// True when the node named the code itself; false when it was guessed from a gRPC status.
        named: bool,
    },
}

/// What an outcome means for its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is good.
    Done,
    /// Ask [`Router::next`](super::Router::next) again.
    Again,
    /// The call ends with this error.
    Fail(Code),
}

/// The state of one call. Made by [`Router::begin`](super::Router::begin).
#[derive(Debug, Clone)]
pub struct Call {
    pub(super) kind: Kind,
    pub(super) bucket_hash: Option<u64>,
    pub(super) deadline_ms: u64,
    /// No attempt before this time.
    pub(super) resume_ms: u64,
    /// How many times the call has waited.
    pub(super) waits: u32,
    /// One bit for each endpoint that was tried in this round. A round ends when all were.
    pub(super) tried: u64,
    /// Whether any endpoint of this round took a connection.
    pub(super) reached_somebody: bool,
    pub(super) rounds_unreachable: u32,
    /// Where the attempt under way went.
    pub(super) endpoint: Option<EndpointId>,
    /// Why the last attempt failed.
    pub(super) last: Option<Code>,
    /// A write was sent, and may have been applied, whatever later attempts say of themselves.
    pub(super) unsure: bool,
}

impl Call {
    pub(super) fn new(kind: Kind, bucket_hash: Option<u64>, deadline_ms: u64) -> Call {
        Call {
            kind,
            bucket_hash,
            deadline_ms,
            resume_ms: 0,
            waits: 0,
            tried: 0,
            reached_somebody: false,
            rounds_unreachable: 0,
            endpoint: None,
            last: None,
            unsure: false,
        }
    }

    /// The code that the call may end with: if an earlier attempt may have been applied, not one that says that nothing was,
    /// nor that the session, which would have known, is gone.
    pub(super) fn settled(&self, code: Code) -> Code {
        let denies = code.nothing_was_proposed() || matches!(code, Code::SessionExpired | Code::QuotaExceeded);
        if self.unsure && denies { Code::OutcomeUnknown } else { code }
    }

    pub(super) fn tried(&self, endpoint: EndpointId) -> bool {
        self.tried & endpoint.bit() != 0
    }

    pub(super) fn mark_tried(&mut self, endpoint: EndpointId) {
        self.tried |= endpoint.bit();
    }
}
