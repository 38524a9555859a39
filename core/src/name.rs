//! Bucket names, keys and ranges: checked once, where they come in.

use std::fmt;

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{BUCKET_NAME_BYTES_MAX, KEY_BOUND_BYTES_MAX, KEY_BYTES_MAX};

/// The name of a bucket: 1 to 128 of `A-Z a-z 0-9 . _ -`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Bytes);

impl BucketName {
    /// The bucket that exists from the start, also meant by the empty name.
    pub const DEFAULT: BucketName = BucketName(Bytes::from_static(b"default"));

    /// Checks a name; the empty one is [`Self::DEFAULT`].
    pub fn new(name: impl Into<Bytes>) -> Result<BucketName, Error> {
        let name = name.into();
        if name.is_empty() {
            return Ok(BucketName::DEFAULT);
        }
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.len() > BUCKET_NAME_BYTES_MAX || name.first() == Some(&b'.') || !name.iter().all(allowed) {
            return Err(Error::invalid(format!(
                "bad bucket name {:?}: 1 to {BUCKET_NAME_BYTES_MAX} of A-Z a-z 0-9 . _ - and no dot in front",
                String::from_utf8_lossy(&name[..name.len().min(BUCKET_NAME_BYTES_MAX)])
            )));
        }
        Ok(BucketName(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked to be ASCII")
    }

    /// The name as shared bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key: 1 to 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Checks a key's length.
    pub fn new(key: impl Into<Bytes>) -> Result<Key, Error> {
        let key = key.into();
        match key.len() {
            0 => Err(Error::invalid("the key is empty")),
            1..=KEY_BYTES_MAX => Ok(Key(key)),
            len => Err(Error::invalid(format!("the key has {len} bytes, the most is {KEY_BYTES_MAX}"))),
        }
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// The keys from `start` (included) to `end` (excluded); `None` is unbounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key, if bounded.
    pub start: Option<Bytes>,
    /// Just behind the last key, if bounded.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Checks the bounds' lengths and order.
    pub fn new(start: Option<Bytes>, end: Option<Bytes>) -> Result<KeyRange, Error> {
        for bound in [&start, &end].into_iter().flatten() {
            if bound.len() > KEY_BOUND_BYTES_MAX {
                return Err(Error::invalid(format!(
                    "a bound has {} bytes, the most is {KEY_BOUND_BYTES_MAX}",
                    bound.len()
                )));
            }
        }
        if let (Some(start), Some(end)) = (&start, &end)
            && start > end
        {
            return Err(Error::invalid("the range ends before it starts"));
        }
        Ok(KeyRange { start, end })
    }

    /// All keys that begin with `prefix`; the empty prefix is everything.
    pub fn prefix(prefix: Bytes) -> Result<KeyRange, Error> {
        let end = after_prefix(&prefix);
        KeyRange::new(Some(prefix), end)
    }
}

/// The first string behind all that begin with `prefix`; none behind `ff ff …` and the empty prefix.
pub fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}
