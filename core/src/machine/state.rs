//! A group's small state, in memory: how far it is applied, its buckets, what is to be purged.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::machine::expiry::Due;
use crate::machine::keys::{self, Generation, KIND_BUCKET, KIND_DROPPED, KIND_SESSION};
use crate::machine::purge::PurgePosition;
use crate::machine::record::damaged;
use crate::machine::sessions::Sessions;
use crate::machine::sizes::Sizes;
use crate::machine::{BucketRecord, DecodeError, Meta};
use crate::name::{BucketName, KeyRange};
use crate::placement::{SYSTEM_GROUP, group_of};
use crate::storage::AppliedClock;
use crate::store::{Read, StoreError, WriteSet};
use crate::system::{Founder, Members};
use crate::types::{GroupId, LogIndex, Term, Version};

/// A bucket as the machine knows it.
pub type Bucket = BucketRecord;

/// The state machine of one replica. What it holds is also in the store, in the same batches as the data: see [`Machine::load`].
#[derive(Clone, Debug)]
pub struct Machine {
    pub(super) group: GroupId,
    pub(super) groups: u32,
    pub(super) meta: Meta,
    pub(super) buckets: BTreeMap<BucketName, Bucket>,
    /// Dropped buckets whose keys are still there.
    pub(super) dropped: BTreeSet<Version>,
    pub(super) purge: PurgePosition,
    pub(super) sessions: Sessions,
    /// In the system group, once it was founded.
    pub(super) members: Option<Arc<Members>>,
    pub(super) due: Due,
    pub(super) sizes: Sizes,
}

impl Machine {
    /// Finds where a group stands. Without a meta record it stands at its beginning: nothing applied, no bucket but `default`
    /// if the group (of `groups`) is its group.
    pub fn load(reader: &dyn Read, group: GroupId, groups: u32) -> Result<Machine, StoreError> {
        let key = keys::meta(group);
        let meta = match reader.get(&key)? {
            None => Meta::default(),
            Some(bytes) => Meta::decode(bytes).map_err(|error| damaged(&key, error))?,
        };
        let mut machine = Machine {
            group,
            groups,
            meta,
            buckets: BTreeMap::new(),
            dropped: BTreeSet::new(),
            purge: PurgePosition::default(),
            sessions: Sessions::default(),
            members: None,
            due: Due::default(),
            sizes: Sizes::default(),
        };
        machine.buckets = machine.first_buckets();
        machine.load_buckets(reader)?;
        machine.sizes = Sizes::uncounted(machine.buckets.values(), machine.generation());
        machine.load_dropped(reader)?;
        machine.find_leftovers(reader)?;
        machine.load_rest(reader)?;
        Ok(machine)
    }

    /// Starts a group that has applied nothing where founding left it: as if its log's first entries, up to this one, had set
    /// up its members, with this configuration. One that has applied something stays as it is.
    pub fn found(&mut self, (index, term): (LogIndex, Term), configuration: Bytes, founders: &[Founder]) {
        if self.group == SYSTEM_GROUP && self.members.is_none() {
            self.members = Some(Arc::new(Members::found(founders)));
        }
        if self.meta.applied == LogIndex(0) {
            (self.meta.applied, self.meta.term, self.meta.configuration) = (index, term, configuration);
        }
    }

    /// The buckets that exist without being kept: `default`, in its group.
    pub(super) fn first_buckets(&self) -> BTreeMap<BucketName, Bucket> {
        let mut buckets = BTreeMap::new();
        if self.owns(&BucketName::DEFAULT) {
            buckets.insert(BucketName::DEFAULT, Bucket::default());
        }
        buckets
    }

    fn load_buckets(&mut self, reader: &dyn Read) -> Result<(), StoreError> {
        let records = collect(reader, self.generation().kind_range(KIND_BUCKET))?;
        for (key, value) in records {
            let name = &self.generation().suffix(&key)[1..];
            let (name, bucket) = Bucket::decode_named(name, value).map_err(|error| damaged(&key, error))?;
            self.buckets.insert(name, bucket);
        }
        Ok(())
    }

    fn load_dropped(&mut self, reader: &dyn Read) -> Result<(), StoreError> {
        let generation = self.generation();
        for (key, _) in collect(reader, generation.kind_range(KIND_DROPPED))? {
            match keys::take_number(&generation.suffix(&key)[1..]) {
                Some((created, [])) => self.dropped.insert(Version(created)),
                _ => return Err(damaged(&key, DecodeError("a bad mark of a dropped bucket"))),
            };
        }
        Ok(())
    }

