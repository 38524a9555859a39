//! The state machine once more, as simply as it can be said: maps in maps, no store, no overlay.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::GROUP;
use crate::error::Error;
use crate::name::BucketName;
use crate::request::{BatchOp, BucketInfo, Command, Condition, Entry, OpResult, Reply, Write, WriteId};
use crate::types::Version;

pub(super) struct ModelBucket {
    pub(super) info: BucketInfo,
    pub(super) pairs: BTreeMap<Bytes, (u64, Bytes)>,
}

/// What a session knows: the first sequence that is not acknowledged, and the answers from there on.
pub(super) struct ModelSession {
    first_unacked: u64,
    pub(super) answers: BTreeMap<u64, Result<Reply, Error>>,
}

pub(super) struct Model {
    pub(super) version: u64,
    pub(super) sessions: BTreeMap<u64, ModelSession>,
    pub(super) buckets: BTreeMap<BucketName, ModelBucket>,
}

impl Model {
    pub(super) fn new() -> Model {
        let mut model = Model { version: 0, sessions: BTreeMap::new(), buckets: BTreeMap::new() };
        model.insert(&BucketName::DEFAULT, 0);
        model
    }

    fn insert(&mut self, name: &BucketName, created_ms: u64) -> BucketInfo {
        let info = BucketInfo {
            name: name.clone(),
            group: GROUP,
            keys_estimate: 0,
            bytes_estimate: 0,
            default_ttl_ms: None,
            max_bytes: None,
            created_ms,
            created_version: Version(self.version),
        };
        self.buckets.insert(name.clone(), ModelBucket { info: info.clone(), pairs: BTreeMap::new() });
        info
    }

    pub(super) fn apply(&mut self, command: &Command) -> Result<Reply, Error> {
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
            Write::CreateBucket { if_not_exists, created_ms, .. } => match self.buckets.get(name) {
                Some(bucket) if *if_not_exists => Ok(Reply::Created { bucket: bucket.info.clone(), created: false }),
                Some(_) => Err(Error::BucketExists(name.to_string())),
                None => {
                    self.version += 1;
                    Ok(Reply::Created { bucket: self.insert(name, *created_ms), created: true })
                }
            },
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
                change(&mut bucket.pairs, version, data)
            }
        }
    }
}

fn change(pairs: &mut BTreeMap<Bytes, (u64, Bytes)>, version: &mut u64, write: &Write) -> Result<Reply, Error> {
    Ok(match write {
        Write::Put { key, value, condition, return_previous, .. } => {
            let before = pairs.get(key.as_bytes()).cloned();
            let previous = before.clone().filter(|_| *return_previous).map(|found| entry(key.as_bytes(), found));
            if !holds(condition.as_ref(), &before) {
                let existing = Version(before.map_or(0, |(version, _)| version));
                return Ok(Reply::Put { applied: false, version: existing, previous });
            }
            *version += 1;
            pairs.insert(key.as_bytes().clone(), (*version, value.clone()));
            Reply::Put { applied: true, version: Version(*version), previous }
        }
        Write::Delete { key, condition, return_previous } => {
            let before = pairs.get(key.as_bytes()).cloned();
            let (applied, existed) = (holds(condition.as_ref(), &before), before.is_some());
            if applied && existed {
                *version += 1;
                pairs.remove(key.as_bytes());
            }
            let previous = before.filter(|_| *return_previous).map(|found| entry(key.as_bytes(), found));
            Reply::Delete { applied, existed, version: Version(*version), previous }
        }
        Write::Batch { ops } => {
            let results = all(pairs, version, ops)?;
            Reply::Batch { version: Version(*version), results }
        }
        Write::Txn { compare, success, failure } => {
            let succeeded =
                compare.iter().all(|(key, condition)| holds(Some(condition), &pairs.get(key.as_bytes()).cloned()));
            let results = all(pairs, version, if succeeded { success } else { failure })?;
            Reply::Txn { succeeded, version: Version(*version), results }
        }
        Write::CreateBucket { .. } | Write::DropBucket { .. } | Write::OpenSession | Write::System(_) => {
            unreachable!("not about data")
        }
    })
}

/// All operations on a copy, which then takes the place of what was there.
fn all(pairs: &mut BTreeMap<Bytes, (u64, Bytes)>, version: &mut u64, ops: &[BatchOp]) -> Result<Vec<OpResult>, Error> {
    let mut copy = pairs.clone();
    let next = *version + 1;
    let mut changed = false;
    let mut results = Vec::new();
    for op in ops {
        results.push(match op {
            BatchOp::Put { key, value, .. } => {
                copy.insert(key.as_bytes().clone(), (next, value.clone()));
                changed = true;
                OpResult { affected: 1, entry: None }
            }
            BatchOp::Delete { key } => {
                let existed = copy.remove(key.as_bytes()).is_some();
                changed |= existed;
                OpResult { affected: u64::from(existed), entry: None }
            }
            BatchOp::Get { key } => {
                let found = copy.get(key.as_bytes()).cloned();
                OpResult { affected: 0, entry: found.map(|found| entry(key.as_bytes(), found)) }
            }
            BatchOp::Increment { key, by } => {
                let before = copy.get(key.as_bytes()).map_or("0".into(), |(_, value)| value.clone());
                let text = String::from_utf8(before.to_vec()).expect("text");
                let sum = text.parse::<i64>().map_err(|_| {
                    let key = String::from_utf8_lossy(key.as_bytes());
                    Error::invalid(format!("cannot increment key {key:?}: its value is no number of 64 bits"))
                })? + by;
                copy.insert(key.as_bytes().clone(), (next, sum.to_string().into()));
                changed = true;
                let made = copy[key.as_bytes()].clone();
                OpResult { affected: 1, entry: Some(entry(key.as_bytes(), made)) }
            }
            BatchOp::Append { key, value } => {
                let before = copy.get(key.as_bytes()).map_or(Bytes::new(), |(_, value)| value.clone());
                copy.insert(key.as_bytes().clone(), (next, [before, value.clone()].concat().into()));
                changed = true;
                OpResult { affected: 1, entry: None }
            }
        });
    }
    if changed {
        *version = next;
    }
    *pairs = copy;
    Ok(results)
}

fn entry(key: &Bytes, (version, value): (u64, Bytes)) -> Entry {
    Entry { key: key.clone(), value, version: Version(version), ttl_ms: None }
}

fn holds(condition: Option<&Condition>, before: &Option<(u64, Bytes)>) -> bool {
    match condition {
        None => true,
        Some(Condition::VersionIs(Version(0))) | Some(Condition::Exists(false)) => before.is_none(),
        Some(Condition::VersionIs(Version(wanted))) => before.as_ref().is_some_and(|(version, _)| version == wanted),
        Some(Condition::ValueIs(wanted)) => before.as_ref().is_some_and(|(_, value)| value == wanted),
        Some(Condition::Exists(true)) => before.is_some(),
    }
}
