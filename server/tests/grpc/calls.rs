//! Every call that is served, with the answers that it must give.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use drey_client::MEMBERS_METADATA_KEY;
use drey_client::proto::kv_client::KvClient;
use drey_client::proto::{
    BatchRequest, Condition, CreateBucketRequest, DeleteOp, DeleteRequest, DescribeBucketRequest, DropBucketRequest,
    ExpireRequest, GetManyRequest, GetRequest, ListBucketsRequest, Op, PutOp, PutRequest, StatusRequest,
    condition::Test, member::Role, op,
};
use drey_server::proto::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use futures_lite::StreamExt;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use crate::server::{Server, name_of, run, unary};

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn get(key: &'static str) -> GetRequest {
    GetRequest { key: key.into(), ..GetRequest::default() }
}

#[test]
fn what_was_put_is_got_until_it_is_deleted() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        assert_eq!(kv.get(get("a")).await.unwrap().into_inner().entry, None);
        let first = kv.put(put("a", "1")).await.unwrap().into_inner();
        assert!(first.applied && first.version > 0 && first.previous.is_none());
        let second = PutRequest { return_previous: true, ..put("a", "2") };
        let second = kv.put(second).await.unwrap().into_inner();
        let previous = second.previous.unwrap();
        assert_eq!((previous.value, previous.version), (Bytes::from("1"), first.version));
        let entry = kv.get(get("a")).await.unwrap().into_inner().entry.unwrap();
        assert_eq!((entry.key, entry.value, entry.version), ("a".into(), "2".into(), second.version));
        let delete = DeleteRequest { key: "a".into(), return_previous: true, ..DeleteRequest::default() };
        let deleted = kv.delete(delete.clone()).await.unwrap().into_inner();
        assert!(deleted.applied && deleted.existed && deleted.previous.unwrap().value == "2");
        assert!(!kv.delete(delete).await.unwrap().into_inner().existed);
        assert_eq!(kv.get(get("a")).await.unwrap().into_inner().entry, None);
    });
}

#[test]
fn a_time_to_live_is_set_changed_and_cleared() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        kv.put(PutRequest { ttl_ms: Some(5_000), ..put("a", "1") }).await.unwrap();
        let left =
            async |kv: &mut KvClient<Channel>| kv.get(get("a")).await.unwrap().into_inner().entry.unwrap().ttl_ms;
        assert_eq!(left(&mut kv).await, Some(5_000));
        for (ttl_ms, existed, key) in [(Some(9), true, "a"), (None, true, "a"), (Some(1), false, "b")] {
            let request = ExpireRequest { key: key.into(), ttl_ms, ..ExpireRequest::default() };
            assert_eq!(kv.expire(request).await.unwrap().into_inner().existed, existed);
            let expected = if existed { ttl_ms } else { None };
            assert_eq!(left(&mut kv).await, expected);
        }
        let zero = ExpireRequest { key: "a".into(), ttl_ms: Some(0), ..ExpireRequest::default() };
        let refused = kv.expire(zero).await.unwrap_err();
        assert_eq!((refused.code(), name_of(&refused)), (Code::InvalidArgument, "invalid_argument"));
    });
}

#[test]
fn conditions_decide_whether_a_write_is_applied() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        let version = kv.put(put("a", "1")).await.unwrap().into_inner().version;
        let tests = [
            (Test::Exists(false), false),
            (Test::VersionIs(version + 1), false),
            (Test::ValueIs("2".into()), false),
            (Test::Exists(true), true),
            (Test::ValueIs("1".into()), true),
        ];
        for (test, applied) in tests {
            let condition = Some(Condition { test: Some(test) });
            let put = kv.put(PutRequest { condition, ..put("a", "1") }).await.unwrap().into_inner();
            assert_eq!((put.applied, put.version > version), (applied, applied), "{condition:?}", condition = put);
        }
        let condition = Some(Condition { test: None });
        let refused = kv.put(PutRequest { condition, ..put("a", "1") }).await.unwrap_err();
        assert_eq!((refused.code(), name_of(&refused)), (Code::InvalidArgument, "invalid_argument"));
    });
}

#[test]
fn a_batch_answers_for_each_operation_and_many_keys_come_in_the_order_asked() {
    let server = Server::start();
    run(async {
        let mut kv = server.kv().await;
        let operation = |op| Op { op: Some(op) };
        let ops = vec![
            operation(op::Op::Put(PutOp { key: "a".into(), value: "1".into(), ttl_ms: None })),
            operation(op::Op::Get("a".into())),
            operation(op::Op::Delete(DeleteOp { key: "x".into() })),
        ];
        let batch = BatchRequest { ops, ..BatchRequest::default() };
        let answer = kv.batch(batch).await.unwrap().into_inner();
        let affected: Vec<_> = answer.results.iter().map(|result| result.affected).collect();
        assert_eq!(affected, [1, 0, 0]);
        assert_eq!(answer.results[1].entry.as_ref().unwrap().version, answer.version);
        let many = GetManyRequest { keys: vec!["b".into(), "a".into()], ..GetManyRequest::default() };
        let entries = kv.get_many(many).await.unwrap().into_inner().entries;
        let values: Vec<_> = entries.into_iter().map(|get| get.entry.map(|entry| entry.value)).collect();
        assert_eq!(values, [None, Some("1".into())]);
    });
}

