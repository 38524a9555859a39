//! Does the jobs of one shard, one after the other. It owns the shard's handle of the store and all that only the storage side
//! knows: the state machines, the open views, what comes in of a snapshot.
//!
//! Invariants worth naming:
//! - a group's data and its applied index change in one batch, and so do they when a snapshot is installed;
//! - what `Persisted` reports was written before the persist began;
//! - a failure of the store is final: after [`StorageDone::Failed`] no job may follow.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::machine::{FullBuckets, Machine, keys};
use crate::mutation::{Mutation, is_on};
use crate::name::BucketName;
use crate::request::{ReadOp, Reply};
use crate::storage::scans::{ScanRequest, Scans};
use crate::storage::sending::Sending;
use crate::storage::staging::{Refused, Staging};
use crate::storage::{Committed, Origin, SnapshotMeta, Staged, StorageDone, StorageJob, TicketedRead};
use crate::store::{Store, StoreError, WriteSet};
use crate::types::{GroupId, LogIndex, Ticket};

/// So many bytes are counted by one job: other jobs wait meanwhile.
const COUNTED_AT_ONCE: u64 = 256 << 10;

/// The storage side of a shard.
pub struct StorageWorker<S: Store> {
    store: S,
    machines: BTreeMap<GroupId, Machine>,
    scans: Scans<S::View>,
    sending: BTreeMap<Ticket, Sending<S::View>>,
    staging: BTreeMap<GroupId, Staging>,
    /// What was said last of full buckets.
    full: BTreeMap<GroupId, Arc<FullBuckets>>,
}

impl<S: Store> StorageWorker<S> {
    /// A worker for these groups, each as [`Machine::load`] found it in `store`. `epoch` is the log's: another one with each start.
    pub fn new(store: S, machines: impl IntoIterator<Item = Machine>, epoch: u32) -> StorageWorker<S> {
        StorageWorker {
            store,
            machines: machines.into_iter().map(|machine| (machine.group(), machine)).collect(),
            scans: Scans::new(epoch),
            sending: BTreeMap::new(),
            staging: BTreeMap::new(),
            full: BTreeMap::new(),
        }
    }

    /// Does one job. The answer is the job's own, or [`StorageDone::Failed`].
    pub fn run(&mut self, job: StorageJob) -> StorageDone {
        let done = match job {
            StorageJob::Apply { group, entries } => self.apply(group, &entries),
            StorageJob::Read { group, reads, now_ms, clock_ms } => self.read(group, reads, now_ms, clock_ms),
            StorageJob::Persist => self.persist(),
            StorageJob::Purge { group, limit } => self.purge(group, limit),
            StorageJob::SnapshotOpen { group, ticket } => self.snapshot_open(group, ticket),
            StorageJob::SnapshotRead { ticket, bytes_max } => self.snapshot_read(ticket, bytes_max),
            StorageJob::SnapshotClose { ticket } => {
                self.sending.remove(&ticket);
                Ok(StorageDone::SnapshotClosed)
            }
            StorageJob::Scrub { group, index, position, bytes_max } => self.scrub(group, index, &position, bytes_max),
            StorageJob::SnapshotStage { group, origin, chunk, data } => {
                let refused = self.snapshot_stage(group, &origin, chunk, data);
                refused.map(|refused| StorageDone::SnapshotStaged { group, chunk, refused: refused.err() })
            }
            StorageJob::SnapshotForget { group } => self.snapshot_forget(group),
            StorageJob::SnapshotInstall { group, meta } => self.snapshot_install(group, meta),
        };
        done.unwrap_or_else(StorageDone::Failed)
    }

    /// Finds what was staged before a restart. The purge leaves it alone from here on.
    pub fn find_staged(&mut self) -> Result<BTreeMap<GroupId, Staged>, StoreError> {
        let mut found = BTreeMap::new();
        for machine in self.machines.values_mut() {
            let group = machine.group();
            let key = keys::staged(group);
            if self.store.get(&key)?.is_none() {
                continue;
            }
            // Nobody needs it: what cannot be read is fetched again.
            if let Ok(Some((staging, staged))) = Staging::load(&self.store, machine) {
                self.staging.insert(group, staging);
                found.insert(group, staged);
            } else {
                machine.sweep_again();
                self.store.write(WriteSet { changes: [(key, None)].into() })?;
            }
        }
        Ok(found)
    }

    /// Forgets a group's state, durably: nothing is applied any more. For a start after an installation that was cut off.
    pub fn wipe(&mut self, group: GroupId) -> Result<(), StoreError> {
        self.staging.remove(&group);
        self.scans.close_group(group);
        let generation = self.machine(group)?.free_generation(&self.store)?;
        let mut writes = self.machine_mut(group)?.wipe(generation);
        writes.changes.insert(keys::staged(group), None);
        self.store.write(writes)?;
        self.store.persist()
    }

    /// A group's state machine, if the group is on this shard.
    pub fn group(&self, group: GroupId) -> Option<&Machine> {
        self.machines.get(&group)
    }

