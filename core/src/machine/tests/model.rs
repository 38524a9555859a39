//! The state machine once more, as simply as it can be said: maps in maps, no store, no overlay.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::GROUP;
use crate::error::Error;
use crate::name::{BucketName, Key};
use crate::request::{BatchOp, BucketInfo, Command, Condition, Entry, OpResult, Reply, Write, WriteId};
use crate::types::Version;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelValue {
    pub(super) version: u64,
    pub(super) value: Bytes,
    pub(super) expiry_ms: Option<u64>,
}

#[derive(Clone)]
pub(super) struct ModelBucket {
    pub(super) info: BucketInfo,
    pub(super) pairs: BTreeMap<Bytes, ModelValue>,
    /// What is to be looked at, and when: out of date where a blind put replaced a value that expires.
    pub(super) index: BTreeSet<(u64, Bytes)>,
    clock_ms: u64,
}

/// What a session knows: the first sequence that is not acknowledged, and the answers from there on.
pub(super) struct ModelSession {
    first_unacked: u64,
    pub(super) answers: BTreeMap<u64, Result<Reply, Error>>,
}

pub(super) struct Model {
    pub(super) version: u64,
    pub(super) clock_ms: u64,
    pub(super) sessions: BTreeMap<u64, ModelSession>,
    pub(super) buckets: BTreeMap<BucketName, ModelBucket>,
}

impl Model {
    pub(super) fn new() -> Model {
        let mut model = Model { version: 0, clock_ms: 0, sessions: BTreeMap::new(), buckets: BTreeMap::new() };
        model.insert(&BucketName::DEFAULT, 0, None, None);
        model
    }

    fn insert(
        &mut self,
        name: &BucketName,
        created_ms: u64,
        default_ttl_ms: Option<u64>,
        max_bytes: Option<u64>,
    ) -> BucketInfo {
        let info = BucketInfo {
            name: name.clone(),
            group: GROUP,
            keys_estimate: 0,
            bytes_estimate: 0,
            default_ttl_ms,
            max_bytes,
            created_ms,
            created_version: Version(self.version),
        };
        let bucket = ModelBucket { info: info.clone(), pairs: BTreeMap::new(), index: BTreeSet::new(), clock_ms: 0 };
        self.buckets.insert(name.clone(), bucket);
        info
    }

    /// An entry with its stamp: time passes, then the commands.
    pub(super) fn entry(&mut self, clock_ms: u64, commands: &[Command]) -> Vec<Result<Reply, Error>> {
        self.clock_ms = self.clock_ms.max(clock_ms);
        let mut expired = false;
        for bucket in self.buckets.values_mut() {
            while let Some((expiry_ms, key)) =
                bucket.index.first().cloned().filter(|(expiry_ms, _)| *expiry_ms <= self.clock_ms)
            {
                bucket.index.pop_first();
                if bucket.pairs.get(&key).is_some_and(|value| value.expiry_ms == Some(expiry_ms)) {
                    bucket.pairs.remove(&key);
                    expired = true;
                }
            }
        }
        self.version += u64::from(expired);
        commands.iter().map(|command| self.apply(command)).collect()
    }

