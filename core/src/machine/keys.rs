//! How the replicas of a node share one store.
//!
//! ```text
//! 00 | group                                            the group's meta record
//! 00 | group | 's'                                      how far a snapshot that comes in is
//! 01 | group | generation | 'b' | bucket name           a bucket's record
//! 01 | group | generation | 'd' | created version | key a value record
//! 01 | group | generation | 'e' | created version | expiry ms | key      nothing: this key expires then, or once would have
//! 01 | group | generation | 'm'                         the members: in the system group
//! 01 | group | generation | 'p' | created version       a dropped bucket that is still to be purged
//! 01 | group | generation | 's' | session               a session
//! 01 | group | generation | 's' | session | sequence    an answer that it keeps
//! number: how many bytes u8 | these, the highest first, none of them a leading zero
//! ```
//! Numbers in keys sort as the numbers do, and are short when they are small: a key in an early bucket has 7 bytes in front, so
//! that an engine can keep it without a further allocation.
//!
//! The meta record names the generation that counts. A snapshot is written into another generation beside it and becomes the
//! state when the meta record changes; what lies in any other generation is garbage. A bucket's keys carry the version that
//! created it, so that dropping a bucket is one small write and a bucket made again under its name starts empty.

use bytes::{BufMut, Bytes};

use crate::limits::{BUCKET_NAME_BYTES_MAX, KEY_BYTES_MAX};
use crate::name::{BucketName, KeyRange, after_prefix};
use crate::types::{GroupId, Version};

const META: u8 = 0;
const STATE: u8 = 1;
/// What stands behind the group.
const STAGED: u8 = b's';

/// The kind of a bucket's record.
pub const KIND_BUCKET: u8 = b'b';
/// The kind of a value record.
pub const KIND_DATA: u8 = b'd';
/// The kind of an entry of the expiry index.
pub const KIND_EXPIRY: u8 = b'e';
/// The kind of the members' record.
pub const KIND_MEMBERS: u8 = b'm';
/// The kind of a mark for a dropped bucket.
pub const KIND_DROPPED: u8 = b'p';

/// The kind of a session's record, and of its answers behind it.
pub const KIND_SESSION: u8 = b's';

/// What stands in front of a user's key at the most.
pub const PREFIX_BYTES_MAX: usize = 1 + (1 + 4) + (1 + 4) + SUFFIX_PREFIX_BYTES_MAX;
/// The longest is that of the expiry index: kind, bucket, time.
const SUFFIX_PREFIX_BYTES_MAX: usize = 1 + 2 * (1 + 8);
/// The longest key that the store is given.
pub const STORE_KEY_BYTES_MAX: usize = PREFIX_BYTES_MAX + KEY_BYTES_MAX;
/// The most that stands behind the generation: kind and rest.
pub const SUFFIX_BYTES_MAX: usize = SUFFIX_PREFIX_BYTES_MAX + KEY_BYTES_MAX;

const _: () = assert!(BUCKET_NAME_BYTES_MAX < SUFFIX_BYTES_MAX && 1 + 2 * 9 < SUFFIX_BYTES_MAX);

/// The keys from the first (included) to the second (excluded).
pub type StoreRange = (Vec<u8>, Vec<u8>);

/// What keys have in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prefix {
    bytes: [u8; PREFIX_BYTES_MAX],
    len: u8,
}

impl Prefix {
    fn new(tag: u8) -> Prefix {
        let mut bytes = [0; PREFIX_BYTES_MAX];
        bytes[0] = tag;
        Prefix { bytes, len: 1 }
    }

    fn byte(mut self, byte: u8) -> Prefix {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
        self
    }

