//! What clients ask: a mix of reads, writes, conditional writes and batches on few keys, drawn from the seed, and the way
//! between the checkers' words and core's.
//!
//! The keys are used for a while (an era) and then left for new ones, so that many objects are checked, each with a history
//! that a search can take in.

use std::collections::BTreeMap;

use bytes::Bytes;
use drey_core::name::{BucketName, Key, KeyRange};
use drey_core::placement::group_of;
use drey_core::request::{BatchOp, Command, Condition, Entry, Operation, ReadMode, ReadOp, Reply, Write};
use drey_core::{Error, Version};

use crate::history::{Call, Found, Guard, ObjectId, Outcome, Slot, Step, ValueId};
use crate::plan::ClientPlan;
use crate::rng::Rng;

/// How long keys are in use.
const ERA_MS: u64 = 5_000;
/// Objects of each era, of five the first have one key, the others two.
const SINGLES: usize = 3;
const PAIRS: usize = 2;
/// So many clients share five objects: more would leave the checker too many orders to try.
const CLIENTS_PER_FIVE: usize = 8;
/// Buckets beside `default`.
const BUCKETS: usize = 2;

/// Some keys of one bucket.
#[derive(Clone, Debug)]
pub struct Object {
    /// Where.
    pub bucket: BucketName,
    /// The keys, one for each slot.
    pub keys: Vec<Key>,
}

/// The objects, and what the clients know of them.
pub struct Workload {
    plan: ClientPlan,
    groups: u32,
    /// All buckets; `default` exists from the start, the others are created.
    pub buckets: Vec<BucketName>,
    /// All objects so far.
    pub objects: Vec<Object>,
    values: ValueId,
    /// What was seen last, for conditions that have a chance to hold.
    seen: BTreeMap<(ObjectId, Slot), Found>,
}

impl Workload {
    /// No objects yet.
    pub fn new(plan: ClientPlan, groups: u32) -> Workload {
        let named = |number: usize| BucketName::new(format!("bucket-{number}")).expect("a good name");
        let buckets = std::iter::once(BucketName::DEFAULT).chain((1..=BUCKETS).map(named)).collect();
        Workload { plan, groups, buckets, objects: Vec::new(), values: 0, seen: BTreeMap::new() }
    }

    /// The group of an object.
    pub fn group(&self, object: ObjectId) -> drey_core::GroupId {
        group_of(&self.objects[object.0].bucket, self.groups)
    }

    /// Makes an object of one key in a bucket, for probes.
    pub fn add_object(&mut self, bucket: BucketName, names: &[String]) -> ObjectId {
        let keys = names.iter().map(|name| Key::new(name.clone()).expect("a good key")).collect();
        self.objects.push(Object { bucket, keys });
        ObjectId(self.objects.len() - 1)
    }

    /// Draws what a client asks now.
    pub fn draw(&mut self, now_ms: u64, rng: &mut Rng) -> (ObjectId, Call) {
        let era = (now_ms / ERA_MS) as usize;
        let each = self.objects_each_era();
        while self.objects.len() < (era + 1) * each {
            let number = self.objects.len();
            let bucket = self.buckets[(number + number / each) % self.buckets.len()].clone();
            let keys = if number % (SINGLES + PAIRS) < SINGLES { 1 } else { 2 };
            let names: Vec<String> = (0..keys).map(|slot| format!("key-{number}-{slot}")).collect();
            self.add_object(bucket, &names);
        }
        let era = if era > 0 && rng.chance(100) { rng.below(era as u64) as usize } else { era };
        let object = ObjectId(era * each + rng.below(each as u64) as usize);
        let slots = self.objects[object.0].keys.len();
        (object, self.draw_call(object, slots, rng))
    }

    fn objects_each_era(&self) -> usize {
        objects_in_use(&self.plan).min(self.plan.objects_max)
    }

    fn draw_call(&mut self, object: ObjectId, slots: usize, rng: &mut Rng) -> Call {
        let slot = rng.below(slots as u64) as usize;
        if rng.chance(self.plan.reads) {
            if rng.chance(150) {
                return Call::Scan;
            }
            return Call::Read(if slots > 1 && rng.chance(600) { (0..slots).collect() } else { vec![slot] });
        }
        if slots > 1 && rng.chance(600) {
            return Call::Batch(self.draw_steps(slots, rng));
        }
        let guard = rng.chance(350).then(|| self.draw_guard(object, slot, rng));
        match rng.chance(180) {
            true => Call::Delete { slot, guard },
            false => Call::Put { slot, value: self.new_value(), guard },
        }
    }

