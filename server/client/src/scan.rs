//! A scan under way.
//!
//! Until the first chunk is here a scan is a read like any other and is tried again as one. After it the rest must come
//! from the same view of the bucket, which only the node that sent it has: a broken stream is an error that says where
//! to go on.

use crate::logic::Kind;
use crate::proto::{Entry, ScanChunk, ScanRequest};
use crate::transport;
use crate::{Client, Code, Error};
use bytes::Bytes;
use std::time::Duration;
use tonic::Streaming;

/// The chunks of a scan, in order.
#[derive(Debug)]
pub struct ScanStream {
    first: Option<ScanChunk>,
    rest: Streaming<ScanChunk>,
    pause_max: Duration,
    last_key: Option<Bytes>,
}

impl ScanStream {
    pub(crate) async fn open(client: &Client, kind: Kind, request: ScanRequest) -> Result<ScanStream, Error> {
        let bucket = request.bucket.clone();
        let (first, rest) = client
            .attempts(kind, Some(&bucket), |mut stubs, _| {
                // No `grpc-timeout`: it would limit the whole stream, and dropping the stream ends it at the server too.
                let request = tonic::Request::new(request.clone());
                async move {
                    let (metadata, mut stream, extensions) = stubs.kv.scan(request).await?.into_parts();
                    let first = stream.message().await?;
                    Ok(tonic::Response::from_parts(metadata, (first, stream), extensions))
                }
            })
            .await?;
        Ok(ScanStream { first, rest, pause_max: client.timeout(), last_key: None })
    }

    /// The next chunk; `None` when there are no more. A chunk may be empty.
    ///
    /// # Errors
    /// The stream broke ([`Code::Unavailable`]), paused for longer than the client's time limit
    /// ([`Code::DeadlineExceeded`]), or the node ended it with an error of its own.
    pub async fn next_chunk(&mut self) -> Result<Option<ScanChunk>, Error> {
        let chunk = match self.first.take() {
            Some(first) => Some(first),
            None => match tokio::time::timeout(self.pause_max, self.rest.message()).await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(status)) => return Err(self.broken(transport::classify(&status, "the node").1)),
                Err(_) => {
                    let message = format!("no entry came for {:?}", self.pause_max);
                    return Err(self.broken(Error::new(Code::DeadlineExceeded, message)));
                }
            },
        };
        if let Some(entry) = chunk.as_ref().and_then(|chunk| chunk.entries.last()) {
            self.last_key = Some(entry.key.clone());
        }
        Ok(chunk)
    }

    /// All entries that are left, in memory. Give the scan a limit first where the bucket may be large.
    ///
    /// # Errors
    /// As [`ScanStream::next_chunk`].
    pub async fn collect(mut self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        while let Some(chunk) = self.next_chunk().await? {
            entries.extend(chunk.entries);
        }
        Ok(entries)
    }

    /// The key to go on from after an error: the last one that was delivered.
    pub fn last_key(&self) -> Option<&Bytes> {
        self.last_key.as_ref()
    }

    fn broken(&self, error: Error) -> Error {
        let place = match &self.last_key {
            Some(key) => format!("the scan ended after key \"{}\"", key.escape_ascii()),
            None => "the scan ended before its first entry".to_owned(),
        };
        Error { message: format!("{place}: {}", error.message), ..error }
    }
}
