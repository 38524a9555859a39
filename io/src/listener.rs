//! Accepting connections, on a thread of its own, which hands each to a callback.
//!
//! A plain thread, because the executor's `accept` leaks a descriptor and loses a connection whenever it is
//! cancelled, and because a thread shares one port fairly among executors: the callback deals connections out, where
//! sockets with `SO_REUSEPORT` would also have let a second process take half of the connections unnoticed. Here a
//! second process is refused.

use std::{
    fmt, io,
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::runtime;

/// Connections that may wait for the accepting thread.
const BACKLOG: i32 = 4_096;

/// How long accepting pauses when no descriptor is left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(20);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process, or this one, already does.
    #[error("the address {0} is in use: stop what listens there (`ss -ltnp` shows it), or choose another --listen")]
    AddressInUse(SocketAddr),
    /// Something else.
    #[error("cannot listen on {address}: {source}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound and listening socket from which nobody accepts yet: the port is ours, and clients wait in its backlog.
#[derive(Debug)]
pub struct BoundListener {
    socket: Socket,
    address: SocketAddr,
}

impl BoundListener {
    /// Binds and listens. Port 0 has the system choose one. Right after a crash the port is free again.
    pub fn bind(address: SocketAddr) -> Result<BoundListener, BindError> {
        let bind = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            // On Linux this lets old connections linger in TIME_WAIT; it does not let two listeners share a port.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
            Ok(BoundListener { socket, address: bound })
        };
        bind().map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::AddressInUse(address),
            _ => BindError::Io { address, source },
        })
    }

    /// The address, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts to accept. `deliver` is called for each connection, on the accepting thread, and must not block it for
    /// long: usually it sends the connection to the mailbox of the next executor in turn. While `connections_max`
    /// connections are open, further ones are closed as they come.
    pub fn accept(
        self,
        connections_max: usize,
        deliver: impl FnMut(Connection) + Send + 'static,
    ) -> io::Result<Listener> {
        let shared = Arc::new(Shared {
            socket: self.socket,
            stopping: AtomicBool::new(false),
            open: Arc::new(AtomicUsize::new(0)),
            refused: AtomicU64::new(0),
        });
        let thread = thread::Builder::new().name(format!("drey-accept-{}", self.address.port())).spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept_all(connections_max, deliver)
        })?;
        Ok(Listener { shared, address: self.address, thread: Some(thread) })
    }
}

/// A listener at work. Dropping it stops it; connections that were delivered live on.
pub struct Listener {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<thread::JoinHandle<()>>,
}

impl Listener {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Connections that were closed at once because too many were open.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Stops accepting, and gives the port back.
    pub fn stop(self) {}
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Ends the accept that is under way, with an error.
        let _ = self.shared.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Listener")
            .field("address", &self.address)
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

struct Shared {
    socket: Socket,
    stopping: AtomicBool,
    open: Arc<AtomicUsize>,
    refused: AtomicU64,
}

impl Shared {
    fn accept_all(&self, connections_max: usize, mut deliver: impl FnMut(Connection)) {
        while !self.stopping.load(Ordering::Acquire) {
            match self.socket.accept() {
                Ok((socket, peer)) => {
                    // Only TCP was bound, so that the peer has an address.
                    let Some(peer) = peer.as_socket() else { continue };
                    let admission = Admission::new(&self.open);
                    if self.open.load(Ordering::Relaxed) > connections_max {
                        if self.refused.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
                            tracing::warn!(%peer, connections_max, "refused a connection: too many are open");
                        }
                        continue;
                    }
                    deliver(Connection { socket: socket.into(), peer, admission });
                }
                Err(_) if self.stopping.load(Ordering::Acquire) => return,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        tracing::warn!(%error, "cannot accept a connection for now");
                        thread::sleep(EXHAUSTED_PAUSE);
                    }
                    // The socket itself is unusable: no later call can succeed.
                    Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK) => {
                        tracing::error!(%error, "stopped accepting connections");
                        return;
                    }
                    // The peer's own trouble, or a signal.
                    _ => {}
                },
            }
        }
    }
}

/// Counts one open connection until it is dropped.
#[derive(Debug)]
struct Admission {
    open: Arc<AtomicUsize>,
}

impl Admission {
    fn new(open: &Arc<AtomicUsize>) -> Admission {
        open.fetch_add(1, Ordering::Relaxed);
        Admission { open: Arc::clone(open) }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An accepted connection on its way to an executor. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    peer: SocketAddr,
    admission: Admission,
}

impl Connection {
    /// Who connected.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Makes it usable on the executor that calls. It counts as open until the stream is dropped. Fails if the peer
    /// has already gone.
    pub fn into_stream(self) -> io::Result<runtime::TcpStream> {
        Ok(runtime::TcpStream::from_std(self.socket)?.attach(self.admission))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, sync::mpsc, time::Instant};

    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn a_second_listener_on_the_port_is_refused_until_the_first_stops() {
        let bound = BoundListener::bind(loopback()).unwrap();
        let address = bound.address();
        let second = BoundListener::bind(address).unwrap_err();
        assert!(matches!(second, BindError::AddressInUse(refused) if refused == address), "{second}");
        let (sender, delivered) = mpsc::channel();
        let listener = bound.accept(10, move |connection| sender.send(connection).unwrap()).unwrap();
        assert!(matches!(BoundListener::bind(address), Err(BindError::AddressInUse(_))));
        // The server closes first, so that its port stays in TIME_WAIT; and it stops in the middle of an accept.
        let mut client = TcpStream::connect(address).unwrap();
        drop(delivered.recv().unwrap());
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        listener.stop();
        drop(client);
        BoundListener::bind(address).unwrap();
    }

    #[test]
    fn connections_over_the_limit_are_closed_at_once() {
        let bound = BoundListener::bind(loopback()).unwrap();
        let address = bound.address();
        let (sender, delivered) = mpsc::channel();
        let listener = bound.accept(2, move |connection| sender.send(connection).unwrap()).unwrap();
        let connect = || TcpStream::connect(address).unwrap();
        let _clients = [connect(), connect()];
        let admitted = [delivered.recv().unwrap(), delivered.recv().unwrap()];
        assert_eq!(connect().read(&mut [0; 1]).unwrap(), 0, "closed without a byte");
        assert_eq!((listener.open(), listener.refused()), (2, 1));
        drop(admitted);
        let _client = connect();
        delivered.recv_timeout(Duration::from_secs(10)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while listener.open() > 0 {
            assert!(Instant::now() < deadline, "the connection that was dropped still counts");
            thread::yield_now();
        }
    }
}
