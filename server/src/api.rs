//! What every protocol means by its calls: messages come in, the shards are asked, messages go out.
//!
//! gRPC is one way to bring the messages here; others translate to the same ones, so that a put is a put wherever it comes
//! from. Nothing here knows a socket. The deadlines are the shards' to keep: each call passes on what is left of its time.

mod buckets;
mod convert;
mod members;
mod reply;
mod status;

use std::future::Future;

use drey_client::proto::{
    BatchRequest, BatchResponse, DeleteRequest, DeleteResponse, ExpireRequest, ExpireResponse, GetManyRequest,
    GetManyResponse, GetRequest, GetResponse, Op, OpenSessionRequest, OpenSessionResponse, PutRequest, PutResponse,
    ScanChunk, ScanRequest, TxnRequest, TxnResponse,
};
use drey_core::limits::{BATCH_OPS_MAX, GET_MANY_KEYS_MAX};
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{Command, Operation, Page, ReadMode, ReadOp, Reply, Write};
use drey_core::{Error, GroupId, ViewId};

pub use buckets::{create_bucket, describe_bucket, drop_bucket, list_buckets};
pub use members::{join, remove, transfer_leader};
pub use status::{GroupState, MemberState, NodeStatus, cluster_status};

/// What serves the calls: the shards of a node, or what a test puts in their place. Lives on one executor.
pub trait Backend: Clone + Unpin + 'static {
    /// How many groups hold buckets.
    fn groups(&self) -> u32;

    /// How many changes of the members this node knows of. Asked with every call.
    fn member_changes(&self) -> u64;

    /// Has the owner shard of the operation's group do it. Answers `deadline_ms` from now at the latest (to within a
    /// tick), which is why nothing above sets a timer.
    fn call(&self, operation: Operation, deadline_ms: u64) -> impl Future<Output = Result<Reply, Error>>;

    /// The node's view of itself and its cluster. Never waits for another node.
    fn status(&self) -> impl Future<Output = Result<NodeStatus, Error>>;
}

/// The most bytes of a request message, in any protocol.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// An answer that does not belong to its question: a fault of this program, which must not take the node down.
fn unexpected(reply: &Reply) -> Error {
    tracing::error!(?reply, "a shard gave an answer of the wrong kind");
    Error::NotReady("a shard gave an answer of the wrong kind".to_owned())
}

fn read<B: Backend>(backend: &B, bucket: &BucketName, mode: ReadMode, op: ReadOp) -> Operation {
    Operation::Read(group_of(bucket, backend.groups()), mode, op)
}

/// `Kv.Get`.
pub async fn get<B: Backend>(backend: &B, request: GetRequest, deadline_ms: u64) -> Result<GetResponse, Error> {
    let bucket = BucketName::new(request.bucket)?;
    let mode = convert::read_mode(request.read)?;
    let key = Key::new(request.key)?;
    let operation = read(backend, &bucket, mode, ReadOp::Get { bucket: bucket.clone(), key });
    match backend.call(operation, deadline_ms).await? {
        Reply::Entry(entry) => Ok(GetResponse { entry: entry.map(reply::entry) }),
        other => Err(unexpected(&other)),
    }
}

/// `Kv.GetMany`.
pub async fn get_many<B: Backend>(
    backend: &B,
    request: GetManyRequest,
    deadline_ms: u64,
) -> Result<GetManyResponse, Error> {
    let bucket = BucketName::new(request.bucket)?;
    let mode = convert::read_mode(request.read)?;
    if request.keys.len() > GET_MANY_KEYS_MAX {
        let count = request.keys.len();
        return Err(Error::invalid(format!("{count} keys are asked for, the most is {GET_MANY_KEYS_MAX}")));
    }
    let keys = request.keys.into_iter().map(Key::new).collect::<Result<Vec<_>, _>>()?;
    let operation = read(backend, &bucket, mode, ReadOp::GetMany { bucket: bucket.clone(), keys });
    match backend.call(operation, deadline_ms).await? {
        Reply::Entries(entries) => {
            let entries = entries.into_iter().map(|entry| GetResponse { entry: entry.map(reply::entry) });
            Ok(GetManyResponse { entries: entries.collect() })
        }
        other => Err(unexpected(&other)),
    }
}

/// `Kv.Put`.
pub async fn put<B: Backend>(backend: &B, request: PutRequest, deadline_ms: u64) -> Result<PutResponse, Error> {
    let command = Command {
        bucket: BucketName::new(request.bucket)?,
        id: request.id.map(convert::write_id),
        write: Write::Put {
            key: Key::new(request.key)?,
            value: request.value,
            ttl_ms: request.ttl_ms,
            condition: request.condition.map(convert::condition).transpose()?,
            return_previous: request.return_previous,
        },
    };
    match backend.call(Operation::Write(command), deadline_ms).await? {
        Reply::Put { applied, version, previous } => {
            Ok(PutResponse { applied, version: version.0, previous: previous.map(reply::entry) })
        }
        other => Err(unexpected(&other)),
    }
}

/// `Kv.Delete`.
pub async fn delete<B: Backend>(
    backend: &B,
    request: DeleteRequest,
    deadline_ms: u64,
) -> Result<DeleteResponse, Error> {
    let command = Command {
        bucket: BucketName::new(request.bucket)?,
        id: request.id.map(convert::write_id),
        write: Write::Delete {
            key: Key::new(request.key)?,
            condition: request.condition.map(convert::condition).transpose()?,
            return_previous: request.return_previous,
        },
    };
    match backend.call(Operation::Write(command), deadline_ms).await? {
        Reply::Delete { applied, existed, version, previous } => {
            Ok(DeleteResponse { applied, existed, version: version.0, previous: previous.map(reply::entry) })
        }
        other => Err(unexpected(&other)),
    }
}

