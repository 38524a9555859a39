//! A client that writes whatever happens: what one node does not acknowledge, it asks of the next.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::acks::Acks;
use super::args::KillsArgs;
use crate::grpc::{CallError, Connection, Link};
use crate::target::{Messages, Target};

/// Between two attempts at a write. Longer would show in the gap; without it, 64 clients in tight loops would take the
/// processor from the nodes that elect a leader.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// What the clients of one cluster share.
pub(super) struct Shared {
    target: Target,
    args: KillsArgs,
    value: Bytes,
    acks: Mutex<Acks>,
    /// Told when the first write that was sent after a kill is acknowledged.
    pub(super) resumed: Notify,
    /// How often a killed node has come back.
    returns: AtomicU64,
    stopped: AtomicBool,
}

impl Shared {
    pub(super) fn new(target: Target, args: &KillsArgs) -> Arc<Self> {
        Arc::new(Self {
            target,
            args: args.clone(),
            value: vec![b'v'; args.value_size].into(),
            acks: Mutex::new(Acks::new(Instant::now())),
            resumed: Notify::new(),
            returns: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        })
    }

    /// The acknowledgements. All run on one thread and hold them for no await, so that nobody ever waits for them.
    pub(super) fn acks(&self) -> MutexGuard<'_, Acks> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the clients back to where they began, so that they are spread over all nodes at each kill.
    pub(super) fn send_home(&self) {
        self.returns.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the clients, each after its write.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// A node as a client reaches it.
struct Door {
    link: Link,
    put: Request<()>,
}

/// One client.
pub(super) struct Writer {
    number: usize,
    shared: Arc<Shared>,
    doors: Vec<Door>,
    at: usize,
    connection: Connection,
    messages: Messages,
    /// The returns that it has heeded.
    returns: u64,
}

impl Writer {
    /// Client `number`, which begins at one of the links and knows them all.
    pub(super) async fn new(number: usize, shared: Arc<Shared>, links: &[Link]) -> Self {
        let door = |link: &Link| Door { link: link.clone(), put: link.request(shared.target.put_method()) };
        let at = number % links.len();
        Self {
            number,
            doors: links.iter().map(door).collect(),
            at,
            connection: links[at].connection().await,
            messages: Messages::new(shared.target, &shared.args.bucket),
            returns: 0,
            shared,
        }
    }

    /// Writes until stopped.
    pub(super) async fn run(mut self) {
        let (step, keys) = (self.shared.args.clients as u64, self.shared.args.key_count);
        let mut key = self.number as u64;
        while !self.shared.stopped.load(Ordering::Relaxed) {
            let body = self.messages.put(key % keys, self.shared.value.clone());
            if self.attempt(body).await {
                key = key.wrapping_add(step);
                self.go_home().await;
            }
        }
    }

    /// Asks one node. False when it did not acknowledge: then the client is where the next attempt is to be made.
    async fn attempt(&mut self, body: Bytes) -> bool {
        let sent = Instant::now();
        let call = self.connection.call(self.doors[self.at].put.clone(), body);
        let error = match timeout(self.shared.args.attempt_timeout, call).await {
            Ok(Ok(_)) => {
                if self.shared.acks().acknowledged(sent, Instant::now()) {
                    self.shared.resumed.notify_one();
                }
                return true;
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        self.shared.acks().failed(error.as_ref().map_or("timeout", CallError::name));
        sleep(PAUSE_AFTER_ERROR).await;
        self.move_on(matches!(error, Some(CallError::Connection(_)))).await;
        false
    }

    /// Goes to the next node, unless this one only broke the connection and takes another. Where nobody listens, trying that
    /// costs nothing.
    async fn move_on(&mut self, is_broken: bool) {
        if is_broken && let Ok(connection) = self.doors[self.at].link.replace(&self.connection).await {
            self.connection = connection;
            return;
        }
        self.go_to((self.at + 1) % self.doors.len()).await;
    }

    /// Goes back to where it began, when a killed node has returned.
    async fn go_home(&mut self) {
        let returns = self.shared.returns.load(Ordering::Relaxed);
        if self.returns != returns {
            self.returns = returns;
            self.go_to(self.number % self.doors.len()).await;
        }
    }

    async fn go_to(&mut self, at: usize) {
        self.at = at;
        self.connection = self.doors[at].link.connection().await;
    }
}
