//! One HTTP/2 connection, the unary calls on it, and its replacement when it breaks.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::coalesce::coalesce;
use super::frame::{ANSWER_LENGTH_MAX, read_message, write_message};
use super::status::CallError;

/// Windows so large that updating them is rare; answers are read at once anyway.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// How many requests may be sent before the server has said how many it takes. Fewer than any server's limit: those above
/// it would be refused.
const STREAMS_BEFORE_SETTINGS: usize = 100;

/// How long connecting and the handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A handle to one connection, to be cloned for each client.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    /// Which of a link's successive connections this is.
    generation: u64,
}

impl Connection {
    /// Connects to `endpoint`, `host:port`, and drives the connection on a task of its own.
    async fn open(endpoint: &str, generation: u64) -> io::Result<Self> {
        let connecting = async {
            let stream = TcpStream::connect(endpoint).await?;
            stream.set_nodelay(true)?;
            let (socket, outgoing) = coalesce(stream);
            // The handshake only writes the preface, which the driving task sends with the first frames.
            let (sender, connection) = Builder::new()
                .initial_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .initial_max_send_streams(STREAMS_BEFORE_SETTINGS)
                .enable_push(false)
                .handshake(socket)
                .await
                .map_err(io::Error::other)?;
            io::Result::Ok((sender, connection, outgoing))
        };
        let (sender, mut connection, outgoing) =
            timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        tokio::spawn(async move {
            poll_fn(|context| {
                let closed = Pin::new(&mut connection).poll(context).is_ready();
                match outgoing.poll_send(context) {
                    // Whoever waits for an answer learns from `h2` that the connection is gone.
                    _ if closed => Poll::Ready(()),
                    Poll::Ready(Err(_)) => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            })
            .await;
        });
        Ok(Self { sender, generation })
    }

    /// Makes a unary call: `request` names the method, `body` is a framed message, and the answer is a message without frame.
    pub(crate) async fn call(&mut self, request: Request<()>, body: Bytes) -> Result<Bytes, CallError> {
        poll_fn(|context| self.sender.poll_ready(context)).await?;
        let (answer, mut stream) = self.sender.send_request(request, false)?;
        stream.send_data(body, true)?;
        let (head, mut body) = answer.await?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(CallError::Malformed(format!("HTTP status {}", head.status)));
        }
        let mut message = Bytes::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            message = append(message, chunk)?;
        }
        match body.trailers().await? {
            Some(trailers) => CallError::check(&trailers)?,
            // A call that failed at once has its status in the one block of headers.
            None => CallError::check(&head.headers)?,
        }
        read_message(message)
    }
}

/// Nearly every answer comes in one chunk, and is not copied.
fn append(message: Bytes, chunk: Bytes) -> Result<Bytes, CallError> {
    if message.is_empty() {
        return Ok(chunk);
    }
    if message.len() + chunk.len() > ANSWER_LENGTH_MAX {
        return Err(CallError::Malformed(format!("an answer of more than {ANSWER_LENGTH_MAX} bytes")));
    }
    let mut whole = BytesMut::from(message);
    whole.extend_from_slice(&chunk);
    Ok(whole.freeze())
}

/// A place for one connection at a time to one endpoint.
#[derive(Clone)]
pub(crate) struct Link {
    endpoint: Authority,
    current: Arc<Mutex<Connection>>,
}

impl Link {
    /// Connects to `endpoint`, `host:port`.
    pub(crate) async fn connect(endpoint: &str) -> io::Result<Self> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let endpoint = Authority::from_str(endpoint).map_err(invalid)?;
        let connection = Connection::open(endpoint.as_str(), 0).await?;
        Ok(Self { endpoint, current: Arc::new(Mutex::new(connection)) })
    }

    /// A handle to the connection.
    pub(crate) async fn connection(&self) -> Connection {
        self.current.lock().await.clone()
    }

    /// A connection in place of `broken`. Of many clients that saw it break, the first connects anew.
    pub(crate) async fn replace(&self, broken: &Connection) -> io::Result<Connection> {
        let mut current = self.current.lock().await;
        if current.generation == broken.generation {
            *current = Connection::open(self.endpoint.as_str(), broken.generation + 1).await?;
        }
        Ok(current.clone())
    }

    /// A request of `method`, as `/package.Service/Method`, to be cloned for each call.
    pub(crate) fn request(&self, method: &'static str) -> Request<()> {
        let uri = Uri::builder().scheme("http").authority(self.endpoint.clone()).path_and_query(method).build();
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.expect("scheme, authority and path are each valid");
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        *request.headers_mut() = headers;
        request
    }

    /// Makes one call that is not part of the load.
    pub(crate) async fn ask<A: Message + Default>(
        &self,
        method: &'static str,
        question: &impl Message,
    ) -> Result<A, CallError> {
        let body = write_message(question, &mut BytesMut::new());
        let answer = self.connection().await.call(self.request(method), body).await?;
        A::decode(answer).map_err(|error| CallError::Malformed(error.to_string()))
    }
}
