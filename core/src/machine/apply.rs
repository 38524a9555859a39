//! Applying committed entries: a pure function from what the store holds to one write set and the replies.
//!
//! The write set under construction is also the overlay through which a command sees those before it in the same batch. A blind
//! put (no condition, no previous value asked for, no time to live) reads nothing. Every write that changes something takes the next version; a
//! refused condition, a delete that finds nothing and a batch that changes nothing take none.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{BUCKETS_PER_GROUP_MAX, EXPIRED_PER_ENTRY, EXPIRED_PER_STAMP};
use crate::machine::entry::EntryCommands;
use crate::machine::keys::DataPrefix;
use crate::machine::record::damaged;
use crate::machine::sessions::Meaning;
use crate::machine::{Bucket, DecodeError, Machine, ValueRecord, reply};
use crate::mutation::{Mutation, is_on};
use crate::name::{BucketName, Key};
use crate::placement::all_groups;
use crate::request::{BucketInfo, Command, Condition, Entry, Reply, Write, WriteId};
use crate::storage::Committed;
use crate::store::{Read, StoreError, WriteSet};
use crate::system::{Members, SystemWrite};
use crate::types::{LogIndex, Version};

/// For each entry that wanted replies: one for each of its commands.
pub type Replies = Vec<(LogIndex, Vec<Result<Reply, Error>>)>;

/// What a command comes to: the outer error ends the shard, the inner one is an answer.
pub(super) type Answer = Result<Result<Reply, Error>, StoreError>;

impl Machine {
    /// Applies entries in order and says what to write: the data and where the group stands, in one batch. Entries that were
    /// applied already are skipped without a reply, as a log that is replayed has them; a gap is a broken invariant.
    ///
    /// After an error of the store the machine is not what the store holds: the shard must stop.
    pub fn apply(&mut self, reader: &dyn Read, entries: &[Committed]) -> Result<(WriteSet, Replies), StoreError> {
        let mut replies = Replies::new();
        let mut batch = Batch { reader, writes: WriteSet::default(), machine: self, index: LogIndex(0), undo: None };
        for entry in entries {
            let applied = batch.machine.meta.applied;
            if entry.index <= applied {
                continue;
            }
            assert_eq!(entry.index.0, applied.0 + 1, "an entry is missing in group {}", batch.machine.group);
            batch.index = entry.index;
            let answers = batch.entry(entry)?;
            batch.machine.meta.applied = entry.index;
            batch.machine.meta.term = entry.term;
            if let Some(configuration) = &entry.configuration {
                batch.machine.meta.configuration.clone_from(configuration);
            }
            if entry.wants_replies {
                replies.push((entry.index, answers));
            }
        }
        let mut writes = batch.writes;
        let generation = self.generation();
        self.sizes.follow(reader, generation, &writes)?;
        self.put_meta(&mut writes);
        Ok((writes, replies))
    }

    /// A bucket by name, or the error that there is none.
    pub(super) fn bucket(&self, name: &BucketName) -> Result<&Bucket, Error> {
        self.buckets.get(name).ok_or_else(|| Error::BucketNotFound(name.to_string()))
    }
}

pub(super) struct Batch<'a> {
    pub(super) machine: &'a mut Machine,
    pub(super) reader: &'a dyn Read,
    pub(super) writes: WriteSet,
    /// Of the entry that is applied.
    index: LogIndex,
    /// What the changes of the present command replaced, if it can still be refused.
    pub(super) undo: Option<Vec<(Bytes, Option<Option<Bytes>>)>>,
}

/// The bucket that a command is about.
#[derive(Clone, Copy)]
pub(super) struct Target {
    created: Version,
    data: DataPrefix,
    default_ttl_ms: Option<u64>,
}

impl Target {
    /// Where the store has a user's key.
    pub(super) fn key(&self, key: &Key) -> Bytes {
        self.data.key(key.as_bytes())
    }
}

/// What lies under a key before a command changes it.
#[derive(Default)]
pub(super) struct Before {
    /// The value, unless it has expired.
    pub(super) record: Option<ValueRecord>,
    /// When what lies there expires or did; none, too, if it was not looked at.
    pub(super) expiry_ms: Option<u64>,
}