#[test]
fn buckets_of_all_groups_are_listed_in_the_order_of_their_names() {
    let server = Server::start();
    run(async {
        let mut buckets = server.buckets().await;
        let create = |name: &str| CreateBucketRequest { name: name.into(), ..CreateBucketRequest::default() };
        for name in ["users", "orders", "users.old", "invoices", "carts"] {
            let created = buckets.create(create(name)).await.unwrap().into_inner();
            assert!(created.created && created.bucket.unwrap().name == name);
        }
        let exists = buckets.create(create("users")).await.unwrap_err();
        assert_eq!((exists.code(), name_of(&exists)), (Code::AlreadyExists, "bucket_exists"));
        let again = CreateBucketRequest { if_not_exists: true, ..create("users") };
        assert!(!buckets.create(again).await.unwrap().into_inner().created);

        let mut list = async |prefix: &str| -> Vec<String> {
            let request = ListBucketsRequest { prefix: prefix.into() };
            let listed = buckets.list(request).await.unwrap().into_inner().buckets;
            listed.into_iter().map(|bucket| bucket.name).collect()
        };
        assert_eq!(list("").await, ["carts", "default", "invoices", "orders", "users", "users.old"]);
        assert_eq!(list("users").await, ["users", "users.old"]);
        assert_eq!(list("nothing").await, [""; 0]);

        let described = buckets.describe(DescribeBucketRequest { name: "users".into() }).await.unwrap().into_inner();
        assert!(described.name == "users" && described.group >= 1);
        let drop = DropBucketRequest { name: "users".into(), ..DropBucketRequest::default() };
        assert!(buckets.drop(drop.clone()).await.unwrap().into_inner().existed);
        assert!(!buckets.drop(drop).await.unwrap().into_inner().existed);
        let gone = buckets.describe(DescribeBucketRequest { name: "users".into() }).await.unwrap_err();
        assert_eq!((gone.code(), name_of(&gone)), (Code::NotFound, "bucket_not_found"));
        let nameless = DropBucketRequest::default();
        assert_eq!(buckets.drop(nameless).await.unwrap_err().code(), Code::InvalidArgument);
    });
}

#[test]
fn a_node_tells_its_view_of_the_cluster() {
    let server = Server::start();
    run(async {
        let status = server.cluster().await.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.node, status.name.as_str(), status.engine.as_str()), (1, "n1", "memory"));
        assert_eq!(status.cluster, format!("{:032x}", 0xc1));
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
        let members: Vec<_> = status.members.iter().map(|member| (member.id, member.leads, member.reachable)).collect();
        assert_eq!(members, [(1, 0, true), (2, 1, true)]);
        assert!(status.members.iter().all(|member| member.role() == Role::Voter));
        assert_eq!((status.groups[0].leader, status.groups[0].term, status.groups[0].committed), (2, 3, 5));
    });
}

#[test]
fn health_is_told_once_and_as_a_stream() {
    let server = Server::start();
    run(async {
        let channel = server.channel().await;
        let check = async |service: &str| {
            let request = HealthCheckRequest { service: service.into() };
            unary::<_, HealthCheckResponse>(&channel, "/grpc.health.v1.Health/Check", request).await
        };
        for service in ["", "drey.v1.Kv", "drey.v1.Buckets", "drey.v1.Cluster"] {
            assert_eq!(check(service).await.unwrap().into_inner().status(), ServingStatus::Serving, "{service}");
        }
        assert_eq!(check("drey.v1.Nothing").await.unwrap_err().code(), Code::NotFound);

        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/grpc.health.v1.Health/Watch");
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
        let request = tonic::Request::new(HealthCheckRequest { service: "drey.v1.Nothing".into() });
        let mut watched = grpc.server_streaming(request, path, codec).await.unwrap().into_inner();
        assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        // It stays open: nothing more comes, and no end.
        let more = watched.message();
        let quiet = async { check("").await.map(|_| None::<Option<HealthCheckResponse>>) };
        let first = futures_lite::future::or(async { more.await.map(Some) }, quiet).await.unwrap();
        assert_eq!(first, None);
    });
}

#[test]
fn each_connection_is_told_once_that_the_members_have_changed() {
    let server = Server::start();
    run(async {
        let told = async |kv: &mut KvClient<Channel>, key: &'static str| {
            let metadata = match kv.get(get(key)).await {
                Ok(response) => response.metadata().clone(),
                Err(status) => status.metadata().clone(),
            };
            metadata.get(MEMBERS_METADATA_KEY).map(|changes| changes.to_str().unwrap().to_owned())
        };
        let mut kv = server.kv().await;
        assert_eq!(told(&mut kv, "any").await, None);
        server.seen.member_changes.store(3, Ordering::SeqCst);
        // Errors tell, too.
        assert_eq!(told(&mut kv, "fails:0").await.as_deref(), Some("3"));
        assert_eq!(told(&mut kv, "any").await, None);
        assert_eq!(told(&mut server.kv().await, "any").await.as_deref(), Some("3"));
    });
}

#[test]
fn a_thousand_calls_share_a_connection() {
    let server = Server::start();
    run(async {
        let kv = server.kv().await;
        let calls = (0..1_000).map(|number: u32| {
            let mut kv = kv.clone();
            async move {
                let key = Bytes::from(number.to_be_bytes().to_vec());
                let request = PutRequest { key: key.clone(), value: key.clone(), ..PutRequest::default() };
                kv.put(request).await.unwrap();
                let request = GetRequest { key: key.clone(), ..GetRequest::default() };
                assert_eq!(kv.get(request).await.unwrap().into_inner().entry.unwrap().value, key);
            }
        });
        let tasks: Vec<_> = calls.map(tokio::spawn).collect();
        let mut done = futures_lite::stream::iter(tasks);
        while let Some(task) = done.next().await {
            task.await.unwrap();
        }
    });
}