    fn apply(&mut self, command: &Command) -> Result<Reply, Error> {
        let Some(WriteId { session: id, sequence, first_unacked }) = command.id else { return self.write(command) };
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Error::SessionExpired) };
        session.first_unacked = session.first_unacked.max(first_unacked);
        session.answers = session.answers.split_off(&session.first_unacked);
        if sequence < session.first_unacked {
            return Err(Error::invalid(format!("write {sequence} of session {id} was acknowledged before")));
        }
        if let Some(answer) = session.answers.get(&sequence) {
            return answer.clone();
        }
        let answer = self.write(command);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.answers.insert(sequence, answer.clone());
        }
        answer
    }

    fn write(&mut self, command: &Command) -> Result<Reply, Error> {
        let name = &command.bucket;
        match &command.write {
            Write::CreateBucket { if_not_exists, created_ms, default_ttl_ms, max_bytes } => {
                match self.buckets.get(name) {
                    Some(bucket) if *if_not_exists => {
                        Ok(Reply::Created { bucket: bucket.info.clone(), created: false })
                    }
                    Some(_) => Err(Error::BucketExists(name.to_string())),
                    None => {
                        self.version += 1;
                        Ok(Reply::Created {
                            bucket: self.insert(name, *created_ms, *default_ttl_ms, *max_bytes),
                            created: true,
                        })
                    }
                }
            }
            Write::DropBucket { .. } if *name == BucketName::DEFAULT => {
                Err(Error::invalid("the bucket \"default\" cannot be dropped"))
            }
            Write::DropBucket { created_version } => {
                let existed = self
                    .buckets
                    .get(name)
                    .is_some_and(|bucket| created_version.is_none_or(|version| version == bucket.info.created_version));
                if existed {
                    self.version += 1;
                    self.buckets.remove(name);
                }
                Ok(Reply::Dropped { existed })
            }
            Write::OpenSession => {
                self.version += 1;
                let session = ModelSession { first_unacked: 1, answers: BTreeMap::new() };
                self.sessions.insert(self.version, session);
                Ok(Reply::SessionOpened { session: self.version })
            }
            data => {
                let version = &mut self.version;
                let bucket = self.buckets.get_mut(name).ok_or_else(|| Error::BucketNotFound(name.to_string()))?;
                bucket.clock_ms = self.clock_ms;
                bucket.change(version, data)
            }
        }
    }
}

impl ModelBucket {
    fn expiry_ms(&self, ttl_ms: Option<u64>) -> Option<u64> {
        ttl_ms.or(self.info.default_ttl_ms).map(|ttl_ms| self.clock_ms + ttl_ms)
    }

    /// `looked`: whether whoever wrote this knew what was there.
    fn set(&mut self, key: &Key, version: u64, value: Bytes, expiry_ms: Option<u64>, looked: bool) {
        if looked {
            self.unset(key);
        }
        self.index.extend(expiry_ms.map(|expiry_ms| (expiry_ms, key.as_bytes().clone())));
        self.pairs.insert(key.as_bytes().clone(), ModelValue { version, value, expiry_ms });
    }

    fn unset(&mut self, key: &Key) {
        if let Some(ModelValue { expiry_ms: Some(expiry_ms), .. }) = self.pairs.remove(key.as_bytes()) {
            self.index.remove(&(expiry_ms, key.as_bytes().clone()));
        }
    }

    fn get(&self, key: &Key) -> Option<ModelValue> {
        let found = self.pairs.get(key.as_bytes()).cloned();
        found.filter(|value| value.expiry_ms.is_none_or(|expiry_ms| expiry_ms > self.clock_ms))
    }

    fn entry(&self, key: &Key, found: ModelValue) -> Entry {
        let ttl_ms = found.expiry_ms.map(|expiry_ms| expiry_ms - self.clock_ms);
        Entry { key: key.as_bytes().clone(), value: found.value, version: Version(found.version), ttl_ms }
    }

    fn change(&mut self, version: &mut u64, write: &Write) -> Result<Reply, Error> {
        Ok(match write {
            Write::Put { key, value, ttl_ms, condition, return_previous } => {
                let before = self.get(key);
                let previous = before.clone().filter(|_| *return_previous).map(|found| self.entry(key, found));
                if !holds(condition.as_ref(), before.as_ref()) {
                    let existing = Version(before.map_or(0, |found| found.version));
                    return Ok(Reply::Put { applied: false, version: existing, previous });
                }
                *version += 1;
                let expiry_ms = self.expiry_ms(*ttl_ms);
                let looked = condition.is_some() || *return_previous || expiry_ms.is_some();
                self.set(key, *version, value.clone(), expiry_ms, looked);
                Reply::Put { applied: true, version: Version(*version), previous }
            }
            Write::Delete { key, condition, return_previous } => {
                let before = self.get(key);
                let (applied, existed) = (holds(condition.as_ref(), before.as_ref()), before.is_some());
                if applied && existed {
                    *version += 1;
                    self.unset(key);
                }
                let previous = before.filter(|_| *return_previous).map(|found| self.entry(key, found));
                Reply::Delete { applied, existed, version: Version(*version), previous }
            }
            Write::Expire { key, ttl_ms } => {
                let before = self.get(key);
                let existed = before.is_some();
                if let Some(before) = before {
                    *version += 1;
                    let expiry_ms = ttl_ms.map(|ttl_ms| self.clock_ms + ttl_ms);
                    self.set(key, *version, before.value, expiry_ms, true);
                }
                Reply::Expire { existed, version: Version(*version) }
            }
            Write::Batch { ops } => {
                let results = self.all(version, ops)?;
                Reply::Batch { version: Version(*version), results }
            }
            Write::Txn { compare, success, failure } => {
                let succeeded = compare.iter().all(|(key, condition)| holds(Some(condition), self.get(key).as_ref()));
                let results = self.all(version, if succeeded { success } else { failure })?;
                Reply::Txn { succeeded, version: Version(*version), results }
            }
            Write::CreateBucket { .. } | Write::DropBucket { .. } | Write::OpenSession | Write::System(_) => {
                unreachable!("not about data")
            }
        })
    }

