//! Keys that expire: at their time, not before, and removed in bounded steps. What else holds of them, the model says.

use super::*;
use crate::limits::{EXPIRED_PER_ENTRY, EXPIRED_PER_STAMP, TTL_MS_MAX};
use crate::machine::keys::KIND_EXPIRY;
use crate::name::KeyRange;
use crate::request::{BatchOp, Entry};
use crate::types::Version;

fn put_for(at: &str, ttl_ms: u64) -> Command {
    let value = Bytes::from_static(b"v");
    let write = Write::Put { key: key(at), value, ttl_ms: Some(ttl_ms), condition: None, return_previous: false };
    command("default", write)
}

fn blind_put(at: &str) -> Command {
    let write = Write::Put { key: key(at), value: Bytes::new(), ttl_ms: None, condition: None, return_previous: false };
    command("default", write)
}

impl Replica {
    fn get(&self, at: &str, estimate_ms: u64) -> Option<Entry> {
        match self.machine.get(&self.store, &BucketName::DEFAULT, &key(at), estimate_ms).unwrap() {
            Ok(Reply::Entry(entry)) => entry,
            other => panic!("{other:?}"),
        }
    }

    fn index_len(&self) -> usize {
        let prefix = self.machine.generation().kind_range(KIND_EXPIRY);
        self.store.pairs().iter().filter(|(key, _)| (&prefix.0[..]..&prefix.1[..]).contains(&&key[..])).count()
    }

    /// So many keys that expire at `clock_ms + 10`, in one entry.
    fn fill(&mut self, clock_ms: u64, count: usize) {
        let puts: Vec<_> = (0..count).map(|at| put_for(&format!("{at:05}"), 10)).collect();
        self.run_at(clock_ms, &puts);
    }
}

#[test]
fn a_key_is_there_until_its_time_and_then_for_nobody() {
    let mut replica = Replica::new();
    replica.run_at(1000, &[put_for("k", 100)]);
    replica.run_at(1099, &[]);
    assert_eq!(replica.get("k", 1098).unwrap().ttl_ms, Some(2), "an estimate tells how long");
    assert_eq!(replica.get("k", 999_999).unwrap().ttl_ms, Some(1), "and never that it is gone");
    assert_eq!(replica.machine.clock().next_due_ms, Some(1100));
    replica.run_at(1100, &[]);
    assert_eq!(replica.get("k", 0), None);
    assert_eq!((replica.store.len(), replica.machine.version()), (1, Version(2)), "gone, under a version of its own");
    assert_eq!(replica.machine.clock().next_due_ms, None);
}

#[test]
fn an_older_stamp_does_not_set_the_clock_back() {
    let mut replica = Replica::new();
    replica.run_at(1000, &[put_for("k", 100)]);
    replica.run_at(1200, &[]);
    replica.run_at(500, &[put_for("k", 100)]);
    assert_eq!(replica.machine.clock_ms(), 1200);
    assert_eq!(replica.get("k", 1200).unwrap().ttl_ms, Some(100));
}

#[test]
fn an_entry_removes_few_and_a_bare_stamp_more() {
    let mut replica = Replica::new();
    let count = EXPIRED_PER_ENTRY + 2 * EXPIRED_PER_STAMP + 1;
    replica.fill(1000, count);
    let version = replica.machine.version().0;
    replica.run_at(2000, &[blind_put("other")]);
    assert_eq!(replica.index_len(), count - EXPIRED_PER_ENTRY);
    assert_eq!(replica.machine.version(), Version(version + 2), "all that went, and the put");
    assert_eq!(replica.machine.clock().next_due_ms, Some(1010), "there is more");
    // What is still to be removed is not there.
    assert_eq!(replica.get(&format!("{:05}", count - 1), 0), None);
    let mut scan = replica.machine.scan(&BucketName::DEFAULT, &KeyRange::default(), 0, false, false).unwrap();
    assert_eq!(scan.page(&replica.store, 0).unwrap().0.len(), 1);
    let described = replica.machine.describe_bucket(&replica.store, &BucketName::DEFAULT).unwrap();
    assert!(matches!(&described, Ok(Reply::Buckets(buckets)) if buckets[0].keys_estimate == 1), "{described:?}");
    let deleted = replica.run_one(command(
        "default",
        Write::Delete { key: key(&format!("{:05}", count - 1)), condition: None, return_previous: true },
    ));
    assert!(matches!(deleted, Ok(Reply::Delete { existed: false, previous: None, .. })), "{deleted:?}");
    for left in [count - 2 * EXPIRED_PER_ENTRY - EXPIRED_PER_STAMP, 0, 0] {
        replica.run_at(2000, &[]);
        assert_eq!(replica.index_len(), left);
    }
    assert_eq!(replica.store.len(), 2, "the meta record and the other key");
    assert_eq!(replica.machine.clock().next_due_ms, None);
}

