//! A cluster whose quorum is lost: whatever is asked of the node that is left, the answer names the group and who is missing.

#![allow(clippy::unwrap_used)]

mod processes;

use std::time::{Duration, Instant};

use drey_client::proto::kv_client::KvClient;
use drey_client::proto::{GetRequest, PutRequest};
use drey_client::{Client, ERROR_METADATA_KEY};
use processes::Cluster;
use tonic::transport::Endpoint;
use tonic::{Code, Request};

const WITHIN: Duration = Duration::from_secs(30);

fn names_the_missing(said: &str, cluster: &Cluster) {
    assert!(said.contains("needs 2 of 3 members and this node reaches 1; missing: "), "{said}");
    for node in [1, 2] {
        let missing = format!("n{} ({})", node + 1, cluster.address(node));
        assert!(said.contains(&missing), "no {missing} in {said}");
    }
    assert!(said.contains("start at least 1 of them"), "{said}");
}

fn in_two_seconds<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(2));
    request
}

#[test]
fn every_command_says_who_is_missing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start();
        cluster.wait_until_reachable(0, WITHIN).await;
        let all = Client::builder(cluster.addresses()).timeout(WITHIN).connect().unwrap();
        all.bucket("default").put("k", "v").await.unwrap();
        let seen = cluster.command(0, &["cluster"]);
        for member in seen["members"].as_array().unwrap() {
            assert_eq!(member["version"], env!("CARGO_PKG_VERSION"), "{seen}");
        }
        cluster.kill(1);
        cluster.kill(2);

        let versions = |cluster: &Cluster| {
            let seen = cluster.command(0, &["cluster"]);
            [0, 1, 2].map(|member| seen["members"][member]["version"].as_str().unwrap().to_owned())
        };
        let deadline = Instant::now() + WITHIN;
        while versions(&cluster) != [env!("CARGO_PKG_VERSION"), "", ""] {
            assert!(Instant::now() < deadline, "{:?}", versions(&cluster));
        }

        // As any client of gRPC hears it, each within the time of one call.
        let channel = Endpoint::from_shared(format!("http://{}", cluster.address(0))).unwrap();
        let mut kv = KvClient::new(channel.connect().await.unwrap());
        let deadline = Instant::now() + WITHIN;
        // At first the leaders among the node's replicas have not noticed.
        let write = loop {
            let put = PutRequest { key: "k".into(), value: "w".into(), ..PutRequest::default() };
            let status = kv.put(in_two_seconds(put)).await.unwrap_err();
            if status.metadata().get(ERROR_METADATA_KEY).is_some_and(|name| name == "no_leader") {
                break status;
            }
            assert!(Instant::now() < deadline, "{status}\n{}", cluster.logs());
        };
        assert_eq!(write.code(), Code::Unavailable);
        assert!(write.message().starts_with("the group has no leader: group "), "{write}");
        names_the_missing(write.message(), &cluster);
        // A busy machine may be late with an answer, so that the client has hung up.
        let read = loop {
            let get = GetRequest { key: "k".into(), ..GetRequest::default() };
            let status = kv.get(in_two_seconds(get)).await.unwrap_err();
            if status.metadata().get(ERROR_METADATA_KEY).is_some() {
                break status;
            }
            assert!(Instant::now() < deadline, "{status}\n{}", cluster.logs());
        };
        assert_eq!(read.code(), Code::DeadlineExceeded, "{read}");
        names_the_missing(read.message(), &cluster);

        let commands: [&[&str]; 8] = [
            &["set", "k", "w"],
            &["get", "k"],
            &["create", "b"],
            &["ls"],
            &["remove", "n2"],
            &["leave"],
            &["join", "n4", "127.0.0.1:1"],
            &["transfer", "n1"],
        ];
        // They wait for a leader until their time is over: all at once.
        std::thread::scope(|scope| {
            let said = commands.map(|arguments| (arguments, scope.spawn(|| cluster.refused(0, arguments))));
            for (arguments, said) in said {
                let (code, said) = said.join().unwrap();
                assert_eq!(code, Some(4), "{arguments:?}: {said}");
                names_the_missing(&said, &cluster);
                assert!(said.contains("\n  try: drey "), "{arguments:?}: {said}");
            }
        });
        let (code, said) = cluster.refused(0, &["transfer", "n2"]);
        assert!(code == Some(4) && said.contains("n1 does not reach it"), "{said}");
        assert_eq!(cluster.refused(0, &["transfer", "n9"]).0, Some(1));
    });
}