    /// A hash of a group's state, equal on all replicas that applied the same entries: see [`Machine::state_hash`].
    pub fn state_hash(&self, group: GroupId) -> Result<u64, StoreError> {
        self.machine(group)?.state_hash(&self.store)
    }

    /// The store, for a look from outside.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Ends the worker and gives the store back.
    pub fn into_store(self) -> S {
        self.store
    }

    fn machine(&self, group: GroupId) -> Result<&Machine, StoreError> {
        self.machines.get(&group).ok_or_else(|| StoreError::Failed(format!("group {group} is not on this shard")))
    }

    fn machine_mut(&mut self, group: GroupId) -> Result<&mut Machine, StoreError> {
        self.machines.get_mut(&group).ok_or_else(|| StoreError::Failed(format!("group {group} is not on this shard")))
    }

    fn apply(&mut self, group: GroupId, entries: &[Committed]) -> Result<StorageDone, StoreError> {
        let Some(machine) = self.machines.get_mut(&group) else {
            return Err(StoreError::Failed(format!("group {group} is not on this shard")));
        };
        let members_before = machine.members().cloned();
        let (writes, replies) = machine.apply(&self.store, entries)?;
        let (index, purge, clock) =
            (machine.applied(), machine.needs_purge() || machine.needs_count(), machine.clock());
        let full = news_of_full(machine, &mut self.full);
        let members = machine.members().cloned().filter(|members| members_before.as_ref() != Some(members));
        if is_on(Mutation::AppliedIndexApart) {
            let meta = crate::machine::keys::meta(group);
            let apart = writes.changes.get_key_value(&meta).map(|(key, value)| (key.clone(), value.clone()));
            self.store.write(WriteSet { changes: apart.into_iter().collect() })?;
        }
        self.store.write(writes)?;
        Ok(StorageDone::Applied { group, index, replies, purge, full, clock, members })
    }

    fn read(
        &mut self,
        group: GroupId,
        reads: Vec<TicketedRead>,
        now_ms: u64,
        clock_ms: u64,
    ) -> Result<StorageDone, StoreError> {
        self.scans.close_idle(now_ms);
        let mut results = Vec::with_capacity(reads.len());
        for (ticket, read) in reads {
            results.push((ticket, self.read_one(group, &read, now_ms, clock_ms)?));
        }
        Ok(StorageDone::Read { results, views: self.scans.counts() })
    }

    fn read_one(
        &mut self,
        group: GroupId,
        read: &ReadOp,
        now_ms: u64,
        clock_ms: u64,
    ) -> Result<Result<Reply, Error>, StoreError> {
        match read {
            ReadOp::ScanNext { view } => return self.scans.next(*view, now_ms, clock_ms),
            ReadOp::ScanEnd { view } => {
                self.scans.end(*view);
                return Ok(Ok(Reply::Done));
            }
            _ => {}
        }
        let Some(machine) = self.machines.get(&group) else {
            return Err(StoreError::Failed(format!("group {group} is not on this shard")));
        };
        match read {
            ReadOp::Get { bucket, key } => machine.get(&self.store, bucket, key, clock_ms),
            ReadOp::GetMany { bucket, keys } => machine.get_many(&self.store, bucket, keys, clock_ms),
            ReadOp::Scan { bucket, range, limit, reverse, keys_only } => {
                let request = ScanRequest { bucket, range, limit: *limit, reverse: *reverse, keys_only: *keys_only };
                self.scans.start(&self.store, machine, request, now_ms, clock_ms)
            }
            ReadOp::ListBuckets { prefix } => machine.list_buckets(&self.store, prefix),
            ReadOp::Members => Ok(machine.read_members()),
            ReadOp::DescribeBucket { bucket } => machine.describe_bucket(&self.store, bucket),
            ReadOp::ScanNext { .. } | ReadOp::ScanEnd { .. } => unreachable!("answered above"),
        }
    }

    fn persist(&mut self) -> Result<StorageDone, StoreError> {
        let applied = self.machines.values().map(|machine| (machine.group(), machine.applied())).collect();
        if !is_on(Mutation::TruncatedBeforeDurable) {
            self.store.persist()?;
        }
        Ok(StorageDone::Persisted { applied })
    }

    fn purge(&mut self, group: GroupId, limit: usize) -> Result<StorageDone, StoreError> {
        let staging = self.staging.get(&group).map(Staging::generation);
        let Some(machine) = self.machines.get_mut(&group) else {
            return Err(StoreError::Failed(format!("group {group} is not on this shard")));
        };
        machine.count_some(&self.store, COUNTED_AT_ONCE)?;
        let writes = machine.purge(&self.store, limit, staging)?;
        let more = machine.needs_purge() || machine.needs_count();
        let full = news_of_full(machine, &mut self.full);
        self.store.write(writes)?;
        Ok(StorageDone::Purged { group, more, full })
    }

