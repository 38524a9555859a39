//! Nodes of one shard each on one thread: all that is computed, and nothing that is waited for. Disks sync at once, frames
//! arrive at once, with their real bytes.

use std::mem;

use drey_core::log::RecoveredLog;
use drey_core::request::{Operation, Request};
use drey_core::storage::{StorageJob, StorageWorker};
use drey_core::store::MemoryStore;
use drey_core::wire::Envelope;
use drey_core::wire::frame::{self, FrameReader};
use drey_core::{Effects, Event, Inbox, Input, NodeId, Output, RequestId, Shard, Tick, start_shard, turn};

use super::{GROUP, config, put};

const LINK: u64 = 1;

/// The nodes, one of which leads.
pub struct Cluster {
    nodes: Vec<Node>,
    leader: usize,
    now: Tick,
    puts: u64,
}

struct Node {
    shard: Shard,
    worker: StorageWorker<MemoryStore>,
    inbox: Inbox,
    out: Vec<Output>,
    asked: Asked,
    /// The frames' numbers, by peer.
    sent: Vec<u64>,
    readers: Vec<FrameReader>,
}

/// What a turn wants done.
#[derive(Default)]
struct Asked {
    completed: Vec<Input>,
    jobs: Vec<StorageJob>,
    envelopes: Vec<Vec<Envelope>>,
    log: Vec<u8>,
    answered: u64,
    leads: bool,
}

impl Effects for Asked {
    fn perform(&mut self, output: Output) {
        match output {
            Output::WriteLog(ticket, write) => {
                self.log.resize(write.len(), 0);
                write.encode_into(&mut self.log);
                self.completed.push(Input::LogSynced(ticket));
            }
            Output::PrepareSegment(segment) => self.completed.push(Input::SegmentReady(segment)),
            Output::Storage(job) => self.jobs.push(job),
            Output::Send(to, envelope) => self.envelopes[to.0 as usize - 1].push(envelope),
            Output::Reply(_, reply) => {
                reply.expect("nothing fails here");
                self.answered += 1;
            }
            Output::Report(Event::BecameLeader(group, _)) if group == GROUP => self.leads = true,
            _ => {}
        }
    }
}

impl Cluster {
    /// A cluster whose group has a leader.
    pub fn new(size: u64) -> Cluster {
        let now = Tick { mono_ms: 1_000, wall_ms: 0 };
        let mut nodes: Vec<Node> = (1..=size).map(|number| Node::new(number, size, now)).collect();
        for (own, node) in nodes.iter_mut().enumerate() {
            let peers = (0..size as usize).filter(|peer| *peer != own);
            peers.for_each(|peer| node.inbox.push(Input::PeerUp(NodeId(peer as u64 + 1))));
        }
        let mut cluster = Cluster { nodes, leader: 0, now, puts: 0 };
        loop {
            cluster.now.mono_ms += 100;
            cluster.nodes.iter_mut().for_each(|node| node.inbox.push(Input::Tick));
            while cluster.pass() {}
            if let Some(leader) = cluster.nodes.iter().position(|node| node.asked.leads) {
                cluster.leader = leader;
                return cluster;
            }
        }
    }

    /// Puts so many keys through the leader at once, and returns when all are answered and applied everywhere.
    pub fn put(&mut self, count: u64) {
        let leader = &mut self.nodes[self.leader];
        let answered = leader.asked.answered + count;
        for _ in 0..count {
            self.puts += 1;
            let request = Request { deadline_ms: u64::MAX, operation: Operation::Write(put(self.puts)) };
            leader.inbox.request(RequestId(self.puts), request).expect("there is room");
        }
        while self.pass() {}
        assert_eq!(self.nodes[self.leader].asked.answered, answered, "every put was answered");
    }

    /// A turn of each node that has something to do. False: none has.
    fn pass(&mut self) -> bool {
        let mut worked = false;
        for own in 0..self.nodes.len() {
            if self.nodes[own].inbox.is_empty() {
                continue;
            }
            worked = true;
            self.nodes[own].turn(self.now);
            for peer in 0..self.nodes.len() {
                if let Some(bytes) = self.nodes[own].frame_to(peer) {
                    self.nodes[peer].receive(own, bytes);
                }
            }
        }
        worked
    }
}

impl Node {
    fn new(number: u64, size: u64, now: Tick) -> Node {
        let log = RecoveredLog { next_epoch: 1, groups: Default::default(), segments: Vec::new(), seals: Vec::new() };
        let (shard, worker) =
            start_shard(config(number, size), number, now, &log, MemoryStore::new()).expect("an empty start");
        let peers = size as usize;
        Node {
            shard,
            worker,
            inbox: Inbox::default(),
            out: Vec::new(),
            asked: Asked { envelopes: vec![Vec::new(); peers], ..Default::default() },
            sent: vec![0; peers],
            readers: (0..peers).map(|_| FrameReader::default()).collect(),
        }
    }

    fn turn(&mut self, now: Tick) {
        turn(&mut self.shard, now, &mut self.inbox, &mut self.out, &mut self.asked);
        self.asked.completed.drain(..).for_each(|completed| self.inbox.push(completed));
        for job in self.asked.jobs.drain(..) {
            self.inbox.push(Input::Storage(self.worker.run(job)));
        }
    }

    fn frame_to(&mut self, peer: usize) -> Option<Vec<u8>> {
        let envelopes = mem::take(&mut self.asked.envelopes[peer]);
        if envelopes.is_empty() {
            return None;
        }
        self.sent[peer] += 1;
        let mut bytes = Vec::new();
        frame::encode(LINK, self.sent[peer], &envelopes, &mut bytes);
        Some(bytes)
    }

    fn receive(&mut self, from: usize, bytes: Vec<u8>) {
        let envelopes = self.readers[from].read(bytes.into()).expect("a whole frame").expect("a new one");
        envelopes.into_iter().for_each(|envelope| self.inbox.push(Input::Message(NodeId(from as u64 + 1), envelope)));
    }
}
