//! The bytes of what a group keeps in the store: its meta record, its buckets, its values. Numbers are little-endian.
//!
//! ```text
//! meta     format u8 = 3 | applied u64 | term u64 | version u64 | clock ms u64 | walls ahead ms i64 | counted since u64 | epoch u64 |
//!          generation u32 | configuration; format 2 is without the term since which was counted, format 1 also without the walls
//! bucket   format u8 = 1 | flags u8 | created version u64 | created ms u64 | [default ttl u64] | [max bytes u64]
//! value    flags u8 | version u64 | [expiry u64] | value
//! ```
//! Checksums are the engine's.

use bytes::{BufMut, Bytes};

use crate::machine::DecodeError;
use crate::machine::cursor::{Cursor, known_flags};
use crate::machine::entry::Stamp;
use crate::name::BucketName;
use crate::request::Entry;
use crate::store::StoreError;
use crate::types::{LogIndex, Term, Version};

const FORMAT: u8 = 1;
const META_FORMAT: u8 = 3;
const META_FORMAT_WITHOUT_TERM: u8 = 2;
const META_FORMAT_WITHOUT_WALLS: u8 = 1;
const HAS_TTL: u8 = 1;
const HAS_MAX_BYTES: u8 = 1 << 1;
const HAS_EXPIRY: u8 = 1;

/// Where a group stands: in one batch with the data that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) applied: LogIndex,
    pub(crate) term: Term,
    pub(crate) version: Version,
    /// The highest of an applied entry.
    pub(crate) stamp: Stamp,
    pub(crate) epoch: u64,
    pub(crate) generation: u32,
    pub(crate) configuration: Bytes,
}

impl Meta {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(1 + 7 * 8 + 4 + self.configuration.len());
        out.put_u8(META_FORMAT);
        out.put_u64_le(self.applied.0);
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.version.0);
        out.put_u64_le(self.stamp.clock_ms);
        out.put_i64_le(self.stamp.walls_ahead_ms);
        out.put_u64_le(self.stamp.counted_since.0);
        out.put_u64_le(self.epoch);
        out.put_u32_le(self.generation);
        out.put_slice(&self.configuration);
        out.into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Meta, DecodeError> {
        let mut input = Cursor::new(bytes);
        let format = input.u8()?;
        if !(META_FORMAT_WITHOUT_WALLS..=META_FORMAT).contains(&format) {
            return Err(DecodeError("unknown format of a meta record"));
        }
        let (applied, term, version) = (LogIndex(input.u64()?), Term(input.u64()?), Version(input.u64()?));
        let clock_ms = input.u64()?;
        let walls_ahead_ms = if format > META_FORMAT_WITHOUT_WALLS { input.u64()?.cast_signed() } else { 0 };
        let counted_since = Term(if format > META_FORMAT_WITHOUT_TERM { input.u64()? } else { 0 });
        Ok(Meta {
            applied,
            term,
            version,
            stamp: Stamp { clock_ms, walls_ahead_ms, counted_since },
            epoch: input.u64()?,
            generation: input.u32()?,
            configuration: input.into_rest(),
        })
    }
}

/// A bucket as it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketRecord {
    /// Of the write that made it: in front of all its keys.
    pub created_version: Version,
    /// As given at creation.
    pub created_ms: u64,
    /// As given at creation.
    pub default_ttl_ms: Option<u64>,
    /// As given at creation.
    pub max_bytes: Option<u64>,
}

impl BucketRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(2 + 4 * 8);
        out.put_u8(FORMAT);
        let ttl = if self.default_ttl_ms.is_some() { HAS_TTL } else { 0 };
        let max = if self.max_bytes.is_some() { HAS_MAX_BYTES } else { 0 };
        out.put_u8(ttl | max);
        out.put_u64_le(self.created_version.0);
        out.put_u64_le(self.created_ms);
        for number in [self.default_ttl_ms, self.max_bytes].into_iter().flatten() {
            out.put_u64_le(number);
        }
        out.into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<BucketRecord, DecodeError> {
        let mut input = Cursor::new(bytes);
        if input.u8()? != FORMAT {
            return Err(DecodeError("unknown format of a bucket record"));
        }
        let flags = known_flags(input.u8()?, HAS_TTL | HAS_MAX_BYTES)?;
        let bucket = BucketRecord {
            created_version: Version(input.u64()?),
            created_ms: input.u64()?,
            default_ttl_ms: input.optional_u64(flags & HAS_TTL != 0)?,
            max_bytes: input.optional_u64(flags & HAS_MAX_BYTES != 0)?,
        };
        input.finish()?;
        Ok(bucket)
    }
}

impl BucketRecord {
    /// Reads a record with the name that stands in its key.
    pub(crate) fn decode_named(name: &[u8], record: Bytes) -> Result<(BucketName, BucketRecord), DecodeError> {
        if name.is_empty() {
            return Err(DecodeError("a bucket record without a name"));
        }
        let name = BucketName::new(Bytes::copy_from_slice(name)).map_err(|_| DecodeError("a bad bucket name"))?;
        Ok((name, BucketRecord::decode(record)?))
    }
}

/// A value as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueRecord {
    pub(crate) version: Version,
    pub(crate) expiry_ms: Option<u64>,
    pub(crate) value: Bytes,
}

impl ValueRecord {
    /// The bytes of a value: one allocation, as this is done for each put.
    pub(crate) fn encode(version: Version, expiry_ms: Option<u64>, value: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(1 + 8 + if expiry_ms.is_some() { 8 } else { 0 } + value.len());
        out.put_u8(if expiry_ms.is_some() { HAS_EXPIRY } else { 0 });
        out.put_u64_le(version.0);
        if let Some(expiry_ms) = expiry_ms {
            out.put_u64_le(expiry_ms);
        }
        out.put_slice(value);
        out.into()
    }

    /// Whether the value is still there when the group's clock shows this. The one place that says what expired is.
    pub(crate) fn lives_at(&self, clock_ms: u64) -> bool {
        self.expiry_ms.is_none_or(|expiry_ms| expiry_ms > clock_ms)
    }

    /// The value with its key as a user sees it when the clock shows this. A value that is still there has 1 ms left at least.
    pub(crate) fn entry(self, key: &Bytes, clock_ms: u64) -> Entry {
        let ttl_ms = self.expiry_ms.map(|expiry_ms| expiry_ms.saturating_sub(clock_ms).max(1));
        Entry { key: key.clone(), value: self.value, version: self.version, ttl_ms }
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<ValueRecord, DecodeError> {
        let mut input = Cursor::new(bytes);
        let flags = known_flags(input.u8()?, HAS_EXPIRY)?;
        Ok(ValueRecord {
            version: Version(input.u64()?),
            expiry_ms: input.optional_u64(flags & HAS_EXPIRY != 0)?,
            value: input.into_rest(),
        })
    }
}

/// A record of the store that cannot be read: the store is damaged.
pub(crate) fn damaged(key: &[u8], error: DecodeError) -> StoreError {
    StoreError::Damaged(format!("a damaged record at key {:?}: {error}", Bytes::copy_from_slice(key)))
}
