//! Clients that count together: each adds to one of few numbers, in one of three ways. It increments; or it reads and puts the sum if the
//! version is still the one that it read; or it reads and increments in a transaction that compares the version. Whoever is told that
//! it was done knows the sum that it made. [`crate::checker::counters`] looks whether they add up.

use drey_core::GroupId;
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{BatchOp, Command, Condition, Entry, OpResult, Operation, ReadMode, ReadOp, Reply, Write};

use super::{Answer, Ask, Place, Scene, Script, misfit};
use crate::checker::{Violation, counters};
use crate::plan::Plan;
use crate::rng::Rng;

/// So many numbers: few, so that the clients get into each other's way.
const COUNTERS: usize = 2;
/// The most that is added at once.
const BY_MAX: u64 = 5;

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It added, which made this sum.
    Made(u64),
    /// It added nothing, and never will.
    Nothing,
    /// A read found this.
    Read(u64),
    /// Nobody knows.
    Unknown,
}

/// One attempt to add, or a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Which number.
    pub counter: usize,
    /// How much is added; 0 for a read.
    pub by: u64,
    /// In the sequence of all calls and returns.
    pub called: u64,
    /// As `called`.
    pub returned: u64,
    /// What came of it.
    pub counted: Counted,
}

/// How a client adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Increment,
    PutIfVersion,
    Txn,
    /// Not at all.
    Look,
}

/// What a client is at.
#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    /// It reads first.
    Reading {
        way: Way,
        counter: usize,
        called: u64,
    },
    /// It knows what there is, and will add to it.
    Found {
        way: Way,
        counter: usize,
        sum: u64,
        version: u64,
    },
    /// It adds, to this sum if it knows it.
    Adding {
        way: Way,
        counter: usize,
        by: u64,
        sum: Option<u64>,
        called: u64,
    },
}

/// All of them.
pub struct Counters {
    rng: Rng,
    groups: u32,
    keys: Vec<(BucketName, Key)>,
    states: Vec<State>,
    /// What was done.
    pub counts: Vec<Count>,
    /// What each number was at the end.
    pub last: Vec<Option<u64>>,
}

impl Counters {
    /// Nothing counted yet.
    pub fn new(plan: &Plan, buckets: &[BucketName]) -> Counters {
        let mut rng = Rng::stream(plan.seed, "counters", 0);
        let key = |number| Key::new(format!("counter-{number}")).expect("a good key");
        Counters {
            keys: (0..COUNTERS).map(|number| (rng.pick(buckets).clone(), key(number))).collect(),
            groups: plan.groups,
            states: vec![State::Idle; plan.asks.counters],
            counts: Vec::new(),
            last: vec![None; COUNTERS],
            rng,
        }
    }

    fn group(&self, counter: usize) -> GroupId {
        group_of(&self.keys[counter].0, self.groups)
    }

    fn get(&self, counter: usize) -> Operation {
        let (bucket, key) = self.keys[counter].clone();
        Operation::Read(self.group(counter), ReadMode::Linearizable, ReadOp::Get { bucket, key })
    }

    fn write(&self, counter: usize, write: impl Fn(Key) -> Write) -> Operation {
        let (bucket, key) = self.keys[counter].clone();
        Operation::Write(Command { bucket, id: None, write: write(key) })
    }

    fn add(&self, way: Way, counter: usize, by: u64, found: Option<(u64, u64)>) -> Operation {
        let (sum, version) = found.unwrap_or_default();
        let condition = Condition::VersionIs(drey_core::Version(version));
        let increment = |key| BatchOp::Increment { key, by: by as i64 };
        self.write(counter, |key| match way {
            Way::PutIfVersion => Write::Put {
                key,
                value: (sum + by).to_string().into(),
                ttl_ms: None,
                condition: Some(condition.clone()),
                return_previous: false,
            },
            Way::Txn => Write::Txn {
                compare: vec![(key.clone(), condition.clone())],
                success: vec![increment(key)],
                failure: Vec::new(),
            },
            Way::Increment | Way::Look => Write::Batch { ops: vec![increment(key)] },
        })
    }
}

