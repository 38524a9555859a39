//! Every codec reads what it wrote, refuses what it would not have written, and never panics.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::strategies::{any_answer, any_command};
use super::{create, put};
use crate::error::Error;
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_OPS_MAX, ENTRY_BYTES_MAX, ERROR_TEXT_BYTES_MAX, KEY_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX,
};
use crate::machine::entry::{EntryBuilder, EntryCommands, Stamp, stamp_of};
use crate::machine::{BucketRecord, Meta, ValueRecord, reply};
use crate::name::{BucketName, Key};
use crate::request::{BatchOp, Command, Condition, Write};
use crate::types::{Term, Version};

const STAMP: Stamp = Stamp { clock_ms: 7, walls_ahead_ms: -3, counted_since: Term(5) };

fn encoded(command: &Command) -> Vec<u8> {
    let mut out = Vec::new();
    command.encode(&mut out);
    out
}

/// Damage: overwritten bytes, then a new length.
fn mutate(mut bytes: Vec<u8>, changes: &[(prop::sample::Index, u8)], len: Option<prop::sample::Index>) -> Bytes {
    for (at, byte) in changes {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
    }
    if let Some(len) = len {
        let len = len.index(bytes.len() + 4);
        bytes.resize(len, 0);
    }
    bytes.into()
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    // Small numbers are more often lengths, kinds and flags that mean something.
    vec((any::<prop::sample::Index>(), prop_oneof![0u8..8, any::<u8>()]), 0..4)
}

