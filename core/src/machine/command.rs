//! The bytes of a command, as they travel in the log and between nodes.
//!
//! ```text
//! format u8 = 1 | kind u8 | flags u8 | name length u8 | name | [session u64 | sequence u64 | first unacked u64] | by kind:
//! create   [default ttl u64] | [max bytes u64] | created ms u64
//! drop     [created version u64]
//! put      key length u16 | key | value length u32 | value | [ttl u64] | [condition]
//! delete   key length u16 | key | [condition]
//! expire   key length u16 | key | [ttl u64]
//! session  nothing
//! system   as `system::write` says
//! txn      count u16 | count x (key length u16 | key | condition) | the operations of success, of failure: each as a batch
//! batch    count u16 | count x (op u8 | key length u16 | key | by op)
//!          a put: value length u32 | value | [ttl u64]; an append: value length u32 | value; an increment: by i64
//! condition: test u8 | 0: version u64 / 1: value length u32 | value / 2 and 3: nothing (absent, present)
//! ```
//! Numbers are little-endian. What is in brackets is there when its flag is set; a flag that is not known is refused, so that an
//! old node never applies half of a new command.

use bytes::{BufMut, Bytes};

use crate::error::Error;
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_OPS_MAX, BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX, TTL_MS_MAX, VALUE_BYTES_MAX,
};
use crate::machine::DecodeError;
use crate::machine::cursor::{Cursor, known_flags};
use crate::name::{BucketName, Key};
use crate::request::{BatchOp, Command, Condition, Write, WriteId};
use crate::system::SystemWrite;
use crate::types::Version;

const FORMAT: u8 = 1;

const CREATE: u8 = 0;
const DROP: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const BATCH: u8 = 4;
const OPEN_SESSION: u8 = 5;
const TXN: u8 = 6;
const EXPIRE: u8 = 7;
const SYSTEM: u8 = 16;

const HAS_ID: u8 = 1;
const HAS_TTL: u8 = 1 << 1;
const HAS_MAX_BYTES: u8 = 1 << 2;
const HAS_CONDITION: u8 = 1 << 3;
const RETURN_PREVIOUS: u8 = 1 << 4;
const IF_NOT_EXISTS: u8 = 1 << 5;
const HAS_CREATED_VERSION: u8 = 1 << 6;

const OP_PUT: u8 = 0;
const OP_DELETE: u8 = 1;
const OP_GET: u8 = 2;
/// A put with a time to live.
const OP_PUT_TTL: u8 = 3;
const OP_INCREMENT: u8 = 4;
const OP_APPEND: u8 = 5;

const TEST_VERSION: u8 = 0;
const TEST_VALUE: u8 = 1;
const TEST_ABSENT: u8 = 2;
const TEST_PRESENT: u8 = 3;

