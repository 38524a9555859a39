//! From the messages of the protocol to what core understands. Whatever is not possible, or not yet, is said here once.

use drey_client::proto::{self, condition::Test, op};
use drey_core::name::{Key, KeyRange};
use drey_core::request::{BatchOp, Condition, ReadMode, WriteId};
use drey_core::{Error, Version};

pub(super) fn read_mode(mode: i32) -> Result<ReadMode, Error> {
    match proto::ReadMode::try_from(mode) {
        Ok(proto::ReadMode::Linearizable) => Ok(ReadMode::Linearizable),
        Ok(proto::ReadMode::Local) => Ok(ReadMode::Local),
        Err(_) => Err(Error::invalid(format!("unknown read mode {mode}: 0 is LINEARIZABLE, 1 is LOCAL"))),
    }
}

pub(super) fn write_id(id: proto::RequestId) -> WriteId {
    WriteId { session: id.session, sequence: id.sequence, first_unacked: id.first_unacked }
}

/// A condition without a test would hold always or never: it is asked for by nobody who means it.
pub(super) fn condition(condition: proto::Condition) -> Result<Condition, Error> {
    match condition.test {
        Some(Test::VersionIs(version)) => Ok(Condition::VersionIs(Version(version))),
        Some(Test::ValueIs(value)) => Ok(Condition::ValueIs(value)),
        Some(Test::Exists(exists)) => Ok(Condition::Exists(exists)),
        None => Err(Error::invalid("the condition tests nothing: set version_is, value_is or exists")),
    }
}

/// A comparison without a condition would hold always or never as well.
pub(super) fn compare(compare: proto::Compare) -> Result<(Key, Condition), Error> {
    let tested = compare.condition.ok_or_else(|| Error::invalid("a comparison has no condition"))?;
    Ok((Key::new(compare.key)?, condition(tested)?))
}

pub(super) fn batch_op(op: proto::Op) -> Result<BatchOp, Error> {
    match op.op {
        Some(op::Op::Put(put)) => Ok(BatchOp::Put { key: Key::new(put.key)?, value: put.value, ttl_ms: put.ttl_ms }),
        Some(op::Op::Delete(delete)) => Ok(BatchOp::Delete { key: Key::new(delete.key)? }),
        Some(op::Op::Get(key)) => Ok(BatchOp::Get { key: Key::new(key)? }),
        Some(op::Op::DeleteRange(_)) => Err(not_yet("delete_range")),
        Some(op::Op::Increment(increment)) => {
            Ok(BatchOp::Increment { key: Key::new(increment.key)?, by: increment.by })
        }
        Some(op::Op::Append(append)) => Ok(BatchOp::Append { key: Key::new(append.key)?, value: append.value }),
        None => Err(Error::invalid("an operation of the batch is empty, or newer than this node")),
    }
}

fn not_yet(operation: &str) -> Error {
    Error::invalid(format!("{operation} is not supported yet in a batch"))
}

/// `prefix`, when set, replaces both bounds; no range at all is everything.
pub(super) fn key_range(range: Option<proto::KeyRange>) -> Result<KeyRange, Error> {
    match range {
        None => Ok(KeyRange::default()),
        Some(proto::KeyRange { prefix: Some(prefix), .. }) => KeyRange::prefix(prefix),
        Some(proto::KeyRange { start, end, prefix: None }) => KeyRange::new(start, end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_prefix_replaces_both_bounds() {
        let range = |start: Option<&'static str>, end: Option<&'static str>, prefix: Option<&'static str>| {
            key_range(Some(proto::KeyRange {
                start: start.map(Bytes::from),
                end: end.map(Bytes::from),
                prefix: prefix.map(Bytes::from),
            }))
        };
        let bounds = |start: Option<&'static str>, end: Option<&'static str>| KeyRange {
            start: start.map(Bytes::from),
            end: end.map(Bytes::from),
        };
        assert_eq!(key_range(None), Ok(KeyRange::default()));
        assert_eq!(range(Some("a"), Some("b"), None), Ok(bounds(Some("a"), Some("b"))));
        assert_eq!(range(Some("a"), None, Some("us")), Ok(bounds(Some("us"), Some("ut"))));
        assert_eq!(range(Some("a"), Some("b"), Some("")), Ok(bounds(Some(""), None)));
        assert!(range(Some("b"), Some("a"), None).is_err());
    }

    #[test]
    fn what_is_not_supported_yet_says_so() {
        let range = op::Op::DeleteRange(proto::RangeOp::default());
        let refused = batch_op(proto::Op { op: Some(range) }).expect_err("range deletes do not exist yet");
        assert_eq!(refused, Error::invalid("delete_range is not supported yet in a batch"));
        assert!(compare(proto::Compare { key: "k".into(), condition: None }).is_err());
        assert!(batch_op(proto::Op { op: None }).is_err());
        assert!(condition(proto::Condition { test: None }).is_err());
        assert!(read_mode(7).is_err());
    }
}
