//! What one object should do: the values of its few keys, whether its bucket is there, and which answers fit them. Pure: a state
//! and an operation in, the next state out, or nothing when the answer is impossible there.

use std::collections::BTreeMap;

use crate::history::{ABSENT, Call, Found, Guard, OBJECT_KEYS_MAX, Operation, Outcome, Slot, Step, ValueId};

/// A bucket that nobody makes or removes while it is looked at.
const LASTING: ValueId = ValueId::MAX;
/// The place of an object's bucket among its keys.
const BUCKET: Slot = Slot::MAX;

/// The bucket of an object and the value of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    bucket: ValueId,
    keys: [ValueId; OBJECT_KEYS_MAX],
}

impl State {
    /// Nothing is there, but for a bucket that is not the object's own.
    pub fn first(own_bucket: bool) -> State {
        State { bucket: if own_bucket { ABSENT } else { LASTING }, keys: [ABSENT; OBJECT_KEYS_MAX] }
    }

    fn of_bucket(bucket: ValueId) -> State {
        State { bucket, keys: [ABSENT; OBJECT_KEYS_MAX] }
    }

    fn set(mut self, slot: Slot, value: ValueId) -> State {
        self.keys[slot] = value;
        self
    }

    fn at(self, slot: Slot) -> ValueId {
        if slot == BUCKET { self.bucket } else { self.keys[slot] }
    }
}

/// The versions that are known of values, each from an answer that showed it.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    of: BTreeMap<ValueId, u64>,
    /// Which value a key had by a version.
    at: BTreeMap<(Slot, u64), ValueId>,
}

impl Versions {
    /// Gathers what the answers of an object's operations say. An error when two answers contradict each other.
    pub fn gather<'a>(operations: impl IntoIterator<Item = &'a Operation>) -> Result<Versions, String> {
        let mut versions = Versions::default();
        for operation in operations {
            versions.learn_from(operation)?;
        }
        Ok(versions)
    }

    fn learn_from(&mut self, operation: &Operation) -> Result<(), String> {
        for (slot, found) in operation.call.slots_read(operation.found().len()).into_iter().zip(operation.found()) {
            self.learn(slot, *found)?;
        }
        match (&operation.call, &operation.outcome) {
            (Call::Put { slot, value, .. }, Outcome::Put { applied, version, previous }) => {
                self.learn(*slot, applied.then_some((*value, *version)))?;
                self.learn(*slot, previous.flatten())
            }
            (Call::Delete { slot, .. }, Outcome::Delete { previous, .. }) => self.learn(*slot, previous.flatten()),
            (_, Outcome::Batch { version, .. } | Outcome::Txn { version, .. }) => {
                operation.steps_done().try_for_each(|(step, (_, found))| match step {
                    Step::Put(slot, value) => self.learn(slot, Some((value, *version))),
                    Step::Get(slot) => self.learn(slot, found),
                    Step::Delete(_) => Ok(()),
                })
            }
            (_, Outcome::Created { bucket, .. } | Outcome::Described { bucket, .. }) => {
                self.learn(BUCKET, Some(*bucket))
            }
            _ => Ok(()),
        }
    }

    fn learn(&mut self, slot: Slot, found: Found) -> Result<(), String> {
        let Some((value, version)) = found else { return Ok(()) };
        self.at.entry((slot, version)).or_insert(value);
        match self.of.insert(value, version) {
            Some(known) if known != version => {
                Err(format!("value {value} was seen with version {known} and with version {version}"))
            }
            _ => Ok(()),
        }
    }

    /// Whether a slot with this value may have this version: so it must be when known. A version that nobody ever saw
    /// beside its value fits whatever is not known to belong to another value.
    fn fits(&self, value: ValueId, version: u64) -> bool {
        if value == ABSENT || version == 0 {
            return value == ABSENT && version == 0;
        }
        match self.of.get(&value) {
            Some(&known) => known == version,
            None => true,
        }
    }

    /// Whether a value of this slot has this version.
    fn is(&self, slot: Slot, value: ValueId, version: u64) -> Held {
        if value == ABSENT || version == 0 {
            return Held::of(value == ABSENT && version == 0);
        }
        match (self.of.get(&value), self.at.get(&(slot, version))) {
            (Some(&known), _) => Held::of(known == version),
            // No two writes of a key have one version.
            (None, Some(&other)) if other != value => Held::No,
            (None, _) => Held::Open,
        }
    }
}

