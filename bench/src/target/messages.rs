//! The requests of one client, made once and filled in anew for each operation.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::{Target, drey, etcd};
use crate::grpc::write_message;
use crate::keys::{KEY_LENGTH, write_key};

/// The requests of one client to one system.
pub(crate) struct Messages {
    requests: Requests,
    buffer: BytesMut,
}

enum Requests {
    Drey { put: drey::PutRequest, get: drey::GetRequest },
    Etcd { put: etcd::PutRequest, get: etcd::RangeRequest },
}

impl Messages {
    /// Requests to `target`; etcd has no buckets and ignores `bucket`.
    pub(crate) fn new(target: Target, bucket: &str) -> Self {
        let (bucket, key) = (bucket.to_owned(), Vec::with_capacity(KEY_LENGTH));
        let requests = match target {
            Target::Drey => Requests::Drey {
                put: drey::PutRequest { bucket: bucket.clone(), key: key.clone(), value: Bytes::new() },
                get: drey::GetRequest { bucket, key },
            },
            Target::Etcd => Requests::Etcd {
                put: etcd::PutRequest { key: key.clone(), value: Bytes::new() },
                get: etcd::RangeRequest { key },
            },
        };
        Self { requests, buffer: BytesMut::new() }
    }

    /// A framed request that puts key number `key`.
    pub(crate) fn put(&mut self, key: u64, value: Bytes) -> Bytes {
        match &mut self.requests {
            Requests::Drey { put, .. } => {
                write_key(key, &mut put.key);
                put.value = value;
                write_message(put, &mut self.buffer)
            }
            Requests::Etcd { put, .. } => {
                write_key(key, &mut put.key);
                put.value = value;
                write_message(put, &mut self.buffer)
            }
        }
    }

    /// A framed request that gets key number `key`.
    pub(crate) fn get(&mut self, key: u64) -> Bytes {
        match &mut self.requests {
            Requests::Drey { get, .. } => {
                write_key(key, &mut get.key);
                write_message(get, &mut self.buffer)
            }
            Requests::Etcd { get, .. } => {
                write_key(key, &mut get.key);
                write_message(get, &mut self.buffer)
            }
        }
    }

    /// Whether the answer to a get holds the key that was asked for last, or `None` when it cannot be read.
    pub(crate) fn found(&self, answer: Bytes) -> Option<bool> {
        match &self.requests {
            Requests::Drey { get, .. } => {
                let entry = drey::GetResponse::decode(answer).ok()?.entry;
                // The entry need not repeat the key; if it does, it is the right one.
                entry.map_or(Some(false), |entry| (entry.key.is_empty() || entry.key == get.key).then_some(true))
            }
            Requests::Etcd { get, .. } => match &*etcd::RangeResponse::decode(answer).ok()?.kvs {
                [] => Some(false),
                [found] if found.key == get.key => Some(true),
                _ => None,
            },
        }
    }
}
