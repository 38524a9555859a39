//! The bytes of an answer, as a leader sends it to the node that forwarded the request, and as a session keeps that to a write.
//!
//! ```text
//! format u8 = 1 | kind u8 | by kind; an error: code u8 | text length u16 | text
//! ```
//! Numbers are little-endian; a truth is a byte 0 or 1; what may be absent has such a byte in front.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::error::Error;
use crate::limits::{
    BATCH_OPS_MAX, BUCKETS_PER_GROUP_MAX, ERROR_TEXT_BYTES_MAX, GET_MANY_KEYS_MAX, SCAN_PAGE_ENTRIES_MAX,
};
use crate::machine::DecodeError;
use crate::machine::command::{take_bucket, take_value};
use crate::machine::cursor::Cursor;
use crate::name::Key;
use crate::request::{BucketInfo, Entry, OpResult, Page, Reply};
use crate::system::Members;
use crate::types::{GroupId, NodeId, Version, ViewId};

const FORMAT: u8 = 1;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const BATCH: u8 = 2;
const CREATED: u8 = 3;
const DROPPED: u8 = 4;
const SESSION_OPENED: u8 = 5;
const TXN: u8 = 6;
const EXPIRE: u8 = 7;
const ENTRY: u8 = 8;
const ENTRIES: u8 = 9;
const PAGE: u8 = 10;
const BUCKETS: u8 = 11;
const DONE: u8 = 12;
const MEMBERS: u8 = 16;
const ERROR: u8 = 255;

/// Appends the bytes of an answer. An error's text is cut at [`ERROR_TEXT_BYTES_MAX`].
///
/// # Panics
/// On a status, which is asked of the node that it is about.
pub fn encode(answer: &Result<Reply, Error>, out: &mut Vec<u8>) {
    out.put_u8(FORMAT);
    match answer {
        Ok(Reply::Put { applied, version, previous }) => {
            out.put_slice(&[PUT, u8::from(*applied)]);
            out.put_u64_le(version.0);
            put_entry(previous.as_ref(), out);
        }
        Ok(Reply::Delete { applied, existed, version, previous }) => {
            out.put_slice(&[DELETE, u8::from(*applied), u8::from(*existed)]);
            out.put_u64_le(version.0);
            put_entry(previous.as_ref(), out);
        }
        Ok(Reply::Batch { version, results }) => {
            out.put_u8(BATCH);
            out.put_u64_le(version.0);
            put_results(results, out);
        }
        Ok(Reply::Txn { succeeded, version, results }) => {
            out.put_slice(&[TXN, u8::from(*succeeded)]);
            out.put_u64_le(version.0);
            put_results(results, out);
        }
        Ok(Reply::Expire { existed, version }) => {
            out.put_slice(&[EXPIRE, u8::from(*existed)]);
            out.put_u64_le(version.0);
        }
        Ok(Reply::Created { bucket, created }) => {
            out.put_slice(&[CREATED, u8::from(*created)]);
            put_bucket(bucket, out);
        }
        Ok(Reply::Dropped { existed }) => out.put_slice(&[DROPPED, u8::from(*existed)]),
        Ok(Reply::SessionOpened { session }) => {
            out.put_u8(SESSION_OPENED);
            out.put_u64_le(*session);
        }
        Ok(Reply::Members { id, members }) => {
            out.put_u8(MEMBERS);
            out.put_u64_le(id.0);
            out.put_slice(&members.encode());
        }
        Ok(Reply::Entry(entry)) => {
            out.put_u8(ENTRY);
            put_entry(entry.as_ref(), out);
        }
        Ok(Reply::Entries(entries)) => {
            out.put_u8(ENTRIES);
            out.put_u16_le(u16::try_from(entries.len()).expect("as many as there were keys"));
            entries.iter().for_each(|entry| put_entry(entry.as_ref(), out));
        }
        Ok(Reply::Page(Page { entries, version, next, more })) => {
            out.put_u8(PAGE);
            out.put_u16_le(u16::try_from(entries.len()).expect("as many as a page has"));
            entries.iter().for_each(|entry| put_entry(Some(entry), out));
            out.put_u64_le(version.0);
            put_optional(next.map(|view| view.number), out);
            out.put_u8(u8::from(*more));
        }
        Ok(Reply::Buckets(buckets)) => {
            out.put_u8(BUCKETS);
            out.put_u16_le(u16::try_from(buckets.len()).expect("as many as a group has"));
            buckets.iter().for_each(|bucket| put_bucket(bucket, out));
        }
        Ok(Reply::Done) => out.put_u8(DONE),
        Ok(Reply::Status(_)) => panic!("a status stays on its node"),
        Err(error) => {
            out.put_u8(ERROR);
            put_error(error, out);
        }
    }
}

