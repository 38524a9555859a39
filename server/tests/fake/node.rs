//! One node of a fake cluster: a socket, a thread, and the faults it was told to have.

use super::World;
use super::service::{Health, Service};
use drey_server::proto::buckets_server::BucketsServer;
use drey_server::proto::cluster_server::ClusterServer;
use drey_server::proto::health::health_server::HealthServer;
use drey_server::proto::kv_server::KvServer;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// The largest request taken: more than the largest value, so that a value that is too large gets a reason.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What goes wrong with a call on keys or buckets.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is refused with this status and this `drey-error`, and does nothing.
    Refuse(tonic::Code, &'static str),
    /// It is refused with a bare status, and does nothing.
    RefuseUnnamed(tonic::Code),
    /// It is never answered.
    Hang,
    /// A scan sends its first chunk and then nothing.
    HangAfterFirstChunk,
}

/// A call that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: &'static str,
    /// What the caller's `grpc-timeout` said.
    pub timeout: Option<Duration>,
}

/// What a node's service and its test share.
#[derive(Default)]
pub struct Shared {
    pub calls: Mutex<Vec<Call>>,
    pub faults: Mutex<VecDeque<Fault>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// A node that listens on loopback until it is dropped.
pub struct Node {
    pub id: u64,
    pub address: String,
    shared: Arc<Shared>,
    running: Option<Running>,
}

impl Node {
    pub(super) fn start(id: u64, world: &Arc<Mutex<World>>) -> Node {
        let mut node = Node { id, address: "127.0.0.1:0".to_owned(), shared: Arc::default(), running: None };
        node.start_again(world);
        node
    }

    pub(super) fn start_again(&mut self, world: &Arc<Mutex<World>>) {
        let service = Service { id: self.id, world: Arc::clone(world), shared: Arc::clone(&self.shared) };
        let address = self.address.clone();
        let (stop, stopped) = oneshot::channel();
        let (bound, listening) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(&address).await.expect("the address is free");
                bound.send(listener.local_addr().expect("it is bound")).expect("the test waits");
                tokio::select! {
                    outcome = serve(service, listener) => outcome.expect("it serves until it is stopped"),
                    _ = stopped => {}
                }
            });
            // The runtime goes, and all connections with it, in the middle of whatever they do.
        });
        self.address = listening.recv().expect("the node listens").to_string();
        self.running = Some(Running { stop, thread });
    }

    /// Ends the node as a crash would: connections break, and no more are taken.
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            drop(running.stop);
            running.thread.join().expect("the node did not panic");
        }
    }

    /// The next call on keys or buckets goes wrong so; one fault a call, in order.
    pub fn fail_next(&self, fault: Fault) {
        self.shared.faults.lock().expect("not poisoned").push_back(fault);
    }

    /// The calls that came in, `Cluster.Status` and health left out.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().expect("not poisoned").clone()
    }

    /// How many calls of this name came in.
    pub fn count(&self, name: &str) -> usize {
        self.calls().iter().filter(|call| call.name == name).count()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(service: Service, listener: TcpListener) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .add_service(KvServer::new(service.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(BucketsServer::new(service.clone()))
        .add_service(ClusterServer::new(service))
        .add_service(HealthServer::new(Health))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
}
