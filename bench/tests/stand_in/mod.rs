//! A server in memory that speaks as much of drey's and etcd's gRPC as the load generator does, and is as slow or as
//! faulty as a test wants it.
//!
//! It is made of `h2`'s server and knows nothing of the load generator's own code, so that the two check each other.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::{HeaderMap, Request, Response};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What a test wants of the server. The number of a request counts from 0, over all connections.
pub struct Behaviour {
    /// When request `number`, which came at `now`, is answered.
    pub answer_at: Box<dyn Fn(u64, Instant) -> Instant + Send + Sync>,
    /// The gRPC status of the answer to request `number`.
    pub status: Box<dyn Fn(u64) -> u8 + Send + Sync>,
    /// Close the connection instead of answering request `number`.
    pub hang_up: Box<dyn Fn(u64) -> bool + Send + Sync>,
    /// Who leads, by what `Status` says.
    pub leader: Leader,
    /// Of [`COMMITTED`] entries, those that it has applied.
    pub applied: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// What every stand-in knows to be committed, in every group.
pub const COMMITTED: u64 = 5;

/// Who leads.
pub enum Leader {
    /// Nobody.
    Nobody,
    /// The one that is asked.
    Itself,
    /// The one at this address.
    At(String),
    /// The one at the address that this gives.
    By(Box<dyn Fn() -> String + Send + Sync>),
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            answer_at: Box::new(|_, now| now),
            status: Box::new(|_| 0),
            hang_up: Box::new(|_| false),
            leader: Leader::Nobody,
            applied: Box::new(|| COMMITTED),
        }
    }
}

/// A server on a thread of its own, until dropped.
pub struct StandIn {
    /// Its address, `host:port`.
    pub endpoint: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    behaviour: Behaviour,
    endpoint: String,
    stop: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: u64,
    connections: u64,
    puts: u64,
    keys: HashSet<Bytes>,
    value_lengths: HashSet<usize>,
}

/// What a server has seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub connections: u64,
    pub puts: u64,
    pub keys: usize,
    pub value_lengths: Vec<usize>,
}

impl StandIn {
    pub fn start(behaviour: Behaviour) -> Self {
        Self::start_on(std::net::TcpListener::bind("127.0.0.1:0").unwrap(), behaviour)
    }

    /// At an address that was chosen before.
    pub fn start_on(listener: std::net::TcpListener, behaviour: Behaviour) -> Self {
        listener.set_nonblocking(true).unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let shared =
            Arc::new(Shared { behaviour, endpoint: endpoint.clone(), stop: Notify::new(), state: Mutex::default() });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).unwrap();
                    tokio::select! {
                        () = accept(listener, &shared) => {}
                        () = shared.stop.notified() => {}
                    }
                });
            }
        });
        Self { endpoint, shared, thread: Some(thread) }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        let state = self.shared.state.lock().unwrap();
        let mut value_lengths: Vec<usize> = state.value_lengths.iter().copied().collect();
        value_lengths.sort_unstable();
        Seen { connections: state.connections, puts: state.puts, keys: state.keys.len(), value_lengths }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the stand-in server has panicked");
        }
    }
}

async fn accept(listener: TcpListener, shared: &Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.state.lock().unwrap().connections += 1;
        connections.spawn(serve(stream, shared.clone()));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(200).initial_connection_window_size(16 << 20);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut calls = JoinSet::new();
    let hung_up = Arc::new(Notify::new());
    loop {
        tokio::select! {
            request = connection.accept() => {
                let Some(Ok((request, respond))) = request else { return };
                let (shared, hung_up) = (shared.clone(), hung_up.clone());
                calls.spawn(async move {
                    // A client that is gone by now is no matter.
                    if let Ok(false) = answer(request, respond, &shared).await {
                        hung_up.notify_one();
                    }
                });
            }
            () = hung_up.notified() => return,
            Some(_) = calls.join_next() => {}
        }
    }
}

