//! Requests that are built up step by step, and short ways to say the common ones.

use crate::bucket::whole_ms;
use crate::proto::{self, Condition, KeyRange, Op, ReadMode, ScanRequest, TxnRequest, condition::Test, op};
use bytes::Bytes;
use std::time::Duration;

impl Condition {
    /// Met if the key does not exist.
    pub fn absent() -> Condition {
        Condition { test: Some(Test::VersionIs(0)) }
    }

    /// Met if the key exists, or if it does not.
    pub fn exists(exists: bool) -> Condition {
        Condition { test: Some(Test::Exists(exists)) }
    }

    /// Met if the key was last written by the write of this version; 0 means that the key does not exist.
    pub fn version_is(version: u64) -> Condition {
        Condition { test: Some(Test::VersionIs(version)) }
    }

    /// Met if the key exists and has this value.
    pub fn value_is(value: impl Into<Bytes>) -> Condition {
        Condition { test: Some(Test::ValueIs(value.into())) }
    }
}

/// Writes that are applied together or not at all, in the order given.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
}

impl Batch {
    /// A batch of nothing yet.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a write of one pair.
    #[must_use]
    pub fn put(self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Batch {
        self.op(op::Op::Put(proto::PutOp { key: key.into(), value: value.into(), ttl_ms: None }))
    }

    /// Adds a write of one pair that is gone when its time to live is over.
    #[must_use]
    pub fn put_for(self, key: impl Into<Bytes>, value: impl Into<Bytes>, time_to_live: Duration) -> Batch {
        let ttl_ms = Some(whole_ms(time_to_live));
        self.op(op::Op::Put(proto::PutOp { key: key.into(), value: value.into(), ttl_ms }))
    }

    /// Adds the removal of one key.
    #[must_use]
    pub fn delete(self, key: impl Into<Bytes>) -> Batch {
        self.op(op::Op::Delete(proto::DeleteOp { key: key.into() }))
    }

    /// Adds a read of one key, as it is at this point of the batch.
    #[must_use]
    pub fn get(self, key: impl Into<Bytes>) -> Batch {
        self.op(op::Op::Get(key.into()))
    }

    /// Adds to a value that is a decimal number; a missing one counts as 0. The result has the new entry.
    #[must_use]
    pub fn increment(self, key: impl Into<Bytes>, by: i64) -> Batch {
        self.op(op::Op::Increment(proto::IncrementOp { key: key.into(), by }))
    }

    /// Adds bytes behind a value, or makes one.
    #[must_use]
    pub fn append(self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Batch {
        self.op(op::Op::Append(proto::AppendOp { key: key.into(), value: value.into() }))
    }

    /// Adds any operation of the protocol.
    #[must_use]
    pub fn op(mut self, op: op::Op) -> Batch {
        self.ops.push(Op { op: Some(op) });
        self
    }
}

/// Comparisons, and what is done if all of them hold, or if not.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    pub(crate) request: TxnRequest,
}

impl Txn {
    /// A transaction that compares nothing yet, and so succeeds.
    pub fn new() -> Txn {
        Txn::default()
    }

    /// Adds a comparison.
    #[must_use]
    pub fn when(mut self, key: impl Into<Bytes>, condition: Condition) -> Txn {
        self.request.compare.push(proto::Compare { key: key.into(), condition: Some(condition) });
        self
    }

    /// What is done if all that is compared holds.
    #[must_use]
    pub fn then(mut self, batch: Batch) -> Txn {
        self.request.success = batch.ops;
        self
    }

    /// What is done if not.
    #[must_use]
    pub fn otherwise(mut self, batch: Batch) -> Txn {
        self.request.failure = batch.ops;
        self
    }
}

/// What to scan. Everything, in order, until narrowed down.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    pub(crate) request: ScanRequest,
}

impl Scan {
    /// Every entry of the bucket.
    pub fn all() -> Scan {
        Scan::default()
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Scan {
        Scan::over(KeyRange { prefix: Some(prefix.into()), ..KeyRange::default() })
    }

    /// The entries of a range as the protocol has it.
    pub fn over(range: KeyRange) -> Scan {
        Scan { request: ScanRequest { range: Some(range), ..ScanRequest::default() } }
    }

    /// From this key on, the key included.
    #[must_use]
    pub fn start(mut self, start: impl Into<Bytes>) -> Scan {
        self.request.range.get_or_insert_default().start = Some(start.into());
        self
    }

    /// Up to this key, the key not included.
    #[must_use]
    pub fn end(mut self, end: impl Into<Bytes>) -> Scan {
        self.request.range.get_or_insert_default().end = Some(end.into());
        self
    }

    /// At most so many entries; 0 means all.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Scan {
        self.request.limit = limit;
        self
    }

    /// From the last key to the first.
    #[must_use]
    pub fn reverse(mut self, reverse: bool) -> Scan {
        self.request.reverse = reverse;
        self
    }

    /// Keys and versions without the values.
    #[must_use]
    pub fn keys_only(mut self, keys_only: bool) -> Scan {
        self.request.keys_only = keys_only;
        self
    }

    /// How fresh the view must be.
    #[must_use]
    pub fn read(mut self, read: ReadMode) -> Scan {
        self.request.set_read(read);
        self
    }
}
