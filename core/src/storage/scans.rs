//! The views of scans in progress: few, and closed when nobody reads on.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::error::Error;
use crate::limits::{VIEW_IDLE_MS_MAX, VIEWS_MAX};
use crate::machine::{Machine, Scan, ScanEnd};
use crate::name::{BucketName, KeyRange};
use crate::request::{Entry, Page, Reply};
use crate::store::{Read, Store, StoreError};
use crate::types::{GroupId, ViewId};

/// What a read comes to: the outer error ends the shard, the inner one is an answer.
type Answer = Result<Result<Reply, Error>, StoreError>;

/// How many closed views are remembered, so that their readers learn where to resume.
const CLOSED_MAX: usize = VIEWS_MAX;

/// What a scan asks for.
pub(super) struct ScanRequest<'a> {
    pub(super) bucket: &'a BucketName,
    pub(super) range: &'a KeyRange,
    pub(super) limit: u64,
    pub(super) reverse: bool,
    pub(super) keys_only: bool,
}

struct OpenScan<V> {
    view: V,
    scan: Scan,
    used_ms: u64,
    /// The last key that was answered.
    last_key: Bytes,
}

/// All scans in progress of a shard.
pub(super) struct Scans<V> {
    open: BTreeMap<ViewId, OpenScan<V>>,
    /// Views that were closed before their end, oldest first, with the last key that was answered.
    closed: VecDeque<(ViewId, Bytes)>,
    last_id: u64,
    refused: u64,
}

impl<V: Read> Scans<V> {
    /// Whoever goes on with a view that it had before a restart must not get another's pages: no number comes twice.
    pub(super) fn new(epoch: u32) -> Scans<V> {
        let last_id = u64::from(epoch) << 32;
        Scans { open: BTreeMap::new(), closed: VecDeque::new(), last_id, refused: 0 }
    }

    /// Answers the first page. Only a scan that has more of them costs a view.
    pub(super) fn start<S: Store<View = V>>(
        &mut self,
        store: &S,
        machine: &Machine,
        request: ScanRequest<'_>,
        now_ms: u64,
        clock_ms: u64,
    ) -> Answer {
        let ScanRequest { bucket, range, limit, reverse, keys_only } = request;
        let mut scan = match machine.scan(bucket, range, limit, reverse, keys_only) {
            Ok(scan) => scan,
            Err(error) => return Ok(Err(error)),
        };
        let (entries, end) = scan.page(store, clock_ms)?;
        if end != ScanEnd::More {
            return Ok(Ok(page(&scan, entries, None, end)));
        }
        if self.open.len() >= VIEWS_MAX {
            self.refused += 1;
            return Ok(Err(Error::Overloaded(format!("{VIEWS_MAX} scans are in progress, the most"))));
        }
        self.last_id += 1;
        let id = ViewId::here(self.last_id);
        let reply = page(&scan, entries, Some(id), end);
        self.open.insert(id, OpenScan { view: store.view(), scan, used_ms: now_ms, last_key: last_key(&reply) });
        Ok(Ok(reply))
    }

    /// Answers the next page.
    pub(super) fn next(&mut self, id: ViewId, now_ms: u64, clock_ms: u64) -> Answer {
        let Some(open) = self.open.get_mut(&id) else {
            return Ok(Err(self.gone(id)));
        };
        let (entries, end) = open.scan.page(&open.view, clock_ms)?;
        open.used_ms = now_ms;
        let next = (end == ScanEnd::More).then_some(id);
        let reply = page(&open.scan, entries, next, end);
        if next.is_none() {
            self.open.remove(&id);
        } else if !last_key(&reply).is_empty() {
            open.last_key = last_key(&reply);
        }
        Ok(Ok(reply))
    }

    /// How many views are open, and how many were refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.open.len() as u64, self.refused)
    }

    /// Ends a scan. One that is gone already is no error.
    pub(super) fn end(&mut self, id: ViewId) {
        self.open.remove(&id);
    }

    /// Closes the views that were not read for too long.
    pub(super) fn close_idle(&mut self, now_ms: u64) {
        self.close(|open| now_ms.saturating_sub(open.used_ms) > VIEW_IDLE_MS_MAX);
    }

    /// Closes the views of a group whose state is replaced.
    pub(super) fn close_group(&mut self, group: GroupId) {
        self.close(|open| open.scan.group() == group);
    }

    fn close(&mut self, which: impl Fn(&OpenScan<V>) -> bool) {
        let closed = &mut self.closed;
        self.open.retain(|id, open| {
            if !which(open) {
                return true;
            }
            if closed.len() >= CLOSED_MAX {
                closed.pop_front();
            }
            closed.push_back((*id, std::mem::take(&mut open.last_key)));
            false
        });
    }

    fn gone(&self, id: ViewId) -> Error {
        match self.closed.iter().find(|(closed, _)| *closed == id) {
            Some((_, key)) => {
                Error::Compacted(format!("the scan's view is closed: start a new scan and resume after key {key:?}"))
            }
            None => Error::Compacted(
                "the scan's view is closed: start a new scan and resume after the last key that came".to_owned(),
            ),
        }
    }
}

fn page(scan: &Scan, entries: Vec<Entry>, next: Option<ViewId>, end: ScanEnd) -> Reply {
    Reply::Page(Page { entries, version: scan.version(), next, more: end == ScanEnd::Limited })
}

/// A copy, as the key may share a large buffer of the store.
fn last_key(reply: &Reply) -> Bytes {
    match reply {
        Reply::Page(page) => page.entries.last().map(|entry| Bytes::copy_from_slice(&entry.key)).unwrap_or_default(),
        _ => Bytes::new(),
    }
}
