//! A bucket with a bound: what adds to it is refused when it is full, and taken again when something was deleted.

#![allow(clippy::unwrap_used)]

mod processes;

use std::time::Duration;

use drey_client::proto::CreateBucketRequest;
use drey_client::{Client, Code};
use processes::Cluster;

const WITHIN: Duration = Duration::from_secs(60);
const MAX_BYTES: u64 = 1 << 20;
const VALUE_BYTES: usize = 4 << 10;
const WRITERS: usize = 16;

#[test]
fn a_full_bucket_takes_no_more_until_something_is_deleted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start();
        cluster.settled(0, 3, WITHIN).await;
        let client = Client::builder(cluster.addresses()).timeout(WITHIN).connect().unwrap();
        let request =
            CreateBucketRequest { name: "small".into(), max_bytes: Some(MAX_BYTES), ..CreateBucketRequest::default() };
        let (bucket, created) = client.create_bucket_with(request).await.unwrap();
        assert_eq!((created, bucket.max_bytes), (true, Some(MAX_BYTES)));

        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let bucket = client.bucket("small");
                tokio::spawn(async move {
                    for at in 0.. {
                        let put = bucket.put(format!("{writer:02}-{at:06}"), vec![b'v'; VALUE_BYTES]).await;
                        match put {
                            Ok(_) => {}
                            Err(error) => return (at, error),
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        let mut put = 0;
        for task in tasks {
            let (count, error) = task.await.unwrap();
            assert_eq!(error.code, Code::QuotaExceeded, "{error}");
            put += count as u64;
        }
        let bytes = put * (VALUE_BYTES as u64 + 9);
        // What was under way when it became full is in it, too.
        assert!((MAX_BYTES..MAX_BYTES + 4 * (WRITERS * VALUE_BYTES) as u64).contains(&bytes), "{bytes} bytes");

        // All nodes start anew, and count it anew.
        for node in 0..3 {
            cluster.stop(node);
        }
        for node in 0..3 {
            cluster.start_node(node);
        }
        let buckets = client.list_buckets("small").await.unwrap();
        let counted = buckets[0].bytes_estimate;
        assert_eq!(counted, bytes, "{buckets:?}");
        let bucket = client.bucket("small");
        // Until it is counted to its end, it takes more.
        let refused = loop {
            if let Err(refused) = bucket.put("one more", "v").await {
                break refused;
            }
        };
        assert_eq!(refused.code, Code::QuotaExceeded, "{refused}");
        assert!(bucket.get("00-000000").await.unwrap().is_some(), "reads go on");
        for at in 0.. {
            bucket.delete(format!("{:02}-{:06}", at % WRITERS, at / WRITERS)).await.unwrap();
            if bucket.put("one more", "v").await.is_ok() {
                break;
            }
        }
        client.bucket("default").put("k", "v").await.unwrap();
    });
}
