//! The engines under the state machines, behind core's `Store` trait. The one in memory is core's own.

mod journal_tail;
mod lsm;

pub use lsm::{LsmOptions, LsmStore, LsmView};
