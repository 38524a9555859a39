//! The client itself: carries out what the router decides, call by call, on tonic's channels.

use crate::logic::{EndpointId, Kind, Outcome, Policy, Router, Step, Verdict, View};
use crate::proto::{
    Bucket as BucketInfo, CreateBucketRequest, DescribeBucketRequest, DropBucketRequest, JoinRequest, JoinResponse,
    ListBucketsRequest, OpenSessionRequest, OpenSessionResponse, RemoveRequest, RemoveResponse, StatusRequest,
    StatusResponse, TransferLeaderRequest,
};
use crate::sessions::{Identified, Sessions};
use crate::transport::{self, Stubs};
use crate::{Bucket, Code, Error, MEMBERS_METADATA_KEY};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// How long a call may take in all, unless said otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How long a `Cluster.Status` in the background may take.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(2);

/// A client of one cluster. Cheap to clone; all clones share connections and what is known of the leaders.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Where writes get their ids; none: they have none.
    sessions: Option<Sessions>,
    started: Instant,
    discover: bool,
}

#[derive(Debug)]
struct State {
    router: Router,
    /// By endpoint: the address its stubs were made for, and the stubs.
    stubs: Vec<Option<(String, Stubs)>>,
}

/// How a client behaves, where the defaults will not do.
#[derive(Debug, Clone)]
pub struct Builder {
    endpoints: Vec<String>,
    timeout: Duration,
    policy: Policy,
    discover: bool,
    sessions: bool,
    seed: Option<u64>,
}

impl Builder {
    /// How long a call may take in all, tries and waits together. The default is ten seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = timeout;
        self
    }

    /// The numbers of the routing and retry logic.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Builder {
        self.policy = policy;
        self
    }

    /// Whether to ask the cluster for its leaders and members in the background (the default). Without it only the
    /// given endpoints are asked, which is enough for a program that makes one call and ends.
    #[must_use]
    pub fn discover(mut self, discover: bool) -> Builder {
        self.discover = discover;
        self
    }

    /// Whether writes carry ids, so that they can be repeated (the default). It costs one write for each bucket that is written
    /// to, which is much for a program that makes one call and ends.
    #[must_use]
    pub fn sessions(mut self, sessions: bool) -> Builder {
        self.sessions = sessions;
        self
    }

    /// The seed of the jitter between retries; a random one by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Makes the client. Connections are opened by the first calls.
    ///
    /// # Errors
    /// No endpoint was given, or one is not `host:port`.
    pub fn connect(self) -> Result<Client, Error> {
        for address in &self.endpoints {
            transport::endpoint(address)?;
        }
        if self.endpoints.is_empty() {
            return Err(Error::new(Code::InvalidArgument, "no address of a node was given"));
        }
        let seed = self.seed.unwrap_or_else(|| RandomState::new().hash_one("jitter"));
        let router = Router::new(self.policy, self.endpoints, seed);
        let state = Mutex::new(State { router, stubs: Vec::new() });
        let sessions = self.sessions.then(Sessions::default);
        let shared = Shared { state, sessions, started: Instant::now(), discover: self.discover };
        Ok(Client { shared: Arc::new(shared), timeout: self.timeout })
    }
}

impl Client {
    /// A client of the cluster that the nodes at these addresses (`host:port`) belong to. One that is alive will do.
    ///
    /// # Errors
    /// No endpoint was given, or one is not `host:port`. Whether anything listens there shows with the first call.
    pub fn connect<A: Into<String>>(endpoints: impl IntoIterator<Item = A>) -> Result<Client, Error> {
        Client::builder(endpoints).connect()
    }

    /// A client whose behaviour is still to be chosen.
    pub fn builder<A: Into<String>>(endpoints: impl IntoIterator<Item = A>) -> Builder {
        Builder {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            timeout: TIMEOUT_DEFAULT,
            policy: Policy::default(),
            discover: true,
            sessions: true,
            seed: None,
        }
    }