impl Batch<'_> {
    fn entry(&mut self, entry: &Committed) -> Result<Vec<Result<Reply, Error>>, StoreError> {
        let commands = match EntryCommands::new(entry.commands.clone()) {
            Ok(commands) => commands,
            Err(error) => return Ok(vec![Err(unreadable(error))]),
        };
        let meta = &mut self.machine.meta;
        if commands.epoch > meta.epoch {
            meta.epoch = commands.epoch;
            meta.version = meta.version.of_next_epoch();
        }
        // It never falls, whatever a leader says. Format 1 says nothing.
        let floor_ms = if is_on(Mutation::ClockGoesBack) { 1 } else { meta.stamp.clock_ms.max(1) };
        if commands.stamp.clock_ms >= floor_ms {
            meta.stamp = commands.stamp;
        }
        // The first entry of a leader has no payload at all, and no stamp that could make anything due.
        if !entry.commands.is_empty() {
            let bare = commands.size_hint().0 == 0;
            self.remove_expired(if bare { EXPIRED_PER_STAMP } else { EXPIRED_PER_ENTRY })?;
        }
        let mut answers = Vec::with_capacity(commands.size_hint().0);
        for command in commands {
            answers.push(match command {
                Ok(command) => self.command(&command)?,
                Err(error) => Err(unreadable(error)),
            });
        }
        Ok(answers)
    }

    fn command(&mut self, command: &Command) -> Answer {
        if let Err(error) = command.validate() {
            return Ok(Err(error));
        }
        match command.id {
            Some(id) => self.once(command, id),
            None => self.write(command),
        }
    }

    /// A write that may have come before.
    fn once(&mut self, command: &Command, id: WriteId) -> Answer {
        let generation = self.machine.generation();
        match self.machine.sessions.look_up(id, self.index, generation, &mut self.writes) {
            Meaning::Refused(Error::SessionExpired) if is_on(Mutation::EvictedSessionTakenForNew) => {
                self.write(command)
            }
            Meaning::Refused(error) => Ok(Err(error)),
            Meaning::Answered(_) if is_on(Mutation::RetryAppliedTwice) => self.write(command),
            Meaning::Answered(key) => self.answer(&key),
            Meaning::New => {
                let answer = self.write(command)?;
                let mut bytes = Vec::new();
                reply::encode(&answer, &mut bytes);
                self.machine.sessions.answered(id, bytes.into(), generation, &mut self.writes);
                Ok(answer)
            }
        }
    }

    /// An answer that a session keeps.
    fn answer(&self, key: &Bytes) -> Answer {
        let found = match self.writes.changes.get(key) {
            Some(change) => change.clone(),
            None => self.reader.get(key)?,
        };
        let bytes = found.ok_or_else(|| damaged(key, DecodeError("it is missing")))?;
        reply::decode(bytes).map_err(|error| damaged(key, error))
    }

    fn write(&mut self, command: &Command) -> Answer {
        let name = &command.bucket;
        match &command.write {
            Write::CreateBucket { default_ttl_ms, max_bytes, if_not_exists, created_ms } => {
                let bucket = Bucket {
                    created_version: self.next_version(),
                    created_ms: *created_ms,
                    default_ttl_ms: *default_ttl_ms,
                    max_bytes: *max_bytes,
                };
                Ok(self.create_bucket(name, bucket, *if_not_exists))
            }
            Write::DropBucket { created_version } => Ok(self.drop_bucket(name, *created_version)),
            Write::OpenSession => Ok(Ok(self.open_session())),
            Write::System(write) => Ok(self.system(write)),
            data => match self.target(name) {
                Ok(target) => self.change_data(&target, data),
                Err(error) => Ok(Err(error)),
            },
        }
    }

    /// A write to an existing bucket's keys.
    fn change_data(&mut self, target: &Target, write: &Write) -> Answer {
        match write {
            Write::Put { key, value, ttl_ms, condition, return_previous } => {
                self.put(target, (key, value, *ttl_ms), condition.as_ref(), *return_previous)
            }
            Write::Delete { key, condition, return_previous } => {
                self.delete(target, key, condition.as_ref(), *return_previous)
            }
            Write::Expire { key, ttl_ms } => self.expire(target, key, *ttl_ms),
            Write::Batch { ops } => self.batch(target, ops),
            Write::Txn { compare, success, failure } => self.txn(target, compare, success, failure),
            Write::CreateBucket { .. } | Write::DropBucket { .. } | Write::OpenSession | Write::System(_) => {
                unreachable!("not about a bucket's keys")
            }
        }
    }

    fn open_session(&mut self) -> Reply {
        let version = self.next_version();
        self.machine.meta.version = version;
        let generation = self.machine.generation();
        self.machine.sessions.open(version.0, self.index, generation, &mut self.writes);
        Reply::SessionOpened { session: version.0 }
    }

    /// Who the members are is changed in the system group alone.
    fn system(&mut self, write: &SystemWrite) -> Result<Reply, Error> {
        let known = self.machine.members.as_ref().ok_or_else(|| Error::invalid("this is not the system group"))?;
        let mut members = Members::clone(known);
        let id = match write {
            SystemWrite::Join { name, address, incarnation } => members.join(name, address, *incarnation)?,
            SystemWrite::Leave { member } => {
                members.leave(*member, all_groups(self.machine.groups))?;
                *member
            }
            SystemWrite::Left { member, group } => {
                members.left(*member, *group);
                *member
            }
        };
        if members.changes() != known.changes() {
            self.machine.meta.version = self.next_version();
            self.writes.changes.insert(self.machine.generation().members(), Some(members.encode()));
            self.machine.members = Some(Arc::new(members));
        }
        let members = self.machine.members.clone().unwrap_or_default();
        Ok(Reply::Members { id, members })
    }

    fn create_bucket(&mut self, name: &BucketName, bucket: Bucket, if_not_exists: bool) -> Result<Reply, Error> {
        let group = self.machine.group;
        if let Some(existing) = self.machine.buckets.get(name) {
            if !if_not_exists {
                return Err(Error::BucketExists(name.to_string()));
            }
            return Ok(Reply::Created { bucket: existing.describe(name, group), created: false });
        }
        if !self.machine.owns(name) {
            return Err(Error::invalid(format!("bucket {:?} does not belong to group {group}", name.as_str())));
        }
        if self.machine.buckets.len() >= BUCKETS_PER_GROUP_MAX {
            return Err(Error::QuotaExceeded(format!("group {group} has {BUCKETS_PER_GROUP_MAX} buckets, the most")));
        }
        self.machine.meta.version = bucket.created_version;
        self.writes.changes.insert(self.machine.generation().bucket(name), Some(bucket.encode()));
        self.machine.sizes.made(&bucket);
        self.machine.buckets.insert(name.clone(), bucket);
        Ok(Reply::Created { bucket: bucket.describe(name, group), created: true })
    }

    fn drop_bucket(&mut self, name: &BucketName, only: Option<Version>) -> Result<Reply, Error> {
        if *name == BucketName::DEFAULT {
            return Err(Error::invalid("the bucket \"default\" cannot be dropped"));
        }
        let Some(bucket) = self.machine.buckets.get(name) else {
            return Ok(Reply::Dropped { existed: false });
        };
        let created = bucket.created_version;
        if only.is_some_and(|only| only != created) {
            return Ok(Reply::Dropped { existed: false });
        }
        let generation = self.machine.generation();
        self.writes.changes.insert(generation.bucket(name), None);
        self.writes.changes.insert(generation.dropped(created), Some(Bytes::new()));
        self.machine.meta.version = self.next_version();
        self.machine.buckets.remove(name);
        self.machine.dropped.insert(created);
        self.machine.due.forget(created);
        self.machine.sizes.forget(created);
        Ok(Reply::Dropped { existed: true })
    }

    fn put(
        &mut self,
        target: &Target,
        (key, value, ttl_ms): (&Key, &Bytes, Option<u64>),
        condition: Option<&Condition>,
        return_previous: bool,
    ) -> Answer {
        let expiry_ms = self.expiry_ms(target, ttl_ms);
        let looks = condition.is_some() || return_previous || expiry_ms.is_some();
        let before = if looks { self.before(target, key)? } else { Before::default() };
        let applied = condition.is_none_or(|condition| condition.holds(before.record.as_ref()));
        let version = if applied {
            self.machine.meta.version = self.next_version();
            let version = self.machine.meta.version;
            let record = ValueRecord { version, expiry_ms, value: value.clone() };
            self.replace(target, key, before.expiry_ms, Some(&record));
            version
        } else {
            before.record.as_ref().map(|record| record.version).unwrap_or_default()
        };
        let previous = before.record.filter(|_| return_previous).map(|record| self.entry_of(key, record));
        Ok(Ok(Reply::Put { applied, version, previous }))
    }

    fn delete(&mut self, target: &Target, key: &Key, condition: Option<&Condition>, return_previous: bool) -> Answer {
        let before = self.before(target, key)?;
        let existed = before.record.is_some();
        let applied = condition.is_none_or(|condition| condition.holds(before.record.as_ref()));
        if applied && existed {
            self.machine.meta.version = self.next_version();
            self.replace(target, key, before.expiry_ms, None);
        }
        let version = self.machine.meta.version;
        let previous = before.record.filter(|_| return_previous).map(|record| self.entry_of(key, record));
        Ok(Ok(Reply::Delete { applied, existed, version, previous }))
    }

    /// Another time to live, and none from the bucket: whoever clears it means it.
    fn expire(&mut self, target: &Target, key: &Key, ttl_ms: Option<u64>) -> Answer {
        let before = self.before(target, key)?;
        let existed = before.record.is_some();
        if let Some(record) = before.record {
            self.machine.meta.version = self.next_version();
            let expiry_ms = ttl_ms.map(|ttl_ms| self.machine.meta.stamp.clock_ms.saturating_add(ttl_ms));
            let record = ValueRecord { version: self.machine.meta.version, expiry_ms, ..record };
            self.replace(target, key, before.expiry_ms, Some(&record));
        }
        Ok(Ok(Reply::Expire { existed, version: self.machine.meta.version }))
    }

    pub(super) fn next_version(&self) -> Version {
        Version(self.machine.meta.version.0 + 1)
    }

    fn target(&self, name: &BucketName) -> Result<Target, Error> {
        let bucket = self.machine.bucket(name)?;
        let (created, default_ttl_ms) = (bucket.created_version, bucket.default_ttl_ms);
        Ok(Target { created, data: self.machine.generation().data(created), default_ttl_ms })
    }

    /// When a value that is written now expires.
    pub(super) fn expiry_ms(&self, target: &Target, ttl_ms: Option<u64>) -> Option<u64> {
        ttl_ms.or(target.default_ttl_ms).map(|ttl_ms| self.machine.meta.stamp.clock_ms.saturating_add(ttl_ms))
    }

    /// Puts a record in the place of what lies under a key, in the expiry index too. `before_ms`: as [`Before`] has it.
    pub(super) fn replace(&mut self, target: &Target, key: &Key, before_ms: Option<u64>, record: Option<&ValueRecord>) {
        let expiry_ms = record.and_then(|record| record.expiry_ms);
        self.index(target.created, key.as_bytes(), before_ms, expiry_ms);
        let record = record.map(|record| ValueRecord::encode(record.version, record.expiry_ms, &record.value));
        self.change(target.key(key), record);
    }

    /// Changes the store, in a way that can be undone while a command may be refused.
    pub(super) fn change(&mut self, store_key: Bytes, change: Option<Bytes>) {
        match &mut self.undo {
            Some(undo) => {
                let before = self.writes.changes.insert(store_key.clone(), change);
                undo.push((store_key, before));
            }
            None => {
                self.writes.changes.insert(store_key, change);
            }
        }
    }

    /// A value as a user sees it in the answer to a write, the same on every replica.
    pub(super) fn entry_of(&self, key: &Key, record: ValueRecord) -> Entry {
        record.entry(key.as_bytes(), self.machine.meta.stamp.clock_ms)
    }

    /// What is under a key now, the writes of this batch included.
    pub(super) fn before(&self, target: &Target, key: &Key) -> Result<Before, StoreError> {
        let record = self.find_record(&target.key(key))?;
        let expiry_ms = record.as_ref().and_then(|record| record.expiry_ms);
        let clock_ms = self.machine.meta.stamp.clock_ms;
        Ok(Before { record: record.filter(|record| record.lives_at(clock_ms)), expiry_ms })
    }

    /// What lies under a key, expired or not.
    pub(super) fn find_record(&self, store_key: &Bytes) -> Result<Option<ValueRecord>, StoreError> {
        let found = match self.writes.changes.get(store_key) {
            Some(change) => change.clone(),
            None => self.reader.get(store_key)?,
        };
        found.map(|bytes| ValueRecord::decode(bytes).map_err(|error| damaged(store_key, error))).transpose()
    }
}

impl Condition {
    pub(super) fn holds(&self, existing: Option<&ValueRecord>) -> bool {
        match self {
            Condition::VersionIs(version) => existing.map(|record| record.version).unwrap_or_default() == *version,
            Condition::ValueIs(value) => existing.is_some_and(|record| record.value == *value),
            Condition::Exists(exists) => existing.is_some() == *exists,
        }
    }
}

impl Bucket {
    /// The bucket as a user sees it, with nothing counted.
    pub(super) fn describe(&self, name: &BucketName, group: crate::types::GroupId) -> BucketInfo {
        BucketInfo {
            name: name.clone(),
            group,
            keys_estimate: 0,
            bytes_estimate: 0,
            default_ttl_ms: self.default_ttl_ms,
            max_bytes: self.max_bytes,
            created_ms: self.created_ms,
            created_version: self.created_version,
        }
    }
}

fn unreadable(error: DecodeError) -> Error {
    Error::invalid(format!("the command cannot be read: {error}"))
}