    fn number(self, number: u64) -> Prefix {
        let zeros = number.leading_zeros() as usize / 8;
        let bytes = number.to_be_bytes();
        bytes[zeros..].iter().fold(self.byte((8 - zeros) as u8), |prefix, byte| prefix.byte(*byte))
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn joined(&self, rest: &[u8]) -> Vec<u8> {
        let mut joined = Vec::with_capacity(usize::from(self.len) + rest.len());
        joined.put_slice(self.as_slice());
        joined.put_slice(rest);
        joined
    }

    /// Just behind all keys with this prefix.
    fn end(&self) -> Vec<u8> {
        after_prefix(self.as_slice()).expect("the first byte is not ff").to_vec()
    }

    fn range(&self) -> StoreRange {
        (self.as_slice().to_vec(), self.end())
    }
}

/// Reads a number of a key. None: that is not how numbers are written.
pub(crate) fn take_number(key: &[u8]) -> Option<(u64, &[u8])> {
    let (len, rest) = key.split_first()?;
    let (number, rest) = rest.split_at_checked(usize::from(*len))?;
    if *len > 8 || number.first() == Some(&0) {
        return None;
    }
    Some((number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest))
}

/// The key of a group's meta record.
pub fn meta(group: GroupId) -> Bytes {
    Bytes::copy_from_slice(Prefix::new(META).number(group.0.into()).as_slice())
}

/// The key of what is known of a group's snapshot while that comes in.
pub fn staged(group: GroupId) -> Bytes {
    Bytes::copy_from_slice(Prefix::new(META).number(group.0.into()).byte(STAGED).as_slice())
}

/// All that a group has in the store beside these two.
pub fn group_range(group: GroupId) -> StoreRange {
    Prefix::new(STATE).number(group.0.into()).range()
}

/// The number of the generation that a key of [`group_range`] belongs to.
pub(crate) fn generation_of(key: &[u8]) -> Option<u32> {
    let (_, rest) = take_number(key.get(1..)?)?;
    let (generation, _) = take_number(rest)?;
    generation.try_into().ok()
}

/// One generation of a group's state: what makes its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(Prefix);

impl Generation {
    /// The generation `number` of `group`.
    pub fn new(group: GroupId, number: u32) -> Generation {
        Generation(Prefix::new(STATE).number(group.0.into()).number(number.into()))
    }

    /// A key by its suffix: kind and rest.
    pub(crate) fn key(&self, suffix: &[u8]) -> Bytes {
        self.0.joined(suffix).into()
    }

    /// The suffix of one of this generation's keys: kind and rest.
    pub(crate) fn suffix<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        &key[usize::from(self.0.len)..]
    }

    /// All keys of this generation.
    pub(crate) fn range(&self) -> StoreRange {
        self.0.range()
    }

    /// The records of one kind.
    pub(crate) fn kind_range(&self, kind: u8) -> StoreRange {
        self.0.byte(kind).range()
    }

    /// The key of a bucket's record.
    pub fn bucket(&self, name: &BucketName) -> Bytes {
        self.0.byte(KIND_BUCKET).joined(name.as_bytes()).into()
    }

    /// The key of the members' record.
    pub(crate) fn members(&self) -> Bytes {
        self.0.byte(KIND_MEMBERS).joined(&[]).into()
    }

    /// The key of a dropped bucket's mark.
    pub(crate) fn dropped(&self, created: Version) -> Bytes {
        self.0.byte(KIND_DROPPED).number(created.0).joined(&[]).into()
    }

    /// The key of a session's record.
    pub(crate) fn session(&self, id: u64) -> Bytes {
        self.0.byte(KIND_SESSION).number(id).joined(&[]).into()
    }

    /// The key of an answer that a session keeps.
    pub(crate) fn answer(&self, session: u64, sequence: u64) -> Bytes {
        let session = self.session(session);
        let sequence = Prefix { bytes: [0; PREFIX_BYTES_MAX], len: 0 }.number(sequence);
        [&session[..], sequence.as_slice()].concat().into()
    }

    /// What makes the keys of one bucket's values.
    pub fn data(&self, created: Version) -> DataPrefix {
        DataPrefix(self.0.byte(KIND_DATA).number(created.0))
    }

    /// What makes the keys of one bucket's expiry index.
    pub(crate) fn expiries(&self, created: Version) -> ExpiryPrefix {
        ExpiryPrefix(self.0.byte(KIND_EXPIRY).number(created.0))
    }
}

/// What stands in front of the times in a bucket's expiry index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpiryPrefix(Prefix);

impl ExpiryPrefix {
    /// The index entry of a user's key that expires then.
    pub(crate) fn key(&self, expiry_ms: u64, key: &[u8]) -> Bytes {
        self.0.number(expiry_ms).joined(key).into()
    }

    /// The whole index of the bucket.
    pub(crate) fn range(&self) -> StoreRange {
        self.0.range()
    }

    /// The index from this time on.
    pub(crate) fn range_from(&self, expiry_ms: u64) -> StoreRange {
        (self.0.number(expiry_ms).joined(&[]), self.0.end())
    }