#[test]
fn steps_in_one_batch_are_those_of_several() {
    let mut one = Replica::new();
    let mut other = Replica::new();
    for replica in [&mut one, &mut other] {
        replica.fill(1000, 3 * EXPIRED_PER_ENTRY);
    }
    let entries: Vec<_> = (2..5).map(|index| stamped(index, 1010, &[put_for("new", 5)])).collect();
    one.apply(&entries);
    entries.chunks(1).for_each(|entry| {
        other.apply(entry);
    });
    assert_eq!(one.store.pairs(), other.store.pairs());
    assert_eq!(one.index_len(), 1);
}

#[test]
fn a_blind_put_leaves_an_entry_of_the_index_that_harms_nobody() {
    let mut replica = Replica::new();
    replica.run_at(1000, &[put_for("k", 100), blind_put("k")]);
    assert_eq!(replica.index_len(), 1);
    let version = replica.machine.version();
    replica.run_at(1100, &[]);
    assert!(replica.get("k", 0).is_some_and(|entry| entry.ttl_ms.is_none()));
    assert_eq!((replica.index_len(), replica.machine.version()), (0, version), "nothing expired, so no version");
    // The control: with a time to live of its own the first one's entry is removed at once.
    replica.run_at(2000, &[put_for("k", 100), put_for("k", 300)]);
    assert_eq!(replica.index_len(), 1);
    replica.run_at(2100, &[]);
    assert_eq!(replica.get("k", 2100).unwrap().ttl_ms, Some(200));
}

#[test]
fn expire_sets_anew_or_clears_and_is_a_write() {
    let mut replica = Replica::new();
    let expire = |ttl_ms| command("default", Write::Expire { key: key("k"), ttl_ms });
    let absent = replica.run_at(1000, &[expire(Some(5))]).remove(0);
    assert_eq!(absent, Ok(Reply::Expire { existed: false, version: Version(0) }));
    let replies = replica.run_at(1000, &[put_for("k", 100), expire(Some(500))]);
    assert_eq!(replies[1], Ok(Reply::Expire { existed: true, version: Version(2) }));
    let entry = replica.get("k", 1000).unwrap();
    assert_eq!((entry.version, entry.ttl_ms, &entry.value[..]), (Version(2), Some(500), &b"v"[..]));
    replica.run_at(1100, &[expire(None)]);
    assert_eq!((replica.get("k", 1100).unwrap().ttl_ms, replica.index_len()), (None, 0));
    let gone = replica.run_at(9000, &[put_for("k", 1)]).remove(0);
    assert!(gone.is_ok());
    let late = replica.run_at(9001, &[expire(Some(5))]).remove(0);
    assert_eq!(late, Ok(Reply::Expire { existed: false, version: Version(5) }), "the removal took a version");
}

