//! Writing a received snapshot into a generation of its own, beside the state that goes on serving.
//!
//! Nothing counts until [`Staging::complete`] and the meta record names the generation. An attempt that is given up leaves
//! garbage, which the purge finds. How far it is stands in the store beside it, so that a restarted node goes on from there:
//!
//! ```text
//! format u8 = 1 | from u64 | transfer u64 | next chunk u64 | complete u8
//! last key length u16 | last key, without the generation
//! configuration length u32 | configuration, as the sender gave it with each chunk | meta, as its record has it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::{BufMut, Bytes};

use crate::limits::KEY_BYTES_MAX;
use crate::machine::keys::{Generation, KIND_BUCKET, KIND_DATA, KIND_EXPIRY, KIND_MEMBERS, KIND_SESSION, take_number};
use crate::machine::{Bucket, Cursor, DecodeError, Machine, Meta, SessionRecord, ValueRecord, keys};
use crate::name::BucketName;
use crate::placement::SYSTEM_GROUP;
use crate::storage::chunk::Chunk;
use crate::storage::{Origin, SnapshotMeta, Staged};
use crate::store::{Read, StoreError, WriteSet};
use crate::system::Members;
use crate::types::{GroupId, NodeId, Version};

const FORMAT: u8 = 1;

/// A snapshot that is coming in.
pub(super) struct Staging {
    generation: u32,
    meta: Meta,
    next_chunk: u64,
    complete: bool,
    last_key: Bytes,
    buckets: BTreeMap<BucketName, Bucket>,
    /// The buckets that may have values, by what stands in front of these.
    created: BTreeSet<Version>,
    /// The sessions that may have answers.
    sessions: BTreeSet<u64>,
}

/// Why a chunk is not taken. What was staged before stays.
pub(super) type Refused = String;

impl Staging {
    /// Begins with chunk 0. `default_exists`: whether the group has the bucket that exists without a record.
    pub(super) fn begin(
        group: GroupId,
        generation: u32,
        default_exists: bool,
        data: Bytes,
    ) -> Result<(Staging, WriteSet), Refused> {
        let chunk = Chunk::decode(data.clone()).map_err(|error| error.to_string())?;
        let Some(meta) = chunk.meta else {
            return Err(format!("chunk {} came first", chunk.head.number));
        };
        let mut staging = Staging {
            generation,
            meta: Meta { generation, ..meta },
            next_chunk: 0,
            complete: false,
            last_key: Bytes::new(),
            buckets: BTreeMap::new(),
            created: BTreeSet::new(),
            sessions: BTreeSet::new(),
        };
        if default_exists {
            staging.created.insert(Bucket::default().created_version);
        }
        let writes = staging.chunk(group, 0, data)?;
        Ok((staging, writes))
    }

    /// Finds what a group had staged, if it can be gone on with; what cannot is garbage.
    pub(super) fn load(reader: &dyn Read, machine: &Machine) -> Result<Option<(Staging, Staged)>, StoreError> {
        let group = machine.group();
        let Some(record) = reader.get(&keys::staged(group))? else { return Ok(None) };
        let Ok((mut staging, staged)) = Staging::decode(record) else { return Ok(None) };
        if staging.generation == machine.generation_number() {
            return Ok(None);
        }
        if machine.owns(&BucketName::DEFAULT) {
            staging.created.insert(Bucket::default().created_version);
        }
        let generation = Generation::new(group, staging.generation);
        let mut whole = true;
        for kind in [KIND_BUCKET, KIND_SESSION] {
            let (start, end) = generation.kind_range(kind);
            reader.scan(&start, &end, false, &mut |key, value| {
                whole &= staging.remember(&generation.suffix(&key)[1..], kind, value).is_ok();
                ControlFlow::Continue(())
            })?;
        }
        Ok(whole.then_some((staging, staged)))
    }

    /// Takes note of a bucket or a session that was staged before.
    fn remember(&mut self, key: &[u8], kind: u8, value: Bytes) -> Result<(), DecodeError> {
        if kind == KIND_BUCKET {
            let (name, bucket) = Bucket::decode_named(key, value)?;
            self.created.insert(bucket.created_version);
            self.buckets.insert(name, bucket);
        } else if let SessionRecord::Session(id) = SessionRecord::check(key, value)? {
            self.sessions.insert(id);
        }
        Ok(())
    }

    /// What is kept of it beside what was staged.
    pub(super) fn record(&self, origin: &Origin) -> Bytes {
        let mut out = Vec::with_capacity(128);
        out.put_u8(FORMAT);
        out.put_u64_le(origin.from.0);
        out.put_u64_le(origin.transfer);
        out.put_u64_le(self.next_chunk);
        out.put_u8(u8::from(self.complete));
        out.put_u16_le(self.last_key.len() as u16);
        out.put_slice(&self.last_key);
        out.put_u32_le(origin.meta.configuration.len() as u32);
        out.put_slice(&origin.meta.configuration);
        out.put_slice(&self.meta.encode());
        out.into()
    }