impl Command {
    /// Appends the command's bytes. A command that [`Command::validate`] refuses must not be encoded.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, flags) = self.kind_and_flags();
        out.put_slice(&[FORMAT, kind, flags, self.bucket.as_bytes().len() as u8]);
        out.put_slice(self.bucket.as_bytes());
        if let Some(id) = self.id {
            out.put_u64_le(id.session);
            out.put_u64_le(id.sequence);
            out.put_u64_le(id.first_unacked);
        }
        match &self.write {
            Write::CreateBucket { default_ttl_ms, max_bytes, if_not_exists: _, created_ms } => {
                put_optional(*default_ttl_ms, out);
                put_optional(*max_bytes, out);
                out.put_u64_le(*created_ms);
            }
            Write::DropBucket { created_version } => put_optional(created_version.map(|version| version.0), out),
            Write::Put { key, value, ttl_ms, condition, return_previous: _ } => {
                put_key(key, out);
                put_value(value, out);
                put_optional(*ttl_ms, out);
                put_condition(condition.as_ref(), out);
            }
            Write::Delete { key, condition, return_previous: _ } => {
                put_key(key, out);
                put_condition(condition.as_ref(), out);
            }
            Write::Expire { key, ttl_ms } => {
                put_key(key, out);
                put_optional(*ttl_ms, out);
            }
            Write::OpenSession => {}
            Write::System(write) => write.encode(out),
            Write::Batch { ops } => put_ops(ops, out),
            Write::Txn { compare, success, failure } => {
                out.put_u16_le(u16::try_from(compare.len()).expect("validated: few enough comparisons"));
                for (key, condition) in compare {
                    put_key(key, out);
                    put_condition(Some(condition), out);
                }
                put_ops(success, out);
                put_ops(failure, out);
            }
        }
    }

    /// How many bytes [`Command::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        let optional = |present: bool| if present { 8 } else { 0 };
        let condition_len = |condition: &Option<Condition>| match condition {
            None => 0,
            Some(Condition::VersionIs(_)) => 1 + 8,
            Some(Condition::ValueIs(value)) => 1 + 4 + value.len(),
            Some(Condition::Exists(_)) => 1,
        };
        let key_len = |key: &Key| 2 + key.as_bytes().len();
        let write = match &self.write {
            Write::CreateBucket { default_ttl_ms, max_bytes, .. } => {
                optional(default_ttl_ms.is_some()) + optional(max_bytes.is_some()) + 8
            }
            Write::DropBucket { created_version } => optional(created_version.is_some()),
            Write::Put { key, value, ttl_ms, condition, .. } => {
                key_len(key) + 4 + value.len() + optional(ttl_ms.is_some()) + condition_len(condition)
            }
            Write::Delete { key, condition, .. } => key_len(key) + condition_len(condition),
            Write::Expire { key, ttl_ms } => key_len(key) + optional(ttl_ms.is_some()),
            Write::OpenSession => 0,
            Write::System(write) => write.encoded_len(),
            Write::Batch { ops } => ops_len(ops),
            Write::Txn { compare, success, failure } => {
                let compare_len =
                    |(key, condition): &(Key, Condition)| key_len(key) + condition_len(&Some(condition.clone()));
                2 + compare.iter().map(compare_len).sum::<usize>() + ops_len(success) + ops_len(failure)
            }
        };
        4 + self.bucket.as_bytes().len() + if self.id.is_some() { 24 } else { 0 } + write
    }

    /// Reads a command; the buffer must hold nothing else. Keys and values share the buffer.
    pub fn decode(bytes: Bytes) -> Result<Command, DecodeError> {
        let mut input = Cursor::new(bytes);
        if input.u8()? != FORMAT {
            return Err(DecodeError("unknown format of a command"));
        }
        let kind = input.u8()?;
        let flags = known_flags(input.u8()?, flags_of(kind)?)?;
        let bucket = take_bucket(&mut input)?;
        let has = |flag: u8| flags & flag != 0;
        let id = if has(HAS_ID) {
            Some(WriteId { session: input.u64()?, sequence: input.u64()?, first_unacked: input.u64()? })
        } else {
            None
        };
        let write = match kind {
            CREATE => Write::CreateBucket {
                default_ttl_ms: input.optional_u64(has(HAS_TTL))?,
                max_bytes: input.optional_u64(has(HAS_MAX_BYTES))?,
                if_not_exists: has(IF_NOT_EXISTS),
                created_ms: input.u64()?,
            },
            DROP => Write::DropBucket { created_version: input.optional_u64(has(HAS_CREATED_VERSION))?.map(Version) },
            PUT => Write::Put {
                key: take_key(&mut input)?,
                value: take_value(&mut input)?,
                ttl_ms: input.optional_u64(has(HAS_TTL))?,
                condition: take_condition(&mut input, has(HAS_CONDITION))?,
                return_previous: has(RETURN_PREVIOUS),
            },
            DELETE => Write::Delete {
                key: take_key(&mut input)?,
                condition: take_condition(&mut input, has(HAS_CONDITION))?,
                return_previous: has(RETURN_PREVIOUS),
            },
            BATCH => Write::Batch { ops: take_ops(&mut input)? },
            OPEN_SESSION => Write::OpenSession,
            SYSTEM => Write::System(SystemWrite::take(&mut input)?),
            EXPIRE => Write::Expire { key: take_key(&mut input)?, ttl_ms: input.optional_u64(has(HAS_TTL))? },
            TXN => Write::Txn {
                compare: take_compare(&mut input)?,
                success: take_ops(&mut input)?,
                failure: take_ops(&mut input)?,
            },
            _ => return Err(DecodeError("unknown kind of command")),
        };
        input.finish()?;
        Ok(Command { bucket, id, write })
    }

    /// Refuses what the types allow and drey does not: values and batches over the limits, and what is not supported yet.
    pub fn validate(&self) -> Result<(), Error> {
        if let Some(WriteId { sequence, first_unacked, .. }) = self.id
            && !(1..=sequence).contains(&first_unacked)
        {
            return Err(Error::invalid(format!(
                "write {sequence} of a session, first unacknowledged {first_unacked}: both count from 1, the latter up to the former"
            )));
        }
        match &self.write {
            Write::CreateBucket { max_bytes: Some(0), .. } => {
                Err(Error::invalid("a bucket that may hold 0 bytes (max_bytes) could hold nothing"))
            }
            Write::CreateBucket { default_ttl_ms, .. } => ttl_fits(*default_ttl_ms),
            Write::DropBucket { .. } => Ok(()),
            Write::Put { value, ttl_ms, condition, .. } => {
                ttl_fits(*ttl_ms)?;
                value_fits(value)?;
                condition_fits(condition.as_ref())
            }
            Write::Delete { condition, .. } => condition_fits(condition.as_ref()),
            Write::Expire { ttl_ms, .. } => ttl_fits(*ttl_ms),
            Write::OpenSession if self.id.is_some() => Err(Error::invalid("a session is not opened within a session")),
            Write::OpenSession => Ok(()),
            Write::System(_) if self.id.is_some() => Err(Error::invalid("the system group has no sessions")),
            Write::System(write) => write.validate(),
            Write::Batch { ops } => batch_fits(&[], &[ops]),
            Write::Txn { compare, success, failure } => batch_fits(compare, &[success, failure]),
        }
    }

    fn kind_and_flags(&self) -> (u8, u8) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let (kind, flags) = match &self.write {
            Write::CreateBucket { default_ttl_ms, max_bytes, if_not_exists, .. } => (
                CREATE,
                flag(default_ttl_ms.is_some(), HAS_TTL)
                    | flag(max_bytes.is_some(), HAS_MAX_BYTES)
                    | flag(*if_not_exists, IF_NOT_EXISTS),
            ),
            Write::DropBucket { created_version } => (DROP, flag(created_version.is_some(), HAS_CREATED_VERSION)),
            Write::Put { ttl_ms, condition, return_previous, .. } => (
                PUT,
                flag(ttl_ms.is_some(), HAS_TTL)
                    | flag(condition.is_some(), HAS_CONDITION)
                    | flag(*return_previous, RETURN_PREVIOUS),
            ),
            Write::Delete { condition, return_previous, .. } => {
                (DELETE, flag(condition.is_some(), HAS_CONDITION) | flag(*return_previous, RETURN_PREVIOUS))
            }
            Write::Expire { ttl_ms, .. } => (EXPIRE, flag(ttl_ms.is_some(), HAS_TTL)),
            Write::OpenSession => (OPEN_SESSION, 0),
            Write::System(_) => (SYSTEM, 0),
            Write::Batch { .. } => (BATCH, 0),
            Write::Txn { .. } => (TXN, 0),
        };
        (kind, flags | flag(self.id.is_some(), HAS_ID))
    }
}

