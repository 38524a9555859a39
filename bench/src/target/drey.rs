//! The few of drey's messages that a run needs. Fields that are not read are left out.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

pub(super) const PUT: &str = "/drey.v1.Kv/Put";
pub(super) const GET: &str = "/drey.v1.Kv/Get";
pub(super) const STATUS: &str = "/drey.v1.Cluster/Status";

/// The group of the cluster's own state, which holds no buckets.
const SYSTEM_GROUP: u32 = 0;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PutRequest {
    #[prost(string, tag = "1")]
    pub(super) bucket: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) value: Bytes,
}

/// Without `read`, which is field 3, the read is linearizable.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetRequest {
    #[prost(string, tag = "1")]
    pub(super) bucket: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GetResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) entry: Option<Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusResponse {
    #[prost(message, repeated, tag = "5")]
    pub(super) members: Vec<Member>,
    #[prost(message, repeated, tag = "6")]
    pub(super) groups: Vec<GroupStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Member {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "3")]
    pub(super) address: String,
    #[prost(bool, tag = "5")]
    pub(super) reachable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct GroupStatus {
    #[prost(uint32, tag = "1")]
    pub(super) id: u32,
    /// The id of the member that leads the group, 0 when none does.
    #[prost(uint64, tag = "2")]
    pub(super) leader: u64,
    #[prost(uint64, tag = "4")]
    pub(super) committed: u64,
    #[prost(uint64, tag = "5")]
    pub(super) applied: u64,
}

impl StatusResponse {
    /// The address of the member that leads the bucket's group, where one does.
    pub(super) fn leader_address(&self, bucket: &str) -> Option<&str> {
        let groups = self.groups.iter().filter(|group| group.id != SYSTEM_GROUP).count() as u64;
        let group = group_of(bucket, groups)?;
        let leader = self.groups.iter().find(|status| status.id == group)?.leader;
        Some(&self.members.iter().find(|member| leader != 0 && member.id == leader)?.address)
    }

    /// Whether every group has a leader.
    pub(super) fn is_led(&self) -> bool {
        !self.groups.is_empty() && self.groups.iter().all(|group| group.leader != 0)
    }
}

/// The group that holds a bucket, of so many groups of buckets: a pure function that all clients know.
fn group_of(bucket: &str, groups: u64) -> Option<u32> {
    let bucket = if bucket.is_empty() { "default" } else { bucket };
    u32::try_from(1 + xxh3_64(bucket.as_bytes()).checked_rem(groups)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_found_through_the_bucket_s_group() {
        let members = (1..=3).map(|id| Member { id, address: format!("127.0.0.1:{id}"), reachable: true }).collect();
        let groups =
            (0..=16).map(|id| GroupStatus { id, leader: u64::from(id % 3) + 1, ..GroupStatus::default() }).collect();
        let mut status = StatusResponse { members, groups };
        let group = group_of("default", 16).unwrap();
        assert!((1..=16).contains(&group));
        assert_eq!(status.leader_address("").unwrap(), format!("127.0.0.1:{}", group % 3 + 1));
        assert!(status.is_led());

        status.groups[group as usize].leader = 0;
        assert_eq!(status.leader_address("default"), None);
        assert!(!status.is_led());
        assert_eq!(StatusResponse::default().leader_address("default"), None);
    }
}
