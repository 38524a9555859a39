//! Scans: pages in order, and a view that is ended however the client leaves.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use drey_client::proto::kv_client::KvClient;
use drey_client::proto::{CreateBucketRequest, GetRequest, KeyRange, PutRequest, ScanRequest};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::fake::SLOW_BUCKET;
use crate::server::{Server, becomes, name_of, run};

async fn fill(server: &Server, bucket: &str, count: u32) -> KvClient<Channel> {
    if !bucket.is_empty() {
        let create = CreateBucketRequest { name: bucket.into(), ..CreateBucketRequest::default() };
        server.buckets().await.create(create).await.unwrap();
    }
    let mut kv = server.kv().await;
    for number in 0..count {
        let key = Bytes::from(format!("{number:05}"));
        let put = PutRequest { bucket: bucket.into(), key, value: "v".into(), ..PutRequest::default() };
        kv.put(put).await.unwrap();
    }
    kv
}

async fn keys(kv: &mut KvClient<Channel>, request: ScanRequest) -> (Vec<String>, Vec<bool>) {
    let mut stream = kv.scan(request).await.unwrap().into_inner();
    let (mut keys, mut more) = (Vec::new(), Vec::new());
    while let Some(chunk) = stream.message().await.unwrap() {
        keys.extend(chunk.entries.iter().map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()));
        more.push(chunk.more);
    }
    (keys, more)
}

#[test]
fn pages_come_in_order_one_a_message() {
    let server = Server::start();
    run(async {
        let mut kv = fill(&server, "", 5).await;
        let (all, more) = keys(&mut kv, ScanRequest::default()).await;
        assert_eq!(all, ["00000", "00001", "00002", "00003", "00004"]);
        assert_eq!(more, [false; 3]);
        let prefix = KeyRange { prefix: Some("0000".into()), ..KeyRange::default() };
        let request = ScanRequest { range: Some(prefix), limit: 3, reverse: true, ..ScanRequest::default() };
        let (last, more) = keys(&mut kv, request).await;
        assert_eq!((last, more), (vec!["00004".into(), "00003".into(), "00002".into()], vec![false, true]));
        let range = KeyRange { start: Some("00001".into()), end: Some("00003".into()), prefix: None };
        let request = ScanRequest { range: Some(range.clone()), keys_only: true, ..ScanRequest::default() };
        let mut stream = kv.scan(request).await.unwrap().into_inner();
        let chunk = stream.message().await.unwrap().unwrap();
        assert!(chunk.entries.len() == 2 && chunk.entries.iter().all(|entry| entry.value.is_empty()));
        assert!(stream.message().await.unwrap().is_none());
        let nothing = KeyRange { start: Some("x".into()), ..KeyRange::default() };
        assert_eq!(keys(&mut kv, ScanRequest { range: Some(nothing), ..ScanRequest::default() }).await.0, [""; 0]);
        assert_eq!(server.seen.open_views.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_scan_that_cannot_begin_fails_before_its_first_page() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        let missing = kv.scan(ScanRequest { bucket: "missing".into(), ..ScanRequest::default() }).await.unwrap_err();
        assert_eq!((missing.code(), name_of(&missing)), (Code::NotFound, "bucket_not_found"));
        let backwards = KeyRange { start: Some("b".into()), end: Some("a".into()), prefix: None };
        let request = ScanRequest { range: Some(backwards), ..ScanRequest::default() };
        assert_eq!(kv.scan(request).await.unwrap_err().code(), Code::InvalidArgument);
    });
}

#[test]
fn the_view_is_ended_when_the_client_leaves_between_two_pages() {
    let server = Server::start();
    run(async {
        let mut kv = fill(&server, SLOW_BUCKET, 100).await;
        let request = ScanRequest { bucket: SLOW_BUCKET.into(), ..ScanRequest::default() };
        let mut stream = kv.scan(request).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().entries.len(), 2);
        assert_eq!(server.seen.open_views.load(Ordering::SeqCst), 1);
        drop(stream);
        becomes(&server.seen.open_views, 0).await;
        kv.get(GetRequest { key: "k".into(), ..GetRequest::default() }).await.unwrap();
    });
}

#[test]
fn the_view_is_ended_when_the_client_leaves_before_the_first_page() {
    let server = Server::start();
    run(async {
        let kv = fill(&server, SLOW_BUCKET, 100).await;
        let abandoned = tokio::spawn({
            let mut kv = kv.clone();
            async move { kv.scan(ScanRequest { bucket: SLOW_BUCKET.into(), ..ScanRequest::default() }).await.map(drop) }
        });
        becomes(&server.seen.waiting, 1).await;
        abandoned.abort();
        becomes(&server.seen.scans, 1).await;
        becomes(&server.seen.open_views, 0).await;
    });
}

#[test]
fn a_deadline_holds_for_all_pages_together() {
    let server = Server::start();
    run(async {
        let mut kv = fill(&server, SLOW_BUCKET, 200).await;
        // A hundred pages of 20 ms.
        let mut request = Request::new(ScanRequest { bucket: SLOW_BUCKET.into(), ..ScanRequest::default() });
        request.metadata_mut().insert("grpc-timeout", "200m".parse().unwrap());
        let mut stream = kv.scan(request).await.unwrap().into_inner();
        let status = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the scan came to its end"),
                Err(status) => break status,
            }
        };
        assert_eq!((status.code(), name_of(&status)), (Code::DeadlineExceeded, "deadline_exceeded"));
        becomes(&server.seen.open_views, 0).await;
    });
}
