//! A node without a cluster: maps in memory, and keys that ask for an error or a wait.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use drey_core::name::{BucketName, KeyRange};
use drey_core::placement::group_of;
use drey_core::request::{
    BatchOp, BucketInfo, Command, Condition, Entry, GroupStatus, OpResult, Operation, Page, ReadMode, ReadOp, Reply,
    Write,
};
use drey_core::{ClusterId, Error, GroupId, LogIndex, NodeId, ShardId, Term, Version, ViewId};
use drey_io::runtime;
use drey_server::api::{Backend, GroupState, MemberState, NodeStatus};

/// So that a list of buckets has several groups to ask.
pub const GROUPS: u32 = 4;

/// The entries of a page of a scan.
const PAGE_ENTRIES: usize = 2;

/// A get of this key waits until its deadline.
pub const HANGS: &str = "hangs";

/// A get of this key answers with the milliseconds that it was given.
pub const DEADLINE: &str = "deadline";

/// A get of a key that begins so ends with the error of that number in [`errors`].
pub const FAILS: &str = "fails:";

/// Pages of this bucket take a moment.
pub const SLOW_BUCKET: &str = "slow";

/// Every error, in the order of the table in the design.
pub fn errors() -> Vec<Error> {
    vec![
        Error::BucketNotFound("b".into()),
        Error::BucketExists("b".into()),
        Error::invalid("the key is empty"),
        Error::ConditionFailed,
        Error::NoLeader,
        Error::NotReady("it starts".into()),
        Error::OutcomeUnknown,
        Error::SessionExpired,
        Error::Overloaded("too much".into()),
        Error::QuotaExceeded("too large".into()),
        Error::DeadlineExceeded,
        Error::Compacted("gone".into()),
        Error::DataLoss("000001.log is damaged".into()),
    ]
}

/// What a test can see from outside.
#[derive(Debug, Default)]
pub struct Seen {
    /// Views that were opened and neither read to their end nor ended.
    pub open_views: AtomicUsize,
    /// Calls that are waiting.
    pub waiting: AtomicUsize,
    /// What the node says of its members, for a test to set.
    pub member_changes: AtomicU64,
    /// Scans that began.
    pub scans: AtomicUsize,
}

/// Lives on one executor.
#[derive(Clone)]
pub struct Fake {
    state: Rc<RefCell<State>>,
    seen: Arc<Seen>,
}

type Pairs = BTreeMap<Bytes, (Bytes, Version)>;

struct State {
    ttls: BTreeMap<Bytes, u64>,
    buckets: BTreeMap<BucketName, Pairs>,
    version: u64,
    views: BTreeMap<ViewId, View>,
    views_opened: u64,
}

struct View {
    entries: Vec<Entry>,
    more: bool,
    slow: bool,
}

/// Counts a call as waiting, until it is answered or dropped.
struct Waiting(Arc<Seen>);

impl Waiting {
    fn new(seen: &Arc<Seen>) -> Waiting {
        seen.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(Arc::clone(seen))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    pub fn new(seen: Arc<Seen>) -> Fake {
        let buckets = BTreeMap::from([(BucketName::DEFAULT, Pairs::new())]);
        let state = State { buckets, ttls: BTreeMap::new(), version: 0, views: BTreeMap::new(), views_opened: 0 };
        Fake { state: Rc::new(RefCell::new(state)), seen }
    }
}

impl Backend for Fake {
    fn groups(&self) -> u32 {
        GROUPS
    }

    fn member_changes(&self) -> u64 {
        self.seen.member_changes.load(Ordering::SeqCst)
    }

    async fn call(&self, operation: Operation, deadline_ms: u64) -> Result<Reply, Error> {
        let _waiting = Waiting::new(&self.seen);
        match operation {
            Operation::Read(group, mode, op) => {
                if let ReadOp::Get { key, .. } = &op {
                    let key = std::str::from_utf8(key.as_bytes()).unwrap_or_default();
                    if key == HANGS {
                        runtime::sleep(Duration::from_millis(deadline_ms)).await;
                        return Err(Error::DeadlineExceeded);
                    }
                    if key == DEADLINE {
                        let value = deadline_ms.to_string().into();
                        let key = DEADLINE.into();
                        return Ok(Reply::Entry(Some(Entry { key, value, version: Version(1), ttl_ms: None })));
                    }
                    if let Some(number) = key.strip_prefix(FAILS) {
                        return Err(errors().swap_remove(number.parse().expect("a number")));
                    }
                }
                let slow = self.state.borrow().is_slow(&op);
                if slow {
                    runtime::sleep(Duration::from_millis(20)).await;
                }
                assert!(!matches!(op, ReadOp::ScanNext { .. }) || mode == ReadMode::Local);
                self.state.borrow_mut().read(group, op, &self.seen)
            }
            Operation::Write(command) => {
                command.validate()?;
                self.state.borrow_mut().write(command)
            }
            Operation::Transfer(..) => Ok(Reply::Done),
            Operation::Status => unreachable!("the status has a call of its own"),
        }
    }

