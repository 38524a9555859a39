//! Links to peers. Each shard dials each peer and sends on that link; what it receives comes on links that peers dialed.
//!
//! A link carries one frame a turn. What is sent while there is no link, or waits for too slow a one, is lost: core says when
//! ([`Outbox`]), and when to dial again ([`Redial`]).

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use drey_core::placement::shard_of;
use drey_core::system::Member;
use drey_core::wire::Envelope;
use drey_core::wire::frame::{self, FrameReader};
use drey_core::wire::handshake::{FIXED_BYTES, HandshakeError, Hello, Refusal, Standing};
use drey_core::wire::outbox::{Lost, Outbox};
use drey_core::wire::redial::Redial;
use drey_core::{Input, NodeId, ShardId};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use crate::mail::Mail;
use crate::notify::Notify;
use crate::resolve::resolve;
use crate::runtime::{self, ReadHalf, TaskHandle, TcpStream};
use crate::shard_handle::ShardHandle;
use crate::shared::Shared;

/// Told to peers, so that any node can tell what all of them run.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;
/// A longer frame has an allocation of its own. Others share theirs, and the log keeps entries that are parts of it for long: a large
/// frame beside them would stay in memory as long as they do.
const LARGE_FRAME_BYTES: usize = 64 << 10;

/// The sending end of a link.
pub(crate) struct PeerLink {
    outbox: RefCell<Outbox>,
    wake: Notify,
    peer: Member,
    dialing: RefCell<Option<TaskHandle>>,
}

impl PeerLink {
    /// Starts to dial a peer, for as long as the executor runs.
    pub fn start(handle: Rc<ShardHandle>, peer: Member) -> Rc<PeerLink> {
        let link =
            Rc::new(PeerLink { outbox: RefCell::default(), wake: Notify::new(), peer, dialing: RefCell::default() });
        let dialing = runtime::spawn(dial(Rc::clone(&link), handle));
        *link.dialing.borrow_mut() = Some(dialing);
        link
    }

    /// Where it leads to.
    pub fn address(&self) -> &str {
        &self.peer.address
    }

    /// Ends it for good.
    pub fn end(&self, handle: &ShardHandle) {
        if let Some(dialing) = self.dialing.take() {
            dialing.cancel();
        }
        if self.outbox.borrow().is_up() {
            self.outbox.borrow_mut().down();
            handle.push(Input::PeerDown(self.peer.id));
        }
    }

