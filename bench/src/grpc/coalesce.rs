//! A socket that gathers what is written to it until its owner sends it all at once.
//!
//! HTTP/2 flushes after each turn of its connection, and before that whenever its own buffer is full or a DATA frame is
//! larger than it cares to copy. On loopback a send runs the receiver's side of TCP as well, several microseconds each
//! time, so the frames of all requests of a turn leave in one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Once so many bytes are waiting, writing waits for the socket.
const PENDING_BYTES_MAX: usize = 256 << 10;

/// The half that HTTP/2 reads from and writes to.
pub(super) struct Coalesced {
    input: OwnedReadHalf,
    output: Outgoing,
}

/// The half that sends.
#[derive(Clone)]
pub(super) struct Outgoing(Arc<Mutex<Pending>>);

struct Pending {
    socket: OwnedWriteHalf,
    bytes: BytesMut,
}

/// Makes both halves of `stream`.
pub(super) fn coalesce(stream: TcpStream) -> (Coalesced, Outgoing) {
    let (input, socket) = stream.into_split();
    let output = Outgoing(Arc::new(Mutex::new(Pending { socket, bytes: BytesMut::with_capacity(64 << 10) })));
    (Coalesced { input, output: output.clone() }, output)
}

impl Outgoing {
    fn with<T>(&self, act: impl FnOnce(&mut Pending) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends what is waiting, as far as the socket takes it.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|pending| pending.poll_send(context))
    }
}

impl Pending {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, &self.bytes))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Coalesced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(context, buffer)
    }
}

/// Not vectored on purpose: HTTP/2 then copies DATA frames of up to 1 KiB instead of 256 B into its buffer.
impl AsyncWrite for Coalesced {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.output.with(|pending| {
            if pending.bytes.len() >= PENDING_BYTES_MAX {
                ready!(pending.poll_send(context))?;
            }
            pending.bytes.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Does nothing: the connection's task sends after each of its turns.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.with(|pending| {
            ready!(pending.poll_send(context))?;
            Pin::new(&mut pending.socket).poll_shutdown(context)
        })
    }
}