/// The state behind an operation, if its answer is possible in this one.
pub fn step(state: State, operation: &Operation, versions: &Versions) -> Option<State> {
    match (&operation.call, &operation.outcome) {
        (call, Outcome::Unknown) => happen_unseen(state, call, versions),
        (_, Outcome::Refused) => Some(state),
        (Call::Create { .. } | Call::Drop { .. }, _) => step_bucket(state, operation, versions),
        (_, Outcome::NoBucket) => (state.bucket == ABSENT).then_some(state),
        _ if state.bucket == ABSENT => None,
        (Call::Describe | Call::List, Outcome::Described { bucket, keys }) => {
            let there = state.keys.iter().filter(|&&value| value != ABSENT).count() as u64;
            (there == *keys && sees(state, BUCKET, Some(*bucket), versions)).then_some(state)
        }
        (Call::Read(_), Outcome::Read(found)) | (Call::Scan, Outcome::Scanned { found, .. }) => {
            let slots = operation.call.slots_read(found.len());
            let fits = slots.iter().zip(found).all(|(&slot, &found)| sees(state, slot, found, versions));
            (fits && slots.len() == found.len()).then_some(state)
        }
        (Call::Put { slot, value, guard }, Outcome::Put { applied, version, previous }) => {
            let expected = holds(state, *slot, *guard, versions);
            if previous.is_some_and(|previous| !sees(state, *slot, previous, versions)) {
                return None;
            }
            match applied {
                true if expected != Held::No => Some(state.set(*slot, *value)),
                false if expected != Held::Yes && versions.fits(state.at(*slot), *version) => Some(state),
                _ => None,
            }
        }
        (Call::Delete { slot, guard }, Outcome::Delete { applied, existed, previous, .. }) => {
            let expected = holds(state, *slot, *guard, versions);
            if previous.is_some_and(|previous| !sees(state, *slot, previous, versions)) {
                return None;
            }
            if *existed != (state.at(*slot) != ABSENT) {
                return None;
            }
            match applied {
                true if expected != Held::No => Some(state.set(*slot, ABSENT)),
                false if expected != Held::Yes => Some(state),
                _ => None,
            }
        }
        (Call::Batch(steps), Outcome::Batch { results, .. }) => do_steps(state, steps, results, versions),
        (Call::Txn { compare, success, failure }, Outcome::Txn { succeeded, results, .. }) => {
            let expected = all_hold(state, compare, versions);
            match succeeded {
                true if expected != Held::No => do_steps(state, success, results, versions),
                false if expected != Held::Yes => do_steps(state, failure, results, versions),
                _ => None,
            }
        }
        // An answer of another kind than the question.
        _ => None,
    }
}

fn do_steps(state: State, steps: &[Step], results: &[(u64, Found)], versions: &Versions) -> Option<State> {
    (steps.len() == results.len()).then_some(())?;
    steps.iter().zip(results).try_fold(state, |state, (step, (affected, found))| match *step {
        Step::Put(slot, value) => (*affected == 1).then_some(state.set(slot, value)),
        Step::Delete(slot) => (*affected == u64::from(state.at(slot) != ABSENT)).then_some(state.set(slot, ABSENT)),
        Step::Get(slot) => sees(state, slot, *found, versions).then_some(state),
    })
}

