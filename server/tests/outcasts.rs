//! Nodes that are not what they were: a lost disk, a member that was removed, a second cluster in the making. Each is told so, and
//! stops; and removals that would cost the quorum are refused.

#![allow(clippy::unwrap_used)]

mod processes;

use std::time::{Duration, Instant};

use drey_client::Client;
use drey_client::proto::PutRequest;
use processes::Cluster;

const WITHIN: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_founder_that_lost_its_disk_stops_and_joins_anew() {
    run(async {
        let mut cluster = Cluster::start();
        cluster.settled(0, 3, WITHIN).await;
        let client = Client::builder(cluster.addresses()).timeout(WITHIN).connect().unwrap();
        client.bucket("default").put("k", "v").await.unwrap();

        cluster.kill(2);
        cluster.wipe(2);
        cluster.start_node(2);
        assert_eq!(cluster.wait_end(2, WITHIN), Some(5));
        let said = cluster.log(2);
        assert!(said.contains("node 3 lost its data directory") && said.contains("drey remove"), "{said}");

        // With it gone, nobody else can be spared.
        let (code, said) = cluster.refused(0, &["remove", "n2"]);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("without n2 the cluster would lose its quorum") && said.contains("n3"), "{said}");

        // Two commands.
        cluster.command(0, &["remove", "n3"]);
        cluster.wipe(2);
        let again = cluster.join("n3");
        cluster.settled(again, 3, WITHIN).await;
        let status = Client::connect([cluster.address(again)]).unwrap().status().await.unwrap();
        assert_eq!(status.node, 4, "no id is used twice");
        let local = Client::connect([cluster.address(again)]).unwrap();
        assert_eq!(local.bucket("default").get("k").await.unwrap().unwrap().value, "v");

        let moved = cluster.command(0, &["transfer", "n3"]);
        assert_eq!(moved["leads"], 17, "{moved}");
        for absent in [&["transfer", "n9"][..], &["remove", "n9"], &["transfer", "n3", "--group", "99"]] {
            let (code, said) = cluster.refused(0, absent);
            assert!(code == Some(1) && said.contains("there is no "), "{absent:?}: {said}");
        }
    });
}

#[test]
fn a_lone_founder_that_lost_its_disk_founds_no_second_cluster() {
    run(async {
        let mut cluster = Cluster::start_lone();
        cluster.join("n2");
        let n3 = cluster.join("n3");
        cluster.settled(n3, 3, WITHIN).await;
        cluster.kill(0);
        // Those who joined got groups in which nothing had been written: their clocks must go all the same.
        let client = Client::builder([cluster.address(n3)]).timeout(WITHIN).connect().unwrap();
        for bucket in ["b1", "b2", "b3", "b4", "b5", "b6"] {
            client.create_bucket(bucket).await.unwrap();
            let brief = PutRequest { key: "k".into(), ttl_ms: Some(500), ..PutRequest::default() };
            client.bucket(bucket).put_with(brief).await.unwrap();
        }
        let deadline = Instant::now() + WITHIN;
        for bucket in ["b1", "b2", "b3", "b4", "b5", "b6"] {
            while client.bucket(bucket).get("k").await.unwrap().is_some() {
                assert!(Instant::now() < deadline, "a key of {bucket} does not expire\n{}", cluster.logs());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        cluster.wipe(0);
        cluster.start_node(0);
        assert_eq!(cluster.wait_end(0, WITHIN), Some(5));
        let said = cluster.log(0);
        assert!(said.contains("about to found a cluster of its own") && said.contains("--join"), "{said}");
    });
}

#[test]
fn a_member_that_was_removed_while_it_was_away_stops_when_it_comes_back() {
    run(async {
        let mut cluster = Cluster::start_lone();
        let n2 = cluster.join("n2");
        let n3 = cluster.join("n3");
        cluster.settled(n3, 3, WITHIN).await;
        cluster.kill(n2);
        cluster.command(0, &["remove", "n2"]);
        cluster.start_node(n2);
        assert_eq!(cluster.wait_end(n2, WITHIN), Some(5));
        let said = cluster.log(n2);
        assert!(said.contains("was removed from this cluster"), "{said}");
        // A place that is kept is taken by the node of that name and address alone.
        let free = "127.0.0.1:1";
        let kept = cluster.command(0, &["join", "n5", free]);
        assert_eq!(kept["state"], "expected");
        assert_eq!(cluster.command(0, &["join", "n5", free])["id"], kept["id"]);
        let (code, said) = cluster.refused(0, &["join", "n5", "127.0.0.1:2"]);
        assert_eq!(code, Some(5), "{said}");
        let (code, said) = cluster.refused(0, &["join", "n 6", free]);
        assert_eq!(code, Some(5), "{said}");
        cluster.command(0, &["remove", "n5"]);
    });
}
