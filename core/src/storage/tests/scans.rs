//! Scans: their pages, and what ends their views.

use super::*;
use crate::error::Error;
use crate::limits::{
    KEYS_COUNTED_MAX, SCAN_PAGE_BYTES_MAX, SCAN_PAGE_ENTRIES_MAX, VALUE_BYTES_MAX, VIEW_IDLE_MS_MAX, VIEWS_MAX,
};
use crate::name::KeyRange;
use crate::request::{Entry, Page, ReadOp, Reply};
use crate::types::ViewId;

impl StorageWorker<MemoryStore> {
    fn ask(&mut self, op: ReadOp, now_ms: u64) -> Result<Reply, Error> {
        let job = StorageJob::Read { group: GROUP, reads: vec![(Ticket(3), op)], now_ms, clock_ms: 0 };
        match self.run(job) {
            StorageDone::Read { mut results, .. } if results.len() == 1 && results[0].0 == Ticket(3) => {
                results.remove(0).1
            }
            other => panic!("{other:?}"),
        }
    }

    fn page(&mut self, op: ReadOp, now_ms: u64) -> Page {
        match self.ask(op, now_ms) {
            Ok(Reply::Page(page)) => page,
            other => panic!("{other:?}"),
        }
    }

    /// All pages of a scan.
    fn scan_all(&mut self, op: ReadOp) -> Vec<Page> {
        let mut pages = vec![self.page(op, 0)];
        while let Some(view) = pages.last().unwrap().next {
            pages.push(self.page(ReadOp::ScanNext { view }, 0));
        }
        pages
    }
}

fn scan(range: KeyRange, limit: u64, reverse: bool) -> ReadOp {
    ReadOp::Scan { bucket: BucketName::DEFAULT, range, limit, reverse, keys_only: false }
}

fn everything() -> ReadOp {
    scan(KeyRange::default(), 0, false)
}

/// A worker with `count` keys `00000`, `00001`, ….
fn filled(count: usize) -> StorageWorker<MemoryStore> {
    let mut worker = worker(MemoryStore::new());
    let puts: Vec<_> = (0..count).map(|at| put("default", &format!("{at:05}"), format!("v{at}"))).collect();
    worker.apply_next(&puts);
    worker
}

fn keys(pages: &[Page]) -> Vec<String> {
    let key = |entry: &Entry| String::from_utf8(entry.key.to_vec()).unwrap();
    pages.iter().flat_map(|page| page.entries.iter().map(key)).collect()
}

fn numbers(range: impl Iterator<Item = usize>) -> Vec<String> {
    range.map(|at| format!("{at:05}")).collect()
}

#[test]
fn a_short_scan_is_one_page_without_a_view() {
    let mut worker = filled(10);
    let range = KeyRange::new(Some("00002".into()), Some("00005".into())).unwrap();
    let page = worker.page(scan(range.clone(), 0, false), 0);
    assert_eq!(keys(std::slice::from_ref(&page)), ["00002", "00003", "00004"]);
    assert_eq!((page.next, page.more, page.version.0), (None, false, 10));
    assert_eq!(page.entries[0].value, "v2");
    assert_eq!(keys(&[worker.page(scan(range, 2, true), 0)]), ["00004", "00003"]);
    let prefix = worker.page(scan(KeyRange::prefix("0000".into()).unwrap(), 0, false), 0);
    assert_eq!(prefix.entries.len(), 10);
}

#[test]
fn pages_join_without_gap_or_repeat() {
    let count = 2 * SCAN_PAGE_ENTRIES_MAX + 100;
    let mut worker = filled(count);
    let pages = worker.scan_all(everything());
    assert_eq!(pages.iter().map(|page| page.entries.len()).collect::<Vec<_>>(), [1024, 1024, 100]);
    assert_eq!(keys(&pages), numbers(0..count));
    let reversed = worker.scan_all(scan(KeyRange::default(), 0, true));
    assert_eq!(keys(&reversed), numbers((0..count).rev()));
    // A page that ends with the last key needs no further one.
    let mut exact = filled(SCAN_PAGE_ENTRIES_MAX);
    assert_eq!(exact.scan_all(everything()).len(), 1);
}

#[test]
fn more_says_that_the_limit_cut_the_scan() {
    let mut worker = filled(2000);
    for (limit, more) in
        [(1, true), (1023, true), (1024, true), (1500, true), (1999, true), (2000, false), (9999, false)]
    {
        for reverse in [false, true] {
            let pages = worker.scan_all(scan(KeyRange::default(), limit, reverse));
            assert_eq!(keys(&pages).len() as u64, limit.min(2000));
            assert_eq!(pages.last().map(|page| page.more), Some(more), "limit {limit}");
        }
    }
}

#[test]
fn a_page_has_few_bytes_or_one_entry() {
    let mut worker = worker(MemoryStore::new());
    let value = Bytes::from(vec![7; SCAN_PAGE_BYTES_MAX / 2 - 100]);
    for at in ["a", "b", "c"] {
        worker.apply_next(&[put("default", at, value.clone())]);
    }
    worker.apply_next(&[put("default", "d", vec![7; VALUE_BYTES_MAX])]);
    let pages = worker.scan_all(everything());
    assert_eq!(pages.iter().map(|page| page.entries.len()).collect::<Vec<_>>(), [2, 1, 1]);
    let keys_only = ReadOp::Scan {
        bucket: BucketName::DEFAULT,
        range: KeyRange::default(),
        limit: 0,
        reverse: false,
        keys_only: true,
    };
    let page = worker.page(keys_only, 0);
    assert_eq!(keys(std::slice::from_ref(&page)), ["a", "b", "c", "d"]);
    assert!(page.entries.iter().all(|entry| entry.value.is_empty()));
}

