//! What clients ask: a mix of reads, writes, conditional writes and batches on few keys, drawn from the seed; in some of the seeds
//! transactions, local reads and buckets that come and go, too ([`crate::plan::AskPlan`]).
//!
//! The keys are used for a while (an era) and then left for new ones, so that many objects are checked, each with a history
//! that a search can take in.

use std::collections::BTreeMap;

use drey_core::GroupId;
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{Operation, Reply};

use crate::history::{Call, Found, Guard, ObjectId, Outcome, Slot, Step, ValueId};
use crate::plan::{AskPlan, Plan};
use crate::rng::Rng;
use crate::words::{Object, Values};

/// How long keys are in use.
const ERA_MS: u64 = 5_000;
/// Objects of each era, of five the first have one key, the others two; the last of them has three where there are transactions.
const SINGLES: usize = 3;
const PAIRS: usize = 2;
/// So many clients share five objects: more would leave the checker too many orders to try.
const CLIENTS_PER_FIVE: usize = 8;
/// What takes more may not fit into the smallest segment of a log.
const WRITE_BYTES_MAX: usize = 24_000;
/// Buckets beside `default`.
const BUCKETS: usize = 2;

/// The objects, and what the clients know of them.
pub struct Workload {
    clients: usize,
    /// Objects in use at a time, at most.
    objects_max: usize,
    reads: u32,
    value_bytes_max: u64,
    asks: AskPlan,
    asks_rng: Rng,
    groups: u32,
    /// All buckets that stay; `default` exists from the start, the others are created.
    pub buckets: Vec<BucketName>,
    /// All objects so far.
    pub objects: Vec<Object>,
    values: ValueId,
    /// What was seen last, for conditions that have a chance to hold.
    seen: BTreeMap<(ObjectId, Slot), Found>,
    /// The version that made an object's bucket, as it was seen last.
    seen_buckets: BTreeMap<ObjectId, u64>,
}

impl Workload {
    /// No objects yet.
    pub fn new(plan: &Plan) -> Workload {
        let named = |number: usize| BucketName::new(format!("bucket-{number}")).expect("a good name");
        let buckets = std::iter::once(BucketName::DEFAULT).chain((1..=BUCKETS).map(named)).collect();
        Workload {
            clients: plan.clients.clients,
            objects_max: plan.clients.objects_max,
            reads: plan.clients.reads,
            value_bytes_max: plan.clients.value_bytes_max,
            asks: plan.asks,
            asks_rng: Rng::stream(plan.seed, "asks", 1),
            groups: plan.groups,
            buckets,
            objects: Vec::new(),
            values: 0,
            seen: BTreeMap::new(),
            seen_buckets: BTreeMap::new(),
        }
    }

    /// The group of an object.
    pub fn group(&self, object: ObjectId) -> GroupId {
        self.objects[object.0].group
    }

    /// Makes an object of these keys in a bucket.
    pub fn add_object(&mut self, bucket: BucketName, names: &[String]) -> ObjectId {
        let keys = names.iter().map(|name| Key::new(name.clone()).expect("a good key")).collect();
        let group = group_of(&bucket, self.groups);
        self.objects.push(Object { bucket, group, own_bucket: false, keys });
        ObjectId(self.objects.len() - 1)
    }

    /// Draws what a client asks now.
    pub fn draw(&mut self, now_ms: u64, rng: &mut Rng) -> (ObjectId, Call) {
        let era = (now_ms / ERA_MS) as usize;
        let (shared, each) = (self.shared_each_era(), self.objects_each_era());
        while self.objects.len() < (era + 1) * each {
            self.add_next(each);
        }
        let era = if era > 0 && rng.chance(100) { rng.below(era as u64) as usize } else { era };
        let object = ObjectId(era * each + rng.below(shared as u64) as usize);
        let slots = self.objects[object.0].keys.len();
        let call = self.draw_call(object, slots, rng);
        // What is drawn beside leaves the draws of all else as they are.
        let mut asks_rng = self.asks_rng.clone();
        let own =
            (each > shared).then(|| ObjectId(era * each + shared + asks_rng.below((each - shared) as u64) as usize));
        let drawn = self.draw_beside(object, call, own, &mut asks_rng);
        self.asks_rng = asks_rng;
        drawn
    }

    /// The next of an era's objects: those in buckets that stay, then, for five of them, one with a bucket of its own.
    fn add_next(&mut self, each: usize) {
        let number = self.objects.len();
        let at = number % each;
        let own_bucket = at >= self.shared_each_era();
        let bucket = match own_bucket {
            true => BucketName::new(format!("own-{number}")).expect("a good name"),
            false => self.buckets[(number + number / each) % self.buckets.len()].clone(),
        };
        let keys = match at % (SINGLES + PAIRS) {
            _ if own_bucket => 2,
            at if at < SINGLES => 1,
            at if at == SINGLES + PAIRS - 1 && self.asks.txns > 0 => 3,
            _ => 2,
        };
        let names: Vec<String> = (0..keys).map(|slot| format!("key-{number}-{slot}")).collect();
        let object = self.add_object(bucket, &names);
        self.objects[object.0].own_bucket = own_bucket;
    }

    /// Objects in buckets that stay.
    fn shared_each_era(&self) -> usize {
        objects_in_use(self.clients).min(self.objects_max)
    }

    fn objects_each_era(&self) -> usize {
        let shared = self.shared_each_era();
        shared + if self.asks.drops > 0 { shared / (SINGLES + PAIRS) } else { 0 }
    }

