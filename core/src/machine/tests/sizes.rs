//! The sizes of buckets that have a bound: what lies in them, however and whenever it is counted.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::strategies::stamped_entries;
use super::*;
use crate::machine::ValueRecord;
use crate::name::KeyRange;
use crate::store::Read;

fn bounded(bucket: &str, max_bytes: u64) -> Command {
    let max_bytes = Some(max_bytes);
    command(bucket, Write::CreateBucket { default_ttl_ms: None, max_bytes, if_not_exists: false, created_ms: 5 })
}

impl Replica {
    /// What lies in the buckets that have a bound, as a scan finds it.
    fn sizes_by_scan(&self) -> BTreeMap<BucketName, u64> {
        let bounded = self.machine.buckets().iter().filter(|(_, bucket)| bucket.max_bytes.is_some());
        let size = |(name, bucket): (&BucketName, &crate::machine::Bucket)| {
            let data = self.machine.generation().data(bucket.created_version);
            let (start, end) = data.range(&KeyRange::default());
            let mut bytes = 0;
            let mut add = |key: Bytes, value| {
                bytes += (key.len() - data.len() + ValueRecord::decode(value).unwrap().value.len()) as u64;
                std::ops::ControlFlow::Continue(())
            };
            self.store.scan(&start, &end, false, &mut add).unwrap();
            (name.clone(), bytes)
        };
        bounded.map(size).collect()
    }

    fn counted(&self) -> BTreeMap<BucketName, u64> {
        let buckets = self.machine.buckets().iter();
        buckets.filter_map(|(name, bucket)| Some((name.clone(), self.machine.size_of(bucket)?))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_counted_is_what_lies_there(
        entries in stamped_entries(0..12),
        restarts in vec(prop::bool::weighted(0.2), 12),
        counts in vec(prop::option::of(0u64..30), 12),
    ) {
        let mut replica = Replica::new();
        for (((clock_ms, commands), restarts), counts) in entries.iter().zip(restarts).zip(counts) {
            if restarts {
                replica.machine = Machine::load(&replica.store, GROUP, GROUPS).unwrap();
            }
            if let Some(bytes_max) = counts {
                replica.machine.count_some(&replica.store, bytes_max).unwrap();
            }
            replica.run_at(*clock_ms, commands);
        }
        while replica.machine.needs_count() {
            replica.machine.count_some(&replica.store, 20).unwrap();
        }
        let sizes = replica.sizes_by_scan();
        prop_assert_eq!(&replica.counted(), &sizes);
        let full = |(name, bytes): (BucketName, u64)| {
            let max = replica.machine.buckets()[&name].max_bytes.unwrap();
            (bytes >= max).then_some((name, max))
        };
        prop_assert_eq!(replica.machine.full_buckets(), sizes.into_iter().filter_map(full).collect());
    }
}

#[test]
fn a_bucket_is_full_from_its_bound_on() {
    let mut replica = Replica::new();
    replica.run(&[bounded("b", 10), put("b", "k", "12345678")]);
    assert!(replica.machine.full_buckets().is_empty(), "9 of 10 bytes");
    replica.run(&[put("b", "k", "123456789")]);
    assert_eq!(replica.machine.full_buckets(), [(name("b"), 10)].into());
    let described = replica.machine.describe_bucket(&replica.store, &name("b")).unwrap();
    assert!(matches!(&described, Ok(Reply::Buckets(buckets)) if buckets[0].bytes_estimate == 10), "{described:?}");
    // It is counted anew after a restart.
    replica.machine = Machine::load(&replica.store, GROUP, GROUPS).unwrap();
    assert!(replica.machine.needs_count() && replica.machine.full_buckets().is_empty());
    replica.machine.count_some(&replica.store, 1).unwrap();
    assert!(!replica.machine.full_buckets().is_empty());
    replica.run(&[drop_bucket("b"), bounded("b", 10)]);
    assert!(replica.machine.full_buckets().is_empty(), "another bucket of this name");
}
