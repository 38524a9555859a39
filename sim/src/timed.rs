//! Keys with times to live: what some of the clients do with them, and what they saw. Each key is put once, some get another time
//! to live while they are there, and all are read until they should be long gone. So few keys are enough that nothing needs to be
//! searched: [`crate::checker::expiry`] looks at each key's calls one after the other.

use drey_core::Error;
use drey_core::GroupId;
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{BatchOp, Command, Operation, ReadMode, ReadOp, Reply, Write};

use crate::rng::Rng;

/// In a calm cluster a key is gone so long after its time: a tick, a commit, and what a disk and a store take for it; and before that an
/// election timeout, for which nothing is proposed while a leader that was told to hand over waits for an heir that does not answer.
pub const LATE_MS_MAX: u64 = 2_500;
/// The shortest and the longest time to live.
const TTL_MS: (u64, u64) = (300, 8_000);
/// How many keys are asked about at a time: the newest.
const NEWEST: usize = 12;
/// Until a probe that had no answer is asked again.
const RETRY_MS: u64 = 100;

/// A key.
pub struct TimedKey {
    bucket: BucketName,
    /// Its name.
    pub key: Key,
    /// A write of it is under way, so that no other begins.
    busy: bool,
    /// What became of its last write is known: it may get another.
    settled: bool,
    /// It was put after the faults.
    pub probe: bool,
}

/// What is asked about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A put with this time to live, the key's first write. Through a batch, if so.
    Put {
        /// Milliseconds.
        ttl_ms: u64,
        /// One way or the other.
        batch: bool,
    },
    /// Another time to live, or none.
    Expire {
        /// Milliseconds.
        ttl_ms: Option<u64>,
    },
    /// A linearizable read.
    Read,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The put was applied; the key was there, for a read or a new time to live.
    There {
        /// What was said to be left.
        ttl_ms: Option<u64>,
    },
    /// It was not.
    Gone,
    /// It never happened.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One call.
#[derive(Clone, Debug)]
pub struct TimedCall {
    /// Of which key.
    pub key: usize,
    /// What.
    pub ask: Ask,
    /// Simulated time.
    pub called_ms: u64,
    /// Simulated time; of an unknown outcome, when the client gave up.
    pub returned_ms: u64,
    /// The answer.
    pub seen: Seen,
    /// It is asked until there is an answer.
    insists: bool,
}

#[cfg(test)]
impl TimedCall {
    /// A call made by hand.
    pub fn made((ask, seen): (Ask, Seen), called_ms: u64, returned_ms: u64) -> TimedCall {
        TimedCall { key: 0, ask, called_ms, returned_ms, seen, insists: false }
    }
}

/// Names a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedId(pub usize);

/// All of them.
pub struct Timed {
    groups: u32,
    buckets: Vec<BucketName>,
    /// The keys so far.
    pub keys: Vec<TimedKey>,
    /// The calls so far, in their order.
    pub calls: Vec<TimedCall>,
}

impl Timed {
    /// None yet.
    pub fn new(buckets: Vec<BucketName>, groups: u32) -> Timed {
        Timed { groups, buckets, keys: Vec::new(), calls: Vec::new() }
    }

    /// Draws what a client asks now.
    pub fn draw(&mut self, now_ms: u64, rng: &mut Rng) -> TimedId {
        if self.keys.is_empty() || rng.chance(250) {
            let bucket = rng.pick(&self.buckets).clone();
            return self.put(bucket, rng.between(TTL_MS.0, TTL_MS.1), rng.chance(300), false, now_ms);
        }
        let key = self.keys.len() - 1 - rng.below(self.keys.len().min(NEWEST) as u64) as usize;
        if key.is_multiple_of(3) && self.keys[key].settled && !self.keys[key].busy && rng.chance(250) {
            self.keys[key].busy = true;
            let ttl_ms = (!rng.chance(100)).then(|| rng.between(TTL_MS.0, TTL_MS.1));
            return self.call(key, Ask::Expire { ttl_ms }, false, now_ms);
        }
        self.call(key, Ask::Read, false, now_ms)
    }

    /// A put of a new key of each bucket after the faults. Reads will follow.
    pub fn probes(&mut self, rng: &mut Rng) -> Vec<TimedId> {
        let buckets = self.buckets.clone();
        buckets.into_iter().map(|bucket| self.put(bucket, rng.between(300, 900), false, true, 0)).collect()
    }

    /// A last read of each key.
    pub fn last_reads(&mut self) -> Vec<TimedId> {
        (0..self.keys.len()).map(|key| self.call(key, Ask::Read, true, 0)).collect()
    }

    fn put(&mut self, bucket: BucketName, ttl_ms: u64, batch: bool, probe: bool, now_ms: u64) -> TimedId {
        let key = Key::new(format!("timed-{}", self.keys.len())).expect("a good key");
        self.keys.push(TimedKey { bucket, key, busy: true, settled: false, probe });
        self.call(self.keys.len() - 1, Ask::Put { ttl_ms, batch }, probe, now_ms)
    }

