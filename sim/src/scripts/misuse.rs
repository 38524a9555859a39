//! A client that asks for what cannot be done: values and batches that are too large, times to live of 0, ids of no session, sums of what
//! is no number, buckets that are not there. Each must be refused with the error that says so, and nothing of it may happen: where it
//! writes, it writes what nobody may write over keys that others use.

use bytes::Bytes;
use drey_core::ViewId;
use drey_core::limits::{BATCH_OPS_MAX, GET_MANY_KEYS_MAX, VALUE_BYTES_MAX};
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{BatchOp, Command, Operation, ReadMode, ReadOp, Reply, Write, WriteId};

use super::{Answer, Ask, Place, Scene, Script, misfit};
use crate::checker::Violation;
use crate::plan::Plan;
use crate::rng::Rng;

/// The law.
pub const LAW: &str = "what cannot be done is refused, and says why";
/// What nobody writes.
const JUNK: &[u8] = b"not to be seen";
/// It takes so many turns, on average, until it asks for the next: what it asks for is large.
const EVERY: u64 = 60;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    ValueTooLarge,
    LargerThanTheLog,
    NoTimeToLive,
    TooManySteps,
    TooManyKeys,
    BadId,
    NoSession,
    NoNumber,
    NoNumberInTxn,
    NoBucket,
    NoBucketToRead,
    NoView,
    DropsDefault,
    MakesDefault,
    BoundedBucket,
}

const ALL: &[(Wrong, &str)] = &[
    (Wrong::ValueTooLarge, "invalid_argument"),
    (Wrong::LargerThanTheLog, "invalid_argument"),
    (Wrong::NoTimeToLive, "invalid_argument"),
    (Wrong::TooManySteps, "invalid_argument"),
    (Wrong::TooManyKeys, "invalid_argument"),
    (Wrong::BadId, "invalid_argument"),
    (Wrong::NoSession, "session_expired"),
    (Wrong::NoNumber, "invalid_argument"),
    (Wrong::NoNumberInTxn, "invalid_argument"),
    (Wrong::NoBucket, "bucket_not_found"),
    (Wrong::NoBucketToRead, "bucket_not_found"),
    (Wrong::NoView, "compacted"),
    (Wrong::DropsDefault, "invalid_argument"),
    (Wrong::MakesDefault, "bucket_exists"),
    (Wrong::BoundedBucket, "invalid_argument"),
];

/// The one who does that.
pub struct Misuse {
    rng: Rng,
    groups: u32,
    segment_bytes: u64,
    asked: Vec<Option<(Wrong, &'static str)>>,
    /// How often it was told why.
    pub told: usize,
}

impl Misuse {
    /// Nothing asked yet.
    pub fn new(plan: &Plan) -> Misuse {
        let rng = Rng::stream(plan.seed, "misuse", 0);
        let segment_bytes = plan.log.segment_bytes;
        Misuse { rng, groups: plan.groups, segment_bytes, asked: vec![None; plan.asks.misusers], told: 0 }
    }

    fn read(&self, bucket: BucketName, op: ReadOp) -> Operation {
        Operation::Read(group_of(&bucket, self.groups), ReadMode::Linearizable, op)
    }

