//! How the replicas of a node share one store. Numbers in keys are big-endian, so that keys sort as their numbers do.
//!
//! ```text
//! 00 | group u32                                                      the group's meta record
//! 01 | group u32 | generation u32 | 'b' | bucket name                 a bucket's record
//! 01 | group u32 | generation u32 | 'd' | created version u64 | key   a value record
//! 01 | group u32 | generation u32 | 'p' | created version u64         a dropped bucket that is still to be purged
//! ```
//! The meta record names the generation that counts. A snapshot is written into another generation beside it and becomes the
//! state when the meta record changes; what lies in any other generation is garbage. A bucket's keys carry the version that
//! created it, so that dropping a bucket is one small write and a bucket made again under its name starts empty.

use bytes::{BufMut, Bytes};

use crate::limits::{BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX};
use crate::name::{BucketName, KeyRange};
use crate::types::{GroupId, Version};

const META: u8 = 0;
const STATE: u8 = 1;

/// The kind of a bucket's record.
pub const KIND_BUCKET: u8 = b'b';
/// The kind of a value record.
pub const KIND_DATA: u8 = b'd';
/// The kind of a mark for a dropped bucket.
pub const KIND_DROPPED: u8 = b'p';

/// What each key of a generation has in front.
pub const GENERATION_PREFIX_BYTES: usize = 1 + 4 + 4;
/// What each value's key has in front of the user's key.
pub const DATA_PREFIX_BYTES: usize = GENERATION_PREFIX_BYTES + 1 + 8;
/// The longest key that the store is given.
pub const STORE_KEY_BYTES_MAX: usize = DATA_PREFIX_BYTES + KEY_BYTES_MAX;

const _: () = assert!(GENERATION_PREFIX_BYTES + 1 + BUCKET_NAME_BYTES_MAX <= STORE_KEY_BYTES_MAX);

/// The keys from the first (included) to the second (excluded).
pub type StoreRange = (Vec<u8>, Vec<u8>);

/// The key of a group's meta record.
pub fn meta(group: GroupId) -> Bytes {
    let mut key = Vec::with_capacity(5);
    key.put_u8(META);
    key.put_u32(group.0);
    key.into()
}

/// All that a group has in the store beside its meta record.
pub fn group_range(group: GroupId) -> StoreRange {
    let start = group_prefix(group);
    let end = if group.0 == u32::MAX { vec![STATE + 1] } else { group_prefix(GroupId(group.0 + 1)) };
    (start, end)
}

fn group_prefix(group: GroupId) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(5);
    prefix.put_u8(STATE);
    prefix.put_u32(group.0);
    prefix
}

/// The number of the generation that a key of [`group_range`] belongs to.
pub(crate) fn generation_of(key: &[u8]) -> Option<u32> {
    let number = key.get(5..GENERATION_PREFIX_BYTES)?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

/// One generation of a group's state: what makes its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation([u8; GENERATION_PREFIX_BYTES]);

impl Generation {
    /// The generation `number` of `group`.
    pub fn new(group: GroupId, number: u32) -> Generation {
        let mut prefix = [0; GENERATION_PREFIX_BYTES];
        prefix[0] = STATE;
        prefix[1..5].copy_from_slice(&group.0.to_be_bytes());
        prefix[5..].copy_from_slice(&number.to_be_bytes());
        Generation(prefix)
    }

    /// A key by what stands behind the generation: kind and rest.
    pub(crate) fn key(&self, suffix: &[u8]) -> Bytes {
        let mut key = Vec::with_capacity(GENERATION_PREFIX_BYTES + suffix.len());
        key.put_slice(&self.0);
        key.put_slice(suffix);
        key.into()
    }

    /// All keys of this generation.
    pub(crate) fn range(&self) -> StoreRange {
        (self.0.to_vec(), end_of(&self.0))
    }

    /// The key of a bucket's record.
    pub fn bucket(&self, name: &BucketName) -> Bytes {
        let mut key = Vec::with_capacity(GENERATION_PREFIX_BYTES + 1 + name.as_bytes().len());
        key.put_slice(&self.0);
        key.put_u8(KIND_BUCKET);
        key.put_slice(name.as_bytes());
        key.into()
    }

    /// The records of one kind.
    pub(crate) fn kind_range(&self, kind: u8) -> StoreRange {
        let mut start = self.0.to_vec();
        start.push(kind);
        let end = end_of(&start);
        (start, end)
    }

    /// The key of a dropped bucket's mark.
    pub(crate) fn dropped(&self, created: Version) -> Bytes {
        let mut key = Vec::with_capacity(DATA_PREFIX_BYTES);
        key.put_slice(&self.0);
        key.put_u8(KIND_DROPPED);
        key.put_u64(created.0);
        key.into()
    }

    /// What makes the keys of one bucket's values.
    pub fn data(&self, created: Version) -> DataPrefix {
        let mut prefix = [0; DATA_PREFIX_BYTES];
        prefix[..GENERATION_PREFIX_BYTES].copy_from_slice(&self.0);
        prefix[GENERATION_PREFIX_BYTES] = KIND_DATA;
        prefix[GENERATION_PREFIX_BYTES + 1..].copy_from_slice(&created.0.to_be_bytes());
        DataPrefix(prefix)
    }
}

/// What stands in front of a bucket's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPrefix([u8; DATA_PREFIX_BYTES]);

impl DataPrefix {
    /// The key under which a value lies.
    pub fn key(&self, key: &[u8]) -> Bytes {
        self.joined(key).into()
    }

    /// Where the keys of a range lie.
    pub fn range(&self, range: &KeyRange) -> StoreRange {
        let start = self.joined(range.start.as_deref().unwrap_or_default());
        let end = match &range.end {
            Some(end) => self.joined(end),
            None => end_of(&self.0),
        };
        (start, end)
    }

    fn joined(&self, key: &[u8]) -> Vec<u8> {
        let mut joined = Vec::with_capacity(DATA_PREFIX_BYTES + key.len());
        joined.put_slice(&self.0);
        joined.put_slice(key);
        joined
    }
}

/// Just behind all keys with a prefix of ours.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    crate::name::after_prefix(prefix).expect("the first byte is not ff").to_vec()
}