/// Answers one call; `false` when the connection is to be closed instead.
async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: &Shared,
) -> Result<bool, h2::Error> {
    let (head, mut body) = request.into_parts();
    assert_eq!(head.headers["content-type"], "application/grpc");
    let mut framed = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        framed.extend_from_slice(&chunk);
    }
    assert_eq!(framed[0], 0);
    assert_eq!(u32::from_be_bytes(framed[1..5].try_into().unwrap()) as usize, framed.len() - 5);
    let reply = reply(head.uri.path(), framed.freeze().slice(5..), shared);

    let mut status = 0;
    if !head.uri.path().ends_with("/Status") {
        let number = {
            let mut state = shared.state.lock().unwrap();
            state.requests += 1;
            state.requests - 1
        };
        if (shared.behaviour.hang_up)(number) {
            return Ok(false);
        }
        let now = Instant::now();
        let answer_at = (shared.behaviour.answer_at)(number, now);
        if answer_at > now {
            tokio::time::sleep_until(answer_at.into()).await;
        }
        status = (shared.behaviour.status)(number);
    }
    if status != 0 {
        let head = Response::builder().header("content-type", "application/grpc");
        let head = head.header("grpc-status", u16::from(status)).header("grpc-message", "as asked").body(()).unwrap();
        respond.send_response(head, true)?;
        return Ok(true);
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(head, false)?;
    let mut framed = BytesMut::with_capacity(5 + reply.len());
    framed.put_u8(0);
    framed.put_u32(reply.len() as u32);
    framed.put(reply);
    stream.send_data(framed.freeze(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    stream.send_trailers(trailers)?;
    Ok(true)
}

fn reply(path: &str, message: Bytes, shared: &Shared) -> Bytes {
    let mut state = shared.state.lock().unwrap();
    let leader = match &shared.behaviour.leader {
        Leader::Nobody => None,
        Leader::Itself => Some(shared.endpoint.clone()),
        Leader::At(address) => Some(address.clone()),
        Leader::By(of) => Some(of()),
    };
    let applied = (shared.behaviour.applied)();
    match path {
        "/drey.v1.Kv/Put" => {
            let put = DreyPut::decode(message).unwrap();
            assert_eq!(put.bucket, "default");
            state.put(put.key, put.value);
            Bytes::from_static(b"\x08\x01\x10\x07")
        }
        "/etcdserverpb.KV/Put" => {
            let put = EtcdPut::decode(message).unwrap();
            state.put(put.key, put.value);
            Bytes::new()
        }
        "/drey.v1.Kv/Get" => {
            let get = DreyGet::decode(message).unwrap();
            assert_eq!((&*get.bucket, get.read), ("default", 0));
            let entry = state.keys.contains(&get.key).then(|| Pair { key: get.key });
            DreyFound { entry }.encode_to_vec().into()
        }
        "/etcdserverpb.KV/Range" => {
            let get = EtcdGet::decode(message).unwrap();
            assert!(!get.serializable && get.range_end.is_empty());
            let kvs = state.keys.contains(&get.key).then(|| Pair { key: get.key });
            EtcdFound { kvs: kvs.into_iter().collect() }.encode_to_vec().into()
        }
        "/drey.v1.Cluster/Status" => {
            let leads = u64::from(leader.is_some());
            let members = leader.map(|address| Member { id: 1, address, reachable: true }).into_iter().collect();
            let groups = (0..=4).map(|id| Group { id, leader: leads, committed: COMMITTED, applied }).collect();
            DreyStatus { members, groups }.encode_to_vec().into()
        }
        "/etcdserverpb.Maintenance/Status" => {
            let own = if leader.as_ref() == Some(&shared.endpoint) { 7 } else { 8 };
            EtcdStatus {
                header: Some(Header { member_id: own }),
                leader: if leader.is_some() { 7 } else { 0 },
                committed: COMMITTED,
                applied,
            }
            .encode_to_vec()
            .into()
        }
        other => panic!("no such method: {other}"),
    }
}

impl State {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.puts += 1;
        self.keys.insert(key);
        self.value_lengths.insert(value.len());
    }
}

#[derive(Clone, PartialEq, Message)]
struct DreyPut {
    #[prost(string, tag = "1")]
    bucket: String,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct EtcdPut {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct DreyGet {
    #[prost(string, tag = "1")]
    bucket: String,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(int32, tag = "3")]
    read: i32,
}

#[derive(Clone, PartialEq, Message)]
struct EtcdGet {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    range_end: Bytes,
    #[prost(bool, tag = "7")]
    serializable: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct DreyFound {
    #[prost(message, optional, tag = "1")]
    entry: Option<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct EtcdFound {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Member {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "3")]
    address: String,
    #[prost(bool, tag = "5")]
    reachable: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Group {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint64, tag = "2")]
    leader: u64,
    #[prost(uint64, tag = "4")]
    committed: u64,
    #[prost(uint64, tag = "5")]
    applied: u64,
}

#[derive(Clone, PartialEq, Message)]
struct DreyStatus {
    #[prost(message, repeated, tag = "5")]
    members: Vec<Member>,
    #[prost(message, repeated, tag = "6")]
    groups: Vec<Group>,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct EtcdStatus {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
    #[prost(uint64, tag = "5")]
    committed: u64,
    #[prost(uint64, tag = "7")]
    applied: u64,
}