    /// A request with this mistake, about a key that others use.
    fn operation(&self, wrong: Wrong, bucket: BucketName, key: Key) -> Operation {
        let junk = Bytes::from_static(JUNK);
        let put = |key, value, ttl_ms| Write::Put { key, value, ttl_ms, condition: None, return_previous: false };
        let sum = |key: Key| {
            let put = BatchOp::Put { key: key.clone(), value: Bytes::from_static(JUNK), ttl_ms: None };
            vec![put, BatchOp::Increment { key, by: 1 }]
        };
        let create = |max_bytes, if_not_exists| Write::CreateBucket {
            default_ttl_ms: None,
            max_bytes,
            if_not_exists,
            created_ms: 1,
        };
        let mut id = None;
        let mut in_bucket = bucket.clone();
        let write = match wrong {
            Wrong::ValueTooLarge => put(key, Bytes::from(vec![7; VALUE_BYTES_MAX + 1]), None),
            Wrong::LargerThanTheLog => put(key, Bytes::from(vec![7; self.segment_bytes as usize]), None),
            Wrong::NoTimeToLive => put(key, junk, Some(0)),
            Wrong::TooManySteps => Write::Batch { ops: vec![BatchOp::Delete { key }; BATCH_OPS_MAX + 1] },
            Wrong::TooManyKeys => {
                let keys = vec![key; GET_MANY_KEYS_MAX + 1];
                return self.read(bucket.clone(), ReadOp::GetMany { bucket, keys });
            }
            Wrong::BadId => {
                id = Some(WriteId { session: 1, sequence: 1, first_unacked: 2 });
                put(key, junk, None)
            }
            Wrong::NoSession => {
                id = Some(WriteId { session: u64::MAX, sequence: 1, first_unacked: 1 });
                put(key, junk, None)
            }
            Wrong::NoNumber => Write::Batch { ops: sum(key) },
            Wrong::NoNumberInTxn => Write::Txn { compare: Vec::new(), success: sum(key), failure: Vec::new() },
            Wrong::NoBucket => {
                in_bucket = nobodys();
                put(key, junk, None)
            }
            Wrong::NoBucketToRead => return self.read(nobodys(), ReadOp::Get { bucket: nobodys(), key }),
            Wrong::NoView => {
                let op = ReadOp::ScanNext { view: ViewId::here(u64::MAX) };
                return Operation::Read(group_of(&bucket, self.groups), ReadMode::Local, op);
            }
            Wrong::DropsDefault => {
                in_bucket = BucketName::DEFAULT;
                Write::DropBucket { created_version: None }
            }
            Wrong::MakesDefault => {
                in_bucket = BucketName::DEFAULT;
                create(None, false)
            }
            Wrong::BoundedBucket => {
                in_bucket = nobodys();
                create(Some(0), true)
            }
        };
        Operation::Write(Command { bucket: in_bucket, id, write })
    }
}

impl Script for Misuse {
    fn next(&mut self, client: usize, scene: &Scene<'_>) -> Option<Ask> {
        let object = scene.workload.objects.iter().rev().find(|object| !object.own_bucket)?;
        if self.rng.below(EVERY) > 0 {
            return None;
        }
        let (wrong, code) = *self.rng.pick(ALL);
        self.asked[client] = Some((wrong, code));
        Some(Ask::any(self.operation(wrong, object.bucket.clone(), object.keys[0].clone())))
    }

    fn answered(&mut self, client: usize, answer: Answer<'_>, _: Place, _: &Scene<'_>) -> Result<(), Violation> {
        let Some((wrong, code)) = self.asked[client].take() else { return Err(misfit("nothing", answer)) };
        match answer {
            Answer::Error(error) if error.code() == code => self.told += 1,
            // Its bucket is about to be made.
            Answer::Error(drey_core::Error::BucketNotFound(_)) => {}
            // A session that is not there is told as any that has expired.
            Answer::Refused | Answer::Unknown => {}
            _ => return Err(Violation::new(LAW, format!("{wrong:?} was answered with {answer:?}"))),
        }
        Ok(())
    }

    fn looks(&self) -> usize {
        0
    }

    fn look(&self, _: usize) -> Operation {
        self.operation(Wrong::NoBucketToRead, nobodys(), Key::new("none").expect("a good key"))
    }

    fn looked(&mut self, _: usize, _: &Reply) -> Result<(), Violation> {
        Ok(())
    }

    fn check(&self) -> Result<(), Violation> {
        Ok(())
    }
}

/// A bucket that nobody makes.
fn nobodys() -> BucketName {
    BucketName::new("nobodys").expect("a good name")
}
