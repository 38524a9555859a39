//! What the nodes of a fake cluster share: buckets, members, leaders.

use bytes::Bytes;
use drey_client::proto;
use drey_core::limits::{BUCKET_NAME_BYTES_MAX, KEY_BOUND_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use drey_core::name::BucketName;
use drey_core::placement::group_of;
use std::collections::BTreeMap;
use tonic::{Code, Status};

/// How many groups a fake cluster has, the system group not counted.
pub const GROUPS: u32 = 4;

#[derive(Default)]
struct Bucket {
    created_version: u64,
    default_ttl_ms: Option<u64>,
    entries: BTreeMap<Bytes, (Bytes, u64)>,
    /// What is left: time does not pass here.
    ttls: BTreeMap<Bytes, u64>,
}

impl Bucket {
    fn set_ttl(&mut self, key: &Bytes, ttl_ms: Option<u64>) {
        match ttl_ms.or(self.default_ttl_ms) {
            Some(ttl_ms) => self.ttls.insert(key.clone(), ttl_ms),
            None => self.ttls.remove(key),
        };
    }

    fn entry(&self, key: &Bytes) -> Option<proto::Entry> {
        let found = self.entries.get(key)?;
        Some(proto::Entry { ttl_ms: self.ttls.get(key).copied(), ..entry(key, found) })
    }
}

/// The state of a fake cluster.
pub struct World {
    pub members: Vec<(u64, String)>,
    /// Who leads all groups; 0 for nobody.
    pub leader: u64,
    pub term: u64,
    pub cluster: String,
    version: u64,
    buckets: BTreeMap<String, Bucket>,
}

impl Default for World {
    fn default() -> World {
        let buckets = BTreeMap::from([("default".to_owned(), Bucket::default())]);
        World { members: Vec::new(), leader: 1, term: 1, cluster: "fake".to_owned(), version: 0, buckets }
    }
}

/// A refusal as drey's servers send it: the code's name beside the gRPC status.
pub fn refusal(code: Code, name: &'static str, message: impl Into<String>) -> Status {
    let mut status = Status::new(code, message);
    status.metadata_mut().insert("drey-error", name.parse().expect("codes are ASCII"));
    status
}

fn invalid(message: impl Into<String>) -> Status {
    refusal(Code::InvalidArgument, "invalid_argument", message)
}

fn checked_key(key: &Bytes) -> Result<(), Status> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok(()),
        length => Err(invalid(format!("the key has {length} bytes, not 1 to {KEY_BYTES_MAX}"))),
    }
}

fn checked_value(value: &Bytes) -> Result<(), Status> {
    match value.len() {
        0..=VALUE_BYTES_MAX => Ok(()),
        length => Err(invalid(format!("the value has {length} bytes, the most is {VALUE_BYTES_MAX}"))),
    }
}

fn checked_name(name: &str) -> Result<String, Status> {
    let name = if name.is_empty() { "default" } else { name };
    let good = name.len() <= BUCKET_NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if good { Ok(name.to_owned()) } else { Err(invalid(format!("`{name}` is no name of a bucket"))) }
}

fn holds(condition: &proto::Condition, found: Option<&(Bytes, u64)>) -> Result<bool, Status> {
    match &condition.test {
        Some(proto::condition::Test::VersionIs(version)) => Ok(found.map_or(0, |found| found.1) == *version),
        Some(proto::condition::Test::ValueIs(value)) => Ok(found.is_some_and(|found| found.0 == *value)),
        Some(proto::condition::Test::Exists(exists)) => Ok(found.is_some() == *exists),
        None => Err(invalid("a condition without a test")),
    }
}

fn entry(key: &Bytes, found: &(Bytes, u64)) -> proto::Entry {
    proto::Entry { key: key.clone(), value: found.0.clone(), version: found.1, ttl_ms: None }
}

impl World {
    fn bucket(&mut self, name: &str) -> Result<&mut Bucket, Status> {
        let name = checked_name(name)?;
        self.buckets
            .get_mut(&name)
            .ok_or_else(|| refusal(Code::NotFound, "bucket_not_found", format!("bucket `{name}` does not exist")))
    }

    pub fn get(&mut self, bucket: &str, key: &Bytes) -> Result<Option<proto::Entry>, Status> {
        checked_key(key)?;
        Ok(self.bucket(bucket)?.entry(key))
    }

