//! What cannot be done is said with the right code, and the connection goes on.

use std::time::Duration;

use bytes::Bytes;
use drey_client::proto::kv_client::KvClient;
use drey_client::proto::{
    BatchRequest, CreateBucketRequest, DeleteRangeRequest, DeleteRangeResponse, GetRequest, JoinRequest, JoinResponse,
    Op, PutRequest, RangeOp, RequestId, SnapshotRequest, SnapshotResponse, TxnResponse, op,
};
use drey_core::limits::{TTL_MS_MAX, VALUE_BYTES_MAX};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::fake::{DEADLINE, FAILS, HANGS, errors};
use crate::server::{Server, becomes, name_of, run, unary};

fn get(key: &str) -> GetRequest {
    GetRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..GetRequest::default() }
}

async fn works(kv: &mut KvClient<Channel>) {
    kv.get(get("any")).await.expect("the connection goes on");
}

#[test]
fn every_error_has_its_code_and_its_name() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        let codes = [
            Code::NotFound,
            Code::AlreadyExists,
            Code::InvalidArgument,
            Code::FailedPrecondition,
            Code::Unavailable,
            Code::Unavailable,
            Code::Aborted,
            Code::FailedPrecondition,
            Code::ResourceExhausted,
            Code::ResourceExhausted,
            Code::DeadlineExceeded,
            Code::OutOfRange,
            Code::DataLoss,
        ];
        assert_eq!(codes.len(), errors().len());
        for (number, (error, code)) in errors().into_iter().zip(codes).enumerate() {
            let status = kv.get(get(&format!("{FAILS}{number}"))).await.unwrap_err();
            assert_eq!((status.code(), name_of(&status)), (code, error.code()));
            assert_eq!(status.message(), error.to_string());
        }
        works(&mut kv).await;
    });
}

#[test]
fn requests_that_cannot_be_right_are_refused() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        let mut refused = async |request: PutRequest, why: &str| {
            let status = kv.put(request).await.expect_err(why);
            assert_eq!((status.code(), name_of(&status)), (Code::InvalidArgument, "invalid_argument"), "{status}");
            assert!(status.message().contains(why), "{status}");
        };
        let valid = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        refused(PutRequest { key: Bytes::new(), ..valid.clone() }, "the key is empty").await;
        refused(PutRequest { key: vec![b'k'; 70_000].into(), ..valid.clone() }, "70000 bytes, the most is 4096").await;
        refused(PutRequest { bucket: "no/slash".into(), ..valid.clone() }, "bad bucket name").await;
        refused(PutRequest { ttl_ms: Some(0), ..valid.clone() }, "it must be 1 to").await;
        refused(PutRequest { ttl_ms: Some(TTL_MS_MAX + 1), ..valid.clone() }, "it must be 1 to").await;
        let id = Some(RequestId { session: 1, sequence: 0, first_unacked: 0 });
        refused(PutRequest { id, ..valid.clone() }, "count from 1").await;
        let value = vec![0; VALUE_BYTES_MAX + 1].into();
        refused(PutRequest { value, ..valid.clone() }, &VALUE_BYTES_MAX.to_string()).await;
        let missing = kv.put(PutRequest { bucket: "missing".into(), ..valid }).await.unwrap_err();
        assert_eq!((missing.code(), name_of(&missing)), (Code::NotFound, "bucket_not_found"));
        let range = op::Op::DeleteRange(RangeOp::default());
        let batch = BatchRequest { ops: vec![Op { op: Some(range) }], ..BatchRequest::default() };
        let status = kv.batch(batch).await.unwrap_err();
        assert!(status.code() == Code::InvalidArgument && status.message().contains("delete_range"), "{status}");
        let mode = kv.get(GetRequest { read: 9, ..get("k") }).await.unwrap_err();
        assert!(mode.code() == Code::InvalidArgument && mode.message().contains("read mode 9"), "{mode}");
        works(&mut kv).await;
    });
}

#[test]
fn the_largest_value_is_taken_and_one_of_5_mib_is_refused_with_the_limit() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        let value = Bytes::from(vec![7; VALUE_BYTES_MAX]);
        let put = |value: Bytes| PutRequest { key: "large".into(), value, ..PutRequest::default() };
        kv.put(put(value.clone())).await.unwrap();
        assert_eq!(kv.get(get("large")).await.unwrap().into_inner().entry.unwrap().value, value);
        for mebibytes in [5, 12] {
            let status = kv.put(put(vec![7; mebibytes << 20].into())).await.unwrap_err();
            assert_eq!((status.code(), name_of(&status)), (Code::InvalidArgument, "invalid_argument"), "{status}");
            assert!(status.message().contains("the most is 4194304"), "{status}");
        }
        works(&mut kv).await;
    });
}

#[test]
fn a_deadline_is_passed_on() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        let mut given_ms = async |timeout: Option<Duration>| -> u64 {
            let mut request = Request::new(get(DEADLINE));
            if let Some(timeout) = timeout {
                request.set_timeout(timeout);
            }
            let entry = kv.get(request).await.unwrap().into_inner().entry.unwrap();
            std::str::from_utf8(&entry.value).unwrap().parse().unwrap()
        };
        assert_eq!(given_ms(None).await, 10_000);
        // A little less, so that the answer is there in time.
        assert_eq!(given_ms(Some(Duration::from_secs(2))).await, 1_800);
        assert_eq!(given_ms(Some(Duration::from_secs(86_400))).await, 300_000);

        let mut request = Request::new(get("any"));
        request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
        assert_eq!(kv.get(request).await.unwrap_err().code(), Code::InvalidArgument);
        works(&mut kv).await;
    });
}

#[test]
fn a_call_whose_client_went_away_is_given_up() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        let abandoned = tokio::spawn({
            let mut kv = kv.clone();
            async move { kv.get(get(HANGS)).await }
        });
        becomes(&server.seen.waiting, 1).await;
        abandoned.abort();
        becomes(&server.seen.waiting, 0).await;
        works(&mut kv).await;
    });
}

#[test]
fn calls_that_do_not_exist_or_not_yet_are_unimplemented() {
    let server = Server::start();
    run(async {
        let channel = server.channel().await;
        let unimplemented = |status: Status, why: &str| {
            assert_eq!((status.code(), name_of(&status)), (Code::Unimplemented, "unimplemented"));
            assert!(status.message().contains(why), "{status}");
        };
        let range = DeleteRangeRequest::default();
        let range = unary::<_, DeleteRangeResponse>(&channel, "/drey.v1.Kv/DeleteRange", range).await;
        unimplemented(range.unwrap_err(), "/drey.v1.Kv/DeleteRange is not served yet");
        let snapshot = SnapshotRequest::default();
        let snapshot = unary::<_, SnapshotResponse>(&channel, "/drey.v1.Cluster/Snapshot", snapshot).await;
        unimplemented(snapshot.unwrap_err(), "not served yet");
        let unknown = unary::<_, JoinResponse>(&channel, "/drey.v1.Kv/Nothing", JoinRequest::default()).await;
        unimplemented(unknown.unwrap_err(), "there is no call /drey.v1.Kv/Nothing");
        // Not even the message of another call: the field 2 of one is a number where the other has text.
        let create =
            CreateBucketRequest { name: "b".into(), default_ttl_ms: Some(1), ..CreateBucketRequest::default() };
        let confused = unary::<_, TxnResponse>(&channel, "/drey.v1.Kv/Get", create).await.unwrap_err();
        assert_eq!(confused.code(), Code::InvalidArgument);
        works(&mut KvClient::new(channel)).await;
    });
}
