//! The executors: the only folder that names glommio, so that its faults are worked around in one place and it can be
//! replaced. Everything else in this crate sees plain futures, sockets and files.
//!
//! What is wrong with glommio 0.9.0, and where each of it is met:
//!
//! - **It can park with runnable tasks.** When the preemption timer fires between its arming and the scheduler's
//!   first look, the executor believes that there is nothing to do and sleeps: tasks, timers and sockets alike, until
//!   something from outside the process completes. `watchdog` wakes every executor at a fixed pace from a thread of
//!   its own; the preemption timer is never below `executor::PREEMPT_TIMER`.
//! - **A queue with its own latency disarms preemption of the others.** There is one task queue per executor; nothing
//!   here makes another.
//! - **Cancellations beyond the ring's depth are sent late**, when their ids already belong to other operations,
//!   which then fail with `ETIMEDOUT`. `executor::ring_depth` makes the ring deep enough for every connection that
//!   is admitted to be dropped in one turn; `file` takes `ETIMEDOUT` to mean "unknown" and writes again; a log
//!   write is a task that nothing can cancel ([`task::spawn_uncancelled`]).
//! - **Each executor pins 30 MiB** unless told otherwise (`executor::IO_MEMORY`).
//! - **A cancelled `accept` leaks a descriptor and loses a connection**, and listeners set `SO_REUSEPORT`, so that a
//!   second process on the same port would silently share it. [`crate::listener`] accepts on a plain thread instead.
//! - **A spawned task runs at once**, inside the spawning one, which costs one `send` per HTTP/2 request.
//!   [`task::spawn`] queues.
//! - **An executor that ends leaks its waiting tasks**, with their sockets and files. `task` keeps a list, and
//!   drops them before the executor ends. What cannot be had back is the eventfd of an executor that ended, and a
//!   kilobyte with it: every task holds a reference to them that is never given up.
//! - **The first file opened on a device decides how all are read**, and an empty one decides wrongly. `file` opens
//!   only files that hold synced bytes.
//! - **It panics** where io_uring is unavailable ([`crate::probe`] looks first), and where `/sys` does not describe a
//!   block device (`file` looks first).

mod executor;
mod file;

mod net;
mod task;
#[cfg(test)]
mod tests;
mod time;
mod watchdog;

pub use executor::{ExecutorConfig, ExecutorContext, ExecutorError, Executors, Pinning, StartError, start};
pub use file::{AlignedBuffer, AlignedFile, BLOCK, unknown_outcomes};
pub use net::{ReadHalf, SNIFF_MAX, TcpStream, WriteHalf, connect};
pub use task::{TaskHandle, blocking, need_preempt, spawn, spawn_uncancelled, yield_now};
pub use time::{Now, Sleep, now, sleep};
pub use watchdog::take_stall_max;