impl Script for Counters {
    fn next(&mut self, client: usize, scene: &Scene<'_>) -> Option<Ask> {
        let called = scene.event;
        if let State::Found { way, counter, sum, version } = self.states[client] {
            let by = self.rng.between(1, BY_MAX);
            self.states[client] = State::Adding { way, counter, by, sum: Some(sum), called };
            return Some(Ask::any(self.add(way, counter, by, Some((sum, version)))));
        }
        let counter = self.rng.below(COUNTERS as u64) as usize;
        let way = *self.rng.pick(&[Way::Increment, Way::Increment, Way::PutIfVersion, Way::Txn, Way::Look]);
        if way == Way::Increment {
            let by = self.rng.between(1, BY_MAX);
            self.states[client] = State::Adding { way, counter, by, sum: None, called };
            return Some(Ask::any(self.add(way, counter, by, None)));
        }
        self.states[client] = State::Reading { way, counter, called };
        Some(Ask::any(self.get(counter)))
    }

    fn answered(&mut self, client: usize, answer: Answer<'_>, _: Place, scene: &Scene<'_>) -> Result<(), Violation> {
        let state = std::mem::replace(&mut self.states[client], State::Idle);
        let answer = answer.before_buckets();
        let (counter, by, called, counted) = match (state, answer) {
            (State::Reading { .. }, Answer::Refused | Answer::Unknown) => return Ok(()),
            (State::Reading { way, counter, called }, Answer::Reply(Reply::Entry(entry))) => {
                let Some((sum, version)) = sum_of(entry.as_ref()) else { return Err(misfit(state, answer)) };
                if way != Way::Look {
                    self.states[client] = State::Found { way, counter, sum, version };
                }
                (counter, 0, called, Counted::Read(sum))
            }
            (State::Adding { counter, by, called, .. }, Answer::Refused) => (counter, by, called, Counted::Nothing),
            (State::Adding { counter, by, called, .. }, Answer::Unknown) => (counter, by, called, Counted::Unknown),
            (State::Adding { way, counter, by, sum, called }, Answer::Reply(reply)) => {
                match added(way, by, sum, reply) {
                    Some(counted) => (counter, by, called, counted),
                    None => return Err(misfit(state, answer)),
                }
            }
            _ => return Err(misfit(state, answer)),
        };
        self.counts.push(Count { counter, by, called, returned: scene.event, counted });
        Ok(())
    }

    fn looks(&self) -> usize {
        COUNTERS
    }

    fn look(&self, number: usize) -> Operation {
        self.get(number)
    }

    fn looked(&mut self, number: usize, reply: &Reply) -> Result<(), Violation> {
        let sum = match reply {
            Reply::Entry(entry) => sum_of(entry.as_ref()),
            _ => None,
        };
        self.last[number] = Some(sum.ok_or_else(|| misfit("a last look", Answer::Reply(reply)))?.0);
        Ok(())
    }

    fn check(&self) -> Result<(), Violation> {
        counters::check(&self.counts, &self.last)
    }
}

/// What an entry says: the number and its version. None: it is no number.
fn sum_of(entry: Option<&Entry>) -> Option<(u64, u64)> {
    let Some(entry) = entry else { return Some((0, 0)) };
    Some((std::str::from_utf8(&entry.value).ok()?.parse().ok()?, entry.version.0))
}

fn added(way: Way, by: u64, sum: Option<u64>, reply: &Reply) -> Option<Counted> {
    let made = |results: &[OpResult]| match results {
        [OpResult { affected: 1, entry: Some(entry) }] => Some(Counted::Made(sum_of(Some(entry))?.0)),
        _ => None,
    };
    match (way, reply) {
        (Way::Increment, Reply::Batch { results, .. }) => made(results),
        (Way::PutIfVersion, Reply::Put { applied: true, .. }) => Some(Counted::Made(sum? + by)),
        (Way::PutIfVersion, Reply::Put { applied: false, .. }) => Some(Counted::Nothing),
        (Way::Txn, Reply::Txn { succeeded: true, results, .. }) => made(results),
        (Way::Txn, Reply::Txn { succeeded: false, .. }) => Some(Counted::Nothing),
        _ => None,
    }
}