proptest! {
    #[test]
    fn commands_round_trip(command in any_command()) {
        let bytes = encoded(&command);
        prop_assert_eq!(bytes.len(), command.encoded_len());
        prop_assert_eq!(Command::decode(bytes.into()), Ok(command));
    }

    #[test]
    fn a_damaged_command_is_refused_or_is_another(
        command in any_command(), changes in changes(), len in any::<Option<prop::sample::Index>>()
    ) {
        let bytes = mutate(encoded(&command), &changes, len);
        if let Ok(read) = Command::decode(bytes.clone()) {
            prop_assert_eq!(encoded(&read), bytes, "what is read has one form only");
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = Command::decode(bytes.clone());
        let _ = reply::decode(bytes.clone());
        let _ = EntryCommands::new(bytes.clone()).map(|commands| commands.count());
        let _ = Meta::decode(bytes.clone());
        let _ = BucketRecord::decode(bytes.clone());
        let _ = ValueRecord::decode(bytes);
    }

    #[test]
    fn answers_round_trip(answer in any_answer()) {
        let mut bytes = Vec::new();
        reply::encode(&answer, &mut bytes);
        prop_assert_eq!(reply::decode(bytes.into()), Ok(answer));
    }

    #[test]
    fn a_damaged_answer_is_refused_or_is_another(
        answer in any_answer(), changes in changes(), len in any::<Option<prop::sample::Index>>()
    ) {
        let mut bytes = Vec::new();
        reply::encode(&answer, &mut bytes);
        let bytes = mutate(bytes, &changes, len);
        if let Ok(read) = reply::decode(bytes.clone()) {
            let mut again = Vec::new();
            reply::encode(&read, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn entries_round_trip(
        commands in vec(any_command(), 0..6), (clock_ms, walls_ahead_ms, since) in any::<(u64, i64, u64)>()
    ) {
        let mut builder = EntryBuilder::new();
        for command in &commands {
            let before = builder.len();
            builder.push(command);
            prop_assert_eq!(builder.len(), before + 4 + command.encoded_len());
        }
        prop_assert_eq!(builder.count(), commands.len());
        let stamp = Stamp { clock_ms, walls_ahead_ms, counted_since: Term(since) };
        let payload = Bytes::from(builder.finish(0, stamp));
        prop_assert_eq!(stamp_of(&payload), (clock_ms > 0).then_some(stamp));
        let read = EntryCommands::new(payload).unwrap();
        prop_assert_eq!(read.stamp, stamp);
        let read: Result<Vec<_>, _> = read.collect();
        prop_assert_eq!(read, Ok(commands));
    }

    #[test]
    fn a_damaged_entry_has_as_many_answers_as_it_says(
        commands in vec(any_command(), 0..6), changes in changes(), len in any::<Option<prop::sample::Index>>()
    ) {
        let mut builder = EntryBuilder::new();
        commands.iter().for_each(|command| builder.push(command));
        if let Ok(commands) = EntryCommands::new(mutate(builder.finish(0, STAMP), &changes, len)) {
            let (said, _) = commands.size_hint();
            prop_assert_eq!(commands.count(), said);
        }
    }

    #[test]
    fn bucket_records_round_trip(
        (created_version, created_ms, default_ttl_ms, max_bytes) in any::<(u64, u64, Option<u64>, Option<u64>)>()
    ) {
        let bucket =
            BucketRecord { created_version: Version(created_version), created_ms, default_ttl_ms, max_bytes };
        prop_assert_eq!(BucketRecord::decode(bucket.encode()), Ok(bucket));
    }

    #[test]
    fn value_records_round_trip(
        version in any::<u64>(), expiry_ms in any::<Option<u64>>(), value in vec(any::<u8>(), 0..50)
    ) {
        let bytes = ValueRecord::encode(Version(version), expiry_ms, &value);
        let record = ValueRecord { version: Version(version), expiry_ms, value: value.into() };
        prop_assert_eq!(ValueRecord::decode(bytes), Ok(record));
    }
}

#[test]
fn older_formats_of_entries_and_meta_records_are_read() {
    // What each lacks: the stamp's wall clocks and the term since which was counted, or only that term.
    for (format, known, lacks) in
        [(1, Stamp { clock_ms: 7, ..Stamp::default() }, 8..24), (2, Stamp { counted_since: Term(0), ..STAMP }, 16..24)]
    {
        let old = |mut bytes: Vec<u8>, clock_at: usize| {
            bytes[0] = format;
            bytes.drain(clock_at + lacks.start..clock_at + lacks.end);
            bytes
        };
        let mut builder = EntryBuilder::new();
        builder.push(&put("b", "k", "v"));
        let entry = old(builder.finish(0, STAMP), 9);
        assert_eq!(stamp_of(&entry), (format > 1).then_some(known));
        let commands = EntryCommands::new(entry.into()).unwrap();
        assert_eq!(commands.stamp, known);
        assert_eq!(commands.collect::<Vec<_>>(), [Ok(put("b", "k", "v"))]);
        let meta = Meta { version: Version(9), stamp: STAMP, configuration: "c".into(), ..Meta::default() };
        let read = Meta::decode(old(meta.encode().to_vec(), 25).into());
        assert_eq!(read, Ok(Meta { stamp: known, ..meta }));
    }
}

#[test]
fn a_bad_length_in_an_entry_makes_errors_of_the_rest() {
    let mut builder = EntryBuilder::new();
    builder.push(&put("b", "k", "v"));
    let second = builder.len();
    builder.push(&create("b"));
    builder.push(&create("c"));
    let mut bytes = builder.finish(0, STAMP);
    bytes[second] = 0xff;
    bytes[second + 1] = 0xff;
    let commands: Vec<_> = EntryCommands::new(bytes.into()).unwrap().collect();
    assert_eq!(commands.len(), 3);
    assert_eq!(commands[0], Ok(put("b", "k", "v")));
    assert!(commands[1].is_err() && commands[2].is_err());
}

#[test]
fn the_form_of_a_put_is_what_it_was() {
    let command = Command {
        bucket: BucketName::new("b").unwrap(),
        id: None,
        write: Write::Put {
            key: Key::new("k").unwrap(),
            value: Bytes::from_static(b"value"),
            ttl_ms: None,
            condition: Some(Condition::VersionIs(Version(7))),
            return_previous: true,
        },
    };
    let expected = b"\x01\x02\x18\x01b\x01\x00k\x05\x00\x00\x00value\x00\x07\x00\x00\x00\x00\x00\x00\x00";
    assert_eq!(encoded(&command), expected);
    assert_eq!(Command::decode(Bytes::from_static(expected)), Ok(command));
}

#[test]
fn the_largest_valid_commands_fit_an_entry() {
    let largest = Bytes::from(vec![1; VALUE_BYTES_MAX]);
    let longest = Key::new(vec![b'k'; KEY_BYTES_MAX]).unwrap();
    let name = BucketName::new(vec![b'b'; 128]).unwrap();
    let put = Write::Put {
        key: longest,
        value: largest.clone(),
        ttl_ms: None,
        condition: Some(Condition::ValueIs(largest.clone())),
        return_previous: true,
    };
    // As many operations as there may be, which together have as many bytes as there may be.
    let len = BATCH_BYTES_MAX / BATCH_OPS_MAX - 4;
    let op = |at: usize| BatchOp::Put {
        key: Key::new(format!("{at:04}")).unwrap(),
        value: largest.slice(..len),
        ttl_ms: None,
    };
    let batch = Write::Batch { ops: (0..BATCH_OPS_MAX).map(op).collect() };
    for write in [put, batch] {
        let command = Command { bucket: name.clone(), id: None, write };
        assert_eq!(command.validate(), Ok(()));
        let mut builder = EntryBuilder::new();
        assert!(builder.fits(&command));
        builder.push(&command);
        assert!(builder.len() <= ENTRY_BYTES_MAX);
        assert_eq!(EntryCommands::new(builder.finish(0, STAMP).into()).unwrap().next(), Some(Ok(command)));
    }
}

#[test]
fn what_is_too_large_or_not_supported_is_refused() {
    let large = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
    let refused = |write: Write| {
        let command = Command { bucket: BucketName::DEFAULT, id: None, write };
        matches!(command.validate(), Err(Error::InvalidArgument(_)))
    };
    let key = || Key::new("k").unwrap();
    let put =
        |value: Bytes, ttl_ms, condition| Write::Put { key: key(), value, ttl_ms, condition, return_previous: false };
    assert!(!refused(put(large.slice(1..), None, None)));
    assert!(refused(put(large.clone(), None, None)));
    assert!(!refused(put(Bytes::new(), Some(1), None)) && !refused(put(Bytes::new(), Some(TTL_MS_MAX), None)));
    assert!(refused(put(Bytes::new(), Some(0), None)) && refused(put(Bytes::new(), Some(TTL_MS_MAX + 1), None)));
    assert!(refused(Write::Expire { key: key(), ttl_ms: Some(0) }));
    assert!(!refused(Write::Expire { key: key(), ttl_ms: None }));
    assert!(refused(put(Bytes::new(), None, Some(Condition::ValueIs(large.clone())))));
    assert!(refused(Write::Batch { ops: vec![BatchOp::Get { key: key() }; BATCH_OPS_MAX + 1] }));
    let half = BatchOp::Put { key: key(), value: large.slice(1..), ttl_ms: None };
    assert!(refused(Write::Batch { ops: vec![half.clone(), half] }), "two keys over the limit");
    assert!(refused(Write::Batch { ops: vec![BatchOp::Put { key: key(), value: Bytes::new(), ttl_ms: Some(0) }] }));
    let create = |default_ttl_ms, max_bytes| Write::CreateBucket {
        default_ttl_ms,
        max_bytes,
        if_not_exists: false,
        created_ms: 0,
    };
    assert!(refused(create(Some(0), None)) && !refused(create(Some(1), None)));
    assert!(refused(create(None, Some(0))));
    assert!(!refused(create(None, None)));
}

#[test]
fn a_long_error_is_cut_between_characters() {
    let mut bytes = Vec::new();
    reply::encode(&Err(Error::NotReady("é".repeat(ERROR_TEXT_BYTES_MAX) + "x")), &mut bytes);
    let Ok(Err(Error::NotReady(text))) = reply::decode(bytes.into()) else { panic!("not the error") };
    assert_eq!(text, "é".repeat(ERROR_TEXT_BYTES_MAX / 2));
}