#[test]
fn a_scan_sees_one_state() {
    let mut worker = filled(1500);
    let first = worker.page(everything(), 0);
    worker.apply_next(&[put("default", "01499", "changed"), put("default", "99999", "new")]);
    let second = worker.page(ReadOp::ScanNext { view: first.next.unwrap() }, 0);
    assert_eq!(second.entries.len(), 1500 - 1024);
    assert_eq!(second.entries.last().unwrap().value, "v1499");
    assert_eq!(second.version, first.version);
}

#[test]
fn an_idle_view_is_closed_and_says_where_to_resume() {
    let mut worker = filled(3000);
    let view = worker.page(everything(), 1000).next.unwrap();
    assert!(worker.ask(ReadOp::ScanNext { view }, 1000 + VIEW_IDLE_MS_MAX).is_ok(), "reading keeps it open");
    let later = 1001 + 2 * VIEW_IDLE_MS_MAX;
    match worker.ask(ReadOp::ScanNext { view }, later) {
        Err(Error::Compacted(text)) => assert!(text.contains("resume after key b\"02047\""), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(worker.ask(ReadOp::ScanNext { view: ViewId::here(999) }, later), Err(Error::Compacted(_))));
}

#[test]
fn views_are_few() {
    let mut worker = filled(1500);
    let views: Vec<_> = (0..VIEWS_MAX).map(|_| worker.page(everything(), 0).next.unwrap()).collect();
    assert!(matches!(worker.ask(everything(), 0), Err(Error::Overloaded(_))));
    assert!(worker.ask(scan(KeyRange::default(), 5, false), 0).is_ok(), "a short scan needs no view");
    assert_eq!(worker.ask(ReadOp::ScanEnd { view: views[0] }, 0), Ok(Reply::Done));
    assert_eq!(worker.ask(ReadOp::ScanEnd { view: views[0] }, 0), Ok(Reply::Done), "twice is no error");
    assert!(worker.ask(everything(), 0).is_ok());
}

#[test]
fn a_scan_of_no_bucket_is_refused() {
    let mut worker = filled(1);
    let op = ReadOp::Scan { bucket: name("b"), range: KeyRange::default(), limit: 0, reverse: false, keys_only: false };
    assert_eq!(worker.ask(op, 0), Err(Error::BucketNotFound("b".to_owned())));
}

#[test]
fn reads_answer_in_the_order_asked() {
    let mut worker = filled(3);
    let get = |at| ReadOp::Get { bucket: BucketName::DEFAULT, key: key(at) };
    let value = |reply| match reply {
        Ok(Reply::Entry(entry)) => entry.map(|entry: Entry| entry.value),
        other => panic!("{other:?}"),
    };
    assert_eq!(value(worker.ask(get("00001"), 0)), Some("v1".into()));
    assert_eq!(value(worker.ask(get("x"), 0)), None);
    let many =
        ReadOp::GetMany { bucket: BucketName::DEFAULT, keys: vec![key("00002"), key("x"), key("00000"), key("00002")] };
    let Ok(Reply::Entries(entries)) = worker.ask(many, 0) else { panic!("no entries") };
    let values: Vec<_> = entries.iter().map(|entry| entry.as_ref().map(|entry| entry.value.clone())).collect();
    assert_eq!(values, [Some("v2".into()), None, Some("v0".into()), Some("v2".into())]);
}

#[test]
fn buckets_are_counted_as_far_as_it_is_cheap() {
    let mut worker = filled(KEYS_COUNTED_MAX);
    worker.apply_next(&[create("b1"), create("b2"), put("b1", "key", "value")]);
    let describe = |bucket: &str| ReadOp::DescribeBucket { bucket: name(bucket) };
    let mut info = |op| match worker.ask(op, 0) {
        Ok(Reply::Buckets(buckets)) => buckets,
        other => panic!("{other:?}"),
    };
    assert_eq!(info(describe("default"))[0].keys_estimate, KEYS_COUNTED_MAX as u64);
    let b1 = &info(describe("b1"))[0];
    assert_eq!((b1.keys_estimate, b1.bytes_estimate, b1.max_bytes, b1.created_ms), (1, 8, None, 5));
    assert_eq!(b1.created_version.0, KEYS_COUNTED_MAX as u64 + 1);
    let listed = info(ReadOp::ListBuckets { prefix: "b".to_owned() });
    assert_eq!(listed.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["b1", "b2"]);
    let all = info(ReadOp::ListBuckets { prefix: String::new() });
    assert!(all.iter().all(|info| info.name != BucketName::DEFAULT || info.keys_estimate < KEYS_COUNTED_MAX as u64));
    worker.apply_next(&[put("default", "one more", "")]);
    let Ok(Reply::Buckets(more)) = worker.ask(describe("default"), 0) else { panic!("no bucket") };
    assert_eq!(more[0].keys_estimate, KEYS_COUNTED_MAX as u64, "a floor");
    assert!(matches!(worker.ask(describe("none"), 0), Err(Error::BucketNotFound(_))));
}
