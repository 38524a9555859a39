//! drey's production runtime: executors on io_uring, the files under the log, sockets, mailboxes between threads.

pub mod cpus;
pub mod hyper_io;
pub mod listener;
pub mod lock;
pub mod mailbox;
pub mod notify;
pub mod probe;
pub mod runtime;
pub mod store;