    pub fn put(&mut self, request: proto::PutRequest) -> Result<proto::PutResponse, Status> {
        checked_key(&request.key)?;
        checked_value(&request.value)?;
        let version = self.version + 1;
        let bucket = self.bucket(&request.bucket)?;
        let found = bucket.entries.get(&request.key);
        let applied = request.condition.as_ref().map_or(Ok(true), |condition| holds(condition, found))?;
        let previous = found.filter(|_| request.return_previous).map(|found| entry(&request.key, found));
        if applied {
            bucket.set_ttl(&request.key, request.ttl_ms);
            bucket.entries.insert(request.key, (request.value, version));
            self.version = version;
        }
        Ok(proto::PutResponse { applied, version: if applied { version } else { 0 }, previous })
    }

    pub fn expire(&mut self, request: &proto::ExpireRequest) -> Result<proto::ExpireResponse, Status> {
        checked_key(&request.key)?;
        let version = self.version + 1;
        let bucket = self.bucket(&request.bucket)?;
        let existed = bucket.entries.get_mut(&request.key).map(|found| found.1 = version).is_some();
        if existed {
            bucket.ttls.remove(&request.key);
            bucket.ttls.extend(request.ttl_ms.map(|ttl_ms| (request.key.clone(), ttl_ms)));
            self.version = version;
        }
        Ok(proto::ExpireResponse { existed, version: self.version })
    }

    pub fn delete(&mut self, request: &proto::DeleteRequest) -> Result<proto::DeleteResponse, Status> {
        checked_key(&request.key)?;
        let version = self.version + 1;
        let bucket = self.bucket(&request.bucket)?;
        let found = bucket.entries.get(&request.key);
        let existed = found.is_some();
        let applied = request.condition.as_ref().map_or(Ok(true), |condition| holds(condition, found))?;
        let previous = found.filter(|_| request.return_previous).map(|found| entry(&request.key, found));
        if applied {
            bucket.entries.remove(&request.key);
            self.version = version;
        }
        Ok(proto::DeleteResponse { applied, existed, version, previous })
    }

    pub fn batch(&mut self, request: proto::BatchRequest) -> Result<proto::BatchResponse, Status> {
        use proto::op::Op;
        let version = self.version + 1;
        let bucket = self.bucket(&request.bucket)?;
        let mut entries = bucket.entries.clone();
        let mut results = Vec::new();
        for op in request.ops {
            results.push(match op.op {
                Some(Op::Put(put)) => {
                    checked_key(&put.key)?;
                    checked_value(&put.value)?;
                    entries.insert(put.key, (put.value, version));
                    proto::OpResult { affected: 1, ..proto::OpResult::default() }
                }
                Some(Op::Delete(delete)) => {
                    checked_key(&delete.key)?;
                    let affected = entries.remove(&delete.key).is_some().into();
                    proto::OpResult { affected, ..proto::OpResult::default() }
                }
                Some(Op::Get(key)) => {
                    checked_key(&key)?;
                    let entry = entries.get(&key).map(|found| entry(&key, found));
                    proto::OpResult { entry, ..proto::OpResult::default() }
                }
                _ => return Err(invalid("an operation that is not there yet")),
            });
        }
        bucket.entries = entries;
        self.version = version;
        Ok(proto::BatchResponse { version, results })
    }

