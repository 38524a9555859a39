//! The calls about buckets. There is no catalogue: a list asks all groups at once and merges what they say.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use drey_client::proto::{
    Bucket, CreateBucketRequest, CreateBucketResponse, DescribeBucketRequest, DropBucketRequest, DropBucketResponse,
    ListBucketsRequest, ListBucketsResponse,
};
use drey_core::name::BucketName;
use drey_core::request::{BucketInfo, Command, Operation, ReadMode, ReadOp, Reply, Write};
use drey_core::{Error, GroupId, Version};

use super::{Backend, convert, read, reply, unexpected};

/// The most buckets of one list: their descriptions fit a gRPC message of the usual size.
const BUCKETS_LISTED_MAX: usize = 16_384;

/// A name that must be given: these calls change what buckets there are, and nobody means the default one by saying nothing.
fn given_name(name: String) -> Result<BucketName, Error> {
    if name.is_empty() {
        return Err(Error::invalid("the bucket's name is empty"));
    }
    BucketName::new(name)
}

/// `Buckets.Create`.
pub async fn create_bucket<B: Backend>(
    backend: &B,
    request: CreateBucketRequest,
    deadline_ms: u64,
) -> Result<CreateBucketResponse, Error> {
    let write = Write::CreateBucket {
        default_ttl_ms: request.default_ttl_ms,
        max_bytes: request.max_bytes,
        if_not_exists: request.if_not_exists,
        created_ms: drey_io::runtime::now().wall_ms,
    };
    let id = request.id.map(convert::write_id);
    let command = Command { bucket: given_name(request.name)?, id, write };
    match backend.call(Operation::Write(command), deadline_ms).await? {
        Reply::Created { bucket, created } => Ok(CreateBucketResponse { bucket: Some(reply::bucket(bucket)), created }),
        other => Err(unexpected(&other)),
    }
}

/// `Buckets.Drop`.
pub async fn drop_bucket<B: Backend>(
    backend: &B,
    request: DropBucketRequest,
    deadline_ms: u64,
) -> Result<DropBucketResponse, Error> {
    let write = Write::DropBucket { created_version: request.created_version.map(Version) };
    let id = request.id.map(convert::write_id);
    let command = Command { bucket: given_name(request.name)?, id, write };
    match backend.call(Operation::Write(command), deadline_ms).await? {
        Reply::Dropped { existed } => Ok(DropBucketResponse { existed }),
        other => Err(unexpected(&other)),
    }
}

/// `Buckets.Describe`.
pub async fn describe_bucket<B: Backend>(
    backend: &B,
    request: DescribeBucketRequest,
    deadline_ms: u64,
) -> Result<Bucket, Error> {
    let bucket = BucketName::new(request.name)?;
    let op = ReadOp::DescribeBucket { bucket: bucket.clone() };
    let answer = backend.call(read(backend, &bucket, ReadMode::Linearizable, op), deadline_ms).await?;
    match answer {
        Reply::Buckets(mut buckets) if buckets.len() == 1 => Ok(reply::bucket(buckets.remove(0))),
        other => Err(unexpected(&other)),
    }
}

/// `Buckets.List`, in the order of the names. One group that cannot answer fails the list: a part of it would pass for all.
pub async fn list_buckets<B: Backend>(
    backend: &B,
    request: ListBucketsRequest,
    deadline_ms: u64,
) -> Result<ListBucketsResponse, Error> {
    let asked = (1..=backend.groups()).map(|group| {
        let op = ReadOp::ListBuckets { prefix: request.prefix.clone() };
        let operation = Operation::Read(GroupId(group), ReadMode::Linearizable, op);
        async move { backend.call(operation, deadline_ms).await }
    });
    let mut buckets: Vec<BucketInfo> = Vec::new();
    for answer in all(asked).await {
        match answer? {
            Reply::Buckets(found) => buckets.extend(found),
            other => return Err(unexpected(&other)),
        }
        if buckets.len() > BUCKETS_LISTED_MAX {
            return Err(Error::invalid(format!(
                "more than {BUCKETS_LISTED_MAX} buckets match: list them by longer prefixes"
            )));
        }
    }
    buckets.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(ListBucketsResponse { buckets: buckets.into_iter().map(reply::bucket).collect() })
}

/// Runs all at once, and gives their outputs in order.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    type Slot<F> = (Pin<Box<F>>, Option<<F as Future>::Output>);
    let mut slots: Vec<Slot<F>> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut waiting = false;
        for (future, output) in slots.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    slots.into_iter().filter_map(|(_, output)| output).collect()
}
