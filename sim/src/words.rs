//! The way between the checkers' words and core's: what a call is as a request, and what its answer means. A value's bytes say
//! which value it is, so that nothing can come that nobody wrote.

use bytes::Bytes;
use drey_core::name::{BucketName, Key, KeyRange};
use drey_core::request::{
    BatchOp, BucketInfo, Command, Condition, Entry, OpResult, Operation, ReadMode, ReadOp, Reply, Write,
};
use drey_core::{Error, GroupId, Version};

use crate::history::{Call, Found, Guard, Outcome, Slot, Step, ValueId};
use crate::rng::Rng;

/// Some keys of one bucket.
#[derive(Clone, Debug)]
pub struct Object {
    /// Where.
    pub bucket: BucketName,
    /// Its group.
    pub group: GroupId,
    /// Nobody else uses the bucket, and it comes and goes.
    pub own_bucket: bool,
    /// The keys, one for each slot.
    pub keys: Vec<Key>,
}

/// What an answer means, or that it is no answer that this call can have.
pub type Meaning<T> = Result<T, String>;

/// How long values are, and which there are.
#[derive(Clone, Copy, Debug)]
pub struct Values {
    /// The longest value, mostly.
    pub bytes_max: u64,
    /// They are numbered from 1 to this.
    pub last: ValueId,
}

impl Object {
    /// The call in core's words.
    pub fn operation(&self, call: &Call, values: Values) -> Operation {
        let Object { bucket, keys, group, .. } = self;
        let read = |mode, op| Operation::Read(*group, mode, op);
        let write = match call {
            Call::Scan => return read(ReadMode::Linearizable, self.scan()),
            Call::ScanLocal => return read(ReadMode::Local, self.scan()),
            Call::Read(slots) => return read(ReadMode::Linearizable, self.get(slots)),
            Call::ReadLocal(slots) => return read(ReadMode::Local, self.get(slots)),
            Call::Describe => {
                return read(ReadMode::Linearizable, ReadOp::DescribeBucket { bucket: bucket.clone() });
            }
            Call::List => {
                return read(ReadMode::Linearizable, ReadOp::ListBuckets { prefix: bucket.to_string() });
            }
            Call::Put { slot, value, guard } => Write::Put {
                key: keys[*slot].clone(),
                value: values.bytes(*value),
                ttl_ms: None,
                condition: guard.map(|guard| condition(guard, values)),
                return_previous: returns_previous(*value),
            },
            Call::Delete { slot, guard } => Write::Delete {
                key: keys[*slot].clone(),
                condition: guard.map(|guard| condition(guard, values)),
                return_previous: guard.is_none(),
            },
            Call::Batch(steps) => Write::Batch { ops: self.ops(steps, values) },
            Call::Txn { compare, success, failure } => Write::Txn {
                compare: compare.iter().map(|(slot, guard)| (keys[*slot].clone(), condition(*guard, values))).collect(),
                success: self.ops(success, values),
                failure: self.ops(failure, values),
            },
            Call::Create { value, if_not_exists } => Write::CreateBucket {
                default_ttl_ms: None,
                max_bytes: None,
                if_not_exists: *if_not_exists,
                // For people only, and here to tell one from the other.
                created_ms: u64::from(*value),
            },
            Call::Drop { version } => Write::DropBucket { created_version: version.map(Version) },
        };
        Operation::Write(Command { bucket: bucket.clone(), id: None, write })
    }

    fn scan(&self) -> ReadOp {
        ReadOp::Scan {
            bucket: self.bucket.clone(),
            range: KeyRange::prefix(prefix(&self.keys[0])).expect("a short prefix"),
            limit: 0,
            reverse: self.keys.len() > 1,
            keys_only: false,
        }
    }

    fn get(&self, slots: &[Slot]) -> ReadOp {
        let (bucket, key) = (self.bucket.clone(), |slot: &Slot| self.keys[*slot].clone());
        match slots {
            [slot] => ReadOp::Get { bucket, key: key(slot) },
            _ => ReadOp::GetMany { bucket, keys: slots.iter().map(key).collect() },
        }
    }

    fn ops(&self, steps: &[Step], values: Values) -> Vec<BatchOp> {
        let op = |step: &Step| match *step {
            Step::Put(slot, value) => {
                BatchOp::Put { key: self.keys[slot].clone(), value: values.bytes(value), ttl_ms: None }
            }
            Step::Delete(slot) => BatchOp::Delete { key: self.keys[slot].clone() },
            Step::Get(slot) => BatchOp::Get { key: self.keys[slot].clone() },
        };
        steps.iter().map(op).collect()
    }

