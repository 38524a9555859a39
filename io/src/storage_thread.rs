//! The thread on which a shard's store works, so that the executor never waits for a disk.
//!
//! Jobs are done in order. What is done while the executor is busy is told to it in one message: waking it costs more than
//! a small job.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use drey_core::storage::{StorageDone, StorageJob, StorageWorker};
use drey_core::store::Store;

use crate::mail::Mail;
use crate::mailbox::Sender;
use crate::store::without_panic;

/// The most completions in one message.
const DONE_AT_ONCE_MAX: usize = 64;

/// Starts the thread. It ends when `jobs` is dropped, having made the store durable.
pub(crate) fn start<S: Store>(
    name: &str,
    mut worker: StorageWorker<S>,
    jobs: mpsc::Receiver<StorageJob>,
    done: Sender<Mail>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        while let Ok(first) = jobs.recv() {
            let mut finished = vec![run(&mut worker, first)];
            while finished.len() < DONE_AT_ONCE_MAX
                && let Ok(next) = jobs.try_recv()
            {
                finished.push(run(&mut worker, next));
            }
            if done.send_blocking(Mail::Stored(finished)).is_err() {
                break;
            }
        }
        // A restart is faster from a durable store; one that is not is filled from the log.
        if let StorageDone::Failed(error) = run(&mut worker, StorageJob::Persist) {
            tracing::warn!(%error, "the store could not be synced at the end");
        }
    })
}

/// A shard whose store panicked must say so and end: as a leader that only waits it would block its groups.
fn run<S: Store>(worker: &mut StorageWorker<S>, job: StorageJob) -> StorageDone {
    without_panic(|| worker.run(job)).unwrap_or_else(StorageDone::Failed)
}