    /// Chunks of two entries each; at least one chunk.
    pub fn scan(&mut self, request: &proto::ScanRequest) -> Result<Vec<proto::ScanChunk>, Status> {
        let version = self.version;
        let range = request.range.clone().unwrap_or_default();
        for bound in [&range.start, &range.end].into_iter().flatten() {
            if bound.len() > KEY_BOUND_BYTES_MAX {
                return Err(invalid(format!("a bound has {} bytes, the most is {KEY_BOUND_BYTES_MAX}", bound.len())));
            }
        }
        if let (Some(start), Some(end), None) = (&range.start, &range.end, &range.prefix)
            && start > end
        {
            return Err(invalid("the range ends before it starts"));
        }
        let within = |key: &Bytes| match &range.prefix {
            Some(prefix) => key.starts_with(prefix),
            None => {
                range.start.as_ref().is_none_or(|start| key >= start) && range.end.as_ref().is_none_or(|end| key < end)
            }
        };
        let bucket = self.bucket(&request.bucket)?;
        let mut entries: Vec<proto::Entry> =
            bucket.entries.keys().filter(|key| within(key)).filter_map(|key| bucket.entry(key)).collect();
        if request.reverse {
            entries.reverse();
        }
        let all = entries.len();
        if request.limit > 0 {
            entries.truncate(request.limit as usize);
        }
        if request.keys_only {
            entries.iter_mut().for_each(|entry| entry.value = Bytes::new());
        }
        let more = entries.len() < all;
        let chunk = |entries: &[proto::Entry]| proto::ScanChunk { entries: entries.to_vec(), version, more: false };
        let mut chunks: Vec<proto::ScanChunk> = entries.chunks(2).map(chunk).collect();
        if chunks.is_empty() {
            chunks.push(chunk(&[]));
        }
        if let Some(last) = chunks.last_mut() {
            last.more = more;
        }
        Ok(chunks)
    }

    pub fn create(&mut self, request: &proto::CreateBucketRequest) -> Result<proto::CreateBucketResponse, Status> {
        if request.name.is_empty() {
            return Err(invalid("a bucket needs a name"));
        }
        let name = checked_name(&request.name)?;
        let created = !self.buckets.contains_key(&name);
        if !created && !request.if_not_exists {
            return Err(refusal(Code::AlreadyExists, "bucket_exists", format!("bucket `{name}` exists")));
        }
        if created {
            self.version += 1;
            self.buckets.insert(
                name.clone(),
                Bucket { created_version: self.version, default_ttl_ms: request.default_ttl_ms, ..Bucket::default() },
            );
        }
        let bucket = Some(self.describe(&name)?);
        Ok(proto::CreateBucketResponse { bucket, created })
    }

    pub fn drop_bucket(&mut self, request: &proto::DropBucketRequest) -> Result<proto::DropBucketResponse, Status> {
        let name = checked_name(&request.name)?;
        Ok(proto::DropBucketResponse { existed: self.buckets.remove(&name).is_some() })
    }

    pub fn list(&mut self, prefix: &str) -> Result<Vec<proto::Bucket>, Status> {
        let names: Vec<String> = self.buckets.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names.iter().map(|name| self.describe(name)).collect()
    }

    pub fn describe(&mut self, name: &str) -> Result<proto::Bucket, Status> {
        let name = checked_name(name)?;
        let found = self.bucket(&name)?;
        let group = group_of(&BucketName::new(Bytes::from(name.clone())).expect("it was checked"), GROUPS);
        Ok(proto::Bucket {
            group: group.0,
            keys_estimate: found.entries.len() as u64,
            bytes_estimate: found.entries.iter().map(|(key, found)| (key.len() + found.0.len()) as u64).sum(),
            created_version: found.created_version,
            default_ttl_ms: found.default_ttl_ms,
            created_ms: 1_700_000_000_000,
            name,
            ..proto::Bucket::default()
        })
    }

    /// The cluster as the node `id` sees it.
    pub fn status(&self, id: u64) -> proto::StatusResponse {
        let groups = (0..=GROUPS).map(|group| proto::GroupStatus {
            id: group,
            leader: self.leader,
            term: self.term,
            committed: self.version,
            applied: self.version,
            shard: group % 2,
            ..proto::GroupStatus::default()
        });
        let members = self.members.iter().map(|(id, address)| proto::Member {
            id: *id,
            name: format!("n{id}"),
            address: address.clone(),
            leads: if *id == self.leader { GROUPS + 1 } else { 0 },
            reachable: true,
            version: "0.1.0".to_owned(),
            ..proto::Member::default()
        });
        proto::StatusResponse {
            node: id,
            name: format!("n{id}"),
            cluster: self.cluster.clone(),
            version: "0.1.0".to_owned(),
            members: members.collect(),
            groups: groups.collect(),
            shards: 2,
            engine: "memory".to_owned(),
            uptime_ms: 125_000,
            disk_bytes: 12_897_484,
            memory_bytes: 2_048,
            room: Some(proto::Room { free_bytes: 5 << 30, reserve_bytes: 256 << 20, level: "enough".to_owned() }),
            ..proto::StatusResponse::default()
        }
    }
}
