//! The worker.

/// To come.
pub struct StorageWorker;
