//! The server under test: one executor, a port that the system picks, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use drey_client::proto::buckets_client::BucketsClient;
use drey_client::proto::cluster_client::ClusterClient;
use drey_client::proto::kv_client::KvClient;
use drey_io::listener::{BoundListener, Listener};
use drey_io::mailbox;
use drey_io::runtime::{self, ExecutorConfig, Executors, Pinning};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::fake::{Fake, Seen};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Room for connections on their way to the executor.
const CONNECTIONS_MAX: usize = 64;

/// Stops when dropped, and fails the test if the executor did.
pub struct Server {
    address: SocketAddr,
    pub seen: Arc<Seen>,
    listener: Option<Listener>,
    executors: Option<Executors<()>>,
}

impl Server {
    pub fn start() -> Server {
        let bound = BoundListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = bound.address();
        let (sender, mut arrivals) = mailbox::mailbox(CONNECTIONS_MAX);
        let seen = Arc::new(Seen::default());
        let body = {
            let seen = Arc::clone(&seen);
            move |_| async move {
                let fake = Fake::new(seen);
                while let Some(connection) = arrivals.receive().await {
                    let connection: drey_io::listener::Connection = connection;
                    let Ok(stream) = connection.into_stream() else { continue };
                    runtime::spawn(drey_server::grpc::serve_connection(fake.clone(), stream));
                }
            }
        };
        let mut config = ExecutorConfig::new("grpc-test");
        config.pinning = Pinning::Never;
        let executors = runtime::start(&config, vec![body]).unwrap();
        let listener = bound
            .accept(CONNECTIONS_MAX, move |connection| {
                let _ = sender.send(connection);
            })
            .unwrap();
        Server { address, seen, listener: Some(listener), executors: Some(executors) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await)
    }

    pub async fn buckets(&self) -> BucketsClient<Channel> {
        BucketsClient::new(self.channel().await)
    }

    pub async fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel().await)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dropping the listener drops the mailbox's sender, which ends the executor's body.
        drop(self.listener.take());
        let results = self.executors.take().map(Executors::join).unwrap_or_default();
        if !std::thread::panicking() {
            results.into_iter().for_each(|result| result.expect("the executor ended well"));
        }
    }
}

/// Calls any method, as a client would that was generated from the proto.
pub async fn unary<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<Response<A>, Status>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    grpc.unary(Request::new(request), PathAndQuery::from_static(path), ProstCodec::default()).await
}

/// Runs a test's client side.
pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE * 2, test).await.expect("the test takes too long") });
}

/// Waits until a number has become what it must.
pub async fn becomes(number: &AtomicUsize, wanted: usize) {
    let deadline = Instant::now() + PATIENCE;
    while number.load(Ordering::SeqCst) != wanted {
        let found = number.load(Ordering::SeqCst);
        assert!(Instant::now() < deadline, "it is {found}, and should have become {wanted}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The metadata `drey-error` of a status.
pub fn name_of(status: &Status) -> &str {
    status.metadata().get(drey_client::ERROR_METADATA_KEY).map_or("", |name| name.to_str().unwrap())
}
