//! Clients that put more into a bucket than it may hold, and take something out of it again: it must stay near its bound.

use bytes::Bytes;
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{BucketInfo, Command, Operation, ReadMode, ReadOp, Reply, Write};

use super::{Answer, Ask, Place, Scene, Script, misfit};
use crate::checker::Violation;
use crate::plan::Plan;
use crate::rng::Rng;

/// The law.
pub const LAW: &str = "a bucket stays near its bound";
/// What it may hold.
const MAX_BYTES: u64 = 16 << 10;
/// So much more may have been under way when it became full, or have come before a new leader had counted it.
const BEYOND_MAX_BYTES: u64 = 48 << 10;
const VALUE_BYTES_MAX: u64 = 2 << 10;
/// All of them together are far too much.
const KEYS: u64 = 200;
/// It takes so many turns, on average, until one asks.
const EVERY: u64 = 3;

/// Those who do that.
pub struct Hoard {
    rng: Rng,
    groups: u32,
    asked: Vec<Option<What>>,
    /// Whether the bucket is there.
    is_made: bool,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Create,
    Put,
    Delete,
    Describe,
}

impl Hoard {
    /// Nothing asked yet.
    pub fn new(plan: &Plan) -> Hoard {
        let rng = Rng::stream(plan.seed, "hoard", 0);
        Hoard { rng, groups: plan.groups, asked: vec![None; plan.asks.hoarders], is_made: false }
    }

    fn operation(&mut self, what: What) -> Operation {
        let key = |rng: &mut Rng| Key::new(format!("thing-{}", rng.below(KEYS))).expect("a good key");
        let write = match what {
            What::Create => Write::CreateBucket {
                default_ttl_ms: None,
                max_bytes: Some(MAX_BYTES),
                if_not_exists: true,
                created_ms: 1,
            },
            What::Put => {
                let value = Bytes::from(vec![b'h'; self.rng.between(1, VALUE_BYTES_MAX) as usize]);
                Write::Put { key: key(&mut self.rng), value, ttl_ms: None, condition: None, return_previous: false }
            }
            What::Delete => Write::Delete { key: key(&mut self.rng), condition: None, return_previous: false },
            What::Describe => return self.describe(),
        };
        Operation::Write(Command { bucket: bucket(), id: None, write })
    }

    fn describe(&self) -> Operation {
        let op = ReadOp::DescribeBucket { bucket: bucket() };
        Operation::Read(group_of(&bucket(), self.groups), ReadMode::Local, op)
    }
}

impl Script for Hoard {
    fn next(&mut self, client: usize, _: &Scene<'_>) -> Option<Ask> {
        if self.rng.below(EVERY) > 0 {
            return None;
        }
        let what = match self.rng.below(100) {
            0..=1 => What::Create,
            2..=69 => What::Put,
            70..=93 => What::Delete,
            _ => What::Describe,
        };
        self.asked[client] = Some(what);
        Some(Ask::any(self.operation(what)))
    }

    fn answered(&mut self, client: usize, answer: Answer<'_>, _: Place, _: &Scene<'_>) -> Result<(), Violation> {
        let Some(what) = self.asked[client].take() else { return Err(misfit("nothing", answer)) };
        match (what, answer.before_buckets()) {
            (_, Answer::Refused | Answer::Unknown) => Ok(()),
            (What::Describe, Answer::Reply(Reply::Buckets(found))) => found.iter().try_for_each(judge),
            (What::Create, Answer::Reply(Reply::Created { .. })) => {
                self.is_made = true;
                Ok(())
            }
            (What::Put, Answer::Reply(Reply::Put { applied: true, .. })) => Ok(()),
            (What::Delete, Answer::Reply(Reply::Delete { applied: true, .. })) => Ok(()),
            (what, answer) => Err(misfit(what, answer)),
        }
    }

    fn looks(&self) -> usize {
        usize::from(self.is_made)
    }

    fn look(&self, _: usize) -> Operation {
        self.describe()
    }

    fn looked(&mut self, _: usize, reply: &Reply) -> Result<(), Violation> {
        match reply {
            Reply::Buckets(found) => found.iter().try_for_each(judge),
            other => Err(misfit("describe", Answer::Reply(other))),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}

fn judge(found: &BucketInfo) -> Result<(), Violation> {
    if found.bytes_estimate <= MAX_BYTES + BEYOND_MAX_BYTES {
        return Ok(());
    }
    let seen = format!("{} keys have {} bytes of {MAX_BYTES}", found.keys_estimate, found.bytes_estimate);
    Err(Violation::new(LAW, seen))
}

/// Theirs alone.
fn bucket() -> BucketName {
    BucketName::new("hoard").expect("a good name")
}
