//! Clients that lock: one takes a lock by putting its token if no other is there, holds it for a while, now and then looks whether it is
//! still its own, and gives it back by deleting it if the version is the one that it made. While one is told that it holds a lock, no
//! other may be told so ([`crate::checker::locks`]).
//!
//! A client that does not know what became of its put looks. If its token is not there it may come yet: it is given up, and whoever finds
//! it removes it.

use std::collections::BTreeSet;

use drey_core::GroupId;
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{Command, Condition, Entry, Operation, ReadMode, ReadOp, Reply, Write};

use super::{Answer, Ask, Place, Scene, Script, misfit};
use crate::checker::{Violation, locks};
use crate::plan::Plan;
use crate::rng::Rng;

/// So many locks: few, so that the clients get into each other's way.
const LOCKS: usize = 2;
/// A lock is held so long, at most.
const HELD_MS_MAX: u64 = 400;

/// A client held a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Which.
    pub lock: usize,
    /// Who.
    pub client: usize,
    /// What was put there.
    pub token: u64,
    /// Since it was told so, in the sequence of all calls and returns.
    pub from: u64,
    /// Until it asked to give it back; at the end if it did not.
    pub until: u64,
}

/// What a client is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Taking {
        lock: usize,
        token: u64,
    },
    /// It does not know whether it has it.
    Doubting {
        lock: usize,
        token: u64,
    },
    Looking {
        lock: usize,
        token: Option<u64>,
    },
    Holding {
        lock: usize,
        version: u64,
        hold: usize,
        until_ms: u64,
    },
    Checking {
        lock: usize,
        version: u64,
        hold: usize,
        until_ms: u64,
    },
    Returning {
        lock: usize,
        version: u64,
        hold: usize,
    },
    /// It was refused, and is asked for again.
    Keeping {
        lock: usize,
        version: u64,
        hold: usize,
    },
    /// It found a token that was given up.
    Found {
        lock: usize,
        version: u64,
    },
    Sweeping,
}

/// All of them.
pub struct Locks {
    rng: Rng,
    groups: u32,
    keys: Vec<(BucketName, Key)>,
    states: Vec<State>,
    tokens: u64,
    given_up: BTreeSet<u64>,
    /// Who held what.
    pub holds: Vec<Hold>,
    /// What each lock had at the end, once that is known: a token or none.
    pub last: Vec<Option<Option<u64>>>,
}

impl Locks {
    /// Nobody holds any.
    pub fn new(plan: &Plan, buckets: &[BucketName]) -> Locks {
        let mut rng = Rng::stream(plan.seed, "locks", 0);
        let key = |number| Key::new(format!("lock-{number}")).expect("a good key");
        Locks {
            keys: (0..LOCKS).map(|number| (rng.pick(buckets).clone(), key(number))).collect(),
            groups: plan.groups,
            states: vec![State::Idle; plan.asks.lockers],
            tokens: 0,
            given_up: BTreeSet::new(),
            holds: Vec::new(),
            last: vec![None; LOCKS],
            rng,
        }
    }

    fn group(&self, lock: usize) -> GroupId {
        group_of(&self.keys[lock].0, self.groups)
    }

    fn get(&self, lock: usize) -> Operation {
        let (bucket, key) = self.keys[lock].clone();
        Operation::Read(self.group(lock), ReadMode::Linearizable, ReadOp::Get { bucket, key })
    }

    fn take(&self, lock: usize, token: u64) -> Operation {
        let (bucket, key) = self.keys[lock].clone();
        let (value, condition) = (token.to_string().into(), Some(Condition::Exists(false)));
        let write = Write::Put { key, value, ttl_ms: None, condition, return_previous: false };
        Operation::Write(Command { bucket, id: None, write })
    }

    fn give_back(&self, lock: usize, version: u64) -> Operation {
        let (bucket, key) = self.keys[lock].clone();
        let condition = Some(Condition::VersionIs(drey_core::Version(version)));
        let write = Write::Delete { key, condition, return_previous: false };
        Operation::Write(Command { bucket, id: None, write })
    }

    /// A client has been told that it has a lock.
    fn taken(&mut self, client: usize, (lock, token): (usize, u64), version: u64, scene: &Scene<'_>) -> State {
        self.holds.push(Hold { lock, client, token, from: scene.event, until: u64::MAX });
        let until_ms = scene.ms + self.rng.below(HELD_MS_MAX);
        State::Holding { lock, version, hold: self.holds.len() - 1, until_ms }
    }

    /// It found this where it looked: its own token of which it did not know, or somebody's.
    fn found(
        &mut self,
        client: usize,
        (lock, token): (usize, Option<u64>),
        found: Option<(u64, u64)>,
        scene: &Scene<'_>,
    ) -> State {
        match found {
            Some((found, version)) if Some(found) == token => self.taken(client, (lock, found), version, scene),
            _ => {
                self.given_up.extend(token);
                match found {
                    Some((found, version)) if self.given_up.contains(&found) => State::Found { lock, version },
                    _ => State::Idle,
                }
            }
        }
    }