    /// What the answer means. An error when it is no answer that this call can have, or holds what nobody wrote.
    pub fn outcome(&self, call: &Call, answer: Result<Reply, Error>, values: Values) -> Meaning<Outcome> {
        let reply = match answer {
            Ok(reply) => reply,
            Err(Error::BucketNotFound(_)) if self.own_bucket => return Ok(Outcome::NoBucket),
            Err(Error::BucketExists(_)) if self.own_bucket => return Ok(Outcome::BucketExists),
            Err(error) => return refusal(call, &error),
        };
        let found = |slot: Slot, entry: Option<Entry>| self.found(slot, entry, values);
        Ok(match (call, reply) {
            (Call::Read(slots) | Call::ReadLocal(slots), Reply::Entry(entry)) if slots.len() == 1 => {
                Outcome::Read(vec![found(slots[0], entry)?])
            }
            (Call::Read(slots) | Call::ReadLocal(slots), Reply::Entries(entries)) if slots.len() == entries.len() => {
                let both = slots.iter().zip(entries);
                Outcome::Read(both.map(|(&slot, entry)| found(slot, entry)).collect::<Result<_, _>>()?)
            }
            (Call::Scan | Call::ScanLocal, Reply::Page(page)) => {
                let fits = page.next.is_none() && page.entries.iter().rev().is_sorted_by_key(|entry| &entry.key);
                Outcome::Scanned { found: self.found_by_scan(fits, page.entries, values)?, version: page.version.0 }
            }
            (Call::Put { slot, value, .. }, Reply::Put { applied, version, previous }) => {
                let previous = returns_previous(*value).then(|| found(*slot, previous)).transpose()?;
                Outcome::Put { applied, version: version.0, previous }
            }
            (Call::Delete { slot, guard }, Reply::Delete { applied, existed, version, previous }) => {
                let previous = guard.is_none().then(|| found(*slot, previous)).transpose()?;
                Outcome::Delete { applied, existed, version: version.0, previous }
            }
            (Call::Batch(steps), Reply::Batch { version, results }) if steps.len() == results.len() => {
                Outcome::Batch { version: version.0, results: self.results(steps, results, values)? }
            }
            (Call::Txn { success, failure, .. }, Reply::Txn { succeeded, version, results })
                if if succeeded { success } else { failure }.len() == results.len() =>
            {
                let steps = if succeeded { success } else { failure };
                Outcome::Txn { succeeded, version: version.0, results: self.results(steps, results, values)? }
            }
            (Call::Create { .. }, Reply::Created { bucket, created }) => {
                Outcome::Created { bucket: self.bucket(&bucket, values)?, created }
            }
            (Call::Drop { .. }, Reply::Dropped { existed }) => Outcome::Dropped { existed },
            (Call::Describe, Reply::Buckets(buckets)) if buckets.len() == 1 => {
                Outcome::Described { bucket: self.bucket(&buckets[0], values)?, keys: buckets[0].keys_estimate }
            }
            (Call::List, Reply::Buckets(buckets)) => self.listed(&buckets, values)?,
            (_, reply) => return Err(format!("{call:?} was answered with {reply:?}")),
        })
    }

    /// Among buckets whose names begin with its own, in order, it is the first if it is there.
    fn listed(&self, buckets: &[BucketInfo], values: Values) -> Meaning<Outcome> {
        let fits = buckets.iter().all(|bucket| bucket.name.as_str().starts_with(self.bucket.as_str()));
        if !fits || !buckets.is_sorted_by(|one, next| one.name < next.name) {
            return Err(format!("buckets like {} were asked for, {buckets:?} came", self.bucket));
        }
        match buckets.first().filter(|first| first.name == self.bucket) {
            Some(first) => Ok(Outcome::Described { bucket: self.bucket(first, values)?, keys: first.keys_estimate }),
            None => Ok(Outcome::NoBucket),
        }
    }

    fn results(&self, steps: &[Step], results: Vec<OpResult>, values: Values) -> Meaning<Vec<(u64, Found)>> {
        let result = |(step, result): (&Step, OpResult)| match step {
            Step::Get(slot) => Ok((result.affected, self.found(*slot, result.entry, values)?)),
            Step::Put(..) | Step::Delete(_) => Ok((result.affected, None)),
        };
        steps.iter().zip(results).map(result).collect()
    }

    fn found_by_scan(&self, fits: bool, mut entries: Vec<Entry>, values: Values) -> Meaning<Vec<Found>> {
        let mut take = |slot: Slot| {
            let at = entries.iter().position(|entry| entry.key == self.keys[slot].as_bytes());
            self.found(slot, at.map(|at| entries.remove(at)), values)
        };
        let found = (0..self.keys.len()).map(&mut take).collect::<Result<_, _>>()?;
        if fits && entries.is_empty() {
            return Ok(found);
        }
        Err(format!("a scan of {:?} found {entries:?} beside them, or in no order, or did not end", self.keys))
    }