    async fn status(&self) -> Result<NodeStatus, Error> {
        let members = [1, 2].map(|id| MemberState {
            id: NodeId(id),
            name: format!("n{id}"),
            address: format!("127.0.0.1:{id}"),
            leaving: false,
        });
        let status = GroupStatus {
            group: GroupId(1),
            leader: Some(NodeId(2)),
            term: Term(3),
            committed: LogIndex(5),
            applied: LogIndex(4),
            voters: vec![NodeId(1), NodeId(2)],
            learners: vec![],
            matched: vec![],
            scrub: None,
        };
        Ok(NodeStatus {
            node: NodeId(1),
            name: "n1".into(),
            cluster: ClusterId(0xc1),
            members: members.to_vec(),
            groups: vec![GroupState { shard: ShardId(0), status }],
            reachable: vec![NodeId(2)],
            shards: 1,
            engine: "memory".into(),
            uptime_ms: 1,
            disk_bytes: 2,
            memory_bytes: 3,
            ..NodeStatus::default()
        })
    }
}

impl State {
    fn is_slow(&self, op: &ReadOp) -> bool {
        match op {
            ReadOp::Scan { bucket, .. } => bucket.as_str() == SLOW_BUCKET,
            ReadOp::ScanNext { view } => self.views.get(view).is_some_and(|view| view.slow),
            _ => false,
        }
    }

    fn pairs(&self, bucket: &BucketName) -> Result<&Pairs, Error> {
        self.buckets.get(bucket).ok_or_else(|| Error::BucketNotFound(bucket.to_string()))
    }

    fn get(&self, bucket: &BucketName, key: &Bytes) -> Result<Option<Entry>, Error> {
        Ok(self.pairs(bucket)?.get(key).map(|(value, version)| self.entry(key, value, *version)))
    }

    fn info(&self, name: &BucketName) -> Result<BucketInfo, Error> {
        let keys_estimate = self.pairs(name)?.len() as u64;
        Ok(BucketInfo {
            name: name.clone(),
            group: group_of(name, GROUPS),
            keys_estimate,
            bytes_estimate: 0,
            default_ttl_ms: None,
            max_bytes: None,
            created_ms: 0,
            created_version: Version(1),
        })
    }

    fn read(&mut self, group: GroupId, op: ReadOp, seen: &Seen) -> Result<Reply, Error> {
        match op {
            ReadOp::Members => Err(Error::invalid("not in this fake")),
            ReadOp::Get { bucket, key } => Ok(Reply::Entry(self.get(&bucket, key.as_bytes())?)),
            ReadOp::GetMany { bucket, keys } => {
                let entries = keys.iter().map(|key| self.get(&bucket, key.as_bytes()));
                Ok(Reply::Entries(entries.collect::<Result<_, _>>()?))
            }
            ReadOp::Scan { bucket, range, limit, reverse, keys_only } => {
                let mut entries = self.range(&bucket, range)?;
                if reverse {
                    entries.reverse();
                }
                if keys_only {
                    entries.iter_mut().for_each(|entry| entry.value = Bytes::new());
                }
                let more = limit > 0 && entries.len() as u64 > limit;
                if more {
                    entries.truncate(limit as usize);
                }
                self.views_opened += 1;
                let id = ViewId::here(self.views_opened);
                self.views.insert(id, View { entries, more, slow: bucket.as_str() == SLOW_BUCKET });
                seen.open_views.fetch_add(1, Ordering::SeqCst);
                seen.scans.fetch_add(1, Ordering::SeqCst);
                self.page(id, seen)
            }
            ReadOp::ScanNext { view } => self.page(view, seen),
            ReadOp::ScanEnd { view } => {
                if self.views.remove(&view).is_some() {
                    seen.open_views.fetch_sub(1, Ordering::SeqCst);
                }
                Ok(Reply::Done)
            }
            ReadOp::ListBuckets { prefix } => {
                let names = self
                    .buckets
                    .keys()
                    .filter(|name| name.as_str().starts_with(&prefix) && group_of(name, GROUPS) == group);
                Ok(Reply::Buckets(names.map(|name| self.info(name)).collect::<Result<_, _>>()?))
            }
            ReadOp::DescribeBucket { bucket } => Ok(Reply::Buckets(vec![self.info(&bucket)?])),
        }
    }

    fn range(&self, bucket: &BucketName, range: KeyRange) -> Result<Vec<Entry>, Error> {
        let start = range.start.map_or(Bound::Unbounded, Bound::Included);
        let end = range.end.map_or(Bound::Unbounded, Bound::Excluded);
        let pairs = self.pairs(bucket)?.range((start, end));
        Ok(pairs.map(|(key, (value, version))| self.entry(key, value, *version)).collect())
    }

    fn entry(&self, key: &Bytes, value: &Bytes, version: Version) -> Entry {
        Entry { key: key.clone(), value: value.clone(), version, ttl_ms: self.ttls.get(key).copied() }
    }

