//! drey's production runtime: executors on io_uring, the files under the log, sockets, mailboxes between threads.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cpus;
pub mod hyper_io;
pub mod listener;
pub mod lock;
pub mod log_files;
pub mod mailbox;
pub mod notify;
pub mod probe;
pub mod resolve;
pub mod runtime;