    fn found(&self, slot: Slot, entry: Option<Entry>, values: Values) -> Meaning<Found> {
        let key = &self.keys[slot];
        let Some(entry) = entry else { return Ok(None) };
        if entry.key != key.as_bytes() {
            return Err(format!("{key:?} was asked for, {entry:?} came"));
        }
        let value =
            values.find(&entry.value).ok_or_else(|| format!("{key:?} holds what nobody wrote: {:?}", entry.value))?;
        Ok(Some((value, entry.version.0)))
    }

    fn bucket(&self, bucket: &BucketInfo, values: Values) -> Meaning<(ValueId, u64)> {
        let made_by = ValueId::try_from(bucket.created_ms).ok().filter(|value| values.has(*value));
        match made_by {
            Some(value) if (&bucket.name, bucket.group) == (&self.bucket, self.group) => {
                Ok((value, bucket.created_version.0))
            }
            _ => Err(format!("{} was asked about, {bucket:?} came", self.bucket)),
        }
    }
}

fn condition(guard: Guard, values: Values) -> Condition {
    match guard {
        Guard::VersionIs(version) => Condition::VersionIs(Version(version)),
        Guard::ValueIs(value) => Condition::ValueIs(values.bytes(value)),
        Guard::Exists(exists) => Condition::Exists(exists),
    }
}

/// Whether a put of this value asks for what was there.
fn returns_previous(value: ValueId) -> bool {
    value.is_multiple_of(3)
}

impl Values {
    fn bytes(self, value: ValueId) -> Bytes {
        value_bytes(value, self.bytes_max)
    }

    fn has(self, value: ValueId) -> bool {
        (1..=self.last).contains(&value)
    }

    fn find(self, bytes: &[u8]) -> Option<ValueId> {
        value_id(bytes, self.bytes_max).filter(|value| self.has(*value))
    }
}

/// What all keys of an object begin with: everything but the slot's number.
fn prefix(key: &Key) -> Bytes {
    let bytes = key.as_bytes();
    bytes.slice(..bytes.len() - 1)
}

/// What an error says about the operation: that it never happens, or that nobody knows.
fn refusal(call: &Call, error: &Error) -> Result<Outcome, String> {
    match error {
        Error::NoLeader
        | Error::SessionExpired
        | Error::NotReady(_)
        | Error::Overloaded(_)
        | Error::QuotaExceeded(_)
        | Error::BucketNotFound(_) => Ok(Outcome::Refused),
        Error::OutcomeUnknown | Error::DeadlineExceeded => Ok(Outcome::Unknown),
        other => Err(format!("{call:?} was answered with {other:?}")),
    }
}

/// A value's bytes: its name, then as many more as its name says, each of which its name says too.
fn value_bytes(value: ValueId, bytes_max: u64) -> Bytes {
    let mut rng = Rng::new(u64::from(value));
    let mut length = 4 + rng.below(bytes_max) as usize;
    if rng.chance(40) {
        // Now and then one that takes several blocks of the log, so that a turn's records do not fit into one batch.
        length += 9_000;
    }
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend_from_slice(&value.to_le_bytes());
    while bytes.len() < length {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// The value that these bytes are, if they are one.
fn value_id(bytes: &[u8], bytes_max: u64) -> Option<ValueId> {
    let value = ValueId::from_le_bytes(*bytes.first_chunk()?);
    (value_bytes(value, bytes_max) == bytes).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_by_its_bytes_and_a_damaged_one_is_not() {
        for value in 1..300 {
            let bytes = value_bytes(value, 300);
            assert_eq!(value_id(&bytes, 300), Some(value));
            let mut damaged = bytes.to_vec();
            let at = damaged.len() - 1;
            damaged[at] ^= 1;
            assert_eq!(value_id(&damaged, 300), None);
            assert_eq!(value_id(&bytes[..at], 300), None);
        }
    }

    #[test]
    fn only_refusals_that_promise_it_count_as_never_happened() {
        let put = Call::Put { slot: 0, value: 1, guard: None };
        assert_eq!(refusal(&put, &Error::NoLeader), Ok(Outcome::Refused));
        assert_eq!(refusal(&put, &Error::OutcomeUnknown), Ok(Outcome::Unknown));
        assert_eq!(refusal(&put, &Error::DeadlineExceeded), Ok(Outcome::Unknown));
        assert!(refusal(&put, &Error::DataLoss("x".to_owned())).is_err());
        assert!(refusal(&put, &Error::ConditionFailed).is_err());
    }
}