/// The flags that a kind may have.
fn flags_of(kind: u8) -> Result<u8, DecodeError> {
    match kind {
        CREATE => Ok(HAS_ID | HAS_TTL | HAS_MAX_BYTES | IF_NOT_EXISTS),
        DROP => Ok(HAS_ID | HAS_CREATED_VERSION),
        PUT => Ok(HAS_ID | HAS_TTL | HAS_CONDITION | RETURN_PREVIOUS),
        DELETE => Ok(HAS_ID | HAS_CONDITION | RETURN_PREVIOUS),
        EXPIRE => Ok(HAS_ID | HAS_TTL),
        BATCH | TXN => Ok(HAS_ID),
        OPEN_SESSION | SYSTEM => Ok(0),
        _ => Err(DecodeError("unknown kind of command")),
    }
}

fn put_optional(number: Option<u64>, out: &mut Vec<u8>) {
    if let Some(number) = number {
        out.put_u64_le(number);
    }
}

pub(crate) fn put_key(key: &Key, out: &mut Vec<u8>) {
    out.put_u16_le(key.as_bytes().len() as u16);
    out.put_slice(key.as_bytes());
}

pub(crate) fn put_value(value: &Bytes, out: &mut Vec<u8>) {
    out.put_u32_le(u32::try_from(value.len()).expect("validated: the value is small enough"));
    out.put_slice(value);
}

