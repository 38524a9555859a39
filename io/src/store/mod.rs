//! The engines under the state machines, behind core's `Store` trait. The one in memory is core's own.

mod any;
mod btree;
mod journal_tail;
mod lsm;
mod made;

pub(crate) use any::AnyStore;
pub use btree::{BtreeOptions, BtreeStore, BtreeView};
pub use lsm::{LsmOptions, LsmStore, LsmView};
