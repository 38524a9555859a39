//! From a request's path to the call that it means.

use futures_lite::StreamExt;
use http::{HeaderMap, Method, Request, Response, header};
use hyper::body::Incoming;
use prost::Message;

use super::body::ResponseBody;
use super::refusal::Refusal;
use super::scan::ScanPages;
use super::{health, message, plain, timeout};
use crate::api::{self, Backend};

/// Calls of the protocol that are not served yet.
const NOT_YET: [&str; 7] = [
    "/drey.v1.Kv/DeleteRange",
    "/drey.v1.Kv/Watch",
    "/drey.v1.Cluster/Backup",
    "/drey.v1.Cluster/Restore",
    "/drey.v1.Cluster/Snapshot",
    "/drey.v1.Cluster/RestoreSnapshot",
    "/grpc.health.v1.Health/List",
];

/// Answers a request, whatever it is.
pub(super) async fn answer<B: Backend>(backend: &B, request: Request<Incoming>) -> Response<ResponseBody> {
    if request.method() != Method::POST || !is_grpc(request.headers()) {
        return plain::answer(&request);
    }
    match call(backend, request).await {
        Ok(body) => body.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    match value.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => {
            let rest = rest.strip_prefix(b"+proto").unwrap_or(rest);
            rest.is_empty() || rest.starts_with(b";")
        }
        None => false,
    }
}

async fn call<B: Backend>(backend: &B, request: Request<Incoming>) -> Result<ResponseBody, Refusal> {
    let (head, body) = request.into_parts();
    let call = Call { headers: head.headers, body };
    match head.uri.path() {
        "/drey.v1.Kv/Get" => call.unary(async |request, left_ms| api::get(backend, request, left_ms).await).await,
        "/drey.v1.Kv/Put" => call.unary(async |request, left_ms| api::put(backend, request, left_ms).await).await,
        "/drey.v1.Kv/Delete" => call.unary(async |request, left_ms| api::delete(backend, request, left_ms).await).await,
        "/drey.v1.Kv/Expire" => call.unary(async |request, left_ms| api::expire(backend, request, left_ms).await).await,
        "/drey.v1.Kv/GetMany" => {
            call.unary(async |request, left_ms| api::get_many(backend, request, left_ms).await).await
        }
        "/drey.v1.Kv/Batch" => call.unary(async |request, left_ms| api::batch(backend, request, left_ms).await).await,
        "/drey.v1.Kv/Txn" => call.unary(async |request, left_ms| api::txn(backend, request, left_ms).await).await,
        "/drey.v1.Kv/OpenSession" => {
            call.unary(async |request, left_ms| api::open_session(backend, request, left_ms).await).await
        }
        "/drey.v1.Kv/Scan" => call.scan(backend).await,
        "/drey.v1.Buckets/Create" => {
            call.unary(async |request, left_ms| api::create_bucket(backend, request, left_ms).await).await
        }
        "/drey.v1.Buckets/Drop" => {
            call.unary(async |request, left_ms| api::drop_bucket(backend, request, left_ms).await).await
        }
        "/drey.v1.Buckets/List" => {
            call.unary(async |request, left_ms| api::list_buckets(backend, request, left_ms).await).await
        }
        "/drey.v1.Buckets/Describe" => {
            call.unary(async |request, left_ms| api::describe_bucket(backend, request, left_ms).await).await
        }
        "/drey.v1.Cluster/Status" => {
            call.unary(async |_: drey_client::proto::StatusRequest, _| {
                Ok::<_, Refusal>(api::cluster_status(backend).await?)
            })
            .await
        }
        "/drey.v1.Cluster/Join" => {
            call.unary(async |request, left_ms| api::join(backend, request, left_ms).await).await
        }
        "/drey.v1.Cluster/Remove" => {
            call.unary(async |request, left_ms| api::remove(backend, request, left_ms).await).await
        }
        "/drey.v1.Cluster/TransferLeader" => {
            call.unary(async |request, left_ms| api::transfer_leader(backend, request, left_ms).await).await
        }
        "/grpc.health.v1.Health/Check" => call.unary(async |request, _| health::check(&request)).await,
        "/grpc.health.v1.Health/Watch" => {
            let (request, _held) = call.receive().await?.decode()?;
            Ok(ResponseBody::Stream(health::watch(&request)?))
        }
        path if NOT_YET.contains(&path) => Err(Refusal::unimplemented(format!("{path} is not served yet"))),
        path => Err(Refusal::unimplemented(format!("there is no call {path}"))),
    }
}

/// A call whose message is yet to be received.
struct Call {
    headers: HeaderMap,
    body: Incoming,
}

impl Call {
    async fn receive(self) -> Result<message::Received, Refusal> {
        let timeout_ms = timeout::of_call(&self.headers)?;
        message::receive(self.body, timeout_ms).await
    }

    /// One message in, one message out.
    async fn unary<Q, A, E, F>(self, serve: F) -> Result<ResponseBody, Refusal>
    where
        Q: Message + Default,
        A: Message,
        E: Into<Refusal>,
        F: AsyncFnOnce(Q, u64) -> Result<A, E>,
    {
        let received = self.receive().await?;
        let left_ms = received.left_ms;
        let (request, _held) = received.decode()?;
        let answer = serve(request, left_ms).await.map_err(Into::into)?;
        Ok(ResponseBody::Unary(message::frame(&answer)?))
    }

    /// `Kv.Scan`. What fails on the first page is answered by headers alone.
    async fn scan<B: Backend>(self, backend: &B) -> Result<ResponseBody, Refusal> {
        let given_ms = timeout::given(&self.headers)?;
        let received = self.receive().await?;
        let timeout_ms = given_ms.map(|_| received.left_ms);
        let (request, _held) = received.decode()?;
        let mut pages = ScanPages::new(backend, request, timeout_ms);
        match pages.next().await {
            Some(first) => Ok(ResponseBody::Stream(Box::pin(futures_lite::stream::once(Ok(first?)).chain(pages)))),
            None => Ok(ResponseBody::Trailers),
        }
    }
}
