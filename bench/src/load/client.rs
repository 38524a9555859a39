//! One client: draws an operation, makes the call, waits, records.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use super::pace::{Pace, Ticket};
use super::record::{Kind, Outcome, Recorder};
use crate::grpc::{CallError, Connection, Link};
use crate::keys::KeyChooser;
use crate::target::{Messages, Target};

/// A client that got an error waits so long before its next operation: a failing server is not asked in a tight loop.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// Values are cut from this many random bytes and one value's more, so that making them costs nothing.
const VALUE_POOL_BYTES: usize = 64 << 10;

/// What the clients of one phase share.
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) bucket: String,
    pub(super) pace: Pace,
    pub(super) plan: Plan,
    pub(super) values: Values,
    recorder: Mutex<Recorder>,
}

impl Shared {
    pub(super) fn new(
        target: Target,
        bucket: &str,
        pace: Pace,
        plan: Plan,
        values: Values,
        clients: usize,
    ) -> Arc<Self> {
        let recorder = Mutex::new(Recorder::new(clients));
        Arc::new(Self { target, bucket: bucket.to_owned(), pace, plan, values, recorder })
    }

    /// The recorder. Clients run on one thread and hold it for no await, so that nobody ever waits for it.
    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which operations to make.
#[derive(Clone)]
pub(super) enum Plan {
    /// Each key is put once, in order.
    PutEach,
    /// Keys as the chooser draws them, so many per cent of them put and the others got.
    Mixed { puts_percent: u8, keys: KeyChooser },
}

impl Plan {
    fn operation(&self, ticket: &Ticket, random: &mut SmallRng) -> (Kind, u64) {
        match self {
            Self::PutEach => (Kind::Put, ticket.number),
            Self::Mixed { puts_percent, keys } => {
                let kind = if random.random_range(0..100) < *puts_percent { Kind::Put } else { Kind::Get };
                (kind, keys.choose(random))
            }
        }
    }
}

/// Random values of one size.
#[derive(Clone)]
pub(super) struct Values {
    pool: Bytes,
    size: usize,
}

impl Values {
    pub(super) fn new(size: usize, seed: u64) -> Self {
        let mut pool = vec![0; VALUE_POOL_BYTES + size];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut pool);
        Self { pool: pool.into(), size }
    }

    fn draw(&self, random: &mut SmallRng) -> Bytes {
        let start = random.random_range(0..VALUE_POOL_BYTES);
        self.pool.slice(start..start + self.size)
    }
}

/// One client.
pub(super) struct Client {
    number: usize,
    shared: Arc<Shared>,
    link: Link,
    connection: Connection,
    messages: Messages,
    random: SmallRng,
    put: Request<()>,
    get: Request<()>,
}

impl Client {
    /// Client `number`, whose choices follow from the seed and its number.
    pub(super) async fn new(number: usize, seed: u64, shared: Arc<Shared>, link: Link) -> Self {
        Self {
            number,
            connection: link.connection().await,
            messages: Messages::new(shared.target, &shared.bucket),
            // The generator's seeding mixes well, so that neighbouring numbers give unrelated sequences.
            random: SmallRng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(number as u64)),
            put: link.request(shared.target.put_method()),
            get: link.request(shared.target.get_method()),
            shared,
            link,
        }
    }

    /// Makes operations until there are no more tickets.
    pub(super) async fn run(mut self) {
        while let Some(ticket) = self.shared.pace.ticket().await {
            let (kind, key) = self.shared.plan.operation(&ticket, &mut self.random);
            self.shared.recorder().begin(self.number, kind, ticket.due);
            let result = self.operate(kind, key).await;
            let outcome = result.as_ref().map_or_else(|error| Outcome::Failed(error.name()), |&outcome| outcome);
            self.shared.recorder().end(self.number, outcome, Instant::now());
            if let Err(error) = result {
                self.recover(error).await;
            }
        }
    }

    async fn operate(&mut self, kind: Kind, key: u64) -> Result<Outcome, CallError> {
        match kind {
            Kind::Put => {
                let body = self.messages.put(key, self.shared.values.draw(&mut self.random));
                self.connection.call(self.put.clone(), body).await?;
                Ok(Outcome::Done)
            }
            Kind::Get => {
                let body = self.messages.get(key);
                let answer = self.connection.call(self.get.clone(), body).await?;
                match self.messages.found(answer) {
                    Some(true) => Ok(Outcome::Done),
                    Some(false) => Ok(Outcome::NotFound),
                    None => Err(CallError::Malformed("not the answer to a get of this key".into())),
                }
            }
        }
    }

    /// Waits a little, and connects anew where that is what failed.
    async fn recover(&mut self, error: CallError) {
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        if let CallError::Connection(_) = error {
            // If it fails, the next operation fails too, is counted, and it is tried again.
            if let Ok(connection) = self.link.replace(&self.connection).await {
                self.connection = connection;
            }
        }
    }
}
