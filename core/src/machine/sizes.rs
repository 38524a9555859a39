//! How much lies in the buckets whose size is bounded: counted once, a little at a time, and kept in step with each batch from then on.
//!
//! Each replica counts for itself, so that nothing of this is replicated. Whoever writes to such a bucket pays for it: with each key
//! that changes, what it replaces is read.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::machine::keys::{DataPrefix, Generation};
use crate::machine::record::damaged;
use crate::machine::{Bucket, Machine, ValueRecord};
use crate::name::{BucketName, KeyRange};
use crate::store::{Read, StoreError, WriteSet};
use crate::types::Version;

/// Buckets that have reached their bounds, with these, in bytes.
pub type FullBuckets = BTreeMap<BucketName, u64>;

/// The buckets with a bound, by what stands in front of their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    by_bucket: BTreeMap<Version, Size>,
}

/// Keys and values that a bucket holds, in bytes; expired ones, too, until they are removed.
#[derive(Clone, Debug, Default)]
struct Size {
    bytes: u64,
    /// Counting goes on at this key of the store. None: everything is counted.
    next: Option<Bytes>,
}

impl Size {
    /// Whether a key is counted.
    fn has(&self, key: &[u8]) -> bool {
        self.next.as_ref().is_none_or(|next| key < &next[..])
    }
}

impl Sizes {
    /// Of a state in which nothing was counted.
    pub(super) fn uncounted<'a>(buckets: impl Iterator<Item = &'a Bucket>, generation: Generation) -> Sizes {
        let bounded = buckets.filter(|bucket| bucket.max_bytes.is_some());
        let size = |bucket: &Bucket| {
            let (start, _) = generation.data(bucket.created_version).range(&KeyRange::default());
            (bucket.created_version, Size { bytes: 0, next: Some(start.into()) })
        };
        Sizes { by_bucket: bounded.map(size).collect() }
    }

    /// A bucket was made, and is empty.
    pub(super) fn made(&mut self, bucket: &Bucket) {
        if bucket.max_bytes.is_some() {
            self.by_bucket.insert(bucket.created_version, Size::default());
        }
    }

    /// A bucket is gone.
    pub(super) fn forget(&mut self, created: Version) {
        self.by_bucket.remove(&created);
    }

    /// Keeps the sizes in step with changes that the store does not have yet.
    pub(super) fn follow(
        &mut self,
        reader: &dyn Read,
        generation: Generation,
        writes: &WriteSet,
    ) -> Result<(), StoreError> {
        for (&created, size) in &mut self.by_bucket {
            let data = generation.data(created);
            let (start, end) = data.range(&KeyRange::default());
            let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
            for (key, change) in writes.changes.range::<[u8], _>(range) {
                if !size.has(key) {
                    // It will be counted as it is then; and so will all behind it.
                    break;
                }
                let bytes_of = |value: Option<Bytes>| value.map_or(Ok(0), |value| record_bytes(&data, key, value));
                size.bytes += bytes_of(change.clone())?;
                size.bytes = size.bytes.saturating_sub(bytes_of(reader.get(key)?)?);
            }
        }
        Ok(())
    }
}

impl Machine {
    /// Whether there are bounded buckets that are not counted to their ends.
    pub fn needs_count(&self) -> bool {
        self.sizes.by_bucket.values().any(|size| size.next.is_some())
    }

    /// Goes on counting: about `bytes_max` bytes of one bucket.
    pub(crate) fn count_some(&mut self, reader: &dyn Read, bytes_max: u64) -> Result<(), StoreError> {
        let generation = self.generation();
        let uncounted = self.sizes.by_bucket.iter_mut().find(|(_, size)| size.next.is_some());
        let Some((&created, size)) = uncounted else { return Ok(()) };
        let data = generation.data(created);
        let (_, end) = data.range(&KeyRange::default());
        let (mut read, mut next, mut failed) = (0, None, None);
        reader.scan(size.next.as_deref().unwrap_or_default(), &end, false, &mut |key, value| {
            if read >= bytes_max {
                next = Some(key);
                return ControlFlow::Break(());
            }
            match record_bytes(&data, &key, value) {
                Ok(bytes) => {
                    read += bytes;
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        size.bytes += read;
        size.next = next;
        Ok(())
    }

    /// The buckets that have reached their bounds, as far as they are counted.
    pub fn full_buckets(&self) -> FullBuckets {
        if self.sizes.by_bucket.is_empty() {
            return FullBuckets::new();
        }
        let full = |(name, bucket): (&BucketName, &Bucket)| {
            let (size, max) = (self.sizes.by_bucket.get(&bucket.created_version)?, bucket.max_bytes?);
            (size.bytes >= max).then(|| (name.clone(), max))
        };
        self.buckets.iter().filter_map(full).collect()
    }

    /// The size of a bucket with a bound, once it is counted.
    pub(super) fn size_of(&self, bucket: &Bucket) -> Option<u64> {
        self.sizes.by_bucket.get(&bucket.created_version).filter(|size| size.next.is_none()).map(|size| size.bytes)
    }
}

/// What a value and its key count for.
fn record_bytes(data: &DataPrefix, key: &[u8], value: Bytes) -> Result<u64, StoreError> {
    let record = ValueRecord::decode(value).map_err(|error| damaged(key, error))?;
    Ok((key.len() - data.len() + record.value.len()) as u64)
}