    fn snapshot_open(&mut self, group: GroupId, ticket: Ticket) -> Result<StorageDone, StoreError> {
        let sending = Sending::new(self.machine(group)?, self.store.view());
        let meta = sending.meta();
        self.sending.insert(ticket, sending);
        Ok(StorageDone::SnapshotOpened { group, ticket, meta })
    }

    fn snapshot_read(&mut self, ticket: Ticket, bytes_max: usize) -> Result<StorageDone, StoreError> {
        let Some(sending) = self.sending.get_mut(&ticket) else {
            return Err(StoreError::Failed(format!("no snapshot is open under ticket {ticket}")));
        };
        let (data, last) = sending.read(bytes_max)?;
        Ok(StorageDone::SnapshotChunk { ticket, data, last })
    }

    fn scrub(
        &mut self,
        group: GroupId,
        index: LogIndex,
        position: &[u8],
        bytes_max: u64,
    ) -> Result<StorageDone, StoreError> {
        let machine = self.machine(group)?;
        let is_there = machine.applied() == index;
        let digest = is_there.then(|| machine.digest(&self.store, position, bytes_max)).transpose()?;
        Ok(StorageDone::Scrubbed { group, index, digest })
    }

    fn snapshot_stage(
        &mut self,
        group: GroupId,
        origin: &Origin,
        chunk: u64,
        data: Bytes,
    ) -> Result<Result<(), Refused>, StoreError> {
        let staged = if chunk == 0 { self.stage_first(group, data)? } else { self.stage_next(group, chunk, data) };
        match staged {
            Ok(mut writes) => {
                if let Some(staging) = self.staging.get(&group) {
                    let record = (keys::staged(group), Some(staging.record(origin)));
                    if is_on(Mutation::StagedApart) {
                        self.store.write(WriteSet { changes: [record.clone()].into() })?;
                    }
                    writes.changes.extend([record]);
                }
                self.store.write(writes).map(Ok)
            }
            Err(refused) => Ok(Err(refused)),
        }
    }

    fn snapshot_forget(&mut self, group: GroupId) -> Result<StorageDone, StoreError> {
        if self.staging.remove(&group).is_some() {
            self.machine_mut(group)?.sweep_again();
            self.store.write(WriteSet { changes: [(keys::staged(group), None)].into() })?;
        }
        Ok(StorageDone::SnapshotForgotten { group })
    }

    /// Starts anew in a generation without a key: what an earlier attempt left is for the purge, which is bounded.
    fn stage_first(&mut self, group: GroupId, data: Bytes) -> Result<Result<WriteSet, Refused>, StoreError> {
        let machine = self.machine(group)?;
        let generation = machine.free_generation(&self.store)?;
        let default_exists = machine.owns(&BucketName::DEFAULT);
        let (staging, writes) = match Staging::begin(group, generation, default_exists, data) {
            Ok(begun) => begun,
            Err(refused) => return Ok(Err(refused)),
        };
        if self.staging.insert(group, staging).is_some() {
            self.machine_mut(group)?.sweep_again();
        }
        Ok(Ok(writes))
    }

    fn stage_next(&mut self, group: GroupId, chunk: u64, data: Bytes) -> Result<WriteSet, Refused> {
        match self.staging.get_mut(&group) {
            Some(staging) => staging.chunk(group, chunk, data),
            None => Err(format!("chunk {chunk} came without those before it")),
        }
    }

    fn snapshot_install(&mut self, group: GroupId, meta: SnapshotMeta) -> Result<StorageDone, StoreError> {
        let complete = self.staging.remove(&group).and_then(Staging::complete);
        let Some((staged, buckets)) = complete else {
            return Err(StoreError::Failed(format!("no whole snapshot of group {group} is there to be installed")));
        };
        if (staged.applied, staged.term) != (meta.index, meta.term) {
            return Err(StoreError::Failed(format!(
                "another snapshot of group {group} is there than is to be installed"
            )));
        }
        self.scans.close_group(group);
        let staged = crate::machine::Meta { configuration: meta.configuration.clone(), ..staged };
        let mut writes = self.machine_mut(group)?.replace(staged, buckets);
        writes.changes.insert(keys::staged(group), None);
        self.store.write(writes)?;
        self.store.persist()?;
        let StorageWorker { machines, store, .. } = self;
        let Some(machine) = machines.get_mut(&group) else {
            return Err(StoreError::Failed(format!("group {group} is not on this shard")));
        };
        machine.load_rest(store)?;
        let members = machine.members().cloned();
        Ok(StorageDone::SnapshotInstalled { group, meta, clock: machine.clock(), members })
    }
}

/// The full buckets of a group, if they are others than those that were said last.
fn news_of_full(machine: &Machine, said: &mut BTreeMap<GroupId, Arc<FullBuckets>>) -> Option<Arc<FullBuckets>> {
    let full = machine.full_buckets();
    let before = said.entry(machine.group()).or_default();
    (**before != full).then(|| {
        *before = Arc::new(full);
        Arc::clone(before)
    })
}
