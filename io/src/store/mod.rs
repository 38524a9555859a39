//! The engines under the state machines, behind core's `Store` trait. The one in memory is core's own.

mod btree;
mod journal_tail;
mod lsm;
mod made;

pub use btree::{BtreeOptions, BtreeStore, BtreeView};
pub use lsm::{LsmOptions, LsmStore, LsmView};
