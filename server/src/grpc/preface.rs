//! What does a connection speak? Its first bytes tell, before a parser is given them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite};

/// What a client of HTTP/2 sends first (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http2,
    Http1,
    Unknown,
}

/// Reads until it is clear what is spoken, and gives the stream back as if nothing had been read.
pub(super) async fn detect<S>(mut stream: S, timeout: Duration) -> io::Result<(Protocol, Rewound<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut first = [0; HTTP2_PREFACE.len()];
    let mut length = 0;
    let reading = async {
        loop {
            let read = stream.read(&mut first[length..]).await?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            length += read;
            if let Some(protocol) = protocol_of(&first[..length]) {
                return Ok(protocol);
            }
        }
    };
    let late = async {
        drey_io::runtime::sleep(timeout).await;
        Err(io::Error::from(io::ErrorKind::TimedOut))
    };
    let protocol = futures_lite::future::or(reading, late).await?;
    Ok((protocol, Rewound { ahead: first, start: 0, end: length, stream }))
}

/// None while more bytes are needed.
fn protocol_of(first: &[u8]) -> Option<Protocol> {
    if first == HTTP2_PREFACE {
        Some(Protocol::Http2)
    } else if HTTP2_PREFACE.starts_with(first) {
        None
    } else if first.first().is_some_and(u8::is_ascii_uppercase) {
        // A method. Whether the rest is HTTP/1 its parser will see.
        Some(Protocol::Http1)
    } else {
        Some(Protocol::Unknown)
    }
}

/// A stream whose first bytes were read already, and are read again.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    ahead: [u8; HTTP2_PREFACE.len()],
    start: usize,
    end: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.start == self.end {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = buffer.len().min(self.end - self.start);
        buffer[..length].copy_from_slice(&self.ahead[self.start..self.start + length]);
        self.start += length;
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_told_by_the_first_byte_that_differs() {
        assert_eq!(protocol_of(HTTP2_PREFACE), Some(Protocol::Http2));
        assert_eq!(protocol_of(b"P"), None);
        assert_eq!(protocol_of(&HTTP2_PREFACE[..23]), None);
        assert_eq!(protocol_of(b"PU"), Some(Protocol::Http1));
        assert_eq!(protocol_of(b"GET / HTTP/1.1\r\n"), Some(Protocol::Http1));
        assert_eq!(protocol_of(b"PRI * HTTP/2.0\r\n\r\nXX"), Some(Protocol::Http1));
        assert_eq!(protocol_of(b"\x16\x03\x01"), Some(Protocol::Unknown));
        assert_eq!(protocol_of(b"*1\r\n"), Some(Protocol::Unknown));
    }
}
