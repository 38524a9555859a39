//! drey-client against a cluster in memory: every call once, and what it does when calls go wrong.

mod fake;

use bytes::Bytes;
use drey_client::logic::{Policy, group_of_bucket};
use drey_client::proto::{Condition, CreateBucketRequest, op};
use drey_client::{Batch, Client, Code, ReadMode, Scan};
use fake::{Cluster, Fault};
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A client that stays with the endpoints it is given, and whose writes have no ids.
fn client<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Client {
    Client::builder(addresses).discover(false).sessions(false).connect().expect("the addresses are good")
}

/// An address that refuses connections.
fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("it is bound").to_string()
}

/// A server that takes connections, reads a request, and breaks off without an answer. It ends with the test's process.
fn breaking_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Preface, settings and headers come in few reads; what matters is that some bytes were taken.
            let mut bytes = [0; 4096];
            drop(stream.read(&mut bytes));
        }
    });
    address
}

#[tokio::test]
async fn every_call_does_what_it_says() {
    let cluster = Cluster::of(1);
    let client = client([&cluster.nodes[0].address]);

    assert_eq!(client.create_bucket("users").await.expect("created").name, "users");
    let again = CreateBucketRequest { name: "users".into(), if_not_exists: true, ..Default::default() };
    let (bucket, created) = client.create_bucket_with(again).await.expect("it is there");
    assert_eq!((bucket.name.as_str(), created), ("users", false));
    let names = |buckets: Vec<drey_client::proto::Bucket>| buckets.into_iter().map(|bucket| bucket.name).collect();
    let listed: Vec<String> = names(client.list_buckets("").await.expect("listed"));
    assert_eq!(listed, ["default", "users"]);
    let listed: Vec<String> = names(client.list_buckets("us").await.expect("listed"));
    assert_eq!(listed, ["users"]);

    let users = client.bucket("users");
    let version = users.put("alice", "blue").await.expect("written");
    let entry = users.get("alice").await.expect("read").expect("there");
    assert_eq!((entry.value.as_ref(), entry.version), (b"blue".as_ref(), version));
    assert_eq!(users.get_with("alice", ReadMode::Local).await.expect("read"), Some(entry.clone()));
    assert_eq!(users.get("bob").await.expect("read"), None);
    assert_eq!(client.bucket("").get("alice").await.expect("read"), None, "the default bucket is another one");
    let both = users.get_many(vec!["bob".into(), "alice".into()], ReadMode::Linearizable).await.expect("read");
    assert_eq!(both, [None, Some(entry)]);

    users.put_for("carol", "red", Duration::from_secs(5)).await.expect("written");
    let ttl_ms = async || users.get("carol").await.expect("read").expect("there").ttl_ms;
    assert_eq!(ttl_ms().await, Some(5_000));
    assert!(users.expire("carol", Some(Duration::from_millis(70))).await.expect("changed"));
    assert_eq!(ttl_ms().await, Some(70));
    assert!(users.expire("carol", None).await.expect("changed"));
    assert_eq!(ttl_ms().await, None);
    assert!(!users.expire("dave", None).await.expect("answered"));
    assert!(users.delete("carol").await.expect("deleted"));

    let batch = Batch::new().put("bob", "green").delete("alice").op(op::Op::Get("bob".into()));
    let answer = users.batch(batch).await.expect("applied");
    assert!(answer.version > version);
    assert_eq!(answer.results[2].entry.as_ref().map(|entry| entry.value.clone()), Some(Bytes::from("green")));
    assert!(users.delete("bob").await.expect("deleted"));
    assert!(!users.delete("bob").await.expect("answered"));
    assert_eq!(client.describe_bucket("users").await.expect("described").keys_estimate, 0);

    assert!(client.drop_bucket("users").await.expect("dropped"));
    assert!(!client.drop_bucket("users").await.expect("answered"));
    let status = client.status().await.expect("answered");
    assert_eq!((status.node, status.members.len(), status.engine.as_str()), (1, 1, "memory"));
}