    fn decode(record: Bytes) -> Result<(Staging, Staged), DecodeError> {
        let mut input = Cursor::new(record);
        if input.u8()? != FORMAT {
            return Err(DecodeError("unknown format of what was staged"));
        }
        let (from, transfer) = (NodeId(input.u64()?), input.u64()?);
        let (next_chunk, complete) = (input.u64()?, input.u8()? != 0);
        let last_key_len = usize::from(input.u16()?);
        let last_key = input.take(last_key_len)?;
        let configuration_len = input.u32()? as usize;
        let configuration = input.take(configuration_len)?;
        let meta = Meta::decode(input.into_rest())?;
        let whole = SnapshotMeta { index: meta.applied, term: meta.term, configuration };
        let staging = Staging {
            generation: meta.generation,
            meta,
            next_chunk,
            complete,
            last_key,
            buckets: BTreeMap::new(),
            created: BTreeSet::new(),
            sessions: BTreeSet::new(),
        };
        Ok((staging, Staged { origin: Origin { from, transfer, meta: whole }, next_chunk, complete }))
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Takes the next chunk and says what to write.
    pub(super) fn chunk(&mut self, group: GroupId, number: u64, data: Bytes) -> Result<WriteSet, Refused> {
        let mut chunk = Chunk::decode(data).map_err(|error| error.to_string())?;
        if self.complete {
            return Err("the snapshot is complete already".to_owned());
        }
        if number != self.next_chunk || chunk.head.number != number {
            return Err(format!("chunk {} came as {number} instead of {}", chunk.head.number, self.next_chunk));
        }
        if (chunk.head.group, chunk.head.applied, chunk.head.term) != (group, self.meta.applied, self.meta.term) {
            return Err("the chunk is of another snapshot".to_owned());
        }
        let records = self.records(group, &mut chunk).map_err(|error| error.to_string())?;
        self.next_chunk += 1;
        self.complete = chunk.head.last;
        for (name, bucket) in records.buckets {
            self.created.insert(bucket.created_version);
            self.buckets.insert(name, bucket);
        }
        self.sessions.extend(records.sessions);
        self.last_key = records.last_key;
        Ok(records.writes)
    }

    /// Checks all of a chunk before anything of it is taken.
    fn records(&self, group: GroupId, chunk: &mut Chunk) -> Result<Records, DecodeError> {
        let generation = Generation::new(group, self.generation);
        let mut records = Records { last_key: self.last_key.clone(), ..Records::default() };
        while let Some((key, value)) = chunk.record()? {
            if key <= records.last_key {
                return Err(DecodeError("the records are out of order"));
            }
            match key[0] {
                KIND_BUCKET => records.buckets.push(self.bucket(&key, value.clone())?),
                KIND_DATA => self.value(&key, value.clone(), &records.buckets)?,
                KIND_MEMBERS if group == SYSTEM_GROUP && key.len() == 1 => drop(Members::decode(value.clone())?),
                KIND_EXPIRY => self.expiry(&key, &value, &records.buckets)?,
                KIND_SESSION => match SessionRecord::check(&key[1..], value.clone())? {
                    SessionRecord::Session(id) => records.sessions.push(self.session(id)?),
                    SessionRecord::Answer(id) if self.sessions.contains(&id) || records.sessions.contains(&id) => {}
                    SessionRecord::Answer(_) => return Err(DecodeError("an answer without its session")),
                },
                _ => return Err(DecodeError("unknown kind of record")),
            }
            // Copied, so that the store does not keep the whole chunk for the sake of one value in it.
            records.writes.changes.insert(generation.key(&key), Some(Bytes::copy_from_slice(&value)));
            records.last_key = key;
        }
        records.last_key = Bytes::copy_from_slice(&records.last_key);
        Ok(records)
    }

    fn bucket(&self, key: &[u8], value: Bytes) -> Result<(BucketName, Bucket), DecodeError> {
        let (name, bucket) = Bucket::decode_named(&key[1..], value)?;
        if bucket.created_version > self.meta.version || bucket.created_version == Version::default() {
            return Err(DecodeError("a bucket's version is not possible"));
        }
        Ok((name, bucket))
    }

    fn session(&self, id: u64) -> Result<u64, DecodeError> {
        if id == 0 || Version(id) > self.meta.version {
            return Err(DecodeError("a session's number is not possible"));
        }
        Ok(id)
    }

    fn value(&self, key: &[u8], value: Bytes, new: &[(BucketName, Bucket)]) -> Result<(), DecodeError> {
        let key = self.of_bucket(&key[1..], new)?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(DecodeError("a value's key has a bad length"));
        }
        if ValueRecord::decode(value)?.version > self.meta.version {
            return Err(DecodeError("a value's version is not possible"));
        }
        Ok(())
    }

    fn expiry(&self, key: &[u8], value: &[u8], new: &[(BucketName, Bucket)]) -> Result<(), DecodeError> {
        let time = self.of_bucket(&key[1..], new)?;
        let (_, key) = take_number(time).ok_or(DecodeError("an entry of the expiry index without a time"))?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(DecodeError("a key of the expiry index has a bad length"));
        }
        if !value.is_empty() {
            return Err(DecodeError("an entry of the expiry index with a value"));
        }
        Ok(())
    }

    /// What stands behind the number of a bucket, which must have come before.
    fn of_bucket<'a>(&self, key: &'a [u8], new: &[(BucketName, Bucket)]) -> Result<&'a [u8], DecodeError> {
        let (created, rest) = take_number(key).ok_or(DecodeError("a record without a bucket's number"))?;
        let created = Version(created);
        if !self.created.contains(&created) && !new.iter().any(|(_, bucket)| bucket.created_version == created) {
            return Err(DecodeError("a record without a bucket"));
        }
        Ok(rest)
    }

    /// The whole state's meta and buckets, once the last chunk has come.
    pub(super) fn complete(self) -> Option<(Meta, BTreeMap<BucketName, Bucket>)> {
        self.complete.then_some((self.meta, self.buckets))
    }
}

/// What a chunk holds, checked.
#[derive(Default)]
struct Records {
    last_key: Bytes,
    sessions: Vec<u64>,
    buckets: Vec<(BucketName, Bucket)>,
    writes: WriteSet,
}
