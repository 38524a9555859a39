//! Writers whose writes depend on each other, while leaders are killed: each is applied once, and answered as it was applied.

#![allow(clippy::unwrap_used)]

mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drey_client::proto::{Condition, PutRequest, RequestId, condition::Test};
use drey_client::{Batch, Client, Code};
use drey_core::name::BucketName;
use drey_core::placement::group_of;
use processes::Cluster;

const GROUPS: u32 = 16;
const WRITERS: usize = 16;
const KILLS: usize = 5;
const WRITES_BETWEEN: u64 = 300;
const WITHIN: Duration = Duration::from_secs(60);

fn version_is(version: u64) -> Condition {
    Condition { test: Some(Test::VersionIs(version)) }
}

/// Writes 1, 2, 3, .. to one key, each on condition that the one before is still there, and counts in a key of all. Had any
/// been applied twice, or been reported as it was not, the next would be refused. Returns the last number.
async fn chain(writer: usize, addresses: Vec<String>, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) -> u64 {
    let mut order = addresses;
    order.rotate_left(writer % 3);
    let client = Client::builder(order).timeout(WITHIN).discover(writer.is_multiple_of(2)).connect().unwrap();
    let bucket = client.bucket("default");
    let (mut number, mut version) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let answer = bucket.put_if(format!("w{writer}"), number.to_string(), version_is(version)).await.unwrap();
        assert!(answer.applied, "writer {writer}: write {number} met version {}, not {version}", answer.version);
        version = answer.version;
        // One key for all: the sum is exact, or a write was lost or doubled.
        bucket.increment("total", 1).await.unwrap();
        written.fetch_add(1, Ordering::Relaxed);
    }
    number
}

async fn wait_for(written: &AtomicU64, target: u64, cluster: &Cluster) {
    let deadline = Instant::now() + WITHIN;
    while written.load(Ordering::Relaxed) < target {
        assert!(Instant::now() < deadline, "writes do not go on\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn chains_of_conditional_writes_do_not_break_when_leaders_are_killed_or_stopped() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start();
        let group = group_of(&BucketName::DEFAULT, GROUPS).0;
        cluster.leader_of(group, WITHIN).await;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |writer| tokio::spawn(chain(writer, cluster.addresses(), Arc::clone(&stop), Arc::clone(&written)));
        let writers: Vec<_> = (0..WRITERS).map(start).collect();
        wait_for(&written, WRITES_BETWEEN, &cluster).await;
        for kill in 0..KILLS {
            let leader = cluster.leader_of(group, WITHIN).await;
            let before = written.load(Ordering::Relaxed);
            let gone = Instant::now();
            if kill % 2 == 0 {
                cluster.kill(leader);
            } else {
                cluster.stop(leader);
            }
            wait_for(&written, before + 50, &cluster).await;
            println!("50 writes {} ms after the end of a leader", gone.elapsed().as_millis());
            wait_for(&written, before + WRITES_BETWEEN, &cluster).await;
            cluster.start_node(leader);
            wait_for(&written, before + 2 * WRITES_BETWEEN, &cluster).await;
        }
        stop.store(true, Ordering::Relaxed);
        let client = Client::builder(cluster.addresses()).timeout(WITHIN).connect().unwrap();
        let mut sum = 0;
        for (writer, ended) in writers.into_iter().enumerate() {
            let last = ended.await.unwrap();
            let entry = client.bucket("default").get(format!("w{writer}")).await.unwrap().unwrap();
            assert_eq!(entry.value, last.to_string().as_bytes(), "writer {writer}");
            sum += last;
        }
        assert_eq!(sum, written.load(Ordering::Relaxed));
        let total = client.bucket("default").increment("total", 0).await.unwrap();
        assert_eq!(total, i64::try_from(sum).unwrap());
        println!("{sum} writes in {WRITERS} chains, {KILLS} leaders killed");
    });
}

#[test]
fn a_write_that_is_made_again_with_its_id_gets_the_first_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start();
        let client = Client::builder(cluster.addresses()).timeout(WITHIN).connect().unwrap();
        let session = client.open_session("default").await.unwrap();
        let create = |sequence| PutRequest {
            key: format!("key{sequence}").into(),
            value: "v".into(),
            condition: Some(version_is(0)),
            id: Some(RequestId { session: session.session, sequence, first_unacked: 1 }),
            ..PutRequest::default()
        };
        let bucket = client.bucket("default");
        for sequence in 1..=3 {
            let first = bucket.put_with(create(sequence)).await.unwrap();
            assert!(first.applied);
            let leader = cluster.leader_of(session.group, WITHIN).await;
            cluster.kill(leader);
            let again = bucket.put_with(create(sequence)).await.unwrap();
            assert_eq!((again.applied, again.version), (true, first.version));
            cluster.start_node(leader);
        }
        let unknown =
            PutRequest { id: Some(RequestId { session: 1 << 40, sequence: 1, first_unacked: 1 }), ..create(9) };
        assert_eq!(bucket.put_with(unknown).await.unwrap_err().code, Code::SessionExpired);
        assert_eq!(bucket.get("key9").await.unwrap(), None);
        bucket.batch(Batch::new().put("key9", "other")).await.unwrap();
    });
}
