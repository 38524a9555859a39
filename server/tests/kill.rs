//! Three real nodes under 64 writers: the leader is killed five times, then all at once. Nothing acknowledged is lost, and
//! writing goes on by itself.

#![allow(clippy::unwrap_used)]

mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drey_client::Client;
use drey_client::proto::Entry;
use drey_core::name::BucketName;
use drey_core::placement::group_of;
use processes::Cluster;

const WRITERS: usize = 64;
const KEYS_PER_WRITER: u64 = 8;
const GROUPS: u32 = 16;
const KILLS: usize = 5;
/// Writes that must be acknowledged between two kills.
const WRITES_BETWEEN: u64 = 500;
const RESUME_WITHIN: Duration = Duration::from_secs(60);

/// What one writer knows of one of its keys.
#[derive(Clone, Copy, Default)]
struct Known {
    acknowledged: u64,
    tried: u64,
}

async fn write(
    writer: usize,
    addresses: Vec<String>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Vec<Known> {
    // Each writer begins at another node.
    let mut order = addresses;
    order.rotate_left(writer % 3);
    let client =
        Client::builder(order).timeout(Duration::from_secs(5)).discover(writer.is_multiple_of(2)).connect().unwrap();
    let bucket = client.bucket("default");
    let mut known = vec![Known::default(); KEYS_PER_WRITER as usize];
    let mut sequence = 0;
    while !stop.load(Ordering::Relaxed) {
        sequence += 1;
        let key = sequence % KEYS_PER_WRITER;
        let name = format!("w{writer}-{key}");
        // Before it is written again, or nobody would notice that it was lost.
        if let Ok(entry) = bucket.get(name.clone()).await {
            known[key as usize].check(&name, entry);
        }
        known[key as usize].tried = sequence;
        let outcome = bucket.put(name, sequence.to_string()).await;
        if outcome.is_ok() {
            known[key as usize].acknowledged = sequence;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
    known
}

impl Known {
    /// Behind the last acknowledged write only one of unknown outcome can have come.
    fn check(&self, name: &str, entry: Option<Entry>) {
        let found = entry.map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse().unwrap());
        assert!(
            (self.acknowledged..=self.tried).contains(&found),
            "{name} is {found}: acknowledged was {}, tried {}",
            self.acknowledged,
            self.tried
        );
    }
}

async fn wait_for(acknowledged: &AtomicU64, target: u64, what: &str, cluster: &Cluster) {
    let deadline = Instant::now() + RESUME_WITHIN;
    while acknowledged.load(Ordering::Relaxed) < target {
        assert!(Instant::now() < deadline, "writes do not go on {what}\n{}", cluster.logs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_leaders_and_then_all_nodes_are_killed() {
    for engine in ["lsm", "btree"] {
        leaders_and_then_all_nodes_are_killed(engine);
    }
}

fn leaders_and_then_all_nodes_are_killed(engine: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start_with(&["--engine", engine]);
        let group = group_of(&BucketName::DEFAULT, GROUPS).0;
        cluster.leader_of(group, RESUME_WITHIN).await;
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                tokio::spawn(write(writer, cluster.addresses(), Arc::clone(&stop), Arc::clone(&acknowledged)))
            })
            .collect();
        wait_for(&acknowledged, WRITES_BETWEEN, "at all", &cluster).await;
        for kill in 0..KILLS {
            let leader = cluster.leader_of(group, RESUME_WITHIN).await;
            let before = acknowledged.load(Ordering::Relaxed);
            let killed = Instant::now();
            cluster.kill(leader);
            wait_for(&acknowledged, before + WRITES_BETWEEN, &format!("after kill {kill}"), &cluster).await;
            println!("kill {kill}: {WRITES_BETWEEN} more writes after {} ms", killed.elapsed().as_millis());
            cluster.start_node(leader);
            wait_for(&acknowledged, before + 2 * WRITES_BETWEEN, "after a restart", &cluster).await;
        }
        // All die in the middle of the writes. What they have when they are back is looked at before anything is written.
        (0..3).for_each(|node| cluster.kill(node));
        stop.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for writer in writers {
            written.push(writer.await.unwrap());
        }
        (0..3).for_each(|node| cluster.start_node(node));
        let mut checked = 0;
        for address in cluster.addresses() {
            let client = Client::builder([address]).timeout(RESUME_WITHIN).discover(false).connect().unwrap();
            for (number, writer) in written.iter().enumerate() {
                for (key, known) in writer.iter().enumerate() {
                    let name = format!("w{number}-{key}");
                    known.check(&name, client.bucket("default").get(name.clone()).await.unwrap());
                    checked += 1;
                }
            }
        }
        let client = Client::builder(cluster.addresses()).timeout(RESUME_WITHIN).connect().unwrap();
        client.bucket("default").put("after", "all were killed").await.unwrap();
        println!(
            "{engine}: {} writes acknowledged, {checked} reads of keys through each node",
            acknowledged.load(Ordering::Relaxed)
        );
    });
}