    /// In some of the seeds: another call in the place of the one that was drawn.
    fn draw_beside(&mut self, object: ObjectId, call: Call, own: Option<ObjectId>, rng: &mut Rng) -> (ObjectId, Call) {
        let (object, call) = match own.filter(|_| rng.chance(self.asks.drops)) {
            Some(own) => (own, self.draw_own(own, rng)),
            None => (object, call),
        };
        let call = match call {
            Call::Read(slots) if rng.chance(self.asks.local) => match rng.chance(400) {
                true => Call::ScanLocal,
                false => Call::ReadLocal(slots),
            },
            Call::Scan if rng.chance(self.asks.local) => Call::ScanLocal,
            Call::Batch(success) if rng.chance(self.asks.txns) => {
                let slots = self.objects[object.0].keys.len();
                let compared = rng.between(1, slots as u64) as usize;
                let compare = (0..compared).map(|slot| (slot, self.draw_guard(object, slot, rng))).collect();
                let failure = if rng.chance(250) { self.draw_steps(slots, rng) } else { gets(slots) };
                Call::Txn { compare, success, failure }
            }
            Call::Put { slot, value, guard: Some(guard) } if rng.chance(self.asks.txns) => Call::Txn {
                compare: vec![(slot, guard)],
                success: vec![Step::Put(slot, value)],
                failure: gets(slot + 1),
            },
            Call::Delete { slot, guard: Some(guard) } if rng.chance(self.asks.txns) => {
                Call::Txn { compare: vec![(slot, guard)], success: vec![Step::Delete(slot)], failure: Vec::new() }
            }
            call => call,
        };
        if matches!(call, Call::Txn { .. } | Call::Batch(_))
            && let Operation::Write(command) = self.operation(object, &call)
            && command.encoded_len() > WRITE_BYTES_MAX
        {
            return (object, Call::Read((0..self.objects[object.0].keys.len()).collect()));
        }
        (object, call)
    }

    /// A call about an object whose bucket comes and goes.
    fn draw_own(&mut self, object: ObjectId, rng: &mut Rng) -> Call {
        match rng.below(100) {
            0..=14 => Call::Create { value: self.new_value(), if_not_exists: rng.chance(600) },
            15..=23 => {
                let seen = self.seen_buckets.get(&object).copied();
                Call::Drop { version: seen.filter(|_| rng.chance(400)) }
            }
            24..=29 => Call::Describe,
            30..=35 => Call::List,
            _ => self.draw_call(object, self.objects[object.0].keys.len(), rng),
        }
    }

    fn draw_call(&mut self, object: ObjectId, slots: usize, rng: &mut Rng) -> Call {
        let slot = rng.below(slots as u64) as usize;
        if rng.chance(self.reads) {
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
        self.objects[object.0].operation(call, self.known_values())
    }

    /// What the answer means. An error when it is no answer that this call can have, or holds what nobody wrote.
    pub fn outcome(
        &mut self,
        object: ObjectId,
        call: &Call,
        answer: Result<Reply, drey_core::Error>,
    ) -> Result<Outcome, String> {
        let outcome = self.objects[object.0].outcome(call, answer, self.known_values())?;
        self.remember(object, call, &outcome);
        Ok(outcome)
    }

    fn known_values(&self) -> Values {
        Values { bytes_max: self.value_bytes_max, last: self.values }
    }

    fn remember(&mut self, object: ObjectId, call: &Call, outcome: &Outcome) {
        match (call, outcome) {
            (_, Outcome::Read(found) | Outcome::Scanned { found, .. }) => {
                let slots = call.slots_read(found.len()).into_iter();
                self.seen.extend(slots.zip(found).map(|(slot, &found)| ((object, slot), found)));
            }
            (Call::Put { slot, value, .. }, Outcome::Put { applied: true, version, .. }) => {
                self.seen.insert((object, *slot), Some((*value, *version)));
            }
            (_, Outcome::Created { bucket: (_, version), .. } | Outcome::Described { bucket: (_, version), .. }) => {
                self.seen_buckets.insert(object, *version);
            }
            _ => {}
        }
    }
}

/// So many clients use so many objects in buckets that stay at a time.
pub fn objects_in_use(clients: usize) -> usize {
    (clients / CLIENTS_PER_FIVE).max(1) * (SINGLES + PAIRS)
}

/// Reads of the first slots.
fn gets(slots: usize) -> Vec<Step> {
    (0..slots).map(Step::Get).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn all_kinds_of_calls_are_drawn_over_all_buckets() {
        let asks = AskPlan { txns: 400, drops: 200, local: 200, ..AskPlan::default() };
        let mut workload = Workload::new(&Plan { asks, ..Plan::draw(1) });
        let mut rng = Rng::new(1);
        let mut kinds = [0; 14];
        let mut buckets = std::collections::BTreeSet::new();
        for now_ms in 0..4_000 {
            let (object, call) = workload.draw(now_ms * 10, &mut rng);
            let drawn = &workload.objects[object.0];
            buckets.extend((!drawn.own_bucket).then(|| drawn.bucket.clone()));
            kinds[match &call {
                Call::Read(slots) => usize::from(slots.len() > 1),
                Call::Put { guard, .. } => 2 + usize::from(guard.is_some()),
                Call::Delete { .. } => 4,
                Call::Batch(_) => 5,
                Call::Scan => 6,
                Call::ReadLocal(_) => 7,
                Call::ScanLocal => 8,
                Call::Txn { .. } => 9,
                Call::Create { .. } => 10,
                Call::Drop { .. } => 11,
                Call::Describe => 12,
                Call::List => 13,
            }] += 1;
            workload.operation(object, &call);
        }
        assert!(kinds.iter().all(|&count| count > 20), "{kinds:?}");
        assert_eq!(buckets.len(), workload.buckets.len());
        assert!(workload.objects.len() > 30);
    }
}
