//! gRPC, served by hyper's HTTP/2 on an executor.
//!
//! tonic's transport wants tokio and `Send`; here a connection stays on the executor that took it. What a call costs is the
//! concern of this folder: one that changes or reads a key is matched by its path, read from the frame it came in, and
//! answered from one buffer, with no boxed future and no service stack between. Errors are tonic's statuses.
//!
//! - [`preface`] tells HTTP/2 from HTTP/1 and from anything else;
//! - [`dispatch`] finds the call, [`message`] takes its message apart, [`timeout`] its time;
//! - [`body`] is what goes back, [`scan`] and [`health`] the streams;
//! - [`refusal`] is the one table of errors, and [`plain`] the answer to who does not speak gRPC.

mod body;
mod dispatch;
mod health;
mod message;
mod plain;
mod preface;
mod refusal;
mod scan;
mod timeout;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use drey_client::MEMBERS_METADATA_KEY;
use drey_io::hyper_io::{HyperExecutor, HyperIo, HyperTimer};
use futures_lite::{AsyncRead, AsyncWrite};
use http::{HeaderMap, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;

use crate::api::Backend;
use preface::Protocol;

/// The most calls of one connection at a time. A client with more waits with the rest.
const STREAMS_MAX: u32 = 4_096;

/// The most calls of one connection that are cancelled before this node comes to them. A client may cancel all that it has at
/// once, as one does whose own caller went away; more than that is a client that floods, and ends its connection.
const CANCELLED_STREAMS_MAX: usize = STREAMS_MAX as usize;

/// The most calls of one connection that end for what its client did wrong in them.
const FAULTY_STREAMS_MAX: usize = STREAMS_MAX as usize;

/// What a client may send of one call before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// What a client may send of all its calls before they are read: the most that a connection holds unread.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// What is written ahead of one call's client.
const SEND_BUFFER_BYTES_MAX: usize = 1 << 20;

/// The most bytes of a call's headers.
const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// A connection that is silent for so long is asked whether it still lives…
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// …and has so long to say so.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take to say what it speaks.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// The least buffer that hyper takes for HTTP/1.
const HTTP1_BUFFER_BYTES_MAX: usize = 8 << 10;

/// Serves one connection until either side ends it. Whatever a client sends, nothing but its own connection suffers.
pub async fn serve_connection<B, S>(backend: B, stream: S)
where
    B: Backend,
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let outcome = match preface::detect(stream, PREFACE_TIMEOUT).await {
        Ok((Protocol::Http2, stream)) => serve_http2(backend, stream).await,
        Ok((Protocol::Http1, stream)) => serve_http1(stream).await,
        Ok((Protocol::Unknown, _)) => return tracing::debug!("closed a connection that speaks no HTTP"),
        Err(error) => return tracing::debug!(%error, "a connection ended before it said what it speaks"),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection failed");
    }
}

async fn serve_http2<B, S>(backend: B, stream: S) -> hyper::Result<()>
where
    B: Backend,
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let told = Rc::new(Cell::new(0));
    let service = service_fn(move |request| {
        let (backend, told) = (backend.clone(), Rc::clone(&told));
        async move {
            let mut response = dispatch::answer(&backend, request).await;
            tell_changes(backend.member_changes(), &told, response.headers_mut());
            Ok::<_, Infallible>(response)
        }
    });
    http2::Builder::new(HyperExecutor)
        .timer(HyperTimer)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(CANCELLED_STREAMS_MAX)
        .max_local_error_reset_streams(FAULTY_STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        // No client of gRPC looks at it.
        .auto_date_header(false)
        .serve_connection(HyperIo::new(stream), service)
        .await
}

/// Says once on each connection that the members have changed, so that a client asks who they are now. Of a cluster as it was
/// founded there is nothing to say.
fn tell_changes(changes: u64, told: &Cell<u64>, headers: &mut HeaderMap) {
    if told.replace(changes) != changes {
        headers.insert(MEMBERS_METADATA_KEY, HeaderValue::from(changes));
    }
}

/// One answer, that this is not where HTTP/1 is served, and the end.
async fn serve_http1<S>(stream: S) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(|request| async move { Ok::<_, Infallible>(plain::answer(&request)) });
    http1::Builder::new()
        .timer(HyperTimer)
        .header_read_timeout(PREFACE_TIMEOUT)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(HyperIo::new(stream), service)
        .await
}