fn put_condition(condition: Option<&Condition>, out: &mut Vec<u8>) {
    match condition {
        None => {}
        Some(Condition::VersionIs(version)) => {
            out.put_u8(TEST_VERSION);
            out.put_u64_le(version.0);
        }
        Some(Condition::ValueIs(value)) => {
            out.put_u8(TEST_VALUE);
            put_value(value, out);
        }
        Some(Condition::Exists(false)) => out.put_u8(TEST_ABSENT),
        Some(Condition::Exists(true)) => out.put_u8(TEST_PRESENT),
    }
}

fn put_ops(ops: &[BatchOp], out: &mut Vec<u8>) {
    out.put_u16_le(u16::try_from(ops.len()).expect("validated: few enough operations"));
    ops.iter().for_each(|op| put_op(op, out));
}

fn ops_len(ops: &[BatchOp]) -> usize {
    let key_len = |key: &Key| 1 + 2 + key.as_bytes().len();
    let op_len = |op: &BatchOp| match op {
        BatchOp::Put { key, value, ttl_ms } => key_len(key) + 4 + value.len() + if ttl_ms.is_some() { 8 } else { 0 },
        BatchOp::Append { key, value } => key_len(key) + 4 + value.len(),
        BatchOp::Increment { key, .. } => key_len(key) + 8,
        BatchOp::Delete { key } | BatchOp::Get { key } => key_len(key),
    };
    2 + ops.iter().map(op_len).sum::<usize>()
}

fn put_op(op: &BatchOp, out: &mut Vec<u8>) {
    match op {
        BatchOp::Put { key, value, ttl_ms } => {
            out.put_u8(if ttl_ms.is_some() { OP_PUT_TTL } else { OP_PUT });
            put_key(key, out);
            put_value(value, out);
            put_optional(*ttl_ms, out);
        }
        BatchOp::Delete { key } => {
            out.put_u8(OP_DELETE);
            put_key(key, out);
        }
        BatchOp::Get { key } => {
            out.put_u8(OP_GET);
            put_key(key, out);
        }
        BatchOp::Increment { key, by } => {
            out.put_u8(OP_INCREMENT);
            put_key(key, out);
            out.put_i64_le(*by);
        }
        BatchOp::Append { key, value } => {
            out.put_u8(OP_APPEND);
            put_key(key, out);
            put_value(value, out);
        }
    }
}

pub(crate) fn take_bucket(input: &mut Cursor) -> Result<BucketName, DecodeError> {
    let len = usize::from(input.u8()?);
    if len == 0 || len > BUCKET_NAME_BYTES_MAX {
        return Err(DecodeError("a bucket name of a bad length"));
    }
    BucketName::new(input.take(len)?).map_err(|_| DecodeError("a bad bucket name"))
}

pub(crate) fn take_key(input: &mut Cursor) -> Result<Key, DecodeError> {
    let len = usize::from(input.u16()?);
    if len == 0 || len > KEY_BYTES_MAX {
        return Err(DecodeError("a key of a bad length"));
    }
    Key::new(input.take(len)?).map_err(|_| DecodeError("a bad key"))
}

pub(crate) fn take_value(input: &mut Cursor) -> Result<Bytes, DecodeError> {
    let len = input.u32()? as usize;
    if len > VALUE_BYTES_MAX {
        return Err(DecodeError("a value of a bad length"));
    }
    input.take(len)
}

fn take_condition(input: &mut Cursor, present: bool) -> Result<Option<Condition>, DecodeError> {
    if !present {
        return Ok(None);
    }
    Ok(Some(match input.u8()? {
        TEST_VERSION => Condition::VersionIs(Version(input.u64()?)),
        TEST_VALUE => Condition::ValueIs(take_value(input)?),
        TEST_ABSENT => Condition::Exists(false),
        TEST_PRESENT => Condition::Exists(true),
        _ => return Err(DecodeError("unknown kind of condition")),
    }))
}