    /// A batch that changes all keys in most cases; no key is put twice, so that each value has a version of its own.
    fn draw_steps(&mut self, slots: usize, rng: &mut Rng) -> Vec<Step> {
        let mut steps = Vec::new();
        for slot in 0..slots {
            if rng.chance(150) {
                steps.push(Step::Get(slot));
            }
            steps.push(match rng.below(10) {
                0 => Step::Get(slot),
                1 => Step::Delete(slot),
                _ => Step::Put(slot, self.new_value()),
            });
            if rng.chance(150) {
                steps.push(Step::Get(slot));
            }
        }
        steps
    }

    fn draw_guard(&self, object: ObjectId, slot: Slot, rng: &mut Rng) -> Guard {
        let seen = self.seen.get(&(object, slot)).copied().flatten();
        match (rng.below(4), seen) {
            (0, _) => Guard::Exists(rng.chance(500)),
            (1, Some((value, _))) => Guard::ValueIs(value),
            (_, Some((_, version))) => Guard::VersionIs(version),
            (_, None) => Guard::VersionIs(0),
        }
    }

    /// A value that was never written.
    pub fn new_value(&mut self) -> ValueId {
        self.values += 1;
        self.values
    }

    /// The call in core's words.
    pub fn operation(&self, object: ObjectId, call: &Call) -> Operation {
        let Object { bucket, keys } = &self.objects[object.0];
        let bytes = |value: ValueId| value_bytes(value, self.plan.value_bytes_max);
        let condition = |guard: &Option<Guard>| {
            guard.map(|guard| match guard {
                Guard::VersionIs(version) => Condition::VersionIs(Version(version)),
                Guard::ValueIs(value) => Condition::ValueIs(bytes(value)),
                Guard::Exists(exists) => Condition::Exists(exists),
            })
        };
        let write = match call {
            Call::Scan => {
                let op = ReadOp::Scan {
                    bucket: bucket.clone(),
                    range: KeyRange::prefix(prefix(&keys[0])).expect("a short prefix"),
                    limit: 0,
                    reverse: keys.len() > 1,
                    keys_only: false,
                };
                return Operation::Read(self.group(object), ReadMode::Linearizable, op);
            }
            Call::Read(slots) => {
                let op = match slots[..] {
                    [slot] => ReadOp::Get { bucket: bucket.clone(), key: keys[slot].clone() },
                    _ => ReadOp::GetMany {
                        bucket: bucket.clone(),
                        keys: slots.iter().map(|&slot| keys[slot].clone()).collect(),
                    },
                };
                return Operation::Read(self.group(object), ReadMode::Linearizable, op);
            }
            Call::Put { slot, value, guard } => Write::Put {
                key: keys[*slot].clone(),
                value: bytes(*value),
                ttl_ms: None,
                condition: condition(guard),
                return_previous: value % 3 == 0,
            },
            Call::Delete { slot, guard } => Write::Delete {
                key: keys[*slot].clone(),
                condition: condition(guard),
                return_previous: guard.is_none(),
            },
            Call::Batch(steps) => {
                let op = |step: &Step| match *step {
                    Step::Put(slot, value) => {
                        BatchOp::Put { key: keys[slot].clone(), value: bytes(value), ttl_ms: None }
                    }
                    Step::Delete(slot) => BatchOp::Delete { key: keys[slot].clone() },
                    Step::Get(slot) => BatchOp::Get { key: keys[slot].clone() },
                };
                Write::Batch { ops: steps.iter().map(op).collect() }
            }
        };
        Operation::Write(Command { bucket: bucket.clone(), id: None, write })
    }