#[test]
fn a_bucket_gives_its_time_to_live_to_what_comes_without() {
    let mut replica = Replica::new();
    let create = Write::CreateBucket { default_ttl_ms: Some(50), max_bytes: None, if_not_exists: false, created_ms: 0 };
    let put = |at: &str, ttl_ms| {
        let put = Write::Put { key: key(at), value: Bytes::new(), ttl_ms, condition: None, return_previous: false };
        command("b", put)
    };
    let ops = vec![
        BatchOp::Increment { key: key("made"), by: 1 },
        BatchOp::Append { key: key("appended"), value: "x".into() },
        BatchOp::Increment { key: key("own"), by: 1 },
    ];
    let own = Write::Batch { ops: vec![BatchOp::Put { key: key("own"), value: "1".into(), ttl_ms: Some(200) }] };
    replica.run_at(1000, &[command("b", create), put("plain", None), command("b", own)]);
    replica.run_at(1010, &[command("b", Write::Batch { ops })]);
    let mut scan = replica.machine.scan(&name("b"), &KeyRange::default(), 0, false, true).unwrap();
    let (entries, _) = scan.page(&replica.store, 1010).unwrap();
    let ttls: Vec<_> = entries.iter().map(|entry| (&entry.key[..], entry.ttl_ms.unwrap())).collect();
    assert_eq!(ttls, [(&b"appended"[..], 50), (b"made", 50), (b"own", 190), (b"plain", 40)]);
}

#[test]
fn a_refused_batch_leaves_the_index_as_it_was() {
    let mut replica = Replica::new();
    replica.run_at(1000, &[put_for("k", 100), put("default", "text", "x")]);
    let before = replica.store.pairs();
    let ops = vec![
        BatchOp::Put { key: key("k"), value: "w".into(), ttl_ms: Some(7) },
        BatchOp::Delete { key: key("k") },
        BatchOp::Increment { key: key("text"), by: 1 },
    ];
    let refused = replica.run_at(1000, &[command("default", Write::Batch { ops })]).remove(0);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    let without_meta = |pairs: Vec<(Bytes, Bytes)>| pairs.into_iter().skip(1).collect::<Vec<_>>();
    assert_eq!(without_meta(replica.store.pairs()), without_meta(before));
}

#[test]
fn a_dropped_bucket_takes_its_index_along() {
    let mut replica = Replica::new();
    let ops = (0..20).map(|at| BatchOp::Put { key: key(&format!("{at}")), value: "v".into(), ttl_ms: Some(5) });
    replica.run_at(1000, &[create("b"), command("b", Write::Batch { ops: ops.collect() })]);
    replica.run_at(1000, &[drop_bucket("b")]);
    assert_eq!(replica.machine.clock().next_due_ms, None);
    let version = replica.machine.version();
    replica.run_at(2000, &[]);
    assert_eq!(replica.machine.version(), version, "what is dropped does not expire");
    replica.purge_all(3);
    assert_eq!(replica.store.len(), 1);
}

#[test]
fn a_page_of_what_has_expired_is_not_the_last() {
    use crate::limits::{SCAN_PAGE_READ_BYTES_MAX, VALUE_BYTES_MAX};
    use crate::machine::ScanEnd;
    let mut replica = Replica::new();
    let value = Bytes::from(vec![7; VALUE_BYTES_MAX]);
    let put = |at: usize, ttl_ms| Write::Put {
        key: key(&format!("{at:02}")),
        value: value.clone(),
        ttl_ms,
        condition: None,
        return_previous: false,
    };
    let count = 2 * SCAN_PAGE_READ_BYTES_MAX / VALUE_BYTES_MAX;
    for at in 0..count {
        replica.run_at(1000, &[command("default", put(at, Some(5)))]);
    }
    replica.run_at(1000, &[command("default", put(count, None))]);
    // The stamp of a command that reads nothing else: what has expired still lies there.
    let mut machine = replica.machine.clone();
    machine.meta.stamp.clock_ms = 2000;
    let mut scan = machine.scan(&BucketName::DEFAULT, &KeyRange::default(), 1, false, true).unwrap();
    let mut found = Vec::new();
    loop {
        let (entries, end) = scan.page(&replica.store, 2000).unwrap();
        found.extend(entries);
        if end != ScanEnd::More {
            assert_eq!(end, ScanEnd::Exhausted);
            break;
        }
    }
    assert_eq!(found.iter().map(|entry| &entry.key[..]).collect::<Vec<_>>(), [format!("{count:02}").as_bytes()]);
}

#[test]
fn the_longest_time_to_live_does_not_overflow_the_latest_clock() {
    let mut replica = Replica::new();
    replica.run_at(u64::MAX - 1, &[put_for("k", TTL_MS_MAX)]);
    assert_eq!(replica.get("k", 0).unwrap().ttl_ms, Some(u64::MAX));
}
