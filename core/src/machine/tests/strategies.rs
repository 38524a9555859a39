//! What property tests draw from.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::error::Error;
use crate::limits::KEY_BYTES_MAX;
use crate::name::{BucketName, Key};
use crate::request::{BatchOp, BucketInfo, Command, Condition, Entry, OpResult, Page, Reply, Write, WriteId};
use crate::types::{GroupId, Version, ViewId};

pub(super) fn bucket_name() -> impl Strategy<Value = BucketName> {
    prop_oneof![
        Just(BucketName::DEFAULT),
        "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
            .prop_map(|name| { BucketName::new(name).expect("the pattern is what is allowed") })
    ]
}

fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![
        9 => vec(any::<u8>(), 1..40),
        1 => any::<u8>().prop_map(|byte| vec![byte; KEY_BYTES_MAX]),
    ]
    .prop_map(|key| Key::new(key).expect("within the limits"))
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        any::<u64>().prop_map(|version| Condition::VersionIs(Version(version))),
        bytes().prop_map(Condition::ValueIs),
        any::<bool>().prop_map(Condition::Exists),
    ]
}

fn op() -> impl Strategy<Value = BatchOp> {
    prop_oneof![
        (any_key(), bytes(), any::<Option<u64>>()).prop_map(|(key, value, ttl_ms)| BatchOp::Put { key, value, ttl_ms }),
        any_key().prop_map(|key| BatchOp::Delete { key }),
        any_key().prop_map(|key| BatchOp::Get { key }),
        (any_key(), any::<i64>()).prop_map(|(key, by)| BatchOp::Increment { key, by }),
        (any_key(), bytes()).prop_map(|(key, value)| BatchOp::Append { key, value }),
    ]
}

/// Any command that can be encoded, valid or not.
pub(super) fn any_command() -> impl Strategy<Value = Command> {
    let write = prop_oneof![
        any::<(Option<u64>, Option<u64>, bool, u64)>().prop_map(
            |(default_ttl_ms, max_bytes, if_not_exists, created_ms)| Write::CreateBucket {
                default_ttl_ms,
                max_bytes,
                if_not_exists,
                created_ms
            }
        ),
        any::<Option<u64>>().prop_map(|version| Write::DropBucket { created_version: version.map(Version) }),
        (any_key(), bytes(), any::<Option<u64>>(), option::of(condition()), any::<bool>()).prop_map(
            |(key, value, ttl_ms, condition, return_previous)| Write::Put {
                key,
                value,
                ttl_ms,
                condition,
                return_previous
            }
        ),
        (any_key(), any::<Option<u64>>()).prop_map(|(key, ttl_ms)| Write::Expire { key, ttl_ms }),
        (any_key(), option::of(condition()), any::<bool>())
            .prop_map(|(key, condition, return_previous)| { Write::Delete { key, condition, return_previous } }),
        vec(op(), 0..12).prop_map(|ops| Write::Batch { ops }),
        (vec((any_key(), condition()), 0..4), vec(op(), 0..4), vec(op(), 0..4))
            .prop_map(|(compare, success, failure)| Write::Txn { compare, success, failure }),
        Just(Write::OpenSession),
    ];
    let id = any::<Option<(u64, u64, u64)>>()
        .prop_map(|id| id.map(|(session, sequence, first_unacked)| WriteId { session, sequence, first_unacked }));
    (bucket_name(), id, write).prop_map(|(bucket, id, write)| {
        let id = id.filter(|_| write != Write::OpenSession);
        Command { bucket, id, write }
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    (any_key(), bytes(), any::<u64>(), any::<Option<u64>>()).prop_map(|(key, value, version, ttl_ms)| Entry {
        key: key.as_bytes().clone(),
        value,
        version: Version(version),
        ttl_ms,
    })
}

fn info() -> impl Strategy<Value = BucketInfo> {
    (bucket_name(), any::<(u32, u64, u64, Option<u64>, Option<u64>, u64, u64)>()).prop_map(
        |(name, (group, keys, bytes, default_ttl_ms, max_bytes, created_ms, created_version))| BucketInfo {
            name,
            group: GroupId(group),
            keys_estimate: keys,
            bytes_estimate: bytes,
            default_ttl_ms,
            max_bytes,
            created_ms,
            created_version: Version(created_version),
        },
    )
}

fn error() -> impl Strategy<Value = Error> {
    ("\\PC{0,60}", 0..15).prop_map(|(text, kind)| match kind {
        0 => Error::BucketNotFound(text),
        1 => Error::BucketExists(text),
        2 => Error::InvalidArgument(text),
        3 => Error::ConditionFailed,
        4 => Error::NoLeader,
        5 => Error::NotReady(text),
        6 => Error::OutcomeUnknown,
        7 => Error::SessionExpired,
        8 => Error::Overloaded(text),
        9 => Error::QuotaExceeded(text),
        10 => Error::DeadlineExceeded,
        11 => Error::Compacted(text),
        12 => Error::DataLoss(text),
        13 => Error::Refused(text),
        _ => Error::NotFound(text),
    })
}

/// Any answer that a request can have which goes to another node.
pub(super) fn any_answer() -> impl Strategy<Value = Result<Reply, Error>> {
    prop_oneof![2 => write_answer(), 1 => read_answer()]
}

fn write_answer() -> impl Strategy<Value = Result<Reply, Error>> {
    let result = || (any::<u64>(), option::of(any_entry())).prop_map(|(affected, entry)| OpResult { affected, entry });
    prop_oneof![
        (any::<bool>(), any::<u64>(), option::of(any_entry())).prop_map(|(applied, version, previous)| {
            Ok(Reply::Put { applied, version: Version(version), previous })
        }),
        (any::<(bool, bool, u64)>(), option::of(any_entry())).prop_map(|((applied, existed, version), previous)| {
            Ok(Reply::Delete { applied, existed, version: Version(version), previous })
        }),
        (any::<u64>(), vec(result(), 0..8))
            .prop_map(|(version, results)| Ok(Reply::Batch { version: Version(version), results })),
        (any::<bool>(), any::<u64>())
            .prop_map(|(existed, version)| Ok(Reply::Expire { existed, version: Version(version) })),
        (info(), any::<bool>()).prop_map(|(bucket, created)| Ok(Reply::Created { bucket, created })),
        any::<bool>().prop_map(|existed| Ok(Reply::Dropped { existed })),
        any::<u64>().prop_map(|session| Ok(Reply::SessionOpened { session })),
        (any::<bool>(), any::<u64>(), vec(result(), 0..8)).prop_map(|(succeeded, version, results)| {
            Ok(Reply::Txn { succeeded, version: Version(version), results })
        }),
        error().prop_map(Err),
    ]
}

fn read_answer() -> impl Strategy<Value = Result<Reply, Error>> {
    prop_oneof![
        option::of(any_entry()).prop_map(Reply::Entry),
        vec(option::of(any_entry()), 0..8).prop_map(Reply::Entries),
        (vec(any_entry(), 0..8), any::<(u64, Option<u64>, bool)>()).prop_map(|(entries, (version, next, more))| {
            Reply::Page(Page { entries, version: Version(version), next: next.map(ViewId::here), more })
        }),
        vec(info(), 0..8).prop_map(Reply::Buckets),
        Just(Reply::Done),
    ]
    .prop_map(Ok)
}

/// A name out of three, so that commands meet.
fn few_names() -> impl Strategy<Value = BucketName> {
    prop::sample::select(vec!["default", "one", "two"])
        .prop_map(|name| BucketName::new(name.to_owned()).expect("a good name"))
}

fn few_keys() -> impl Strategy<Value = Key> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(|key| Key::new(key.to_owned()).expect("a good key"))
}

fn few_values() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "x", "7"]).prop_map(Bytes::from)
}