/// A bucket is made empty, and takes all in it with it.
fn step_bucket(state: State, operation: &Operation, versions: &Versions) -> Option<State> {
    match (&operation.call, &operation.outcome) {
        (Call::Create { value, .. }, Outcome::Created { bucket: (made, _), created: true }) => {
            (state.bucket == ABSENT && made == value).then_some(State::of_bucket(*value))
        }
        (Call::Create { if_not_exists: true, .. }, Outcome::Created { bucket, created: false }) => {
            sees(state, BUCKET, Some(*bucket), versions).then_some(state)
        }
        (Call::Create { if_not_exists: false, .. }, Outcome::BucketExists) => (state.bucket != ABSENT).then_some(state),
        (Call::Drop { version }, Outcome::Dropped { existed }) => {
            match (existed, is_dropped(state, *version, versions)) {
                (true, Held::Yes | Held::Open) => Some(State::of_bucket(ABSENT)),
                (false, Held::No | Held::Open) => Some(state),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_dropped(state: State, version: Option<u64>, versions: &Versions) -> Held {
    match version {
        _ if state.bucket == ABSENT => Held::No,
        None => Held::Yes,
        Some(version) => versions.is(BUCKET, state.bucket, version),
    }
}

/// What an operation does of which nobody saw the answer. None: it would have changed nothing, so that its place does
/// not matter.
fn happen_unseen(state: State, call: &Call, versions: &Versions) -> Option<State> {
    let next = match call {
        Call::Create { value, .. } if state.bucket == ABSENT => State::of_bucket(*value),
        Call::Drop { version } if is_dropped(state, *version, versions) != Held::No => State::of_bucket(ABSENT),
        _ if state.bucket == ABSENT => state,
        // A guard whose outcome is open may have held: the other case is that the operation never takes a place.
        Call::Put { slot, guard, .. } | Call::Delete { slot, guard }
            if holds(state, *slot, *guard, versions) == Held::No =>
        {
            state
        }
        Call::Put { slot, value, .. } => state.set(*slot, *value),
        Call::Delete { slot, .. } => state.set(*slot, ABSENT),
        Call::Batch(steps) => do_unseen(state, steps),
        // What is open is taken as held. The versions that clients compare with were seen beside values of the same key, so that
        // nothing is open to them.
        Call::Txn { compare, success, failure } => match all_hold(state, compare, versions) {
            Held::Yes | Held::Open => do_unseen(state, success),
            Held::No => do_unseen(state, failure),
        },
        _ => state,
    };
    (next != state).then_some(next)
}

fn do_unseen(state: State, steps: &[Step]) -> State {
    steps.iter().fold(state, |state, step| match *step {
        Step::Put(slot, value) => state.set(slot, value),
        Step::Delete(slot) => state.set(slot, ABSENT),
        Step::Get(_) => state,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    No,
    /// It depends on a version that nobody saw.
    Open,
}

impl Held {
    fn of(held: bool) -> Held {
        if held { Held::Yes } else { Held::No }
    }
}

fn all_hold(state: State, compare: &[(Slot, Guard)], versions: &Versions) -> Held {
    compare.iter().fold(Held::Yes, |all, (slot, guard)| match (all, holds(state, *slot, Some(*guard), versions)) {
        (Held::No, _) | (_, Held::No) => Held::No,
        (Held::Open, _) | (_, Held::Open) => Held::Open,
        _ => Held::Yes,
    })
}

fn holds(state: State, slot: Slot, guard: Option<Guard>, versions: &Versions) -> Held {
    let value = state.at(slot);
    match guard {
        None => Held::Yes,
        Some(Guard::Exists(exists)) => Held::of(exists == (value != ABSENT)),
        Some(Guard::ValueIs(wanted)) => Held::of(value == wanted && value != ABSENT),
        Some(Guard::VersionIs(version)) => versions.is(slot, value, version),
    }
}

fn sees(state: State, slot: Slot, found: Found, versions: &Versions) -> bool {
    match found {
        None => state.at(slot) == ABSENT,
        Some((value, version)) => state.at(slot) == value && versions.fits(value, version),
    }
}
