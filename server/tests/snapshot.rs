//! A node that was away for longer than the logs of the others reach back gets a snapshot, and is a full member again.

#![allow(clippy::unwrap_used)]

mod processes;

use std::time::{Duration, Instant};

use drey_client::proto::ReadMode;
use drey_client::{Bucket, Client};
use drey_core::name::BucketName;
use drey_core::placement::group_of;
use processes::Cluster;

const GROUPS: u32 = 16;
const WITHIN: Duration = Duration::from_secs(60);
/// Of the largest size, so that a log of some segments is soon full.
const VALUE_BYTES: usize = 1 << 20;
const KEYS: usize = 8;
const WRITES: usize = 120;

fn value(write: usize) -> Vec<u8> {
    vec![write as u8; VALUE_BYTES]
}

/// Puts, again if the node that was asked went away meanwhile: it may or may not have taken the write.
async fn put(bucket: &Bucket, key: &str, value: &[u8]) {
    let deadline = Instant::now() + WITHIN;
    while let Err(error) = bucket.put(key.to_owned(), value.to_vec()).await {
        assert!(error.code.outcome_is_unknown() && Instant::now() < deadline, "{error}");
    }
}

#[test]
fn a_node_that_was_away_for_long_gets_a_snapshot() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start();
        let group = group_of(&BucketName::DEFAULT, GROUPS).0;
        let leader = cluster.leader_of(group, WITHIN).await;
        let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
        let client = Client::builder(cluster.addresses()).timeout(WITHIN).connect().unwrap();
        let bucket = client.bucket("default");
        put(&bucket, "before", b"it went").await;
        cluster.kill(away);
        for write in 0..WRITES {
            put(&bucket, &format!("key{}", write % KEYS), &value(write)).await;
        }
        cluster.start_node(away);

        let back = Client::builder([cluster.addresses()[away].clone()]).timeout(WITHIN).discover(false).connect();
        let copy = back.unwrap();
        let deadline = Instant::now() + WITHIN;
        let last = (WRITES - KEYS..WRITES).map(|write| (format!("key{}", write % KEYS), value(write)));
        for (key, value) in last {
            loop {
                // Its own copy, not the leader's. Until it knows its place it may refuse.
                let found = copy.bucket("default").get_with(key.clone(), ReadMode::Local).await;
                if found.is_ok_and(|entry| entry.is_some_and(|entry| entry.value == value)) {
                    break;
                }
                assert!(Instant::now() < deadline, "{key} does not arrive\n{}", cluster.logs());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert!(cluster.log(away).contains("installed a snapshot"), "by the log alone?\n{}", cluster.logs());

        // A quorum needs it now.
        cluster.kill(other);
        put(&bucket, "after", b"it came back").await;
        let after = copy.bucket("default").get("after").await.unwrap().unwrap();
        assert_eq!(after.value, &b"it came back"[..]);
    });
}
