//! A replica whose store holds something else than it was given, in good order for its engine: the others find it out, and it gets
//! everything anew.

#![allow(clippy::unwrap_used)]

mod processes;

use std::time::{Duration, Instant};

use drey_client::{Client, ReadMode};
use drey_core::Version;
use drey_core::machine::keys::Generation;
use drey_core::name::BucketName;
use drey_core::placement::group_of;
use drey_core::store::{Store, WriteSet};
use drey_io::store::{BtreeOptions, BtreeStore, LsmOptions, LsmStore};
use processes::Cluster;

const WITHIN: Duration = Duration::from_secs(60);
const GROUPS: u32 = 16;

#[test]
fn a_key_that_an_lsm_store_lost_is_there_again() {
    lost_key_comes_back("lsm", |directory| LsmStore::open(directory, LsmOptions::default()).unwrap());
}

#[test]
fn a_key_that_a_btree_store_lost_is_there_again() {
    lost_key_comes_back("btree", |directory| BtreeStore::open(directory, BtreeOptions::default()).unwrap());
}

fn lost_key_comes_back<S: Store>(engine: &str, open: impl Fn(&std::path::Path) -> S) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start_with(&["--engine", engine, "--scrub-every", "3s"]);
        cluster.settled(0, 3, WITHIN).await;
        let client = Client::builder(cluster.addresses()).timeout(WITHIN).connect().unwrap();
        let bucket = client.bucket("default");
        for at in 0..20 {
            bucket.put(format!("k{at}"), "v").await.unwrap();
        }
        whole_pass(&cluster).await;

        cluster.stop(2);
        let mut store = open(&cluster.data_dir(2).join("store"));
        let group = group_of(&BucketName::DEFAULT, GROUPS);
        let key = Generation::new(group, 0).data(Version(0)).key(b"k7");
        assert!(store.get(&key).unwrap().is_some());
        store.write(WriteSet { changes: [(key, None)].into() }).unwrap();
        store.persist().unwrap();
        drop(store);
        cluster.start_node(2);

        // It is written on meanwhile: what the replica has is ahead of what its leader has applied.
        let busy = client.bucket("default");
        let writer = tokio::spawn(async move {
            for at in 0.. {
                busy.put(format!("busy-{}", at % 1_000), "v").await.unwrap();
            }
        });
        let deadline = Instant::now() + WITHIN;
        let said = |node, what: &str| cluster.log(node).contains(what);
        let own = Client::builder([cluster.address(2)]).timeout(WITHIN).discover(false).connect().unwrap();
        while !own.bucket("default").get_with("k7", ReadMode::Local).await.is_ok_and(|found| found.is_some()) {
            assert!(Instant::now() < deadline, "it does not come back\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster.settled(2, 3, WITHIN).await;
        assert!((0..3).any(|node| said(node, "replicas hold different states")), "{}", cluster.logs());
        let healed: Vec<_> = (0..3).filter(|&node| said(node, "it is fetched anew from the leader")).collect();
        assert_eq!(healed, [2], "{}", cluster.logs());
        assert_eq!(own.status().await.unwrap().node, 3, "it is still the same member");
        assert!(!writer.is_finished(), "writing went on");
        writer.abort();
    });
}

/// Waits until each group was compared whole, as its leader says, and nothing differed.
async fn whole_pass(cluster: &Cluster) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let views: Vec<_> = (0..3).map(|node| cluster.command(node, &["node"])["metadata"]["scrub"].clone()).collect();
        let sum = |field: &str| views.iter().map(|view| view[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!(sum("differences"), 0, "{views:?}\n{}", cluster.logs());
        if sum("compared") == u64::from(GROUPS) + 1 {
            return;
        }
        assert!(Instant::now() < deadline, "{views:?}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
