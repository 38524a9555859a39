//! What a call can end with: one code for each row of drey's table of errors, and three that only a client meets.
//!
//! A server names the code beside the gRPC status (metadata `drey-error`), because several codes share one gRPC status
//! and differ in the one thing a client must know: whether a write may have happened.

use std::fmt;

/// The metadata key under which a server names the [`Code`] of a refusal.
pub const ERROR_METADATA_KEY: &str = "drey-error";

/// The metadata key under which a server says how many changes of the members it knows of, when that is news on a connection.
pub const MEMBERS_METADATA_KEY: &str = "drey-members";

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The bucket named by the call is not there.
    BucketNotFound,
    /// A bucket of that name is there already.
    BucketExists,
    /// The request cannot be right: an empty key, something too large, a bad name or range.
    InvalidArgument,
    /// A condition was not met, in a call whose reply has no place to say so.
    ConditionFailed,
    /// The bucket's group has no leader now. Nothing was proposed.
    NoLeader,
    /// The node cannot serve yet. Nothing was proposed.
    NotReady,
    /// The write was proposed, and whether it was applied is not known.
    OutcomeUnknown,
    /// The session of the request's id was evicted.
    SessionExpired,
    /// The node has too much to do. Nothing was proposed.
    Overloaded,
    /// The bucket or the node may not grow further.
    QuotaExceeded,
    /// What was asked for would do harm, or cannot be done as things stand. Nothing was changed.
    Refused,
    /// No answer in time. A write may have been applied.
    DeadlineExceeded,
    /// The start of a watch is no longer kept.
    Compacted,
    /// The caller did not say who it is.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// A member or a group that the call names is not there.
    NotFound,
    /// A damaged file, which the message names.
    DataLoss,
    /// The server does not know this call.
    Unimplemented,
    /// A server broke its contract, or met a fault of its own.
    Internal,
    /// No endpoint took a connection, so nothing was sent. Only a client says this.
    Unreachable,
    /// The node went away before it answered a call that changes nothing. Only a client says this.
    Unavailable,
}

impl Code {
    /// Every code, in the order of the table.
    pub const ALL: [Code; 21] = [
        Code::BucketNotFound,
        Code::BucketExists,
        Code::InvalidArgument,
        Code::ConditionFailed,
        Code::NoLeader,
        Code::NotReady,
        Code::OutcomeUnknown,
        Code::SessionExpired,
        Code::Overloaded,
        Code::QuotaExceeded,
        Code::Refused,
        Code::DeadlineExceeded,
        Code::Compacted,
        Code::Unauthenticated,
        Code::PermissionDenied,
        Code::NotFound,
        Code::DataLoss,
        Code::Unimplemented,
        Code::Internal,
        Code::Unreachable,
        Code::Unavailable,
    ];

    /// The name in `drey-error` metadata, in JSON and in messages: `bucket_not_found`.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BucketNotFound => "bucket_not_found",
            Code::BucketExists => "bucket_exists",
            Code::InvalidArgument => "invalid_argument",
            Code::ConditionFailed => "condition_failed",
            Code::NoLeader => "no_leader",
            Code::NotReady => "not_ready",
            Code::OutcomeUnknown => "outcome_unknown",
            Code::SessionExpired => "session_expired",
            Code::Overloaded => "overloaded",
            Code::QuotaExceeded => "quota_exceeded",
            Code::Refused => "refused",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::Compacted => "compacted",
            Code::Unauthenticated => "unauthenticated",
            Code::PermissionDenied => "permission_denied",
            Code::NotFound => "not_found",
            Code::DataLoss => "data_loss",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unreachable => "unreachable",
            Code::Unavailable => "unavailable",
        }
    }

    /// The code of that name; `None` for a name that a newer server may have.
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.as_str() == name)
    }

    /// True where the error itself says that no write was proposed, so that the same write may be sent again.
    pub fn nothing_was_proposed(self) -> bool {
        matches!(self, Code::NoLeader | Code::NotReady | Code::Overloaded | Code::Unreachable)
    }

    /// True where a write that ended so may or may not have been applied.
    pub fn outcome_is_unknown(self) -> bool {
        matches!(self, Code::OutcomeUnknown | Code::DeadlineExceeded | Code::Unavailable | Code::Internal)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A failed call: what kind of failure, in words, and which node said so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub struct Error {
    /// The kind of failure, for programs.
    pub code: Code,
    /// What happened, for people.
    pub message: String,
    /// The address of the node that answered or was tried last.
    pub endpoint: Option<String>,
}

impl Error {
    /// An error that no node had a part in.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), endpoint: None }
    }

    /// The same error, said by or about the node at `address`.
    #[must_use]
    pub fn at(mut self, address: &str) -> Error {
        self.endpoint = Some(address.to_owned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name() {
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.as_str()), Some(code));
        }
        assert_eq!(Code::from_name("from_the_future"), None);
    }

    #[test]
    fn no_code_both_allows_a_second_write_and_leaves_the_first_in_doubt() {
        for code in Code::ALL {
            assert!(!(code.nothing_was_proposed() && code.outcome_is_unknown()), "{code}");
        }
    }
}
