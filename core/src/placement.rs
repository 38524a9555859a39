//! Where a bucket lives: pure functions of its name and two numbers, so that there is no catalogue to ask.

use xxhash_rust::xxh3::xxh3_64;

use crate::name::BucketName;
use crate::types::{GroupId, ShardId};

/// The system group: members, cluster id, epoch. It holds no bucket.
pub const SYSTEM_GROUP: GroupId = GroupId(0);

/// The group of a bucket among `groups` (without the system group): `1 + xxh3_64(name) % groups`. Clients compute it too.
pub fn group_of(bucket: &BucketName, groups: u32) -> GroupId {
    GroupId(1 + (xxh3_64(bucket.as_bytes()) % u64::from(groups)) as u32)
}

/// The shard of a group on a node with `shards`.
pub fn shard_of(group: GroupId, shards: u32) -> ShardId {
    ShardId(group.0 % shards)
}

/// All groups of a cluster, the system group first.
pub fn all_groups(groups: u32) -> impl Iterator<Item = GroupId> {
    (0..=groups).map(GroupId)
}
