//! The replicated state machine: state in, state out. A group's replicas apply the same commands and so hold the same state.
//!
//! [`Machine`] is the small part of a group's state, in memory; the data itself is in the store, where [`keys`] says what
//! lies. Applying is a pure function from committed entries and what the store holds to one [`crate::store::WriteSet`], in
//! which the data and the applied index change together. Invariants worth naming:
//! - nothing here reads a clock, and nothing depends on which replica runs it;
//! - how entries are cut into batches changes neither the store nor the replies;
//! - a committed command that cannot be read answers an error, alike on every replica, and is never a panic.

mod apply;
pub mod command;
mod cursor;
mod digest;
pub mod entry;
mod expiry;
pub mod keys;
mod ops;
mod purge;
mod read;
mod record;
pub mod reply;
mod scan;
mod sessions;
mod sizes;
mod state;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use thiserror::Error;

pub use apply::Replies;
pub use digest::Digest;
pub use scan::{Scan, ScanEnd};
pub use sizes::FullBuckets;
pub use state::{Bucket, Machine};

pub(crate) use cursor::{Cursor, known_flags};
pub(crate) use record::{BucketRecord, Meta, ValueRecord};
pub(crate) use sessions::SessionRecord;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DecodeError(pub &'static str);