    /// All operations on a copy, which then takes the place of what was there.
    fn all(&mut self, version: &mut u64, ops: &[BatchOp]) -> Result<Vec<OpResult>, Error> {
        let mut copy = self.clone();
        let next = *version + 1;
        let mut changed = false;
        let mut results = Vec::new();
        for op in ops {
            results.push(match op {
                BatchOp::Put { key, value, ttl_ms } => {
                    let expiry_ms = copy.expiry_ms(*ttl_ms);
                    copy.set(key, next, value.clone(), expiry_ms, expiry_ms.is_some());
                    changed = true;
                    OpResult { affected: 1, entry: None }
                }
                BatchOp::Delete { key } => {
                    let existed = copy.get(key).is_some();
                    if existed {
                        copy.unset(key);
                    }
                    changed |= existed;
                    OpResult { affected: u64::from(existed), entry: None }
                }
                BatchOp::Get { key } => {
                    OpResult { affected: 0, entry: copy.get(key).map(|found| copy.entry(key, found)) }
                }
                BatchOp::Increment { key, by } => {
                    let before = copy.get(key);
                    let text = before.as_ref().map_or("0".into(), |found| found.value.clone());
                    let text = String::from_utf8(text.to_vec()).expect("text");
                    let cannot = |why| {
                        let key = String::from_utf8_lossy(key.as_bytes());
                        Error::invalid(format!("cannot increment key {key:?}: its value {why}"))
                    };
                    let number: i64 = text.parse().map_err(|_| cannot("is no number of 64 bits"))?;
                    // As after an append to a 0.
                    if number.to_string() != text {
                        return Err(cannot("is no number in its plain form"));
                    }
                    let sum = number + by;
                    let expiry_ms = before.map_or(copy.expiry_ms(None), |found| found.expiry_ms);
                    copy.set(key, next, sum.to_string().into(), expiry_ms, true);
                    changed = true;
                    let made = copy.pairs[key.as_bytes()].clone();
                    OpResult { affected: 1, entry: Some(copy.entry(key, made)) }
                }
                BatchOp::Append { key, value } => {
                    let before = copy.get(key);
                    let bytes = before.as_ref().map_or(Bytes::new(), |found| found.value.clone());
                    let expiry_ms = before.map_or(copy.expiry_ms(None), |found| found.expiry_ms);
                    copy.set(key, next, [bytes, value.clone()].concat().into(), expiry_ms, true);
                    changed = true;
                    OpResult { affected: 1, entry: None }
                }
            });
        }
        if changed {
            *version = next;
        }
        *self = copy;
        Ok(results)
    }
}

fn holds(condition: Option<&Condition>, before: Option<&ModelValue>) -> bool {
    match condition {
        None => true,
        Some(Condition::VersionIs(Version(0))) | Some(Condition::Exists(false)) => before.is_none(),
        Some(Condition::VersionIs(Version(wanted))) => before.is_some_and(|found| found.version == *wanted),
        Some(Condition::ValueIs(wanted)) => before.is_some_and(|found| found.value == *wanted),
        Some(Condition::Exists(true)) => before.is_some(),
    }
}
