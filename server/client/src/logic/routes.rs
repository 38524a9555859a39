//! Which group a bucket lives in, and which endpoint leads it.

use super::EndpointId;
use super::endpoints::Endpoints;
use xxhash_rust::xxh3::xxh3_64;

/// How many groups a client keeps leaders for.
pub const GROUPS_MAX: usize = 65_536;

/// The bucket that the empty name means.
const DEFAULT_BUCKET: &str = "default";

/// What a node's `Cluster.Status` says, as far as a client needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The cluster's id.
    pub cluster: String,
    /// The node that answered.
    pub node: u64,
    /// Ids and addresses of all members.
    pub members: Vec<(u64, String)>,
    /// How many changes of the members led to these.
    pub member_changes: u64,
    /// All groups, group 0 included or not.
    pub groups: Vec<GroupView>,
}

/// One group as a node sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupView {
    /// The group's number; 0 is the system group, which holds no bucket.
    pub id: u32,
    /// The member that leads it; 0 when none is known.
    pub leader: u64,
    /// The Raft term of that knowledge.
    pub term: u64,
}

/// The hash that decides a bucket's group. The empty name is the bucket `default`.
pub fn bucket_hash(bucket: &str) -> u64 {
    xxh3_64(if bucket.is_empty() { DEFAULT_BUCKET } else { bucket }.as_bytes())
}

/// The group of a bucket in a cluster of `groups` groups, the system group not counted. `None` if there are none.
pub fn group_of_bucket(bucket: &str, groups: u32) -> Option<u32> {
    group_of_hash(bucket_hash(bucket), groups)
}

fn group_of_hash(hash: u64, groups: u32) -> Option<u32> {
    let index = hash.checked_rem(u64::from(groups))?;
    Some(1 + u32::try_from(index).expect("a remainder of a u32 is one"))
}

#[derive(Debug, Clone, Copy, Default)]
struct Route {
    term: u64,
    leader: u64,
    endpoint: Option<EndpointId>,
}

/// The leaders known, by group.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// The route of group `1 + index`.
    groups: Vec<Route>,
}

impl Routes {
    fn index(&self, bucket_hash: u64) -> Option<usize> {
        let groups = u32::try_from(self.groups.len()).ok()?;
        group_of_hash(bucket_hash, groups).map(|group| group as usize - 1)
    }

    pub(super) fn leader(&self, bucket_hash: u64) -> Option<EndpointId> {
        self.groups[self.index(bucket_hash)?].endpoint
    }

    /// `endpoint` says that it does not lead the bucket's group and knows no one who does.
    pub(super) fn forget(&mut self, bucket_hash: u64, endpoint: EndpointId) {
        if let Some(index) = self.index(bucket_hash)
            && self.groups[index].endpoint == Some(endpoint)
        {
            self.groups[index].endpoint = None;
        }
    }

    /// Takes a node's view of the groups. A view of an older term never replaces one of a newer term.
    pub(super) fn learn(&mut self, view: &View, endpoints: &Endpoints) {
        let buckets_groups = || view.groups.iter().filter(|group| group.id != 0);
        let count = buckets_groups().count();
        let highest = buckets_groups().map(|group| group.id as usize).max().unwrap_or(0);
        // A partial list does not tell how many groups there are, and a wrong number would route everything wrongly.
        if count == 0 || count > GROUPS_MAX || highest != count {
            return;
        }
        self.groups.resize(count, Route::default());
        for group in buckets_groups() {
            let route = &mut self.groups[group.id as usize - 1];
            if group.term > route.term || (group.term == route.term && group.leader != 0) {
                route.term = group.term;
                route.leader = group.leader;
            }
        }
        for route in &mut self.groups {
            route.endpoint = if route.leader == 0 { None } else { endpoints.of_node(route.leader) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_name_is_the_default_bucket() {
        assert_eq!(bucket_hash(""), bucket_hash("default"));
        assert_ne!(bucket_hash(""), bucket_hash("users"));
    }

    #[test]
    fn groups_of_buckets_start_at_one() {
        assert_eq!(group_of_bucket("users", 0), None);
        assert_eq!(group_of_bucket("users", 1), Some(1));
        for number in 0..1_000 {
            let group = group_of_bucket(&format!("bucket-{number}"), 16);
            assert!(group.is_some_and(|group| (1..=16).contains(&group)), "{group:?}");
        }
    }

    #[test]
    fn the_hash_is_xxh3_as_the_servers_have_it() {
        // Fixed for ever: another value would send every call to a wrong leader.
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        let group_of = |bucket| group_of_bucket(bucket, 16);
        assert_eq!([group_of("default"), group_of("users"), group_of("Buckets/ä")], [Some(11), Some(10), Some(11)]);
    }
}