/// Reads an answer; the buffer must hold nothing else.
pub fn decode(bytes: Bytes) -> Result<Result<Reply, Error>, DecodeError> {
    let mut input = Cursor::new(bytes);
    if input.u8()? != FORMAT {
        return Err(DecodeError("unknown format of an answer"));
    }
    let answer = match input.u8()? {
        PUT => Ok(Reply::Put {
            applied: take_bool(&mut input)?,
            version: Version(input.u64()?),
            previous: take_entry(&mut input)?,
        }),
        DELETE => Ok(Reply::Delete {
            applied: take_bool(&mut input)?,
            existed: take_bool(&mut input)?,
            version: Version(input.u64()?),
            previous: take_entry(&mut input)?,
        }),
        BATCH => Ok(Reply::Batch { version: Version(input.u64()?), results: take_results(&mut input)? }),
        CREATED => {
            let created = take_bool(&mut input)?;
            Ok(Reply::Created { bucket: take_info(&mut input)?, created })
        }
        EXPIRE => Ok(Reply::Expire { existed: take_bool(&mut input)?, version: Version(input.u64()?) }),
        DROPPED => Ok(Reply::Dropped { existed: take_bool(&mut input)? }),
        TXN => Ok(Reply::Txn {
            succeeded: take_bool(&mut input)?,
            version: Version(input.u64()?),
            results: take_results(&mut input)?,
        }),
        SESSION_OPENED => Ok(Reply::SessionOpened { session: input.u64()? }),
        MEMBERS => {
            let id = NodeId(input.u64()?);
            Ok(Reply::Members { id, members: Arc::new(Members::take(&mut input)?) })
        }
        ENTRY => Ok(Reply::Entry(take_entry(&mut input)?)),
        ENTRIES => {
            let count = take_count(&mut input, GET_MANY_KEYS_MAX, 1)?;
            Ok(Reply::Entries((0..count).map(|_| take_entry(&mut input)).collect::<Result<_, _>>()?))
        }
        PAGE => {
            let count = take_count(&mut input, SCAN_PAGE_ENTRIES_MAX, 1)?;
            let entry = |input: &mut Cursor| take_entry(input)?.ok_or(DecodeError("a page with an entry that is none"));
            Ok(Reply::Page(Page {
                entries: (0..count).map(|_| entry(&mut input)).collect::<Result<_, _>>()?,
                version: Version(input.u64()?),
                next: take_optional(&mut input)?.map(ViewId::here),
                more: take_bool(&mut input)?,
            }))
        }
        BUCKETS => {
            let count = take_count(&mut input, BUCKETS_PER_GROUP_MAX, 1)?;
            Ok(Reply::Buckets((0..count).map(|_| take_info(&mut input)).collect::<Result<_, _>>()?))
        }
        DONE => Ok(Reply::Done),
        ERROR => Err(take_error(&mut input)?),
        _ => return Err(DecodeError("unknown kind of answer")),
    };
    input.finish()?;
    Ok(answer)
}

fn put_results(results: &[OpResult], out: &mut Vec<u8>) {
    out.put_u16_le(u16::try_from(results.len()).expect("as many as there were operations"));
    for result in results {
        out.put_u64_le(result.affected);
        put_entry(result.entry.as_ref(), out);
    }
}

fn put_optional(number: Option<u64>, out: &mut Vec<u8>) {
    out.put_u8(u8::from(number.is_some()));
    if let Some(number) = number {
        out.put_u64_le(number);
    }
}

fn put_entry(entry: Option<&Entry>, out: &mut Vec<u8>) {
    out.put_u8(u8::from(entry.is_some()));
    if let Some(Entry { key, value, version, ttl_ms }) = entry {
        out.put_u16_le(u16::try_from(key.len()).expect("keys are short"));
        out.put_slice(key);
        out.put_u32_le(u32::try_from(value.len()).expect("values are bounded"));
        out.put_slice(value);
        out.put_u64_le(version.0);
        put_optional(*ttl_ms, out);
    }
}

fn put_bucket(bucket: &BucketInfo, out: &mut Vec<u8>) {
    out.put_u8(bucket.name.as_bytes().len() as u8);
    out.put_slice(bucket.name.as_bytes());
    out.put_u32_le(bucket.group.0);
    out.put_u64_le(bucket.keys_estimate);
    out.put_u64_le(bucket.bytes_estimate);
    put_optional(bucket.default_ttl_ms, out);
    put_optional(bucket.max_bytes, out);
    out.put_u64_le(bucket.created_ms);
    out.put_u64_le(bucket.created_version.0);
}