#[tokio::test]
async fn conditions_are_answers() {
    let cluster = Cluster::of(1);
    let bucket = client([&cluster.nodes[0].address]).bucket("");
    let first = bucket.put_if("k", "1", Condition::absent()).await.expect("answered");
    assert!(first.applied);
    assert!(!bucket.put_if("k", "2", Condition::absent()).await.expect("answered").applied);
    assert!(!bucket.put_if("k", "2", Condition::version_is(first.version + 1)).await.expect("answered").applied);
    assert!(bucket.put_if("k", "2", Condition::version_is(first.version)).await.expect("answered").applied);
    assert!(!bucket.delete_if("k", Condition::value_is("1")).await.expect("answered").applied);
    assert!(bucket.delete_if("k", Condition::value_is("2")).await.expect("answered").applied);
    assert!(!bucket.delete_if("k", Condition::exists(true)).await.expect("answered").applied);
}

#[tokio::test]
async fn scans_come_in_order_and_in_chunks() {
    let cluster = Cluster::of(1);
    let bucket = client([&cluster.nodes[0].address]).bucket("");
    let keys = |entries: Vec<drey_client::proto::Entry>| {
        entries.iter().map(|entry| entry.key.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
    };
    let empty = bucket.scan(Scan::all()).await.expect("begun").collect().await.expect("read");
    assert!(empty.is_empty());
    for key in ["a", "b1", "b2", "b3", "c"] {
        bucket.put(key, "v").await.expect("written");
    }
    for (scan, expected) in [
        (Scan::all(), "a b1 b2 b3 c"),
        (Scan::prefix("b"), "b1 b2 b3"),
        (Scan::all().start("b2").end("c"), "b2 b3"),
        (Scan::all().reverse(true).limit(2), "c b3"),
        (Scan::prefix("").read(ReadMode::Local), "a b1 b2 b3 c"),
    ] {
        let stream = bucket.scan(scan).await.expect("begun");
        assert_eq!(keys(stream.collect().await.expect("read")), expected);
    }
    let mut stream = bucket.scan(Scan::all().limit(3).keys_only(true)).await.expect("begun");
    let first = stream.next_chunk().await.expect("read").expect("a chunk");
    assert_eq!((first.entries.len(), first.more, first.entries[0].value.len()), (2, false, 0));
    assert_eq!(stream.last_key(), Some(&Bytes::from("b1")));
    let last = stream.next_chunk().await.expect("read").expect("a chunk");
    assert_eq!((last.entries.len(), last.more), (1, true));
    assert_eq!(stream.next_chunk().await.expect("the end"), None);
}

#[tokio::test]
async fn errors_carry_their_code() {
    let cluster = Cluster::of(1);
    let client = client([&cluster.nodes[0].address]);
    let bucket = client.bucket("");
    let code = |error: drey_client::Error| error.code;
    assert_eq!(client.bucket("nowhere").get("k").await.map_err(code), Err(Code::BucketNotFound));
    assert_eq!(client.bucket("nowhere").put("k", "v").await.map_err(code), Err(Code::BucketNotFound));
    assert_eq!(client.create_bucket("default").await.map_err(code), Err(Code::BucketExists));
    assert_eq!(client.create_bucket("a/b").await.map_err(code), Err(Code::InvalidArgument));
    assert_eq!(bucket.put("", "v").await.map_err(code), Err(Code::InvalidArgument));
    assert_eq!(bucket.get(vec![b'k'; 70_000]).await.map_err(code), Err(Code::InvalidArgument));
    assert_eq!(bucket.put("k", vec![0; 5 << 20]).await.map_err(code), Err(Code::InvalidArgument));
    let error = bucket.scan(Scan::all().start("b").end("a")).await.expect_err("a bad range");
    assert_eq!(error.code, Code::InvalidArgument);
    assert_eq!(error.endpoint, Some(cluster.nodes[0].address.clone()));
}

#[tokio::test]
async fn the_client_and_core_agree_where_a_bucket_lives() {
    let cluster = Cluster::of(1);
    let client = client([&cluster.nodes[0].address]);
    for number in 0..50 {
        let name = format!("bucket-{number}");
        let group = client.create_bucket(&name).await.expect("created").group;
        assert_eq!(group_of_bucket(&name, 4), Some(group));
    }
}

#[tokio::test]
async fn calls_follow_the_leader() {
    let cluster = Cluster::of(3);
    let client = Client::builder([&cluster.nodes[0].address]).sessions(false).connect().expect("a good address");
    let bucket = client.bucket("");
    for leader in [3_u64, 2, 1] {
        cluster.world(|world| {
            world.leader = leader;
            world.term += 1;
        });
        // A node that is asked in vain is what makes a client look for the leader before its time.
        for node in &cluster.nodes {
            node.fail_next(Fault::Refuse(tonic::Code::Unavailable, "no_leader"));
        }
        let reached = &cluster.nodes[leader as usize - 1];
        let give_up = Instant::now() + PATIENCE;
        let mut straight = 0;
        while straight < 3 {
            assert!(Instant::now() < give_up, "calls never went to node {leader}");
            let before = reached.count("Put");
            bucket.put("k", "v").await.expect("written");
            straight = if reached.count("Put") == before + 1 { straight + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_write_that_was_not_proposed_goes_again() {
    for name in ["no_leader", "not_ready", "overloaded"] {
        let cluster = Cluster::of(2);
        let client = client(cluster.nodes.iter().map(|node| &node.address));
        cluster.nodes[0].fail_next(Fault::Refuse(tonic::Code::Unavailable, name));
        client.bucket("").put("k", "v").await.expect("the second attempt works");
        assert_eq!((cluster.nodes[0].count("Put"), cluster.nodes[1].count("Put")), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn a_write_that_may_have_been_proposed_does_not() {
    for (fault, code) in [
        (Fault::Refuse(tonic::Code::Aborted, "outcome_unknown"), Code::OutcomeUnknown),
        (Fault::Refuse(tonic::Code::DeadlineExceeded, "deadline_exceeded"), Code::DeadlineExceeded),
        (Fault::RefuseUnnamed(tonic::Code::Unavailable), Code::OutcomeUnknown),
        (Fault::RefuseUnnamed(tonic::Code::Aborted), Code::OutcomeUnknown),
        (Fault::RefuseUnnamed(tonic::Code::ResourceExhausted), Code::OutcomeUnknown),
        (Fault::Hang, Code::DeadlineExceeded),
    ] {
        let cluster = Cluster::of(2);
        let client = client(cluster.nodes.iter().map(|node| &node.address)).with_timeout(Duration::from_secs(1));
        cluster.nodes[0].fail_next(fault.clone());
        let begun = Instant::now();
        let error = client.bucket("").put("k", "v").await.expect_err("it may have happened");
        assert_eq!(error.code, code, "{fault:?}");
        assert!(error.code.outcome_is_unknown());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!((cluster.nodes[0].count("Put"), cluster.nodes[1].count("Put")), (1, 0), "{fault:?}");
    }
}

#[tokio::test]
async fn a_read_goes_again_elsewhere() {
    for fault in [
        Fault::Refuse(tonic::Code::Unavailable, "no_leader"),
        Fault::Refuse(tonic::Code::Aborted, "outcome_unknown"),
        Fault::RefuseUnnamed(tonic::Code::Unavailable),
        Fault::Hang,
    ] {
        let cluster = Cluster::of(2);
        let policy = Policy { attempt_timeout_ms: 500, ..Policy::default() };
        let client = Client::builder(cluster.nodes.iter().map(|node| &node.address))
            .policy(policy)
            .discover(false)
            .sessions(false);
        let bucket = client.connect().expect("good addresses").bucket("");
        cluster.nodes[0].fail_next(fault.clone());
        assert_eq!(bucket.get("k").await, Ok(None), "{fault:?}");
        assert_eq!((cluster.nodes[0].count("Get"), cluster.nodes[1].count("Get")), (1, 1), "{fault:?}");

        let cluster = Cluster::of(2);
        let client = Client::builder(cluster.nodes.iter().map(|node| &node.address))
            .policy(policy)
            .discover(false)
            .sessions(false);
        let bucket = client.connect().expect("good addresses").bucket("");
        cluster.nodes[0].fail_next(fault.clone());
        let entries = bucket.scan(Scan::all()).await.expect("begun").collect().await;
        assert_eq!(entries, Ok(Vec::new()), "{fault:?}");
    }
}

#[tokio::test]
async fn servers_are_told_how_long_they_have() {
    let cluster = Cluster::of(1);
    let client = client([&cluster.nodes[0].address]).with_timeout(Duration::from_secs(7));
    client.bucket("").put("k", "v").await.expect("written");
    client.bucket("").get("k").await.expect("read");
    let timeouts: Vec<_> = cluster.nodes[0].calls().iter().map(|call| call.timeout.expect("a timeout")).collect();
    assert!((Duration::from_secs(6)..=Duration::from_secs(7)).contains(&timeouts[0]), "{timeouts:?}");
    assert_eq!(timeouts[1], Duration::from_secs(2), "a read leaves time for another attempt");
}

#[tokio::test]
async fn nothing_was_sent_where_nobody_listens() {
    let cluster = Cluster::of(1);
    let closed = closed_port();
    client([&closed, &cluster.nodes[0].address]).bucket("").put("k", "v").await.expect("the other node is there");

    let alone = client([&closed]).with_timeout(Duration::from_secs(1));
    let error = alone.bucket("").put("k", "v").await.expect_err("nobody is there");
    assert_eq!(error.code, Code::Unreachable);
    assert!(error.message.contains(&closed) && error.message.contains("refused"), "{error}");
    assert!(!error.code.outcome_is_unknown());
}

#[tokio::test]
async fn a_broken_connection_leaves_a_write_in_doubt_and_a_read_not() {
    let cluster = Cluster::of(1);
    let breaking = breaking_server();
    let error = client([&breaking, &cluster.nodes[0].address]).bucket("").put("k", "v").await.expect_err("in doubt");
    assert_eq!(error.code, Code::OutcomeUnknown);
    assert!(error.message.contains(&breaking), "{error}");
    assert_eq!(cluster.nodes[0].count("Put"), 0);
    assert_eq!(client([&breaking, &cluster.nodes[0].address]).bucket("").get("k").await, Ok(None));
}

#[tokio::test]
async fn a_node_that_comes_back_is_used_again() {
    let mut cluster = Cluster::of(1);
    let bucket = client([&cluster.nodes[0].address]).bucket("");
    bucket.put("k", "1").await.expect("written");
    cluster.nodes[0].kill();
    let down = bucket.client().with_timeout(Duration::from_secs(1)).bucket("").get("k").await;
    assert!(matches!(down.map_err(|error| error.code), Err(Code::Unreachable | Code::Unavailable)));
    cluster.restart(0);
    bucket.put("k", "2").await.expect("written");
    assert_eq!(bucket.get("k").await.expect("read").expect("there").value, "2");
}

#[tokio::test]
async fn a_scan_that_breaks_says_where() {
    let mut cluster = Cluster::of(1);
    let client = client([&cluster.nodes[0].address]);
    let bucket = client.bucket("");
    for key in ["a", "b", "c"] {
        bucket.put(key, "v").await.expect("written");
    }
    cluster.nodes[0].fail_next(Fault::HangAfterFirstChunk);
    let hurried = client.with_timeout(Duration::from_millis(200)).bucket("");
    let mut stream = hurried.scan(Scan::all()).await.expect("begun");
    assert_eq!(stream.next_chunk().await.expect("read").expect("a chunk").entries.len(), 2);
    let error = stream.next_chunk().await.expect_err("nothing comes");
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert!(error.message.contains(r#"after key "b""#), "{error}");

    cluster.nodes[0].fail_next(Fault::HangAfterFirstChunk);
    let mut stream = bucket.scan(Scan::all()).await.expect("begun");
    assert_eq!(stream.next_chunk().await.expect("read").expect("a chunk").entries.len(), 2);
    cluster.nodes[0].kill();
    let error = stream.next_chunk().await.expect_err("the node is gone");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains(r#"after key "b""#), "{error}");
}

#[tokio::test]
async fn addresses_are_checked_at_once() {
    assert_eq!(Client::connect(Vec::<String>::new()).expect_err("no address").code, Code::InvalidArgument);
    let error = Client::connect(["nonsense"]).expect_err("no port");
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("`nonsense`"), "{error}");
}
