//! A scan through one bucket, page by page. Where the pages come from (the store, or a view of it) is the caller's business.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ENTRIES_MAX, SCAN_PAGE_READ_BYTES_MAX};
use crate::machine::record::damaged;
use crate::machine::{Machine, ValueRecord};
use crate::name::{BucketName, KeyRange};
use crate::request::Entry;
use crate::store::{Read, StoreError};
use crate::types::{GroupId, Version};

/// A scan in progress.
#[derive(Clone, Debug)]
pub struct Scan {
    group: GroupId,
    /// The keys of the store that are still to be visited.
    start: Vec<u8>,
    end: Vec<u8>,
    /// What stands in front of the user's keys.
    prefix_len: usize,
    reverse: bool,
    keys_only: bool,
    /// How many entries are still wanted; none: all.
    wanted: Option<u64>,
    version: Version,
}

/// What there is behind a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// Another page.
    More,
    /// Nothing: the range is at its end.
    Exhausted,
    /// Keys that the limit cut off.
    Limited,
}

impl Machine {
    /// Starts a scan. `limit` 0 is none.
    pub fn scan(
        &self,
        bucket: &BucketName,
        range: &KeyRange,
        limit: u64,
        reverse: bool,
        keys_only: bool,
    ) -> Result<Scan, Error> {
        let data = self.generation().data(self.bucket(bucket)?.created_version);
        let (start, end) = data.range(range);
        let wanted = (limit > 0).then_some(limit);
        let (group, version) = (self.group(), self.version());
        Ok(Scan { group, start, end, prefix_len: data.len(), reverse, keys_only, wanted, version })
    }
}

impl Scan {
    /// The group that is read.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The group's version when the scan began.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The next page from a state of the store that must be the same for all pages.
    pub fn page(&mut self, reader: &dyn Read) -> Result<(Vec<Entry>, ScanEnd), StoreError> {
        let mut entries = Vec::new();
        if self.start >= self.end {
            return Ok((entries, ScanEnd::Exhausted));
        }
        let entries_max = self.wanted.unwrap_or(u64::MAX).min(SCAN_PAGE_ENTRIES_MAX as u64) as usize;
        let (mut page_bytes, mut read_bytes) = (0, 0);
        let mut cut = false;
        let mut failed = None;
        let mut last = Bytes::new();
        reader.scan(&self.start, &self.end, self.reverse, &mut |key, value| {
            let bytes = key.len() - self.prefix_len + if self.keys_only { 0 } else { value.len() };
            read_bytes += key.len() + value.len();
            let full = entries.len() >= entries_max
                || page_bytes + bytes > SCAN_PAGE_BYTES_MAX
                || read_bytes > SCAN_PAGE_READ_BYTES_MAX;
            if full && (!entries.is_empty() || entries_max == 0) {
                cut = true;
                return ControlFlow::Break(());
            }
            match ValueRecord::decode(value) {
                Ok(record) => entries.push(Entry {
                    key: key.slice(self.prefix_len..),
                    value: if self.keys_only { Bytes::new() } else { record.value },
                    version: record.version,
                    ttl_ms: None,
                }),
                Err(error) => {
                    failed = Some(damaged(&key, error));
                    return ControlFlow::Break(());
                }
            }
            page_bytes += bytes;
            last = key;
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.advance(&last, entries.len() as u64);
        Ok((entries, self.end_of_page(cut)))
    }

    fn advance(&mut self, last: &Bytes, entries: u64) {
        if let Some(wanted) = &mut self.wanted {
            *wanted -= entries;
        }
        if last.is_empty() {
            return;
        }
        if self.reverse {
            self.end = last.to_vec();
        } else {
            self.start = last.to_vec();
            self.start.push(0);
        }
    }

    fn end_of_page(&self, cut: bool) -> ScanEnd {
        match (cut, self.wanted) {
            (false, _) => ScanEnd::Exhausted,
            (true, Some(0)) => ScanEnd::Limited,
            (true, _) => ScanEnd::More,
        }
    }
}
