//! The standard health service, as load balancers and orchestrators ask for it.
//!
//! A node that answers is serving: one that has no leader for a group still takes every call, and says so call by call.

use bytes::Bytes;
use futures_lite::StreamExt;
use futures_lite::stream;

use super::body::Messages;
use super::message::frame;
use super::refusal::Refusal;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};

/// The names that can be asked for; the empty one is the node as a whole.
const SERVICES: [&str; 5] = ["", "drey.v1.Kv", "drey.v1.Buckets", "drey.v1.Cluster", "grpc.health.v1.Health"];

/// `Health.Check`.
pub(super) fn check(request: &HealthCheckRequest) -> Result<HealthCheckResponse, Refusal> {
    match status(request) {
        ServingStatus::ServiceUnknown => Err(Refusal::not_found(format!("there is no service {:?}", request.service))),
        status => Ok(HealthCheckResponse { status: status.into() }),
    }
}

/// `Health.Watch`: what is now, and nothing more while it stays so, which is as long as the connection lives.
pub(super) fn watch(request: &HealthCheckRequest) -> Result<Messages, Refusal> {
    let first: Bytes = frame(&HealthCheckResponse { status: status(request).into() })?;
    Ok(Box::pin(stream::once(Ok(first)).chain(stream::pending())))
}

fn status(request: &HealthCheckRequest) -> ServingStatus {
    if SERVICES.contains(&request.service.as_str()) { ServingStatus::Serving } else { ServingStatus::ServiceUnknown }
}