    /// What the answer means. An error when it is no answer that this call can have, or holds what nobody wrote.
    pub fn outcome(&mut self, object: ObjectId, call: &Call, answer: Result<Reply, Error>) -> Result<Outcome, String> {
        let reply = match answer {
            Ok(reply) => reply,
            Err(error) => return refusal(call, &error),
        };
        let keys = self.objects[object.0].keys.clone();
        let found = |slot: Slot, entry: Option<Entry>| self.found(&keys[slot], entry);
        let outcome = match (call, reply) {
            (Call::Read(slots), Reply::Entry(entry)) if slots.len() == 1 => {
                Outcome::Read(vec![found(slots[0], entry)?])
            }
            (Call::Read(slots), Reply::Entries(entries)) if slots.len() == entries.len() => {
                let both = slots.iter().zip(entries);
                Outcome::Read(both.map(|(&slot, entry)| found(slot, entry)).collect::<Result<_, _>>()?)
            }
            (Call::Scan, Reply::Page(page)) => {
                let mut entries = page.entries;
                let fits = page.next.is_none() && entries.iter().rev().is_sorted_by_key(|entry| &entry.key);
                let mut take = |slot: Slot| {
                    let at = entries.iter().position(|entry| entry.key == keys[slot].as_bytes());
                    found(slot, at.map(|at| entries.remove(at)))
                };
                let read = (0..keys.len()).map(&mut take).collect::<Result<_, _>>()?;
                if !fits || !entries.is_empty() {
                    return Err(format!(
                        "a scan of {keys:?} found {entries:?} beside them, or in no order, or did not end"
                    ));
                }
                Outcome::Read(read)
            }
            (Call::Put { slot, value, .. }, Reply::Put { applied, version, previous }) => {
                let asked = value % 3 == 0;
                let previous = asked.then(|| found(*slot, previous)).transpose()?;
                Outcome::Put { applied, version: version.0, previous }
            }
            (Call::Delete { slot, guard }, Reply::Delete { applied, existed, version, previous }) => {
                let previous = guard.is_none().then(|| found(*slot, previous)).transpose()?;
                Outcome::Delete { applied, existed, version: version.0, previous }
            }
            (Call::Batch(steps), Reply::Batch { version, results }) if steps.len() == results.len() => {
                let result = |(step, result): (&Step, drey_core::request::OpResult)| match step {
                    Step::Get(slot) => Ok((result.affected, found(*slot, result.entry)?)),
                    Step::Put(..) | Step::Delete(_) => Ok((result.affected, None)),
                };
                let results = steps.iter().zip(results).map(result).collect::<Result<_, String>>()?;
                Outcome::Batch { version: version.0, results }
            }
            (_, reply) => return Err(format!("{call:?} was answered with {reply:?}")),
        };
        self.remember(object, call, &outcome);
        Ok(outcome)
    }

    fn found(&self, key: &Key, entry: Option<Entry>) -> Result<Found, String> {
        let Some(entry) = entry else { return Ok(None) };
        if entry.key != key.as_bytes() {
            return Err(format!("{key:?} was asked for, {entry:?} came"));
        }
        let value = value_id(&entry.value, self.plan.value_bytes_max)
            .filter(|value| (1..=self.values).contains(value))
            .ok_or_else(|| format!("{key:?} holds what nobody wrote: {:?}", entry.value))?;
        Ok(Some((value, entry.version.0)))
    }

    fn remember(&mut self, object: ObjectId, call: &Call, outcome: &Outcome) {
        match (call, outcome) {
            (Call::Read(_) | Call::Scan, Outcome::Read(found)) => {
                let slots = call.slots_read(found.len()).into_iter();
                self.seen.extend(slots.zip(found).map(|(slot, &found)| ((object, slot), found)));
            }
            (Call::Put { slot, value, .. }, Outcome::Put { applied: true, version, .. }) => {
                self.seen.insert((object, *slot), Some((*value, *version)));
            }
            _ => {}
        }
    }
}

/// So many objects are in use at a time.
pub fn objects_in_use(plan: &ClientPlan) -> usize {
    (plan.clients / CLIENTS_PER_FIVE).max(1) * (SINGLES + PAIRS)
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
    use crate::plan::Plan;

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
    fn all_kinds_of_calls_are_drawn_over_all_buckets() {
        let mut workload = Workload::new(Plan::draw(1).clients, 3);
        let mut rng = Rng::new(1);
        let mut kinds = [0; 7];
        let mut buckets = std::collections::BTreeSet::new();
        for now_ms in 0..2_000 {
            let (object, call) = workload.draw(now_ms * 20, &mut rng);
            buckets.insert(workload.objects[object.0].bucket.clone());
            kinds[match &call {
                Call::Read(slots) => usize::from(slots.len() > 1),
                Call::Put { guard, .. } => 2 + usize::from(guard.is_some()),
                Call::Delete { .. } => 4,
                Call::Batch(_) => 5,
                Call::Scan => 6,
            }] += 1;
            workload.operation(object, &call);
        }
        assert!(kinds.iter().all(|&count| count > 30), "{kinds:?}");
        assert_eq!(buckets.len(), workload.buckets.len());
        assert!(workload.objects.len() > 30);
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
