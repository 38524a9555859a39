//! A scan through one bucket, page by page. Where the pages come from (the store, or a view of it) is the caller's business.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ENTRIES_MAX, SCAN_PAGE_READ_BYTES_MAX};
use crate::machine::record::damaged;
use crate::machine::{Machine, ValueRecord};
use crate::mutation::{Mutation, is_on};
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
    /// The group's clock when the scan began: what had expired by then is not there.
    clock_ms: u64,
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

/// A page on its way.
struct Page {
    entries: Vec<Entry>,
    /// Of the keys and values in it.
    bytes: usize,
    /// Of all that was visited for it.
    read_bytes: usize,
    /// The last key that was visited, as the store has it.
    last: Bytes,
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
        let (group, version, clock_ms) = (self.group(), self.version(), self.clock_ms());
        Ok(Scan { group, start, end, prefix_len: data.len(), reverse, keys_only, wanted, version, clock_ms })
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

    /// The next page from a state of the store that must be the same for all pages. It is empty, and not the last, when all that
    /// it may read has expired. `clock_ms` is an estimate of the group's clock, for telling the time that entries have left.
    pub fn page(&mut self, reader: &dyn Read, clock_ms: u64) -> Result<(Vec<Entry>, ScanEnd), StoreError> {
        let mut page = Page { entries: Vec::new(), bytes: 0, read_bytes: 0, last: Bytes::new() };
        if self.start >= self.end {
            return Ok((page.entries, ScanEnd::Exhausted));
        }
        let entries_max = self.wanted.unwrap_or(u64::MAX).min(SCAN_PAGE_ENTRIES_MAX as u64) as usize;
        let mut cut = false;
        let mut failed = None;
        reader.scan(&self.start, &self.end, self.reverse, &mut |key, value| {
            let size = key.len() + value.len();
            let record = match ValueRecord::decode(value) {
                Ok(record) => record,
                Err(error) => {
                    failed = Some(damaged(&key, error));
                    return ControlFlow::Break(());
                }
            };
            let lives = record.lives_at(self.clock_ms);
            let bytes = key.len() - self.prefix_len + if self.keys_only { 0 } else { record.value.len() };
            let full = lives && (page.entries.len() >= entries_max || page.bytes + bytes > SCAN_PAGE_BYTES_MAX);
            if (full || page.read_bytes + size > SCAN_PAGE_READ_BYTES_MAX) && !page.last.is_empty() {
                cut = true;
                return ControlFlow::Break(());
            }
            page.read_bytes += size;
            if lives {
                page.bytes += bytes;
                let mut entry = record.entry(&key.slice(self.prefix_len..), clock_ms);
                if self.keys_only {
                    entry.value = Bytes::new();
                }
                page.entries.push(entry);
            }
            page.last = key;
            ControlFlow::Continue(())
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.advance(&page.last, page.entries.len() as u64);
        Ok((page.entries, self.end_of_page(cut)))
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
            self.start.push(if is_on(Mutation::PageSkipsLonger) { u8::MAX } else { 0 });
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
