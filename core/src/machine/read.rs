//! Reads from the present state: single keys, and what the buckets are.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::Error;
use crate::limits::{BYTES_COUNTED_MAX, GET_MANY_KEYS_MAX, KEYS_COUNTED_MAX, REPLY_BYTES_MAX};
use crate::machine::keys::DataPrefix;
use crate::machine::record::damaged;
use crate::machine::{Bucket, Machine, ValueRecord};
use crate::mutation::{Mutation, is_on};
use crate::name::{BucketName, Key, KeyRange};
use crate::request::{BucketInfo, Entry, Reply};
use crate::store::{Read, StoreError};
use crate::types::NodeId;

/// What a read comes to: the outer error ends the shard, the inner one is an answer.
type Answer = Result<Result<Reply, Error>, StoreError>;

impl Machine {
    /// One key. `clock_ms` is an estimate of the group's clock: the time that an entry has left is told by it, and nothing
    /// else. What has expired, the applied clock says.
    pub fn get(&self, reader: &dyn Read, bucket: &BucketName, key: &Key, clock_ms: u64) -> Answer {
        match self.data_of(bucket) {
            Ok(data) => Ok(Ok(Reply::Entry(self.read_entry(reader, &data, key, clock_ms)?))),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Several keys, in the order asked. `clock_ms` as for [`Machine::get`].
    pub fn get_many(&self, reader: &dyn Read, bucket: &BucketName, keys: &[Key], clock_ms: u64) -> Answer {
        let data = match self.data_of(bucket) {
            Ok(data) => data,
            Err(error) => return Ok(Err(error)),
        };
        if keys.len() > GET_MANY_KEYS_MAX {
            return Ok(Err(Error::invalid(format!(
                "{} keys were asked for, the most is {GET_MANY_KEYS_MAX}",
                keys.len()
            ))));
        }
        let mut entries = Vec::with_capacity(keys.len());
        let mut bytes = 0;
        for key in keys {
            let entry = self.read_entry(reader, &data, key, clock_ms)?;
            bytes += entry.as_ref().map_or(0, |entry| entry.key.len() + entry.value.len());
            if bytes > REPLY_BYTES_MAX {
                return Ok(Err(Error::invalid(format!(
                    "the entries have more than {REPLY_BYTES_MAX} bytes: ask for fewer keys at a time"
                ))));
            }
            entries.push(entry);
        }
        Ok(Ok(Reply::Entries(entries)))
    }

    /// The buckets whose names begin with `prefix`. All together are counted as far as a single one would be, but each a little.
    pub fn list_buckets(&self, reader: &dyn Read, prefix: &str) -> Answer {
        let names: Vec<_> = self.buckets.iter().filter(|(name, _)| name.as_str().starts_with(prefix)).collect();
        let share = names.len().max(1);
        let mut buckets = Vec::with_capacity(names.len());
        for (name, bucket) in names {
            buckets.push(self.count(reader, name, bucket, share)?);
        }
        Ok(Ok(Reply::Buckets(buckets)))
    }

    /// One bucket. `keys_estimate` is exact up to [`KEYS_COUNTED_MAX`] keys and [`BYTES_COUNTED_MAX`] bytes, and a floor beyond.
    pub fn describe_bucket(&self, reader: &dyn Read, name: &BucketName) -> Answer {
        match self.bucket(name) {
            Ok(bucket) => Ok(Ok(Reply::Buckets(vec![self.count(reader, name, bucket, 1)?]))),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The members, in the system group.
    pub fn read_members(&self) -> Result<Reply, Error> {
        let members = self.members().ok_or_else(|| Error::NotReady("this node has not got the members yet".into()))?;
        Ok(Reply::Members { id: NodeId(0), members: Arc::clone(members) })
    }

    fn data_of(&self, name: &BucketName) -> Result<DataPrefix, Error> {
        Ok(self.generation().data(self.bucket(name)?.created_version))
    }

    /// Describes a bucket by counting, with one `share`th of what may be counted.
    fn count(
        &self,
        reader: &dyn Read,
        name: &BucketName,
        bucket: &Bucket,
        share: usize,
    ) -> Result<BucketInfo, StoreError> {
        let keys_max = (KEYS_COUNTED_MAX / share).max(1) as u64;
        let bytes_max = (BYTES_COUNTED_MAX / share) as u64;
        let mut info = bucket.describe(name, self.group());
        let data = self.generation().data(bucket.created_version);
        let (start, end) = data.range(&KeyRange::default());
        // What has expired is read, and not counted.
        let (mut read_keys, mut read_bytes) = (0, 0);
        let mut failed = None;
        reader.scan(&start, &end, false, &mut |key, value| {
            let record = match ValueRecord::decode(value) {
                Ok(record) => record,
                Err(error) => {
                    failed = Some(damaged(&key, error));
                    return ControlFlow::Break(());
                }
            };
            let bytes = (key.len() - data.len() + record.value.len()) as u64;
            (read_keys, read_bytes) = (read_keys + 1, read_bytes + bytes);
            if record.lives_at(self.clock_ms()) {
                info.keys_estimate += 1;
                info.bytes_estimate += bytes;
            }
            if read_keys >= keys_max || read_bytes >= bytes_max {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if let Some(bytes) = self.size_of(bucket) {
            info.bytes_estimate = bytes;
        }
        failed.map_or(Ok(info), Err)
    }

    fn read_entry(
        &self,
        reader: &dyn Read,
        data: &DataPrefix,
        key: &Key,
        clock_ms: u64,
    ) -> Result<Option<Entry>, StoreError> {
        let store_key = data.key(key.as_bytes());
        let Some(bytes) = reader.get(&store_key)? else {
            return Ok(None);
        };
        let record = ValueRecord::decode(bytes).map_err(|error| damaged(&store_key, error))?;
        let decides_ms = if is_on(Mutation::ExpiryByOwnClock) { clock_ms } else { self.clock_ms() };
        Ok(record.lives_at(decides_ms).then(|| record.entry(key.as_bytes(), clock_ms)))
    }
}
