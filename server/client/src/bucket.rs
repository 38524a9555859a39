//! The calls on one bucket.

use crate::logic::Kind;
use crate::proto::{
    BatchRequest, BatchResponse, Condition, DeleteRequest, DeleteResponse, Entry, ExpireRequest, ExpireResponse,
    GetManyRequest, GetRequest, PutRequest, PutResponse, ReadMode, TxnRequest, TxnResponse,
};
use crate::{Batch, Client, Code, Error, Scan, ScanStream, Txn};
use bytes::Bytes;
use std::time::Duration;

/// A bucket of a cluster, which need not exist yet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    pub(crate) fn new(client: Client, name: String) -> Bucket {
        Bucket { client, name }
    }

    /// The bucket's name; empty for the default bucket if it was given so.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client whose bucket this is.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The entry of a key, or `None`. Sees every write that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Code::BucketNotFound`], [`Code::InvalidArgument`], and what any read can end with: [`Code::NoLeader`],
    /// [`Code::NotReady`], [`Code::Overloaded`], [`Code::Unreachable`], [`Code::Unavailable`],
    /// [`Code::DeadlineExceeded`] when retrying did not help in time.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Entry>, Error> {
        self.get_with(key, ReadMode::Linearizable).await
    }

    /// The entry of a key, as fresh as `read` says.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn get_with(&self, key: impl Into<Bytes>, read: ReadMode) -> Result<Option<Entry>, Error> {
        let request = GetRequest { bucket: self.name.clone(), key: key.into(), read: read.into() };
        let response =
            self.client
                .call(kind_of(read), Some(&self.name), request, |mut stubs, request| async move {
                    stubs.kv.get(request).await
                })
                .await?;
        Ok(response.entry)
    }

    /// The entries of several keys, in the order asked, from one consistent view.
    ///
    /// # Errors
    /// As [`Bucket::get`].
    pub async fn get_many(&self, keys: Vec<Bytes>, read: ReadMode) -> Result<Vec<Option<Entry>>, Error> {
        let request = GetManyRequest { bucket: self.name.clone(), keys, read: read.into() };
        let response = self
            .client
            .call(kind_of(read), Some(&self.name), request, |mut stubs, request| async move {
                stubs.kv.get_many(request).await
            })
            .await?;
        Ok(response.entries.into_iter().map(|found| found.entry).collect())
    }

    /// Writes a pair and says its version.
    ///
    /// # Errors
    /// [`Code::BucketNotFound`], [`Code::InvalidArgument`], [`Code::QuotaExceeded`]; [`Code::NoLeader`],
    /// [`Code::NotReady`], [`Code::Overloaded`], [`Code::Unreachable`] when retrying did not help in time, and nothing
    /// was written; [`Code::OutcomeUnknown`] or [`Code::DeadlineExceeded`] when it may have been.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, Error> {
        self.put_always(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }).await
    }

    /// Writes a pair that is gone when its time to live is over, and says its version. The time is counted in whole
    /// milliseconds, by the cluster.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for less than a millisecond or more than 100 years; else as [`Bucket::put`].
    pub async fn put_for(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        time_to_live: Duration,
    ) -> Result<u64, Error> {
        let ttl_ms = Some(whole_ms(time_to_live));
        self.put_always(PutRequest { key: key.into(), value: value.into(), ttl_ms, ..PutRequest::default() }).await
    }

    async fn put_always(&self, request: PutRequest) -> Result<u64, Error> {
        let response = self.put_with(request).await?;
        if response.applied {
            Ok(response.version)
        } else {
            Err(Error::new(Code::Internal, "a write without a condition was answered as not applied"))
        }
    }

    /// Gives a key that is there another time to live, from now on; `None`: it stays. False if it was not there.
    ///
    /// # Errors
    /// As [`Bucket::put_for`].
    pub async fn expire(&self, key: impl Into<Bytes>, time_to_live: Option<Duration>) -> Result<bool, Error> {
        let request = ExpireRequest { key: key.into(), ttl_ms: time_to_live.map(whole_ms), ..ExpireRequest::default() };
        self.expire_with(request).await.map(|response| response.existed)
    }

    /// Another time to live, with all that the protocol offers. The request's bucket is set to this one.
    ///
    /// # Errors
    /// As [`Bucket::put_for`].
    pub async fn expire_with(&self, mut request: ExpireRequest) -> Result<ExpireResponse, Error> {
        request.bucket.clone_from(&self.name);
        self.client.write(&self.name, request, |mut stubs, request| async move { stubs.kv.expire(request).await }).await
    }

    /// Writes a pair if the condition is met, and answers also when it is not: see `applied`.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn put_if(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        condition: Condition,
    ) -> Result<PutResponse, Error> {
        let condition = Some(condition);
        self.put_with(PutRequest { key: key.into(), value: value.into(), condition, ..PutRequest::default() }).await
    }

    /// A write with all that the protocol offers. The request's bucket is set to this one.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn put_with(&self, mut request: PutRequest) -> Result<PutResponse, Error> {
        request.bucket.clone_from(&self.name);
        self.client.write(&self.name, request, |mut stubs, request| async move { stubs.kv.put(request).await }).await
    }

    /// Removes a key. False if it was not there.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<bool, Error> {
        let request = DeleteRequest { key: key.into(), ..DeleteRequest::default() };
        self.delete_with(request).await.map(|response| response.existed)
    }

    /// Removes a key if the condition is met, and answers also when it is not: see `applied`.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn delete_if(&self, key: impl Into<Bytes>, condition: Condition) -> Result<DeleteResponse, Error> {
        let condition = Some(condition);
        self.delete_with(DeleteRequest { key: key.into(), condition, ..DeleteRequest::default() }).await
    }

    /// A removal with all that the protocol offers. The request's bucket is set to this one.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn delete_with(&self, mut request: DeleteRequest) -> Result<DeleteResponse, Error> {
        request.bucket.clone_from(&self.name);
        self.client.write(&self.name, request, |mut stubs, request| async move { stubs.kv.delete(request).await }).await
    }

    /// Applies all operations of a batch, in order, or none of them.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn batch(&self, batch: Batch) -> Result<BatchResponse, Error> {
        let request = BatchRequest { bucket: self.name.clone(), ops: batch.ops, id: None };
        self.client.write(&self.name, request, |mut stubs, request| async move { stubs.kv.batch(request).await }).await
    }

    /// Compares, and does one of two batches, all of it or nothing.
    ///
    /// # Errors
    /// As [`Bucket::put`].
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        let request = TxnRequest { bucket: self.name.clone(), ..txn.request };
        self.client.write(&self.name, request, |mut stubs, request| async move { stubs.kv.txn(request).await }).await
    }

    /// Adds to a value that is a decimal number, and says the sum; a missing one counts as 0.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] where the value is no number or the sum has more than 64 bits; else as [`Bucket::put`].
    pub async fn increment(&self, key: impl Into<Bytes>, by: i64) -> Result<i64, Error> {
        let response = self.batch(Batch::new().increment(key, by)).await?;
        let entry = response.results.into_iter().next().and_then(|result| result.entry);
        let sum = entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok());
        sum.ok_or_else(|| Error::new(Code::Internal, "an increment was answered without a number"))
    }

    /// Reads entries in order, chunk by chunk, all from one consistent view. The client's time limit holds for the
    /// first chunk and for the wait between two chunks, not for the whole.
    ///
    /// # Errors
    /// As [`Bucket::get`], up to the first chunk. Afterwards the stream itself ends with an error.
    pub async fn scan(&self, scan: Scan) -> Result<ScanStream, Error> {
        let mut request = scan.request;
        request.bucket.clone_from(&self.name);
        ScanStream::open(&self.client, kind_of(request.read()), request).await
    }
}

/// A longer time than can be said is longer than what a cluster takes, too.
pub(crate) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn kind_of(read: ReadMode) -> Kind {
    match read {
        ReadMode::Linearizable => Kind::Read,
        ReadMode::Local => Kind::LocalRead,
    }
}
