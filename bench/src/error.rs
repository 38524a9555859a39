//! What can go wrong around a run. Failed operations within one are no errors: they are counted in its summary.

use std::io;
use std::path::PathBuf;

use crate::grpc::CallError;

/// Why a run or a comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict each other.
    #[error("{0}")]
    Usage(String),
    /// An endpoint did not accept a connection.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The endpoint as it was given.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// An endpoint answered, but not with what a run needs to begin.
    #[error("{endpoint} does not answer {what}: {source}")]
    Call {
        /// The endpoint as it was given.
        endpoint: String,
        /// The call.
        what: &'static str,
        /// The answer.
        source: CallError,
    },
    /// Nobody leads the bucket, so that it cannot be routed to.
    #[error("no endpoint knows a leader of {0}; wait for an election, or use `--to all`")]
    NoLeader(String),
    /// Not all keys could be put before the run.
    #[error("{failed} of {keys} keys could not be put before the run: {errors}")]
    Preload {
        /// Puts that failed.
        failed: u64,
        /// Keys asked for.
        keys: u64,
        /// The errors' names and counts.
        errors: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The directory is in memory, where a sync costs nothing.
    #[error("{directory:?} is on {file_system}, where a sync costs nothing; give a directory on a disk")]
    InMemory {
        /// The directory.
        directory: PathBuf,
        /// The file system's name.
        file_system: String,
    },
    /// The comparison was given up on request.
    #[error("interrupted; the nodes have been ended and their data removed")]
    Interrupted,
    /// A cluster under comparison did not come up.
    #[error("the {system} cluster is not ready after {seconds} s: {reason}\n{log}")]
    NotReady {
        /// The system's name.
        system: &'static str,
        /// How long was waited.
        seconds: u64,
        /// What is missing.
        reason: String,
        /// The end of each node's log.
        log: String,
    },
}

impl Error {
    /// An I/O error with what was tried.
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}