    fn next_state(&mut self, client: usize, answer: Answer<'_>, scene: &Scene<'_>) -> Option<State> {
        let state = self.states[client];
        Some(match (state, answer) {
            (State::Taking { lock, token }, Answer::Reply(Reply::Put { applied: true, version, .. })) => {
                self.taken(client, (lock, token), version.0, scene)
            }
            (State::Taking { lock, .. }, Answer::Reply(Reply::Put { applied: false, .. })) => {
                // Whose is it?
                if self.rng.chance(300) { State::Looking { lock, token: None } } else { State::Idle }
            }
            (State::Taking { .. }, Answer::Refused) => State::Idle,
            (State::Taking { lock, token }, Answer::Unknown) => State::Doubting { lock, token },
            (State::Looking { lock, token }, Answer::Reply(Reply::Entry(entry))) => {
                self.found(client, (lock, token), token_of(entry.as_ref())?, scene)
            }
            (State::Looking { lock, token }, Answer::Refused | Answer::Unknown) => match token {
                Some(token) => State::Doubting { lock, token },
                None => State::Idle,
            },
            (State::Checking { lock, version, hold, until_ms }, _) => State::Holding { lock, version, hold, until_ms },
            (State::Returning { .. }, Answer::Reply(Reply::Delete { applied: true, existed: true, .. })) => State::Idle,
            (State::Returning { hold, .. }, Answer::Unknown) => {
                self.given_up.insert(self.holds[hold].token);
                State::Idle
            }
            (State::Returning { lock, version, hold }, Answer::Refused) => State::Keeping { lock, version, hold },
            (State::Sweeping, Answer::Reply(Reply::Delete { .. }) | Answer::Refused | Answer::Unknown) => State::Idle,
            _ => return None,
        })
    }

    /// What the one who holds a lock is told must fit that.
    fn still_held(&self, state: State, answer: Answer<'_>) -> Result<(), Violation> {
        let taken = |hold: usize| {
            let hold = self.holds[hold];
            Err(Violation::new(locks::TAKEN_AWAY, format!("{hold:?}, but {answer:?}")))
        };
        match (state, answer) {
            (State::Checking { hold, version, .. }, Answer::Reply(Reply::Entry(entry))) => {
                match token_of(entry.as_ref()).flatten() {
                    Some(found) if found == (self.holds[hold].token, version) => Ok(()),
                    _ => taken(hold),
                }
            }
            (State::Returning { hold, .. }, Answer::Reply(Reply::Delete { applied, existed, .. })) => {
                if *applied && *existed { Ok(()) } else { taken(hold) }
            }
            (State::Checking { .. }, Answer::Refused | Answer::Unknown) => Ok(()),
            (State::Checking { .. }, _) => Err(misfit(state, answer)),
            _ => Ok(()),
        }
    }
}

impl Script for Locks {
    fn next(&mut self, client: usize, scene: &Scene<'_>) -> Option<Ask> {
        let (state, operation) = match self.states[client] {
            State::Doubting { lock, token } => (State::Looking { lock, token: Some(token) }, self.get(lock)),
            State::Found { lock, version } => (State::Sweeping, self.give_back(lock, version)),
            State::Looking { lock, token: None } => (State::Looking { lock, token: None }, self.get(lock)),
            State::Holding { lock, version, hold, until_ms } if scene.ms >= until_ms => {
                self.holds[hold].until = scene.event;
                (State::Returning { lock, version, hold }, self.give_back(lock, version))
            }
            State::Holding { lock, version, hold, until_ms } => {
                (State::Checking { lock, version, hold, until_ms }, self.get(lock))
            }
            State::Keeping { lock, version, hold } => {
                (State::Returning { lock, version, hold }, self.give_back(lock, version))
            }
            _ => {
                let lock = self.rng.below(LOCKS as u64) as usize;
                self.tokens += 1;
                (State::Taking { lock, token: self.tokens }, self.take(lock, self.tokens))
            }
        };
        self.states[client] = state;
        Some(Ask::any(operation))
    }

    fn answered(&mut self, client: usize, answer: Answer<'_>, _: Place, scene: &Scene<'_>) -> Result<(), Violation> {
        let answer = answer.before_buckets();
        let state = self.states[client];
        self.still_held(state, answer)?;
        self.states[client] = self.next_state(client, answer, scene).ok_or_else(|| misfit(state, answer))?;
        Ok(())
    }

    fn looks(&self) -> usize {
        LOCKS
    }

    fn look(&self, number: usize) -> Operation {
        self.get(number)
    }

    fn looked(&mut self, number: usize, reply: &Reply) -> Result<(), Violation> {
        let token = match reply {
            Reply::Entry(entry) => token_of(entry.as_ref()),
            _ => None,
        };
        let token = token.ok_or_else(|| misfit("a last look", Answer::Reply(reply)))?;
        self.last[number] = Some(token.map(|(token, _)| token));
        Ok(())
    }

    fn check(&self) -> Result<(), Violation> {
        locks::check(&self.holds, &self.last)
    }
}

/// The token in an entry and its version, if there is one. None: it is no token.
fn token_of(entry: Option<&Entry>) -> Option<Option<(u64, u64)>> {
    let Some(entry) = entry else { return Some(None) };
    Some(Some((std::str::from_utf8(&entry.value).ok()?.parse().ok()?, entry.version.0)))
}