fn put_error(error: &Error, out: &mut Vec<u8>) {
    let (code, text): (u8, &str) = match error {
        // What one node knows of the cause is for its own callers.
        Error::Explained { error, .. } => return put_error(error, out),
        Error::BucketNotFound(text) => (0, text),
        Error::BucketExists(text) => (1, text),
        Error::InvalidArgument(text) => (2, text),
        Error::ConditionFailed => (3, ""),
        Error::NoLeader => (4, ""),
        Error::NotReady(text) => (5, text),
        Error::OutcomeUnknown => (6, ""),
        Error::SessionExpired => (7, ""),
        Error::Overloaded(text) => (8, text),
        Error::QuotaExceeded(text) => (9, text),
        Error::DeadlineExceeded => (10, ""),
        Error::Compacted(text) => (11, text),
        Error::DataLoss(text) => (12, text),
        Error::Refused(text) => (13, text),
        Error::NotFound(text) => (14, text),
    };
    let mut len = text.len().min(ERROR_TEXT_BYTES_MAX);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    let text = &text[..len];
    out.put_u8(code);
    out.put_u16_le(text.len() as u16);
    out.put_slice(text.as_bytes());
}

fn take_bool(input: &mut Cursor) -> Result<bool, DecodeError> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError("neither true nor false")),
    }
}

fn take_optional(input: &mut Cursor) -> Result<Option<u64>, DecodeError> {
    let present = take_bool(input)?;
    input.optional_u64(present)
}

fn take_entry(input: &mut Cursor) -> Result<Option<Entry>, DecodeError> {
    if !take_bool(input)? {
        return Ok(None);
    }
    let key_len = usize::from(input.u16()?);
    let key = Key::new(input.take(key_len)?).map_err(|_| DecodeError("a key of a bad length"))?;
    Ok(Some(Entry {
        key: key.as_bytes().clone(),
        value: take_value(input)?,
        version: Version(input.u64()?),
        ttl_ms: take_optional(input)?,
    }))
}

fn take_results(input: &mut Cursor) -> Result<Vec<OpResult>, DecodeError> {
    let count = take_count(input, BATCH_OPS_MAX, 9)?;
    (0..count).map(|_| Ok(OpResult { affected: input.u64()?, entry: take_entry(input)? })).collect()
}

/// A count of things that have `bytes_min` bytes at least: one that cannot be true allocates nothing.
fn take_count(input: &mut Cursor, max: usize, bytes_min: usize) -> Result<usize, DecodeError> {
    let count = usize::from(input.u16()?);
    if count > max || count * bytes_min > input.remaining() {
        return Err(DecodeError("a bad count in an answer"));
    }
    Ok(count)
}

fn take_info(input: &mut Cursor) -> Result<BucketInfo, DecodeError> {
    Ok(BucketInfo {
        name: take_bucket(input)?,
        group: GroupId(input.u32()?),
        keys_estimate: input.u64()?,
        bytes_estimate: input.u64()?,
        default_ttl_ms: take_optional(input)?,
        max_bytes: take_optional(input)?,
        created_ms: input.u64()?,
        created_version: Version(input.u64()?),
    })
}

fn take_error(input: &mut Cursor) -> Result<Error, DecodeError> {
    let code = input.u8()?;
    let len = usize::from(input.u16()?);
    if len > ERROR_TEXT_BYTES_MAX {
        return Err(DecodeError("an error's text is too long"));
    }
    let text = String::from_utf8(input.take(len)?.into()).map_err(|_| DecodeError("an error's text is not UTF-8"))?;
    let plain = |error: Error| if len == 0 { Ok(error) } else { Err(DecodeError("an error with a text too many")) };
    match code {
        0 => Ok(Error::BucketNotFound(text)),
        1 => Ok(Error::BucketExists(text)),
        2 => Ok(Error::InvalidArgument(text)),
        3 => plain(Error::ConditionFailed),
        4 => plain(Error::NoLeader),
        5 => Ok(Error::NotReady(text)),
        6 => plain(Error::OutcomeUnknown),
        7 => plain(Error::SessionExpired),
        8 => Ok(Error::Overloaded(text)),
        9 => Ok(Error::QuotaExceeded(text)),
        10 => plain(Error::DeadlineExceeded),
        11 => Ok(Error::Compacted(text)),
        12 => Ok(Error::DataLoss(text)),
        13 => Ok(Error::Refused(text)),
        14 => Ok(Error::NotFound(text)),
        _ => Err(DecodeError("unknown code of an error")),
    }
}
