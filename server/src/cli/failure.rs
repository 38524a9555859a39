//! How a command says that it failed: what, why, and which command to try next.

use drey_client::{Code, Error};
use std::fmt;
use std::io;
use std::process::ExitCode;

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done = 0,
    /// The key, the bucket, the member or the group is not there.
    NotThere = 1,
    /// The command line cannot be right.
    Usage = 2,
    /// A condition was not met.
    ConditionFailed = 3,
    /// No leader, no node, or no answer in time: it may work later.
    Unavailable = 4,
    /// The cluster says no, and will say so again.
    Refused = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<Code> for Exit {
    fn from(code: Code) -> Exit {
        match code {
            Code::BucketNotFound | Code::NotFound => Exit::NotThere,
            Code::ConditionFailed => Exit::ConditionFailed,
            Code::NoLeader
            | Code::NotReady
            | Code::OutcomeUnknown
            | Code::Overloaded
            | Code::DeadlineExceeded
            | Code::Unreachable
            | Code::Unavailable => Exit::Unavailable,
            Code::BucketExists
            | Code::InvalidArgument
            | Code::SessionExpired
            | Code::QuotaExceeded
            | Code::Refused
            | Code::Compacted
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::DataLoss
            | Code::Unimplemented
            | Code::Internal => Exit::Refused,
        }
    }
}

/// A command that failed.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    what: String,
    why: String,
    next: String,
    closed_pipe: bool,
}

impl Failure {
    /// Something that is the command's own to say.
    pub(crate) fn new(exit: Exit, what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure { exit, what: what.into(), why: why.into(), next: next.into(), closed_pipe: false }
    }

    /// A command line that cannot be right, for a reason that the parser cannot know.
    pub(super) fn usage(what: &str, why: &str, next: &str) -> Failure {
        Failure::new(Exit::Usage, what, why, next)
    }

    /// Trouble with this machine: its input, its output, its threads.
    pub(super) fn local(what: &str, error: &io::Error) -> Failure {
        let failure = Failure::new(Exit::Refused, what, error.to_string(), "");
        Failure { closed_pipe: error.kind() == io::ErrorKind::BrokenPipe, ..failure }
    }

    /// An error of the cluster. `next` says which command helps with which code.
    pub(super) fn of_call(what: impl Into<String>, error: &Error, next: impl FnOnce(Code) -> String) -> Failure {
        let why = match &error.endpoint {
            Some(endpoint) if !error.message.contains(endpoint.as_str()) => {
                format!("{} ({}, from {endpoint})", error.message, error.code)
            }
            _ => error.to_string(),
        };
        Failure::new(error.code.into(), what, why, next(error.code))
    }

    /// True when it failed only because nobody reads the output any more.
    pub(super) fn is_closed_pipe(&self) -> bool {
        self.closed_pipe
    }

    /// Writes the failure to stderr. That nobody may be reading there is no reason to panic.
    pub fn report(&self) {
        drop(io::Write::write_all(&mut io::stderr(), self.to_string().as_bytes()));
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "error: {}", self.what)?;
        if !self.why.is_empty() {
            writeln!(formatter, "  why: {}", self.why)?;
        }
        if !self.next.is_empty() {
            writeln!(formatter, "  try: {}", self.next)?;
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::local("cannot write the answer to stdout", &error)
    }
}
