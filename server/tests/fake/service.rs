//! The gRPC services of a fake node.

use super::World;
use super::node::{Call, Fault, Shared};
use super::world::refusal;
use drey_client::proto::*;
use drey_server::proto::buckets_server::Buckets;
use drey_server::proto::cluster_server::Cluster;
use drey_server::proto::health;
use drey_server::proto::kv_server::Kv;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tonic::codegen::{BoxStream, tokio_stream};
use tonic::{Request, Response, Status, async_trait};

#[derive(Clone)]
pub struct Service {
    pub id: u64,
    pub world: Arc<Mutex<World>>,
    pub shared: Arc<Shared>,
}

impl Service {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("not poisoned")
    }

    /// Notes a call, and lets the next fault have it.
    async fn enter<T>(&self, name: &'static str, request: &Request<T>) -> Result<Option<Fault>, Status> {
        let timeout = request.metadata().get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
        self.shared.calls.lock().expect("not poisoned").push(Call { name, timeout });
        let fault = self.shared.faults.lock().expect("not poisoned").pop_front();
        match fault {
            Some(Fault::Refuse(code, name)) => Err(refusal(code, name, "refused on request")),
            Some(Fault::RefuseUnnamed(code)) => Err(Status::new(code, "refused on request")),
            Some(Fault::Hang) => std::future::pending().await,
            other => Ok(other),
        }
    }
}

/// A `grpc-timeout`: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    match unit {
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[async_trait]
impl Kv for Service {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.enter("Get", &request).await?;
        let GetRequest { bucket, key, .. } = request.into_inner();
        let entry = self.world().get(&bucket, &key)?;
        Ok(Response::new(GetResponse { entry }))
    }

    async fn get_many(&self, request: Request<GetManyRequest>) -> Result<Response<GetManyResponse>, Status> {
        self.enter("GetMany", &request).await?;
        let GetManyRequest { bucket, keys, .. } = request.into_inner();
        let mut world = self.world();
        let found: Result<Vec<_>, Status> =
            keys.iter().map(|key| Ok(GetResponse { entry: world.get(&bucket, key)? })).collect();
        Ok(Response::new(GetManyResponse { entries: found? }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.enter("Put", &request).await?;
        self.world().put(request.into_inner()).map(Response::new)
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        self.enter("Delete", &request).await?;
        self.world().delete(request.get_ref()).map(Response::new)
    }

    async fn expire(&self, request: Request<ExpireRequest>) -> Result<Response<ExpireResponse>, Status> {
        self.enter("Expire", &request).await?;
        self.world().expire(request.get_ref()).map(Response::new)
    }

    async fn batch(&self, request: Request<BatchRequest>) -> Result<Response<BatchResponse>, Status> {
        self.enter("Batch", &request).await?;
        self.world().batch(request.into_inner()).map(Response::new)
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<BoxStream<ScanChunk>>, Status> {
        let fault = self.enter("Scan", &request).await?;
        let chunks = self.world().scan(request.get_ref())?.into_iter().map(Ok);
        Ok(Response::new(match fault {
            Some(Fault::HangAfterFirstChunk) => {
                let first = tokio_stream::iter(chunks.take(1));
                Box::pin(tokio_stream::StreamExt::chain(first, tokio_stream::pending()))
            }
            _ => Box::pin(tokio_stream::iter(chunks)),
        }))
    }
}

#[async_trait]
impl Buckets for Service {
    async fn create(&self, request: Request<CreateBucketRequest>) -> Result<Response<CreateBucketResponse>, Status> {
        self.enter("Create", &request).await?;
        self.world().create(request.get_ref()).map(Response::new)
    }

    async fn drop(&self, request: Request<DropBucketRequest>) -> Result<Response<DropBucketResponse>, Status> {
        self.enter("Drop", &request).await?;
        self.world().drop_bucket(request.get_ref()).map(Response::new)
    }

    async fn list(&self, request: Request<ListBucketsRequest>) -> Result<Response<ListBucketsResponse>, Status> {
        self.enter("List", &request).await?;
        let buckets = self.world().list(&request.get_ref().prefix)?;
        Ok(Response::new(ListBucketsResponse { buckets }))
    }

    async fn describe(&self, request: Request<DescribeBucketRequest>) -> Result<Response<Bucket>, Status> {
        self.enter("Describe", &request).await?;
        self.world().describe(&request.get_ref().name).map(Response::new)
    }
}

#[async_trait]
impl Cluster for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.world().status(self.id)))
    }
}

/// The standard health service: the node and each of its services are well.
pub struct Health;

#[async_trait]
impl health::health_server::Health for Health {
    async fn check(
        &self,
        request: Request<health::HealthCheckRequest>,
    ) -> Result<Response<health::HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            "" | "drey.v1.Kv" | "drey.v1.Buckets" | "drey.v1.Cluster" => {
                let status = health::health_check_response::ServingStatus::Serving.into();
                Ok(Response::new(health::HealthCheckResponse { status }))
            }
            service => Err(Status::not_found(format!("no service `{service}`"))),
        }
    }
}