fn take_compare(input: &mut Cursor) -> Result<Vec<(Key, Condition)>, DecodeError> {
    let count = usize::from(input.u16()?);
    // A comparison has 4 bytes at least: a count that cannot be true allocates nothing.
    if count > BATCH_OPS_MAX || count * 4 > input.remaining() {
        return Err(DecodeError("a transaction of a bad length"));
    }
    let compare = |_| {
        let key = take_key(input)?;
        let condition = take_condition(input, true)?.ok_or(DecodeError("a comparison without a condition"))?;
        Ok((key, condition))
    };
    (0..count).map(compare).collect()
}

fn take_ops(input: &mut Cursor) -> Result<Vec<BatchOp>, DecodeError> {
    let count = usize::from(input.u16()?);
    // An operation has 4 bytes at least: a count that cannot be true allocates nothing.
    if count > BATCH_OPS_MAX || count * 4 > input.remaining() {
        return Err(DecodeError("a batch of a bad length"));
    }
    let mut ops = Vec::with_capacity(count);
    for _ in 0..count {
        let op = input.u8()?;
        let key = take_key(input)?;
        ops.push(match op {
            OP_PUT | OP_PUT_TTL => {
                BatchOp::Put { key, value: take_value(input)?, ttl_ms: input.optional_u64(op == OP_PUT_TTL)? }
            }
            OP_DELETE => BatchOp::Delete { key },
            OP_GET => BatchOp::Get { key },
            OP_INCREMENT => BatchOp::Increment { key, by: input.u64()?.cast_signed() },
            OP_APPEND => BatchOp::Append { key, value: take_value(input)? },
            _ => return Err(DecodeError("unknown kind of operation")),
        });
    }
    Ok(ops)
}

fn ttl_fits(ttl_ms: Option<u64>) -> Result<(), Error> {
    match ttl_ms {
        Some(ttl_ms) if !(1..=TTL_MS_MAX).contains(&ttl_ms) => {
            Err(Error::invalid(format!("the time to live is {ttl_ms} ms; it must be 1 to {TTL_MS_MAX} ms")))
        }
        _ => Ok(()),
    }
}

fn value_fits(value: &Bytes) -> Result<(), Error> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(Error::invalid(format!("the value has {} bytes, the most is {VALUE_BYTES_MAX}", value.len())));
    }
    Ok(())
}

fn condition_fits(condition: Option<&Condition>) -> Result<(), Error> {
    if let Some(Condition::ValueIs(value)) = condition { value_fits(value) } else { Ok(()) }
}

/// Bounds what is compared and done in one command, in number and in bytes.
fn batch_fits(compare: &[(Key, Condition)], lists: &[&Vec<BatchOp>]) -> Result<(), Error> {
    let count = compare.len() + lists.iter().map(|ops| ops.len()).sum::<usize>();
    if count > BATCH_OPS_MAX {
        return Err(Error::invalid(format!("the batch has {count} operations, the most is {BATCH_OPS_MAX}")));
    }
    let mut bytes = 0;
    for (key, condition) in compare {
        condition_fits(Some(condition))?;
        bytes += key.as_bytes().len();
        if let Condition::ValueIs(value) = condition {
            bytes += value.len();
        }
    }
    for op in lists.iter().copied().flatten() {
        bytes += match op {
            BatchOp::Put { key, value, ttl_ms } => {
                ttl_fits(*ttl_ms)?;
                value_fits(value)?;
                key.as_bytes().len() + value.len()
            }
            BatchOp::Append { key, value } => {
                value_fits(value)?;
                key.as_bytes().len() + value.len()
            }
            BatchOp::Delete { key } | BatchOp::Get { key } | BatchOp::Increment { key, .. } => key.as_bytes().len(),
        };
    }
    if bytes > BATCH_BYTES_MAX {
        return Err(Error::invalid(format!(
            "the batch has {bytes} bytes of keys and values, the most is {BATCH_BYTES_MAX}"
        )));
    }
    Ok(())
}