/// `Kv.Expire`: without a time to live it clears the one that is there.
pub async fn expire<B: Backend>(
    backend: &B,
    request: ExpireRequest,
    deadline_ms: u64,
) -> Result<ExpireResponse, Error> {
    let command = Command {
        bucket: BucketName::new(request.bucket)?,
        id: request.id.map(convert::write_id),
        write: Write::Expire { key: Key::new(request.key)?, ttl_ms: request.ttl_ms },
    };
    match backend.call(Operation::Write(command), deadline_ms).await? {
        Reply::Expire { existed, version } => Ok(ExpireResponse { existed, version: version.0 }),
        other => Err(unexpected(&other)),
    }
}

/// `Kv.Batch`.
pub async fn batch<B: Backend>(backend: &B, request: BatchRequest, deadline_ms: u64) -> Result<BatchResponse, Error> {
    let bucket = BucketName::new(request.bucket)?;
    if request.ops.len() > BATCH_OPS_MAX {
        let count = request.ops.len();
        return Err(Error::invalid(format!("the batch has {count} operations, the most is {BATCH_OPS_MAX}")));
    }
    let ops = request.ops.into_iter().map(convert::batch_op).collect::<Result<Vec<_>, _>>()?;
    let command = Command { bucket, id: request.id.map(convert::write_id), write: Write::Batch { ops } };
    match backend.call(Operation::Write(command), deadline_ms).await? {
        Reply::Batch { version, results } => {
            Ok(BatchResponse { version: version.0, results: results.into_iter().map(reply::op_result).collect() })
        }
        other => Err(unexpected(&other)),
    }
}

/// `Kv.Txn`.
pub async fn txn<B: Backend>(backend: &B, request: TxnRequest, deadline_ms: u64) -> Result<TxnResponse, Error> {
    let bucket = BucketName::new(request.bucket)?;
    let count = request.compare.len() + request.success.len() + request.failure.len();
    if count > BATCH_OPS_MAX {
        let message = format!("the transaction has {count} comparisons and operations, the most is {BATCH_OPS_MAX}");
        return Err(Error::invalid(message));
    }
    let ops = |ops: Vec<Op>| ops.into_iter().map(convert::batch_op).collect::<Result<Vec<_>, _>>();
    let write = Write::Txn {
        compare: request.compare.into_iter().map(convert::compare).collect::<Result<Vec<_>, _>>()?,
        success: ops(request.success)?,
        failure: ops(request.failure)?,
    };
    let command = Command { bucket, id: request.id.map(convert::write_id), write };
    match backend.call(Operation::Write(command), deadline_ms).await? {
        Reply::Txn { succeeded, version, results } => Ok(TxnResponse {
            succeeded,
            version: version.0,
            results: results.into_iter().map(reply::op_result).collect(),
        }),
        other => Err(unexpected(&other)),
    }
}

/// `Kv.OpenSession`: in the bucket's group, whether the bucket exists or not.
pub async fn open_session<B: Backend>(
    backend: &B,
    request: OpenSessionRequest,
    deadline_ms: u64,
) -> Result<OpenSessionResponse, Error> {
    let bucket = BucketName::new(request.bucket)?;
    let group = group_of(&bucket, backend.groups());
    let command = Command { bucket, id: None, write: Write::OpenSession };
    match backend.call(Operation::Write(command), deadline_ms).await? {
        Reply::SessionOpened { session } => Ok(OpenSessionResponse { session, group: group.0 }),
        other => Err(unexpected(&other)),
    }
}

/// `Kv.Scan`: opens a view and answers its first page, and where to go on if there are more.
pub async fn scan<B: Backend>(
    backend: &B,
    request: ScanRequest,
    deadline_ms: u64,
) -> Result<(ScanChunk, Option<OpenView>), Error> {
    let bucket = BucketName::new(request.bucket)?;
    let mode = convert::read_mode(request.read)?;
    let range = convert::key_range(request.range)?;
    let group = group_of(&bucket, backend.groups());
    let op =
        ReadOp::Scan { bucket, range, limit: request.limit, reverse: request.reverse, keys_only: request.keys_only };
    page_of(group, backend.call(Operation::Read(group, mode, op), deadline_ms).await?)
}

/// The next page of a scan.
pub async fn scan_next<B: Backend>(
    backend: &B,
    open: OpenView,
    deadline_ms: u64,
) -> Result<(ScanChunk, Option<OpenView>), Error> {
    let operation = Operation::Read(open.group, ReadMode::Local, ReadOp::ScanNext { view: open.view });
    page_of(open.group, backend.call(operation, deadline_ms).await?)
}

/// Ends a scan before its last page. That its view may be gone already is no error.
pub async fn scan_end<B: Backend>(backend: &B, open: OpenView, deadline_ms: u64) -> Result<(), Error> {
    let operation = Operation::Read(open.group, ReadMode::Local, ReadOp::ScanEnd { view: open.view });
    backend.call(operation, deadline_ms).await.map(drop)
}

/// A view of a group that a scan has open: it must be read to its end, or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenView {
    group: GroupId,
    view: ViewId,
}

fn page_of(group: GroupId, answer: Reply) -> Result<(ScanChunk, Option<OpenView>), Error> {
    match answer {
        Reply::Page(Page { entries, version, next, more }) => {
            let entries = entries.into_iter().map(reply::entry).collect();
            let chunk = ScanChunk { entries, version: version.0, more };
            Ok((chunk, next.map(|view| OpenView { group, view })))
        }
        other => Err(unexpected(&other)),
    }
}
