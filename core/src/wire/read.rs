//! The bytes of a read, as a replica that is behind sends it to its leader.
//!
//! ```text
//! kind u8 | by kind:
//! get       bucket | key
//! get many  bucket | count u16 | count x key
//! scan      bucket | flags u8 | [start length u16 | start] | [end length u16 | end] | limit u64
//! next      view u64
//! end       view u64
//! list      prefix, to the end
//! describe  bucket
//! members   nothing
//! bucket: length u8 | name; key: length u16 | key
//! ```
//! Numbers are little-endian. What is in brackets is there when its flag is set; a flag that is not known is refused. A view is the
//! receiver's.

use bytes::{BufMut, Bytes};

use crate::limits::GET_MANY_KEYS_MAX;
use crate::machine::command::{put_key, take_bucket, take_key};
use crate::machine::{Cursor, DecodeError, known_flags};
use crate::name::{BucketName, Key, KeyRange};
use crate::request::ReadOp;
use crate::types::ViewId;

const GET: u8 = 0;
const GET_MANY: u8 = 1;
const SCAN: u8 = 2;
const SCAN_NEXT: u8 = 3;
const SCAN_END: u8 = 4;
const LIST: u8 = 5;
const DESCRIBE: u8 = 6;
const MEMBERS: u8 = 16;

const HAS_START: u8 = 1;
const HAS_END: u8 = 1 << 1;
const REVERSE: u8 = 1 << 2;
const KEYS_ONLY: u8 = 1 << 3;

/// The longest read that goes to another node, in bytes: as much as the servers let in.
pub(super) const READ_BYTES_MAX: usize = 4 << 20;

/// Whether a read is short enough to go to another node.
pub(crate) fn can_carry(op: &ReadOp) -> bool {
    let bytes = |key: &Key| 2 + key.as_bytes().len();
    match op {
        ReadOp::GetMany { keys, .. } => {
            keys.len() <= GET_MANY_KEYS_MAX && keys.iter().map(bytes).sum::<usize>() < READ_BYTES_MAX - 256
        }
        ReadOp::ListBuckets { prefix } => prefix.len() < READ_BYTES_MAX,
        _ => true,
    }
}

/// Appends a read's bytes. It was checked where it came in.
pub(super) fn encode(op: &ReadOp, out: &mut Vec<u8>) {
    match op {
        ReadOp::Get { bucket, key } => {
            out.put_u8(GET);
            put_bucket(bucket, out);
            put_key(key, out);
        }
        ReadOp::GetMany { bucket, keys } => {
            out.put_u8(GET_MANY);
            put_bucket(bucket, out);
            out.put_u16_le(keys.len() as u16);
            keys.iter().for_each(|key| put_key(key, out));
        }
        ReadOp::Scan { bucket, range, limit, reverse, keys_only } => {
            out.put_u8(SCAN);
            put_bucket(bucket, out);
            let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
            out.put_u8(
                flag(range.start.is_some(), HAS_START)
                    | flag(range.end.is_some(), HAS_END)
                    | flag(*reverse, REVERSE)
                    | flag(*keys_only, KEYS_ONLY),
            );
            for bound in [&range.start, &range.end].into_iter().flatten() {
                out.put_u16_le(bound.len() as u16);
                out.put_slice(bound);
            }
            out.put_u64_le(*limit);
        }
        ReadOp::ScanNext { view } => {
            out.put_u8(SCAN_NEXT);
            out.put_u64_le(view.number);
        }
        ReadOp::ScanEnd { view } => {
            out.put_u8(SCAN_END);
            out.put_u64_le(view.number);
        }
        ReadOp::ListBuckets { prefix } => {
            out.put_u8(LIST);
            out.put_slice(prefix.as_bytes());
        }
        ReadOp::DescribeBucket { bucket } => {
            out.put_u8(DESCRIBE);
            put_bucket(bucket, out);
        }
        ReadOp::Members => out.put_u8(MEMBERS),
    }
}

