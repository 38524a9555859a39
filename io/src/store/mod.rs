//! The engines under the state machines, behind core's `Store` trait. The one in memory is core's own.

mod any;
mod btree;
mod copy;
mod journal;
mod lsm;
mod made;

pub(crate) use any::{AnyStore, without_panic};
pub use btree::{BtreeOptions, BtreeStore, BtreeView};
pub(crate) use copy::StoreCopy;
pub(crate) use journal::{cut_behind_damage, cut_broken_tail};
pub use lsm::{LsmOptions, LsmStore, LsmView};
pub(crate) use made::is_absent_or_empty;