    /// What lies in the store beside the buckets' records. For a state that [`Machine::replace`] took over, too.
    pub(crate) fn load_rest(&mut self, reader: &dyn Read) -> Result<(), StoreError> {
        self.sessions = Sessions::load(reader, self.generation())?;
        let created = self.buckets.values().map(|bucket| bucket.created_version);
        self.due = Due::load(reader, self.generation(), created)?;
        self.load_members(reader)
    }

    fn load_members(&mut self, reader: &dyn Read) -> Result<(), StoreError> {
        let key = self.generation().members();
        if let Some(bytes) = reader.get(&key)? {
            let members = Members::decode(bytes).map_err(|error| damaged(&key, error))?;
            self.members = Some(Arc::new(members));
        }
        Ok(())
    }

    /// Whether a bucket of this name belongs to this group.
    pub(crate) fn owns(&self, name: &BucketName) -> bool {
        self.group != SYSTEM_GROUP && group_of(name, self.groups) == self.group
    }

    /// Whose state this is.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The last applied entry.
    pub fn applied(&self) -> LogIndex {
        self.meta.applied
    }

    /// The last applied entry's term.
    pub fn applied_term(&self) -> Term {
        self.meta.term
    }

    /// The configuration as of the last applied entry; empty if there never was one.
    pub fn configuration(&self) -> &Bytes {
        &self.meta.configuration
    }

    /// The count of applied writes.
    pub fn version(&self) -> Version {
        self.meta.version
    }

    /// The members, in the system group.
    pub fn members(&self) -> Option<&Arc<Members>> {
        self.members.as_ref()
    }

    /// The group's clock: the highest stamp of an applied entry, in milliseconds. A duration counts on it; it begins near the Unix
    /// epoch's time and never falls.
    pub fn clock_ms(&self) -> u64 {
        self.meta.stamp.clock_ms
    }

    /// The clock, and when the next entry of the expiry index is due on it.
    pub fn clock(&self) -> AppliedClock {
        AppliedClock { stamp: self.meta.stamp, next_due_ms: self.due.first_ms() }
    }

    /// The buckets by name.
    pub fn buckets(&self) -> &BTreeMap<BucketName, Bucket> {
        &self.buckets
    }

    /// The generation of the state in the store.
    pub fn generation(&self) -> Generation {
        Generation::new(self.group, self.meta.generation)
    }

    /// The same as a number.
    pub(crate) fn generation_number(&self) -> u32 {
        self.meta.generation
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Replaces the state by another generation, which the store holds already. The old one is left for the purge.
    /// [`Machine::load_rest`] must follow.
    pub(crate) fn replace(&mut self, meta: Meta, buckets: BTreeMap<BucketName, Bucket>) -> WriteSet {
        self.meta = meta;
        self.buckets = self.first_buckets();
        self.buckets.extend(buckets);
        self.dropped.clear();
        self.sessions = Sessions::default();
        self.due = Due::default();
        self.sizes = Sizes::uncounted(self.buckets.values(), self.generation());
        self.purge = PurgePosition::at_start();
        let mut writes = WriteSet::default();
        self.put_meta(&mut writes);
        writes
    }

    /// Forgets all: nothing is applied any more. For a replica whose snapshot installation was cut off.
    /// `generation` must be free.
    pub(crate) fn wipe(&mut self, generation: u32) -> WriteSet {
        let meta = Meta { generation, ..Meta::default() };
        self.replace(meta, BTreeMap::new())
    }

    pub(super) fn put_meta(&self, writes: &mut WriteSet) {
        writes.changes.insert(keys::meta(self.group), Some(self.meta.encode()));
    }

    /// A hash of all that replicas with the same applied index must agree on, whatever engine and generation they have.
    pub fn state_hash(&self, reader: &dyn Read) -> Result<u64, StoreError> {
        let mut hash = Xxh3::new();
        let mut add = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let generation = self.generation();
        add(&Meta { generation: 0, ..self.meta.clone() }.encode());
        if let Some(members) = &self.members {
            add(&members.encode());
        }
        let mut ranges = vec![generation.kind_range(KIND_SESSION)];
        for (name, bucket) in &self.buckets {
            add(name.as_bytes());
            add(&bucket.encode());
            ranges.push(generation.data(bucket.created_version).range(&KeyRange::default()));
            ranges.push(generation.expiries(bucket.created_version).range());
        }
        for (start, end) in ranges {
            reader.scan(&start, &end, false, &mut |key, value| {
                add(generation.suffix(&key));
                add(&value);
                ControlFlow::Continue(())
            })?;
        }
        Ok(hash.digest())
    }
}

/// The pairs of a range that is known to be small.
pub(super) fn collect(reader: &dyn Read, (start, end): keys::StoreRange) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
    let mut pairs = Vec::new();
    reader.scan(&start, &end, false, &mut |key, value| {
        pairs.push((key, value));
        ControlFlow::Continue(())
    })?;
    Ok(pairs)
}