    fn page(&mut self, id: ViewId, seen: &Seen) -> Result<Reply, Error> {
        let view = self.views.get_mut(&id).ok_or_else(|| Error::Compacted("the view is closed".into()))?;
        let rest = view.entries.split_off(view.entries.len().min(PAGE_ENTRIES));
        let entries = std::mem::replace(&mut view.entries, rest);
        let last = view.entries.is_empty();
        let more = last && view.more;
        if last {
            self.views.remove(&id);
            seen.open_views.fetch_sub(1, Ordering::SeqCst);
        }
        Ok(Reply::Page(Page { entries, version: Version(self.version), next: (!last).then_some(id), more }))
    }

    fn write(&mut self, command: Command) -> Result<Reply, Error> {
        let Command { bucket, write, .. } = command;
        let version = Version(self.version + 1);
        let reply = match write {
            Write::CreateBucket { if_not_exists, .. } => {
                let created = !self.buckets.contains_key(&bucket);
                if !created && !if_not_exists {
                    return Err(Error::BucketExists(bucket.to_string()));
                }
                self.buckets.entry(bucket.clone()).or_default();
                Reply::Created { bucket: self.info(&bucket)?, created }
            }
            Write::DropBucket { .. } => Reply::Dropped { existed: self.buckets.remove(&bucket).is_some() },
            Write::Put { key, value, ttl_ms, condition, return_previous } => {
                let before = self.get(&bucket, key.as_bytes())?;
                if !holds(condition, before.as_ref()) {
                    let version = before.map(|entry| entry.version).unwrap_or_default();
                    return Ok(Reply::Put { applied: false, version, previous: None });
                }
                self.put(&bucket, key.as_bytes(), value, version);
                self.set_ttl(key.as_bytes(), ttl_ms);
                Reply::Put { applied: true, version, previous: before.filter(|_| return_previous) }
            }
            Write::Delete { key, condition, return_previous } => {
                let before = self.get(&bucket, key.as_bytes())?;
                let applied = holds(condition, before.as_ref());
                if applied {
                    self.delete(&bucket, key.as_bytes());
                }
                let existed = before.is_some();
                Reply::Delete { applied, existed, version, previous: before.filter(|_| return_previous) }
            }
            Write::Expire { key, ttl_ms } => {
                let existed = self.get(&bucket, key.as_bytes())?.is_some();
                self.set_ttl(key.as_bytes(), ttl_ms);
                Reply::Expire { existed, version }
            }
            Write::Txn { .. } | Write::System(_) => return Err(Error::invalid("not in this fake")),
            Write::OpenSession => Reply::SessionOpened { session: version.0 },
            Write::Batch { ops } => {
                self.pairs(&bucket)?;
                let results = ops.into_iter().map(|op| self.step(&bucket, op, version)).collect::<Result<_, _>>()?;
                Reply::Batch { version, results }
            }
        };
        self.version = version.0;
        Ok(reply)
    }

    fn step(&mut self, bucket: &BucketName, op: BatchOp, version: Version) -> Result<OpResult, Error> {
        match op {
            BatchOp::Put { key, value, ttl_ms } => {
                self.put(bucket, key.as_bytes(), value, version);
                self.set_ttl(key.as_bytes(), ttl_ms);
                Ok(OpResult { affected: 1, entry: None })
            }
            BatchOp::Delete { key } => {
                Ok(OpResult { affected: u64::from(self.delete(bucket, key.as_bytes())), entry: None })
            }
            BatchOp::Increment { .. } | BatchOp::Append { .. } => Err(Error::invalid("not in this fake")),
            BatchOp::Get { key } => Ok(OpResult { affected: 0, entry: self.get(bucket, key.as_bytes())? }),
        }
    }

    /// Time does not pass here: what is set is what is left.
    fn set_ttl(&mut self, key: &Bytes, ttl_ms: Option<u64>) {
        match ttl_ms {
            Some(ttl_ms) => self.ttls.insert(Bytes::copy_from_slice(key), ttl_ms),
            None => self.ttls.remove(key),
        };
    }

    fn put(&mut self, bucket: &BucketName, key: &Bytes, value: Bytes, version: Version) {
        let pairs = self.buckets.get_mut(bucket).expect("looked at before");
        pairs.insert(Bytes::copy_from_slice(key), (Bytes::copy_from_slice(&value), version));
    }

    fn delete(&mut self, bucket: &BucketName, key: &Bytes) -> bool {
        self.buckets.get_mut(bucket).expect("looked at before").remove(key).is_some()
    }
}

fn holds(condition: Option<Condition>, entry: Option<&Entry>) -> bool {
    match condition {
        None => true,
        Some(Condition::VersionIs(version)) => entry.map(|entry| entry.version).unwrap_or_default() == version,
        Some(Condition::ValueIs(value)) => entry.is_some_and(|entry| entry.value == value),
        Some(Condition::Exists(exists)) => entry.is_some() == exists,
    }
}
