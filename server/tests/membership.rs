//! A cluster that grows, shrinks, and has each of its members replaced, while writers go on: nothing is lost, nothing doubled, and
//! the longest that any write had to wait in each step is printed.

#![allow(clippy::unwrap_used)]

mod processes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use drey_client::Client;
use drey_client::proto::{Condition, member::Role};
use processes::Cluster;

const WRITERS: usize = 32;
/// Of different groups, so that several leaders have to do with it.
const BUCKETS: usize = 8;
const WITHIN: Duration = Duration::from_secs(60);
/// Loose, as the machines of a test run are: what was measured is in `docs/performance.md`.
const WAIT_MS_MAX: u64 = 2_000;

/// What the writers did so far.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    writes: AtomicU64,
    /// The longest that a write took since this was last taken.
    longest_ms: AtomicU64,
}

impl Progress {
    async fn timed<T>(&self, write: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = write.await;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
        self.longest_ms.fetch_max(took_ms, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        done
    }
}

/// Writes 1, 2, 3, .. to one key, each on condition that the one before is still there, and counts in a key that others count in.
/// Returns the last number.
async fn chain(writer: usize, seeds: Vec<String>, progress: Arc<Progress>) -> u64 {
    let client = Client::builder(seeds).timeout(WITHIN).connect().unwrap();
    let bucket = client.bucket(format!("b{}", writer % BUCKETS));
    let (mut number, mut version) = (0, 0);
    while !progress.stop.load(Ordering::Relaxed) {
        number += 1;
        let put = bucket.put_if(format!("w{writer}"), number.to_string(), Condition::version_is(version));
        let answer = progress.timed(put).await.unwrap();
        assert!(answer.applied, "writer {writer}: write {number} met version {}, not {version}", answer.version);
        version = answer.version;
        progress.timed(bucket.increment("total", 1)).await.unwrap();
    }
    number
}

struct Churn {
    cluster: Cluster,
    progress: Arc<Progress>,
    waits: Vec<(String, u64)>,
}

impl Churn {
    /// Ends a step: so many writes more must be made, and none may have waited too long.
    async fn step(&mut self, name: &str) {
        let target = self.progress.writes.load(Ordering::Relaxed) + 2 * WRITERS as u64;
        let deadline = Instant::now() + WITHIN;
        while self.progress.writes.load(Ordering::Relaxed) < target {
            assert!(Instant::now() < deadline, "{name}: writes do not go on\n{}", self.cluster.logs());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let longest_ms = self.progress.longest_ms.swap(0, Ordering::Relaxed);
        println!("{name}: the longest write took {longest_ms} ms");
        self.waits.push((name.to_owned(), longest_ms));
    }

    /// Waits until there are so many members, all of them voting and reachable, as each running node sees it.
    async fn settled(&self, members: usize) {
        let deadline = Instant::now() + WITHIN;
        for node in self.cluster.running() {
            let client = Client::builder([self.cluster.address(node)]).discover(false).connect().unwrap();
            loop {
                let status = client.status().await;
                let all = |role: Role| move |member: &drey_client::proto::Member| member.role() == role;
                if status.as_ref().is_ok_and(|status| {
                    status.members.len() == members
                        && status.members.iter().all(all(Role::Voter))
                        && status.groups.iter().all(|group| group.leader != 0)
                }) {
                    break;
                }
                let late = Instant::now() >= deadline;
                assert!(!late, "{members} members expected: {status:#?}\n{}", self.cluster.logs());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn run<T: Send + 'static>(&self, what: impl FnOnce(&Cluster) -> T + Send) -> T {
        // The writers share this thread's runtime with the test: commands must not stop them.
        tokio::task::block_in_place(|| what(&self.cluster))
    }
}

#[test]
fn a_cluster_grows_shrinks_and_is_renewed_under_writers() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = Cluster::start_lone();
        let progress = Arc::new(Progress::default());
        let seeds = cluster.addresses();
        let client = Client::builder(seeds.clone()).timeout(WITHIN).connect().unwrap();
        for bucket in 0..BUCKETS {
            client.create_bucket(&format!("b{bucket}")).await.unwrap();
        }
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| tokio::spawn(chain(writer, seeds.clone(), Arc::clone(&progress)))).collect();
        let mut churn = Churn { cluster, progress, waits: Vec::new() };
        churn.step("one node").await;

        let [mut n2, mut n3] = ["n2", "n3"].map(|name| churn.cluster.join(name));
        churn.settled(3).await;
        churn.step("1 to 3").await;
        let [n4, n5] = ["n4", "n5"].map(|name| churn.cluster.join(name));
        churn.settled(5).await;
        churn.step("3 to 5").await;

        churn.run(|cluster| cluster.command(n5, &["leave"])).await;
        assert_eq!(churn.cluster.wait_end(n5, WITHIN), Some(0), "{}", churn.cluster.log(n5));
        churn.step("a member leaves").await;
        churn.run(|cluster| cluster.command(n2, &["remove", "n4"])).await;
        assert_eq!(churn.cluster.wait_end(n4, WITHIN), Some(0), "{}", churn.cluster.log(n4));
        churn.settled(3).await;
        churn.step("a member is removed").await;

        // Each in turn, the founder and whoever leads too; the second one is dead when it is replaced.
        let mut members = [0, n2, n3];
        for place in 0..3 {
            // Clients keep up: each answer that they get may tell them that the members have changed.
            let (old, other) = (members[place], members[(place + 1) % 3]);
            let name = ["n1", "n2", "n3"][place];
            if place == 1 {
                churn.cluster.kill(old);
                churn.run(|cluster| cluster.command(other, &["remove", name])).await;
            } else {
                churn.run(|cluster| cluster.command(other, &["remove", name])).await;
                churn.cluster.wait_end(old, WITHIN);
            }
            members[place] = churn.cluster.join(name);
            churn.settled(3).await;
            let dead = if place == 1 { ", which is dead," } else { "" };
            churn.step(&format!("{name}{dead} is replaced")).await;
        }
        [_, n2, n3] = members;

        for node in [members[0], n2, n3] {
            tokio::task::block_in_place(|| churn.cluster.stop(node));
            churn.step("a node is stopped").await;
            churn.cluster.start_node(node);
            churn.settled(3).await;
            churn.step("and started").await;
        }

        churn.progress.stop.store(true, Ordering::Relaxed);
        let client = Client::builder([churn.cluster.address(n2)]).timeout(WITHIN).connect().unwrap();
        let mut sums = [0; BUCKETS];
        for (writer, ended) in writers.into_iter().enumerate() {
            let last = ended.await.unwrap();
            let bucket = client.bucket(format!("b{}", writer % BUCKETS));
            let entry = bucket.get(format!("w{writer}")).await.unwrap().unwrap();
            assert_eq!(entry.value, last.to_string().as_bytes(), "writer {writer}");
            sums[writer % BUCKETS] += i64::try_from(last).unwrap();
        }
        for (bucket, sum) in sums.into_iter().enumerate() {
            assert_eq!(client.bucket(format!("b{bucket}")).increment("total", 0).await.unwrap(), sum);
        }
        println!("{} writes, none lost, none doubled", churn.progress.writes.load(Ordering::Relaxed));
        let slow: Vec<_> = churn.waits.iter().filter(|(_, longest_ms)| *longest_ms > WAIT_MS_MAX).collect();
        assert!(slow.is_empty(), "{slow:?}\n{}", churn.cluster.logs());
    });
}