/// Short, so that they end within a few entries.
fn few_ttls() -> impl Strategy<Value = Option<u64>> {
    option::of(1u64..8)
}

/// Commands with what the clock moves on before them, as in an entry; without commands it is a bare stamp.
pub(super) fn stamped_entries(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(u64, Vec<Command>)>> {
    let passes = prop_oneof![3 => Just(0u64), 3 => 1u64..4, 1 => Just(20u64)];
    vec((passes, vec(meeting_command(), 0..8)), count).prop_map(|mut entries| {
        let mut clock_ms = 0;
        for (passes, _) in &mut entries {
            clock_ms += *passes;
            *passes = clock_ms;
        }
        entries
    })
}

fn few_conditions() -> impl Strategy<Value = Condition> {
    prop_oneof![
        (0u64..12).prop_map(|version| Condition::VersionIs(Version(version))),
        few_values().prop_map(Condition::ValueIs),
        any::<bool>().prop_map(Condition::Exists),
    ]
}

/// A valid command that often meets what others did.
pub(super) fn meeting_command() -> impl Strategy<Value = Command> {
    let op = || {
        prop_oneof![
            (few_keys(), few_values(), few_ttls()).prop_map(|(key, value, ttl_ms)| BatchOp::Put { key, value, ttl_ms }),
            few_keys().prop_map(|key| BatchOp::Delete { key }),
            few_keys().prop_map(|key| BatchOp::Get { key }),
            (few_keys(), -2i64..3).prop_map(|(key, by)| BatchOp::Increment { key, by }),
            (few_keys(), few_values()).prop_map(|(key, value)| BatchOp::Append { key, value }),
        ]
    };
    let write = prop_oneof![
        2 => (any::<bool>(), few_ttls(), option::of(1u64..100)).prop_map(|(if_not_exists, default_ttl_ms, max_bytes)| {
            Write::CreateBucket { default_ttl_ms, max_bytes, if_not_exists, created_ms: 7 }
        }),
        2 => option::of(0u64..12).prop_map(|version| Write::DropBucket { created_version: version.map(Version) }),
        6 => (few_keys(), few_values(), few_ttls(), option::of(few_conditions()), any::<bool>()).prop_map(
            |(key, value, ttl_ms, condition, return_previous)| {
                Write::Put { key, value, ttl_ms, condition, return_previous }
            }
        ),
        3 => (few_keys(), few_ttls()).prop_map(|(key, ttl_ms)| Write::Expire { key, ttl_ms }),
        3 => (few_keys(), option::of(few_conditions()), any::<bool>()).prop_map(
            |(key, condition, return_previous)| Write::Delete { key, condition, return_previous }
        ),
        3 => vec(op(), 0..6).prop_map(|ops| Write::Batch { ops }),
        3 => (vec((few_keys(), few_conditions()), 0..3), vec(op(), 0..4), vec(op(), 0..4))
            .prop_map(|(compare, success, failure)| Write::Txn { compare, success, failure }),
        3 => Just(Write::OpenSession),
    ];
    // Sessions are named by versions, of which there are few.
    let id = option::of((1u64..8, 1u64..5, 1u64..5)).prop_map(|id| {
        id.map(|(session, sequence, first)| WriteId { session, sequence, first_unacked: first.min(sequence) })
    });
    (few_names(), id, write).prop_map(|(bucket, id, write)| {
        let id = id.filter(|_| write != Write::OpenSession);
        Command { bucket, id, write }
    })
}
