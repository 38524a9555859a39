//! What a user can be told. One enum, which every protocol maps to its own codes.

use thiserror::Error;

/// Why a request was not answered as asked. `Display` is the message for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub enum Error {
    /// The bucket does not exist.
    #[error("bucket {0:?} does not exist")]
    BucketNotFound(String),
    /// The bucket exists already, and `if_not_exists` was not given.
    #[error("bucket {0:?} exists already")]
    BucketExists(String),
    /// An empty key, one that is too large, a bad name, a bad range, …
    #[error("{0}")]
    InvalidArgument(String),
    /// A condition did not hold, in a call whose reply has no `applied`.
    #[error("the condition does not hold")]
    ConditionFailed,
    /// The group has no leader that this node knows. Nothing was proposed.
    #[error("the group has no leader")]
    NoLeader,
    /// This node cannot serve yet, or no longer. Nothing was proposed.
    #[error("the node is not ready: {0}")]
    NotReady(String),
    /// The write was proposed, then the leader changed: it may or may not be applied.
    #[error("the leader changed while the write was under way: it may or may not be applied")]
    OutcomeUnknown,
    /// The session was evicted: the outcome of its last writes is for the caller to look up.
    #[error("the session has expired")]
    SessionExpired,
    /// A bound was reached; nothing was proposed.
    #[error("overloaded: {0}")]
    Overloaded(String),
    /// A bucket's or node's quota is used up; nothing was proposed.
    #[error("quota exceeded: {0}")]
    QuotaExceeded(String),
    /// What was asked for would do harm, or cannot be done as things stand; nothing was changed. The message says why.
    #[error("{0}")]
    Refused(String),
    /// The deadline passed. A write may or may not be applied.
    #[error("the deadline passed")]
    DeadlineExceeded,
    /// What was asked for is no longer kept (a scan's view, a watch's start).
    #[error("{0}")]
    Compacted(String),
    /// A file is damaged; the message names it.
    #[error("{0}")]
    DataLoss(String),
    /// A member or a group that is not there.
    #[error("{0}")]
    NotFound(String),
    /// An error, and what the node that was asked knows of its cause. For people: to programs it is that error.
    #[error("{error}: {why}")]
    Explained {
        /// Not itself one that is explained.
        error: Box<Error>,
        /// What is known, and what to try.
        why: String,
    },
}

impl Error {
    /// The stable name of the error, as scripts see it.
    pub fn code(&self) -> &'static str {
        match self {
            Error::BucketNotFound(_) => "bucket_not_found",
            Error::BucketExists(_) => "bucket_exists",
            Error::InvalidArgument(_) => "invalid_argument",
            Error::ConditionFailed => "condition_failed",
            Error::NoLeader => "no_leader",
            Error::NotReady(_) => "not_ready",
            Error::OutcomeUnknown => "outcome_unknown",
            Error::SessionExpired => "session_expired",
            Error::Overloaded(_) => "overloaded",
            Error::QuotaExceeded(_) => "quota_exceeded",
            Error::Refused(_) => "refused",
            Error::DeadlineExceeded => "deadline_exceeded",
            Error::Compacted(_) => "compacted",
            Error::DataLoss(_) => "data_loss",
            Error::NotFound(_) => "not_found",
            Error::Explained { error, .. } => error.code(),
        }
    }

    /// The error without its explanation.
    pub fn plain(&self) -> &Error {
        match self {
            Error::Explained { error, .. } => error.plain(),
            error => error,
        }
    }

    /// Shorthand for [`Error::InvalidArgument`].
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::InvalidArgument(message.into())
    }
}