/// Reads what [`encode`] wrote; the buffer must hold nothing else.
pub(super) fn decode(bytes: Bytes) -> Result<ReadOp, DecodeError> {
    let mut input = Cursor::new(bytes);
    let op = match input.u8()? {
        GET => ReadOp::Get { bucket: take_bucket(&mut input)?, key: take_key(&mut input)? },
        GET_MANY => {
            let bucket = take_bucket(&mut input)?;
            let count = usize::from(input.u16()?);
            // A key has 3 bytes at least: a count that cannot be true allocates nothing.
            if count > GET_MANY_KEYS_MAX || count * 3 > input.remaining() {
                return Err(DecodeError("a bad count of keys"));
            }
            ReadOp::GetMany { bucket, keys: (0..count).map(|_| take_key(&mut input)).collect::<Result<_, _>>()? }
        }
        SCAN => {
            let bucket = take_bucket(&mut input)?;
            let flags = known_flags(input.u8()?, HAS_START | HAS_END | REVERSE | KEYS_ONLY)?;
            let start = take_bound(&mut input, flags & HAS_START != 0)?;
            let end = take_bound(&mut input, flags & HAS_END != 0)?;
            let range = KeyRange::new(start, end).map_err(|_| DecodeError("a bad range"))?;
            let (reverse, keys_only) = (flags & REVERSE != 0, flags & KEYS_ONLY != 0);
            ReadOp::Scan { bucket, range, limit: input.u64()?, reverse, keys_only }
        }
        SCAN_NEXT => ReadOp::ScanNext { view: ViewId::here(input.u64()?) },
        SCAN_END => ReadOp::ScanEnd { view: ViewId::here(input.u64()?) },
        LIST => {
            let prefix = input.take(input.remaining())?;
            let prefix = String::from_utf8(prefix.into()).map_err(|_| DecodeError("a name is not UTF-8"))?;
            ReadOp::ListBuckets { prefix }
        }
        DESCRIBE => ReadOp::DescribeBucket { bucket: take_bucket(&mut input)? },
        MEMBERS => ReadOp::Members,
        _ => return Err(DecodeError("unknown kind of read")),
    };
    input.finish()?;
    Ok(op)
}

fn put_bucket(bucket: &BucketName, out: &mut Vec<u8>) {
    out.put_u8(bucket.as_bytes().len() as u8);
    out.put_slice(bucket.as_bytes());
}

fn take_bound(input: &mut Cursor, present: bool) -> Result<Option<Bytes>, DecodeError> {
    if !present {
        return Ok(None);
    }
    let length = usize::from(input.u16()?);
    input.take(length).map(Some)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_comes_back_and_none_that_is_cut_short() {
        let bucket = BucketName::new("orders").unwrap();
        let key = |text: &'static str| Key::new(text.as_bytes()).unwrap();
        let range = KeyRange::new(Some("b".into()), Some("d".into())).unwrap();
        let to_end = KeyRange::new(None, Some("d".into())).unwrap();
        let scan =
            |range, reverse, keys_only| ReadOp::Scan { bucket: bucket.clone(), range, limit: 7, reverse, keys_only };
        let ops = [
            ReadOp::Get { bucket: bucket.clone(), key: key("k") },
            ReadOp::GetMany { bucket: bucket.clone(), keys: vec![key("a"), key("bc")] },
            ReadOp::GetMany { bucket: bucket.clone(), keys: vec![] },
            scan(range, true, false),
            scan(to_end, false, true),
            scan(KeyRange::default(), false, false),
            ReadOp::ScanNext { view: ViewId::here(5) },
            ReadOp::ScanEnd { view: ViewId::here(6) },
            ReadOp::DescribeBucket { bucket: bucket.clone() },
            ReadOp::Members,
            ReadOp::ListBuckets { prefix: "or".into() },
        ];
        for op in ops {
            let mut bytes = Vec::new();
            encode(&op, &mut bytes);
            let bytes = Bytes::from(bytes);
            assert_eq!(decode(bytes.clone()).as_ref(), Ok(&op));
            for length in 0..bytes.len() {
                assert_ne!(decode(bytes.slice(..length)).as_ref(), Ok(&op));
            }
        }
    }

    #[test]
    fn what_no_read_has_is_refused() {
        let bad: [&[u8]; 6] = [
            &[],
            &[9],
            &[MEMBERS, 0],
            &[SCAN, 1, b'x', 1 << 4, 0, 0, 0, 0, 0, 0, 0, 0],
            // 65,535 keys in no bytes; a list with half a letter.
            &[GET_MANY, 1, b'x', 0xff, 0xff],
            &[LIST, 0xc3],
        ];
        for bytes in bad {
            assert!(decode(Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }
}