    /// The same client with another time limit for its calls.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Client {
        Client { shared: Arc::clone(&self.shared), timeout }
    }

    /// The time limit of this client's calls.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A bucket, by name. Nothing is sent: whether it is there shows with the first call.
    pub fn bucket(&self, name: impl Into<String>) -> Bucket {
        Bucket::new(self.clone(), name.into())
    }

    /// Creates a bucket.
    ///
    /// # Errors
    /// [`Code::BucketExists`], [`Code::InvalidArgument`] for a bad name, and what any write can end with.
    pub async fn create_bucket(&self, name: &str) -> Result<BucketInfo, Error> {
        let request = CreateBucketRequest { name: name.to_owned(), ..CreateBucketRequest::default() };
        self.create_bucket_with(request).await.map(|(bucket, _)| bucket)
    }

    /// Creates a bucket with options; also says whether it was this call that made it, which it need not be with
    /// `if_not_exists`.
    ///
    /// # Errors
    /// As [`Client::create_bucket`].
    pub async fn create_bucket_with(&self, request: CreateBucketRequest) -> Result<(BucketInfo, bool), Error> {
        let name = request.name.clone();
        let response =
            self.write(&name, request, |mut stubs, request| async move { stubs.buckets.create(request).await }).await?;
        Ok((response.bucket.unwrap_or_default(), response.created))
    }

    /// Drops a bucket and all that is in it. False if there was none.
    ///
    /// # Errors
    /// What any write can end with.
    pub async fn drop_bucket(&self, name: &str) -> Result<bool, Error> {
        let request = DropBucketRequest { name: name.to_owned(), ..DropBucketRequest::default() };
        let response =
            self.write(name, request, |mut stubs, request| async move { stubs.buckets.drop(request).await }).await?;
        Ok(response.existed)
    }

    /// The buckets whose names start with `prefix`; all of them for the empty prefix.
    ///
    /// # Errors
    /// What any read can end with.
    pub async fn list_buckets(&self, prefix: &str) -> Result<Vec<BucketInfo>, Error> {
        let request = ListBucketsRequest { prefix: prefix.to_owned() };
        let response = self
            .call(Kind::Read, None, request, |mut stubs, request| async move { stubs.buckets.list(request).await })
            .await?;
        Ok(response.buckets)
    }

    /// One bucket: its group, its options, estimates of its size.
    ///
    /// # Errors
    /// [`Code::BucketNotFound`], and what any read can end with.
    pub async fn describe_bucket(&self, name: &str) -> Result<BucketInfo, Error> {
        let request = DescribeBucketRequest { name: name.to_owned() };
        self.call(
            Kind::Read,
            Some(name),
            request,
            |mut stubs, request| async move { stubs.buckets.describe(request).await },
        )
        .await
    }

    /// The cluster as the node that answers sees it: the first given endpoint that is alive.
    ///
    /// # Errors
    /// What any read can end with.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.call(Kind::LocalRead, None, StatusRequest {}, |mut stubs, request| async move {
            stubs.cluster.status(request).await
        })
        .await
    }

    /// Adds a member, or keeps a place for one: see [`JoinRequest`].
    ///
    /// # Errors
    /// [`Code::Refused`] if the name or the address is another's, [`Code::InvalidArgument`], and what any write can end with.
    pub async fn join(&self, request: JoinRequest) -> Result<JoinResponse, Error> {
        // Joining twice is joining once.
        self.call(Kind::RepeatableWrite, None, request, |mut stubs, request| async move {
            stubs.cluster.join(request).await
        })
        .await
    }

    /// Has a member leave. It is gone when [`Client::status`] does not name it any more.
    ///
    /// # Errors
    /// [`Code::Refused`] if it cannot be spared, [`Code::NotFound`] if there is no such member, and what any write can
    /// end with.
    pub async fn remove(&self, request: RemoveRequest) -> Result<RemoveResponse, Error> {
        self.call(Kind::RepeatableWrite, None, request, |mut stubs, request| async move {
            stubs.cluster.remove(request).await
        })
        .await
    }

    /// Has a member lead a group, or all. Best effort: whether it came to that, [`Client::status`] tells.
    ///
    /// # Errors
    /// [`Code::NotFound`] if there is no such member or group, and what any read can end with.
    pub async fn transfer_leader(&self, request: TransferLeaderRequest) -> Result<(), Error> {
        self.call(Kind::LocalRead, None, request, |mut stubs, request| async move {
            stubs.cluster.transfer_leader(request).await
        })
        .await
        .map(drop)
    }

    /// A write, under an id if this client has sessions and the request has none yet.
    pub(crate) async fn write<Request, Response, Sent>(
        &self,
        bucket: &str,
        mut request: Request,
        send: impl Fn(Stubs, tonic::Request<Request>) -> Sent,
    ) -> Result<Response, Error>
    where
        Request: Clone + Identified,
        Sent: Future<Output = Result<tonic::Response<Response>, Status>>,
    {
        if request.id().is_some() {
            return self.call(Kind::RepeatableWrite, Some(bucket), request, &send).await;
        }
        let Some(sessions) = &self.shared.sessions else {
            return self.call(Kind::Write, Some(bucket), request, &send).await;
        };
        let mut expired = false;
        loop {
            let session = match sessions.of(bucket) {
                Some(session) => session,
                None => sessions.opened(bucket, self.open_session(bucket).await?.session),
            };
            let turn = session.begin();
            *request.id() = Some(turn.id());
            match self.call(Kind::RepeatableWrite, Some(bucket), request.clone(), &send).await {
                // It was not used for long, and nothing was applied: see `Call::settled`.
                Err(error) if error.code == Code::SessionExpired && !expired => {
                    sessions.forget(bucket, &session);
                    expired = true;
                }
                outcome => return outcome,
            }
        }
    }

    /// Opens a session in a bucket's group, for ids of one's own.
    ///
    /// # Errors
    /// What any write can end with.
    pub async fn open_session(&self, bucket: &str) -> Result<OpenSessionResponse, Error> {
        let request = OpenSessionRequest { bucket: bucket.to_owned() };
        // One that was opened twice is one that nobody uses.
        self.call(Kind::RepeatableWrite, Some(bucket), request, |mut stubs, request| async move {
            stubs.kv.open_session(request).await
        })
        .await
    }

    /// One call of one answer, with all its attempts.
    pub(crate) async fn call<Request, Response, Sent>(
        &self,
        kind: Kind,
        bucket: Option<&str>,
        request: Request,
        send: impl Fn(Stubs, tonic::Request<Request>) -> Sent,
    ) -> Result<Response, Error>
    where
        Request: Clone,
        Sent: Future<Output = Result<tonic::Response<Response>, Status>>,
    {
        self.attempts(kind, bucket, |stubs, timeout| {
            let mut request = tonic::Request::new(request.clone());
            request.set_timeout(timeout);
            send(stubs, request)
        })
        .await
    }

    /// Makes attempts until the router says that one was the last.
    pub(crate) async fn attempts<Answer, Attempt>(
        &self,
        kind: Kind,
        bucket: Option<&str>,
        attempt: impl Fn(Stubs, Duration) -> Attempt,
    ) -> Result<Answer, Error>
    where
        Attempt: Future<Output = Result<tonic::Response<Answer>, Status>>,
    {
        let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.shared.state().router.begin(self.shared.now_ms(), kind, bucket, timeout_ms);
        let mut last: Option<Error> = None;
        // What a node said last of why it cannot, which tells more than that the next one was silent.
        let mut told: Option<String> = None;
        loop {
            let step = self.shared.state().router.next(self.shared.now_ms(), &mut call);
            let (endpoint, timeout) = match step {
                Step::Send { endpoint, timeout_ms } => (endpoint, Duration::from_millis(timeout_ms)),
                Step::Wait { until_ms } => {
                    tokio::time::sleep_until(self.shared.started + Duration::from_millis(until_ms)).await;
                    continue;
                }
                Step::GiveUp(code) => return Err(self.given_up(code, last)),
            };
            let (address, stubs) = self.shared.stubs(endpoint)?;
            self.discover();
            let (outcome, answer) = match tokio::time::timeout(timeout, attempt(stubs, timeout)).await {
                Ok(Ok(response)) => {
                    self.heard_of_members(endpoint, response.metadata());
                    (Outcome::Answered, Ok(response.into_inner()))
                }
                Ok(Err(status)) => {
                    self.heard_of_members(endpoint, status.metadata());
                    let (outcome, error) = transport::classify(&status, &address);
                    (outcome, Err(error))
                }
                Err(_) => {
                    let (outcome, error) = transport::timed_out(&address);
                    (outcome, Err(error))
                }
            };
            let answer = answer.map_err(|error| match outcome {
                Outcome::Refused { .. } => {
                    told = Some(error.message.clone());
                    error
                }
                _ => Error { message: after(&error.message, told.as_deref()), ..error },
            });
            let verdict = self.shared.state().router.finished(self.shared.now_ms(), &mut call, outcome);
            match (verdict, answer) {
                (_, Ok(answer)) => return Ok(answer),
                (Verdict::Fail(code), Err(error)) => {
                    // The next call should not meet the same.
                    self.discover();
                    return Err(Error { code, ..error });
                }
                (_, Err(error)) => {
                    self.discover();
                    last = Some(error);
                }
            }
        }
    }

    /// A node may say with an answer that the members have changed.
    fn heard_of_members(&self, endpoint: EndpointId, metadata: &MetadataMap) {
        let Some(changes) = metadata.get(MEMBERS_METADATA_KEY) else { return };
        let Some(changes) = changes.to_str().ok().and_then(|changes| changes.parse().ok()) else { return };
        if self.shared.state().router.heard_of_members(endpoint, changes) {
            self.discover();
        }
    }

    /// The error of a call that the router gave up between two attempts: the last one that a node gave.
    fn given_up(&self, code: Code, last: Option<Error>) -> Error {
        match last {
            Some(error) => Error { code, ..error },
            None if code == Code::Unreachable => {
                Error::new(code, "every endpoint given belongs to another cluster than the one first reached")
            }
            None => Error::new(code, format!("no answer within {:?}", self.timeout)),
        }
    }

    /// Asks for the leaders in the background, if it is time.
    fn discover(&self) {
        if !self.shared.discover {
            return;
        }
        let now_ms = self.shared.now_ms();
        let Some(endpoint) = self.shared.state().router.poll_refresh(now_ms) else { return };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let answer = match shared.stubs(endpoint) {
                Ok((_, mut stubs)) => {
                    let mut request = tonic::Request::new(StatusRequest {});
                    request.set_timeout(REFRESH_TIMEOUT);
                    tokio::time::timeout(REFRESH_TIMEOUT, stubs.cluster.status(request)).await.ok()
                }
                Err(_) => None,
            };
            let now_ms = shared.now_ms();
            let mut state = shared.state();
            match answer {
                // A foreign cluster's endpoint is excluded by the router itself.
                Some(Ok(status)) => drop(state.router.learn(now_ms, endpoint, &View::from(status.get_ref()))),
                _ => state.router.refresh_failed(now_ms, endpoint),
            }
        });
    }
}

/// What befell an attempt that no node answered, and what one said before.
fn after(message: &str, told: Option<&str>) -> String {
    told.map_or_else(|| message.to_owned(), |told| format!("{message}; before that: {told}"))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if it did, the state would still be whole between two calls.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// An endpoint's address and stubs, made when they are first needed.
    fn stubs(&self, endpoint: EndpointId) -> Result<(String, Stubs), Error> {
        let mut state = self.state();
        let State { router, stubs } = &mut *state;
        let address = router.address(endpoint);
        if stubs.len() <= endpoint.index() {
            stubs.resize(endpoint.index() + 1, None);
        }
        let slot = &mut stubs[endpoint.index()];
        match slot {
            Some((made_for, stubs)) if made_for == address => Ok((made_for.clone(), stubs.clone())),
            _ => {
                let made = (address.to_owned(), Stubs::lazy(address)?);
                *slot = Some(made.clone());
                Ok(made)
            }
        }
    }
}
