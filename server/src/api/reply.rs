//! From what core answers to the messages of the protocol.

use drey_client::proto;
use drey_core::request::{BucketInfo, Entry, OpResult};

pub(super) fn entry(entry: Entry) -> proto::Entry {
    proto::Entry { key: entry.key, value: entry.value, version: entry.version.0, ttl_ms: entry.ttl_ms }
}

pub(super) fn op_result(result: OpResult) -> proto::OpResult {
    proto::OpResult { affected: result.affected, entry: result.entry.map(entry), keys: Vec::new() }
}

pub(super) fn bucket(bucket: BucketInfo) -> proto::Bucket {
    proto::Bucket {
        name: bucket.name.as_str().to_owned(),
        group: bucket.group.0,
        keys_estimate: bucket.keys_estimate,
        bytes_estimate: bucket.bytes_estimate,
        default_ttl_ms: bucket.default_ttl_ms,
        max_bytes: bucket.max_bytes,
        created_ms: bucket.created_ms,
        created_version: bucket.created_version.0,
    }
}
