//! TCP streams on an executor. Listening is [`crate::listener`]'s, on a plain thread.

use std::{
    cell::{Cell, RefCell},
    fmt,
    io::{self, IoSlice},
    net::{Shutdown, SocketAddr},
    os::fd::{FromRawFd, IntoRawFd},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite};

/// How much [`TcpStream::sniff`] can look ahead.
pub const SNIFF_MAX: usize = 4_096;

/// How many bytes a vectored write gathers into one `send`.
const GATHER_MAX: usize = 64 << 10;

thread_local! {
    /// Where a vectored write gathers. One per executor: it is used within a call only.
    static GATHER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connected TCP socket with `TCP_NODELAY`, usable on the executor that made it. Reads and writes through the
/// `AsyncRead` and `AsyncWrite` of `futures-io`. Dropping it closes the connection.
pub struct TcpStream {
    stream: glommio::net::TcpStream,
    peer: SocketAddr,
    /// Bytes that were received and looked at, and are yet to be read.
    ahead: Vec<u8>,
    /// Whatever is to live as long as the connection, such as its place among those admitted.
    _attached: Option<Box<dyn std::any::Any>>,
}

impl TcpStream {
    /// Takes over a connected socket, on this executor. Fails if the peer has already gone.
    pub fn from_std(socket: std::net::TcpStream) -> io::Result<TcpStream> {
        let peer = socket.peer_addr()?;
        socket.set_nodelay(true)?;
        #[allow(unsafe_code)]
        // SAFETY: the descriptor is a connected socket's, and ownership of it passes from one to the other.
        let stream = unsafe { glommio::net::TcpStream::from_raw_fd(socket.into_raw_fd()) };
        Ok(TcpStream { stream, peer, ahead: Vec::new(), _attached: None })
    }

    /// Keeps `attached` until the connection is dropped.
    pub fn attach(mut self, attached: impl std::any::Any) -> TcpStream {
        self._attached = Some(Box::new(attached));
        self
    }

    /// Who is on the other side.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The first bytes of what is yet to be read, without taking them: waits until there are `length` (at most
    /// [`SNIFF_MAX`]) or the peer sends no more. Later reads start with them.
    pub async fn sniff(&mut self, length: usize) -> io::Result<&[u8]> {
        let length = length.min(SNIFF_MAX);
        while self.ahead.len() < length {
            let mut more = [0; SNIFF_MAX];
            let room = SNIFF_MAX - self.ahead.len();
            let read = self.stream.read(&mut more[..room]).await?;
            if read == 0 {
                break;
            }
            self.ahead.extend_from_slice(&more[..read]);
        }
        Ok(&self.ahead[..length.min(self.ahead.len())])
    }

    /// Two halves for two tasks of this executor. The connection closes when both are dropped.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        let stream = Rc::new(RefCell::new(self));
        (ReadHalf { stream: Rc::clone(&stream) }, WriteHalf { stream })
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TcpStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Connects to `address`, or fails with `TimedOut`. Dropping the future gives up.
pub async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    // Zero is refused below; what is meant is "at once".
    let timeout = timeout.max(Duration::from_millis(1));
    let stream = glommio::net::TcpStream::connect_timeout(address, timeout).await.map_err(io::Error::from)?;
    stream.set_nodelay(true).map_err(io::Error::from)?;
    Ok(TcpStream { stream, peer: address, ahead: Vec::new(), _attached: None })
}

impl AsyncRead for TcpStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.ahead.is_empty() {
            let length = buffer.len().min(self.ahead.len());
            buffer[..length].copy_from_slice(&self.ahead[..length]);
            self.ahead.drain(..length);
            if self.ahead.is_empty() {
                self.ahead = Vec::new();
            }
            return Poll::Ready(Ok(length));
        }
        loop {
            match ready!(Pin::new(&mut self.stream).poll_read(context, buffer)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match ready!(Pin::new(&mut self.stream).poll_write(context, buffer)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// One `send` of everything, up to a limit: a copy costs less than a system call for each slice.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        let Some(first) = filled.next() else { return self.poll_write(context, &[]) };
        let Some(second) = filled.next() else { return self.poll_write(context, first) };
        if first.len() >= GATHER_MAX {
            return self.poll_write(context, first);
        }
        let mut gathered = GATHER.take();
        gathered.clear();
        for slice in [first, second].into_iter().chain(filled) {
            let room = GATHER_MAX - gathered.len();
            if room == 0 {
                break;
            }
            gathered.extend_from_slice(&slice[..room.min(slice.len())]);
        }
        let written = self.poll_write(context, &gathered);
        GATHER.set(gathered);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that nothing more will come; reading goes on.
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_close(context)) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

/// The reading half of a [`TcpStream`].
#[derive(Debug)]
pub struct ReadHalf {
    stream: Rc<RefCell<TcpStream>>,
}

/// The writing half of a [`TcpStream`]. Dropping it tells the peer that nothing more will come.
#[derive(Debug)]
pub struct WriteHalf {
    stream: Rc<RefCell<TcpStream>>,
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_write_vectored(context, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_close(context)
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        let context = &mut Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(&mut *self.stream.borrow_mut()).poll_close(context);
    }
}

impl ReadHalf {
    /// Ends both directions at once; the writing half's next write fails.
    pub fn shut_down(&self) {
        let stream = self.stream.borrow();
        let mut ended = std::pin::pin!(stream.stream.shutdown(Shutdown::Both));
        // Ready at once: it is one system call.
        let _ = ended.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
    }
}
