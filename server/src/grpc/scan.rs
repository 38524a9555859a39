//! A scan as a stream of pages. Its view of the store is ended when the client goes away, whenever that is.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use drey_client::proto::{ScanChunk, ScanRequest};
use drey_core::Error;
use drey_io::runtime;
use futures_lite::Stream;

use super::message::frame;
use super::refusal::Refusal;
use super::timeout::{TIMEOUT_DEFAULT_MS, TIMEOUT_MAX_MS};
use crate::api::{self, Backend, OpenView};

type NextPage = Pin<Box<dyn Future<Output = Result<(ScanChunk, Option<OpenView>), Error>>>>;

/// The pages of a scan, each fetched when the one before it has been taken.
pub(super) struct ScanPages<B: Backend> {
    backend: B,
    /// The page that is being fetched.
    fetching: Option<NextPage>,
    /// The view to fetch from, once there is one.
    open: Option<OpenView>,
    /// When the client's time is over, if it said.
    end_ms: Option<u64>,
    failed: bool,
}

impl<B: Backend> ScanPages<B> {
    /// A scan that has `timeout_ms` for all its pages. Without, it may take for ever, and each page as long as any call.
    pub(super) fn new(backend: &B, request: ScanRequest, timeout_ms: Option<u64>) -> ScanPages<B> {
        let end_ms = timeout_ms.map(|timeout_ms| runtime::now().mono_ms + timeout_ms);
        let first = {
            let backend = backend.clone();
            let timeout_ms = timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS).min(TIMEOUT_MAX_MS);
            Box::pin(async move { api::scan(&backend, request, timeout_ms).await })
        };
        ScanPages { backend: backend.clone(), fetching: Some(first), open: None, end_ms, failed: false }
    }

    fn fetch(&self, open: OpenView) -> NextPage {
        let backend = self.backend.clone();
        let left_ms = self.end_ms.map(|end_ms| end_ms.saturating_sub(runtime::now().mono_ms));
        let timeout_ms = left_ms.unwrap_or(TIMEOUT_DEFAULT_MS).min(TIMEOUT_MAX_MS);
        Box::pin(async move {
            if timeout_ms == 0 {
                return Err(Error::DeadlineExceeded);
            }
            api::scan_next(&backend, open, timeout_ms).await
        })
    }
}

impl<B: Backend> Stream for ScanPages<B> {
    type Item = Result<Bytes, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        if self.fetching.is_none() {
            let Some(open) = self.open else { return Poll::Ready(None) };
            self.fetching = Some(self.fetch(open));
        }
        let Some(fetching) = self.fetching.as_mut() else { return Poll::Ready(None) };
        let fetched = ready!(fetching.as_mut().poll(context));
        self.fetching = None;
        let message = fetched.map_err(Refusal::from).and_then(|(page, next)| {
            self.open = next;
            frame(&page)
        });
        // The view of a scan that failed is still noted, and ended with the stream.
        self.failed = message.is_err();
        Poll::Ready(Some(message))
    }
}

impl<B: Backend> Drop for ScanPages<B> {
    fn drop(&mut self) {
        let (fetching, open) = (self.fetching.take(), self.open);
        if fetching.is_none() && open.is_none() {
            return;
        }
        let backend = self.backend.clone();
        runtime::spawn(async move {
            // A page that is on its way may be what opens the view, or what closes it.
            let open = match fetching {
                Some(fetching) => fetching.await.map_or(open, |(_, next)| next),
                None => open,
            };
            if let Some(open) = open
                && let Err(error) = api::scan_end(&backend, open, TIMEOUT_DEFAULT_MS).await
            {
                tracing::debug!(%error, "a scan was not ended; its view is closed once it has idled");
            }
        });
    }
}