    /// The time and the user's key in an entry of this index. None: it is none.
    pub(crate) fn read<'a>(&self, entry: &'a [u8]) -> Option<(u64, &'a [u8])> {
        take_number(entry.get(usize::from(self.0.len)..)?).filter(|(_, key)| !key.is_empty())
    }
}

/// What stands in front of a bucket's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataPrefix(Prefix);

impl DataPrefix {
    /// The key under which a value lies.
    pub fn key(&self, key: &[u8]) -> Bytes {
        self.0.joined(key).into()
    }

    /// How many bytes stand in front of the user's key.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.0.len)
    }

    /// Where the keys of a range lie.
    pub fn range(&self, range: &KeyRange) -> StoreRange {
        let start = self.0.joined(range.start.as_deref().unwrap_or_default());
        let end = match &range.end {
            Some(end) => self.0.joined(end),
            None => self.0.end(),
        };
        (start, end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift)
    }

    proptest! {
        #[test]
        fn numbers_sort_as_they_are_and_come_back(one in number(), other in number()) {
            let [one_key, other_key] = [one, other].map(|number| Prefix::new(STATE).number(number));
            prop_assert_eq!(one_key.as_slice().cmp(other_key.as_slice()), one.cmp(&other));
            let joined = one_key.joined(b"rest");
            prop_assert_eq!(take_number(&joined[1..]), Some((one, &b"rest"[..])));
        }

        #[test]
        fn a_number_has_one_form(bytes in prop::collection::vec(0u8..10, 0..12)) {
            if let Some((number, rest)) = take_number(&bytes) {
                prop_assert_eq!(&Prefix::new(STATE).number(number).joined(rest)[1..], &bytes[..]);
            }
        }

        #[test]
        fn no_key_lies_in_the_range_of_another_prefix(
            groups in any::<[u32; 2]>(), generations in any::<[u32; 2]>(), created in [number(), number()],
            key in prop::collection::vec(any::<u8>(), 1..6)
        ) {
            let keys = [0, 1].map(|at| {
                let generation = Generation::new(GroupId(groups[at]), generations[at]);
                (generation, generation.data(Version(created[at])))
            });
            let store_key = keys[0].1.key(&key);
            let within = |(start, end): StoreRange| start[..] <= store_key[..] && store_key[..] < end[..];
            prop_assert!(within(group_range(GroupId(groups[0]))));
            prop_assert!(within(keys[0].0.range()) && within(keys[0].0.kind_range(KIND_DATA)));
            prop_assert!(within(keys[0].1.range(&KeyRange::default())));
            prop_assert!(!within(keys[0].0.kind_range(KIND_BUCKET)) && !within(keys[0].0.kind_range(KIND_DROPPED)));
            prop_assert_eq!(within(group_range(GroupId(groups[1]))), groups[0] == groups[1]);
            prop_assert_eq!(within(keys[1].0.range()), keys[0].0 == keys[1].0);
            prop_assert_eq!(within(keys[1].1.range(&KeyRange::default())), keys[0].1 == keys[1].1);
            prop_assert_eq!(generation_of(&store_key), Some(generations[0]));
        }
    }

    #[test]
    fn the_longest_key_is_as_long_as_said() {
        let prefix = Generation::new(GroupId(u32::MAX), u32::MAX).expiries(Version(u64::MAX));
        assert_eq!(prefix.key(u64::MAX, &[1; KEY_BYTES_MAX]).len(), STORE_KEY_BYTES_MAX);
        assert_eq!(Generation::new(GroupId(1), 0).data(Version(0)).key(b"k"), &b"\x01\x01\x01\x00d\x00k"[..]);
    }

    #[test]
    fn the_expiry_index_is_in_the_order_of_times() {
        let index = Generation::new(GroupId(1), 0).expiries(Version(3));
        let order = [index.key(0, b"z"), index.key(255, b"z"), index.key(256, b"a"), index.key(256, b"b")];
        assert!(order.is_sorted());
        assert_eq!(index.read(&order[2]), Some((256, &b"a"[..])));
        assert_eq!(index.read(&index.key(256, b"")), None);
        let (start, end) = index.range_from(256);
        assert!(order[1] < start && start[..] < order[2][..] && order[3] < end);
        assert_eq!(index.range().1, end);
    }
}