    fn call(&mut self, key: usize, ask: Ask, insists: bool, now_ms: u64) -> TimedId {
        let seen = Seen::Unknown;
        self.calls.push(TimedCall { key, ask, called_ms: now_ms, returned_ms: u64::MAX, seen, insists });
        TimedId(self.calls.len() - 1)
    }

    /// The call in core's words, as it is sent off now.
    pub fn operation(&mut self, id: TimedId, now_ms: u64) -> Operation {
        let call = &mut self.calls[id.0];
        call.called_ms = now_ms;
        let TimedKey { bucket, key, .. } = &self.keys[call.key];
        let (bucket, key) = (bucket.clone(), key.clone());
        let value = key.as_bytes().clone();
        let write = match call.ask {
            Ask::Put { ttl_ms, batch: false } => {
                Write::Put { key, value, ttl_ms: Some(ttl_ms), condition: None, return_previous: false }
            }
            Ask::Put { ttl_ms, batch: true } => {
                Write::Batch { ops: vec![BatchOp::Put { key, value, ttl_ms: Some(ttl_ms) }] }
            }
            Ask::Expire { ttl_ms } => Write::Expire { key, ttl_ms },
            Ask::Read => {
                let group = group_of(&bucket, self.groups);
                return Operation::Read(group, ReadMode::Linearizable, ReadOp::Get { bucket, key });
            }
        };
        Operation::Write(Command { bucket, id: None, write })
    }

    /// Takes an answer, or that none came. What is to be asked next, and when; an error if it is no answer to this.
    pub fn answered(
        &mut self,
        id: TimedId,
        answer: Option<&Result<Reply, Error>>,
        now_ms: u64,
    ) -> Result<Vec<(u64, TimedId)>, String> {
        let call = &mut self.calls[id.0];
        let key = &mut self.keys[call.key];
        call.seen = match (call.ask, answer) {
            (Ask::Put { .. }, Some(Ok(Reply::Put { applied: true, .. } | Reply::Batch { .. }))) => {
                Seen::There { ttl_ms: None }
            }
            (Ask::Expire { .. }, Some(Ok(Reply::Expire { existed: true, .. }))) => Seen::There { ttl_ms: None },
            (Ask::Expire { .. }, Some(Ok(Reply::Expire { existed: false, .. }))) => Seen::Gone,
            (Ask::Read, Some(Ok(Reply::Entry(None)))) => Seen::Gone,
            (Ask::Read, Some(Ok(Reply::Entry(Some(entry))))) if entry.value == key.key.as_bytes() => {
                Seen::There { ttl_ms: entry.ttl_ms }
            }
            (_, None | Some(Err(Error::OutcomeUnknown | Error::DeadlineExceeded))) => Seen::Unknown,
            (
                _,
                Some(Err(
                    Error::NoLeader
                    | Error::NotReady(_)
                    | Error::Overloaded(_)
                    | Error::QuotaExceeded(_)
                    | Error::BucketNotFound(_),
                )),
            ) => Seen::Refused,
            (ask, Some(answer)) => return Err(format!("{ask:?} of {:?} was answered with {answer:?}", key.key)),
        };
        call.returned_ms = now_ms;
        if call.ask != Ask::Read {
            key.busy = false;
            key.settled = matches!(call.seen, Seen::There { .. });
        }
        let call = call.clone();
        Ok(self.next(&call, now_ms))
    }

    fn next(&mut self, call: &TimedCall, now_ms: u64) -> Vec<(u64, TimedId)> {
        let known = matches!(call.seen, Seen::There { .. } | Seen::Gone);
        match call.ask {
            _ if !call.insists => Vec::new(),
            Ask::Put { ttl_ms, .. } if known => {
                let at = [ttl_ms / 2, ttl_ms + LATE_MS_MAX + 10].map(|behind_ms| now_ms + behind_ms);
                at.map(|at_ms| (at_ms, self.call(call.key, Ask::Read, true, at_ms))).into()
            }
            Ask::Put { ttl_ms, batch } => {
                let bucket = self.keys[call.key].bucket.clone();
                vec![(now_ms + RETRY_MS, self.put(bucket, ttl_ms, batch, true, now_ms))]
            }
            ask if !known => vec![(now_ms + RETRY_MS, self.call(call.key, ask, true, now_ms))],
            _ => Vec::new(),
        }
    }

    /// A key's calls as the checker wants them, with the key's name.
    pub fn of(&self, key: usize) -> (String, Vec<&TimedCall>) {
        let TimedKey { bucket, key: name, .. } = &self.keys[key];
        let group: GroupId = group_of(bucket, self.groups);
        let name = format!("{bucket}/{} of group {group}", String::from_utf8_lossy(name.as_bytes()));
        (name, self.calls.iter().filter(|call| call.key == key && call.returned_ms != u64::MAX).collect())
    }
}