    /// Adds an envelope to the turn's frame.
    pub fn send(&self, envelope: &Envelope, shared: &Shared) {
        if let Err(Lost::Full) = self.outbox.borrow_mut().push(envelope) {
            shared.link_refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The turn has ended: what was sent goes out.
    pub fn flush(&self, shared: &Shared) {
        let waiting_bytes = self.outbox.borrow().waiting_bytes();
        if waiting_bytes > 0 {
            shared.link_bytes.store(waiting_bytes as u64, Ordering::Relaxed);
            self.wake.notify();
        }
    }
}

/// Dials again and again.
async fn dial(link: Rc<PeerLink>, handle: Rc<ShardHandle>) {
    let peer = &link.peer;
    let id = peer.id;
    let mut redial = Redial::default();
    let mut last_error = String::new();
    loop {
        let wait_ms = match connect(&handle, peer).await {
            Ok(Linked { stream, number, format }) => {
                tracing::info!(peer = peer.name, shard = handle.shard.0, "linked");
                last_error.clear();
                link.outbox.borrow_mut().up(number, format);
                handle.push(Input::PeerUp(id));
                let up = Instant::now();
                let error = carry(&link, stream).await;
                link.outbox.borrow_mut().down();
                handle.push(Input::PeerDown(id));
                tracing::warn!(peer = peer.name, error, "the link broke");
                redial.broke(up.elapsed().as_millis() as u64)
            }
            Err(error) => {
                let failed = redial.failed(error.refused);
                if failed.is_gone {
                    handle.push(Input::PeerGone(id));
                }
                // Said once, not at every attempt.
                if error.why != last_error {
                    tracing::warn!(peer = peer.name, address = peer.address, error = error.why, "cannot link");
                    last_error = error.why;
                }
                failed.wait_ms
            }
        };
        runtime::sleep(Duration::from_millis(wait_ms)).await;
    }
}

/// Why there is no link.
struct LinkError {
    why: String,
    /// Nobody listens there.
    refused: bool,
}

impl From<String> for LinkError {
    fn from(why: String) -> LinkError {
        LinkError { why, refused: false }
    }
}

/// A link that a peer has accepted.
struct Linked {
    stream: TcpStream,
    number: u64,
    format: u16,
}

async fn connect(handle: &ShardHandle, peer: &Member) -> Result<Linked, LinkError> {
    let mut stream = connect_to_any(&peer.address)
        .await
        .map_err(|error| LinkError { refused: error.kind() == ErrorKind::ConnectionRefused, why: error.to_string() })?;
    let own = handle.node.shared.hello(peer.id, handle.shard);
    stream.write_all(&own.encode_with_version(VERSION)).await.map_err(|error| error.to_string())?;
    let (answer, version) = within(HANDSHAKE_TIMEOUT, read_hello(&mut stream)).await?;
    handle.node.shared.judge(&own, &answer).map_err(|error| error.to_string())?;
    handle.node.shared.heard_version(peer.id, version);
    Ok(Linked { stream, number: own.link, format: own.common_format(&answer) })
}

/// A name may stand for several addresses, as `localhost` often does: the first that answers will do.
async fn connect_to_any(name: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in resolve(name).await? {
        match runtime::connect(address, CONNECT_TIMEOUT).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Sends frames until the link breaks; says how it broke.
async fn carry(link: &PeerLink, stream: TcpStream) -> String {
    let (mut read, mut write) = stream.split();
    let closed = Rc::new(Cell::new(false));
    // Whichever way this ends, its link being cut off included, the socket must not be held on.
    let _watcher = CancelOnDrop(runtime::spawn({
        // A peer sends nothing here: what can be read is its end.
        let (closed, wake) = (Rc::clone(&closed), link.wake.clone());
        async move {
            let _ = read.read(&mut [0; 1]).await;
            closed.set(true);
            wake.notify();
        }
    }));
    let mut bytes = Vec::new();
    loop {
        link.wake.notified().await;
        if closed.get() {
            break "closed by the peer".to_owned();
        }
        link.outbox.borrow_mut().take(&mut bytes);
        if let Err(error) = write.write_all(&bytes).await {
            break error.to_string();
        }
    }
}

/// Ends a task with whoever waits for it.
struct CancelOnDrop(TaskHandle);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Serves a link that a peer dialed, until it breaks.
pub(crate) async fn receive(handle: Rc<ShardHandle>, mut stream: TcpStream) {
    let from = stream.peer();
    let outcome = async {
        let (hello, _) = within(HANDSHAKE_TIMEOUT, read_hello(&mut stream)).await?;
        let own = handle.node.shared.hello(hello.from, handle.shard);
        let judged = handle.node.shared.judge(&own, &hello);
        let refused = judged
            .as_ref()
            .err()
            .map(|error| Refusal { reason: error.to_string(), for_good: matches!(error, HandshakeError::Outcast(_)) });
        let format = own.common_format(&hello);
        let answer = Hello { refused, ..own };
        stream.write_all(&answer.encode_with_version(VERSION)).await.map_err(|error| error.to_string())?;
        judged.map_err(|error| error.to_string())?;
        let (read, write) = stream.split();
        let stop = Notify::new();
        if handle.node.shared.roster.standing(hello.from) == Standing::Gone {
            // It was removed while the answer was on its way.
            stop.notify();
        }
        handle.listeners.borrow_mut().push((hello.from, stop.clone()));
        let stopped = async {
            stop.notified().await;
            Err("the peer is no member any more".to_owned())
        };
        let outcome = futures_lite::future::or(read_frames(&handle, hello.from, format, read), stopped).await;
        handle.listeners.borrow_mut().retain(|(_, other)| !other.is(&stop));
        drop(write);
        outcome
    };
    if let Err(error) = outcome.await {
        tracing::info!(%from, error, "a peer's link ended");
    }
}

async fn read_frames(handle: &ShardHandle, from: NodeId, format: u16, mut read: ReadHalf) -> Result<(), String> {
    let mut frames = FrameReader::of(format);
    let mut buffer = BytesMut::new();
    let mut landing = vec![0; READ_BYTES];
    loop {
        while let Some(bytes) = next_frame(&mut buffer)? {
            let envelopes = frames.read(bytes).map_err(|error| error.to_string())?;
            deliver(handle, from, envelopes.unwrap_or_default()).await;
        }
        let read = read.read(&mut landing).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Err("closed by the peer".into());
        }
        buffer.extend_from_slice(&landing[..read]);
    }
}

/// A whole frame from the front of what was received, if there is one.
fn next_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let Some(header) = buffer.first_chunk::<{ frame::HEADER_BYTES }>() else { return Ok(None) };
    let length = frame::HEADER_BYTES + frame::length(header).map_err(|error| error.to_string())?;
    if buffer.len() < length {
        buffer.reserve(length - buffer.len());
        return Ok(None);
    }
    let frame = buffer.split_to(length).freeze();
    if length > LARGE_FRAME_BYTES {
        *buffer = BytesMut::from(&buffer[..]);
    }
    Ok(Some(frame))
}

/// Hands envelopes to the shards of their groups.
async fn deliver(handle: &ShardHandle, from: NodeId, envelopes: Vec<Envelope>) {
    let shards = handle.node.shared.shards;
    if shards == 1 {
        return envelopes.into_iter().for_each(|envelope| handle.push(Input::Message(from, envelope)));
    }
    let mut others: Vec<Vec<Envelope>> = vec![Vec::new(); shards as usize];
    for envelope in envelopes {
        match shard_of(envelope.group, shards) {
            shard if shard == handle.shard => handle.push(Input::Message(from, envelope)),
            ShardId(shard) => others[shard as usize].push(envelope),
        }
    }
    for (mailbox, envelopes) in handle.node.mailboxes.iter().zip(others) {
        if !envelopes.is_empty() {
            // A closed mailbox means that the node is stopping.
            let _ = mailbox.send_when_free(Mail::Peer(from, envelopes)).await;
        }
    }
}

/// A peer's first words, and the version of its program.
async fn read_hello(stream: &mut TcpStream) -> Result<(Hello, Option<String>), String> {
    let mut fixed = [0; FIXED_BYTES];
    stream.read_exact(&mut fixed).await.map_err(|error| error.to_string())?;
    let length = Hello::length(&fixed).map_err(|error| error.to_string())?;
    let mut bytes = fixed.to_vec();
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[FIXED_BYTES..]).await.map_err(|error| error.to_string())?;
    let hello = Hello::decode(&bytes).map_err(|error| error.to_string())?;
    Ok((hello, Hello::version(&bytes)))
}

async fn within<T>(limit: Duration, future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let timeout = async {
        runtime::sleep(limit).await;
        Err("no answer in time".to_owned())
    };
    futures_lite::future::or(future, timeout).await
}
