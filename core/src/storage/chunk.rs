//! The bytes of a part of a snapshot: told apart from anything else, checked, and free of what only this node has (its
//! engine, its generation's number, its dropped buckets).
//!
//! ```text
//! magic "DSNP" | format u8 = 3 | flags u8 (1: the last) | group u32 | applied u64 | term u64 | chunk u64
//! chunk 0:  version u64 | clock ms u64 | walls ahead ms i64 | counted since u64 | epoch u64 | configuration length u32 | configuration
//! records:  key length u16 | key (kind and rest, as `machine::keys` has them) | value length u32 | value
//! CRC-32C of all before u32
//! ```
//! Numbers are little-endian. Records are in the order of their keys, through all chunks.

use bytes::{BufMut, Bytes};

use crate::limits::{BATCH_OPS_MAX, REPLY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::machine::entry::Stamp;
use crate::machine::keys::SUFFIX_BYTES_MAX;
use crate::machine::{Cursor, DecodeError, Meta};
use crate::storage::SnapshotMeta;
use crate::types::{GroupId, LogIndex, Term, Version};

const MAGIC: &[u8; 4] = b"DSNP";
const FORMAT: u8 = 3;
const FLAGS_AT: usize = 5;
const LAST: u8 = 1;
/// The largest record is an answer that a session keeps: entries, and for each operation of a batch what frames its result.
const RECORD_VALUE_BYTES_MAX: usize = REPLY_BYTES_MAX + 64 * BATCH_OPS_MAX;
const _: () = assert!(RECORD_VALUE_BYTES_MAX > VALUE_BYTES_MAX + 1 + 8 + 8);

/// A chunk under construction.
pub(super) struct ChunkBuilder {
    bytes: Vec<u8>,
}

impl ChunkBuilder {
    pub(super) fn new(group: GroupId, meta: &Meta, chunk: u64, capacity: usize) -> ChunkBuilder {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.put_slice(MAGIC);
        bytes.put_slice(&[FORMAT, 0]);
        bytes.put_u32_le(group.0);
        bytes.put_u64_le(meta.applied.0);
        bytes.put_u64_le(meta.term.0);
        bytes.put_u64_le(chunk);
        if chunk == 0 {
            bytes.put_u64_le(meta.version.0);
            bytes.put_u64_le(meta.stamp.clock_ms);
            bytes.put_i64_le(meta.stamp.walls_ahead_ms);
            bytes.put_u64_le(meta.stamp.counted_since.0);
            bytes.put_u64_le(meta.epoch);
            bytes.put_u32_le(meta.configuration.len() as u32);
            bytes.put_slice(&meta.configuration);
        }
        ChunkBuilder { bytes }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record; its key comes without the generation.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.put_u16_le(key.len() as u16);
        self.bytes.put_slice(key);
        self.bytes.put_u32_le(value.len() as u32);
        self.bytes.put_slice(value);
    }

    pub(super) fn finish(mut self, last: bool) -> Bytes {
        self.bytes[FLAGS_AT] = if last { LAST } else { 0 };
        let checksum = crc32c::crc32c(&self.bytes);
        self.bytes.put_u32_le(checksum);
        self.bytes.into()
    }
}

/// What a chunk says of itself first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) group: GroupId,
    pub(super) applied: LogIndex,
    pub(super) term: Term,
    pub(super) number: u64,
    pub(super) last: bool,
}

impl Head {
    fn read(input: &mut Cursor) -> Result<Head, DecodeError> {
        if input.take(MAGIC.len())? != MAGIC.as_slice() {
            return Err(DecodeError("this is no chunk of a snapshot"));
        }
        if input.u8()? != FORMAT {
            return Err(DecodeError("unknown format of a chunk"));
        }
        let last = match input.u8()? {
            0 => false,
            LAST => true,
            _ => return Err(DecodeError("unknown flags")),
        };
        let group = GroupId(input.u32()?);
        let (applied, term) = (LogIndex(input.u64()?), Term(input.u64()?));
        Ok(Head { group, applied, term, number: input.u64()?, last })
    }
}

/// Whether a chunk says of itself what was said of it. Its checksum is checked when it is staged.
pub(crate) fn is_chunk_of(data: Bytes, group: GroupId, meta: &SnapshotMeta, number: u64, last: bool) -> bool {
    Head::read(&mut Cursor::new(data))
        .is_ok_and(|head| head == Head { group, applied: meta.index, term: meta.term, number, last })
}

/// A chunk as it is read: its head, and an iterator over its records.
pub(super) struct Chunk {
    pub(super) head: Head,
    /// In chunk 0: where the group stands. The generation is left 0.
    pub(super) meta: Option<Meta>,
    records: Cursor,
}

impl Chunk {
    pub(super) fn decode(data: Bytes) -> Result<Chunk, DecodeError> {
        let Some(body_len) = data.len().checked_sub(4) else {
            return Err(DecodeError("the chunk ends too early"));
        };
        let body = data.slice(..body_len);
        if crc32c::crc32c(&body).to_le_bytes() != data[body_len..] {
            return Err(DecodeError("the chunk's checksum is wrong"));
        }
        let mut input = Cursor::new(body);
        let head = Head::read(&mut input)?;
        let mut meta = None;
        if head.number == 0 {
            let version = Version(input.u64()?);
            let (clock_ms, walls_ahead_ms) = (input.u64()?, input.u64()?.cast_signed());
            let stamp = Stamp { clock_ms, walls_ahead_ms, counted_since: Term(input.u64()?) };
            let epoch = input.u64()?;
            let configuration_len = input.u32()? as usize;
            let configuration = Bytes::copy_from_slice(&input.take(configuration_len)?);
            let Head { applied, term, .. } = head;
            meta = Some(Meta { applied, term, version, stamp, epoch, generation: 0, configuration });
        }
        Ok(Chunk { head, meta, records: input })
    }

    /// The next record: its key without the generation, and its value.
    pub(super) fn record(&mut self) -> Result<Option<(Bytes, Bytes)>, DecodeError> {
        if self.records.remaining() == 0 {
            return Ok(None);
        }
        let key_len = usize::from(self.records.u16()?);
        if key_len == 0 || key_len > SUFFIX_BYTES_MAX {
            return Err(DecodeError("a record's key has a bad length"));
        }
        let key = self.records.take(key_len)?;
        let value_len = self.records.u32()? as usize;
        if value_len > RECORD_VALUE_BYTES_MAX {
            return Err(DecodeError("a record's value has a bad length"));
        }
        Ok(Some((key, self.records.take(value_len)?)))
    }
}
