//! What one object should do: the values of its few keys, and which answers fit them. Pure: a state and an operation in,
//! the next state out, or nothing when the answer is impossible there.

use std::collections::BTreeMap;

use crate::history::{ABSENT, Call, Found, Guard, OBJECT_KEYS_MAX, Operation, Outcome, Slot, Step, ValueId};

/// The value of each key of an object.
pub type State = [ValueId; OBJECT_KEYS_MAX];

/// The versions that are known of values, each from an answer that showed it.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    of: BTreeMap<ValueId, u64>,
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
        match (&operation.call, &operation.outcome) {
            (_, Outcome::Read(found)) => found.iter().try_for_each(|found| self.learn(*found)),
            (Call::Put { value, .. }, Outcome::Put { applied: true, version, previous }) => {
                self.learn(Some((*value, *version)))?;
                self.learn(previous.flatten())
            }
            (_, Outcome::Put { previous, .. } | Outcome::Delete { previous, .. }) => self.learn(previous.flatten()),
            (Call::Batch(steps), Outcome::Batch { version, results }) => {
                for (step, (_, found)) in steps.iter().zip(results) {
                    self.learn(*found)?;
                    if let Step::Put(_, value) = step {
                        self.learn(Some((*value, *version)))?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn learn(&mut self, found: Found) -> Result<(), String> {
        let Some((value, version)) = found else { return Ok(()) };
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
}

/// The state behind an operation, if its answer is possible in this one.
pub fn step(state: State, operation: &Operation, versions: &Versions) -> Option<State> {
    match (&operation.call, &operation.outcome) {
        (Call::Read(_) | Call::Scan, Outcome::Read(found)) => {
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
                true if expected != Held::No => Some(set(state, *slot, *value)),
                false if expected != Held::Yes && versions.fits(state[*slot], *version) => Some(state),
                _ => None,
            }
        }
        (Call::Delete { slot, guard }, Outcome::Delete { applied, existed, previous, .. }) => {
            let expected = holds(state, *slot, *guard, versions);
            if previous.is_some_and(|previous| !sees(state, *slot, previous, versions)) {
                return None;
            }
            if *existed != (state[*slot] != ABSENT) {
                return None;
            }
            match applied {
                true if expected != Held::No => Some(set(state, *slot, ABSENT)),
                false if expected != Held::Yes => Some(state),
                _ => None,
            }
        }
        (Call::Batch(steps), Outcome::Batch { results, .. }) => {
            (steps.len() == results.len()).then_some(())?;
            steps.iter().zip(results).try_fold(state, |state, (step, (affected, found))| match *step {
                Step::Put(slot, value) => (*affected == 1).then_some(set(state, slot, value)),
                Step::Delete(slot) => {
                    (*affected == u64::from(state[slot] != ABSENT)).then_some(set(state, slot, ABSENT))
                }
                Step::Get(slot) => sees(state, slot, *found, versions).then_some(state),
            })
        }
        (call, Outcome::Unknown) => happen_unseen(state, call, versions),
        (_, Outcome::Refused) => Some(state),
        // An answer of another kind than the question.
        _ => None,
    }
}

/// What an operation does of which nobody saw the answer. None: it would have changed nothing, so that its place does
/// not matter.
fn happen_unseen(state: State, call: &Call, versions: &Versions) -> Option<State> {
    let next = match call {
        Call::Read(_) | Call::Scan => state,
        // A guard whose outcome is open may have held: the other case is that the operation never takes a place.
        Call::Put { slot, guard, .. } | Call::Delete { slot, guard }
            if holds(state, *slot, *guard, versions) == Held::No =>
        {
            state
        }
        Call::Put { slot, value, .. } => set(state, *slot, *value),
        Call::Delete { slot, .. } => set(state, *slot, ABSENT),
        Call::Batch(steps) => steps.iter().fold(state, |state, step| match *step {
            Step::Put(slot, value) => set(state, slot, value),
            Step::Delete(slot) => set(state, slot, ABSENT),
            Step::Get(_) => state,
        }),
    };
    (next != state).then_some(next)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Yes,
    No,
    /// It depends on a version that nobody saw.
    Open,
}

fn holds(state: State, slot: Slot, guard: Option<Guard>, versions: &Versions) -> Held {
    let value = state[slot];
    let held = match guard {
        None => true,
        Some(Guard::Exists(exists)) => exists == (value != ABSENT),
        Some(Guard::ValueIs(wanted)) => value == wanted && value != ABSENT,
        Some(Guard::VersionIs(0)) => value == ABSENT,
        Some(Guard::VersionIs(_)) if value == ABSENT => false,
        Some(Guard::VersionIs(version)) => match versions.of.get(&value) {
            Some(&known) => known == version,
            None => return Held::Open,
        },
    };
    if held { Held::Yes } else { Held::No }
}

fn sees(state: State, slot: Slot, found: Found, versions: &Versions) -> bool {
    match found {
        None => state[slot] == ABSENT,
        Some((value, version)) => state[slot] == value && versions.fits(value, version),
    }
}

fn set(mut state: State, slot: Slot, value: ValueId) -> State {
    state[slot] = value;
    state
}
