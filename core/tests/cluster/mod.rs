//! A cluster in one thread, every step of which a test decides: which message arrives, which sync ends, who ticks.

// Each test file that includes this uses another part of it.
#![allow(dead_code)]

pub mod disk;
pub mod network;
pub mod node;
pub mod script;
pub mod store;
pub mod trace;
pub mod words;

use std::collections::BTreeMap;

use drey_core::config::{LogLimits, ScrubLimits, Timing, TransferLimits};
use drey_core::request::{Command, Operation, ReadMode, ReadOp, Request};
use drey_core::system::{Founder, Members};
use drey_core::wire::Body;
use drey_core::{GroupId, Input, NodeId, Output, RequestId};

use disk::Torn;
use network::{Network, Pair};
use node::{Node, Seen, Settings};
use trace::Trace;

/// After so many rounds a cluster in which no time passes must have come to rest.
const ROUNDS_MAX: usize = 2000;

/// Nodes, and what is under way between them.
pub struct Cluster {
    pub settings: Settings,
    pub nodes: BTreeMap<u64, Node>,
    pub network: Network,
    pub trace: Trace,
    requests: u64,
    /// Nodes that asked for (pre-)votes in a shown group since this was cleared.
    campaigned: Vec<u64>,
}

impl Cluster {
    pub fn new() -> Cluster {
        Cluster {
            settings: Settings {
                groups: 1,
                founders: Vec::new(),
                timing: Timing::default(),
                log: LogLimits { segment_bytes: 1 << 20, segments_kept: 3, held_bytes_max: 0 },
                // Time stands still while frames are delivered.
                transfer: TransferLimits { bytes_per_second: 0, ..TransferLimits::default() },
                scrub: ScrubLimits { every_ms: 0, part_bytes: 64 },
            },
            nodes: BTreeMap::new(),
            network: Network::default(),
            trace: Trace::default(),
            requests: 0,
            campaigned: Vec::new(),
        }
    }

    /// Makes nodes 1..=count and starts them, all connected.
    pub fn add_nodes(&mut self, count: u64, shards: u32) {
        assert!(self.nodes.is_empty(), "nodes are added once");
        self.settings.founders = (1..=count).map(Founder::numbered).collect();
        for id in 1..=count {
            self.nodes.insert(id, Node::new(id, shards, self.settings.clone()));
        }
        for id in 1..=count {
            self.start(id);
        }
    }

    /// Makes a node of an id that the members gave it, and starts it.
    pub fn add_joined(&mut self, id: u64, shards: u32) {
        self.nodes.insert(id, Node::joined(id, shards, self.settings.clone()));
        self.start(id);
    }

    /// A node has learned who the members are: links to others are gone.
    fn link(&mut self, id: u64, members: &Members) {
        if self.trace.system_group {
            self.trace.line(format!("{id} knows the members {members}"));
        }
        let is_gone = |other: &u64| *other != id && members.is_gone(NodeId(*other));
        let gone: Vec<u64> = self.nodes.keys().copied().filter(is_gone).collect();
        for other in gone {
            if self.network.connected((id, other)) {
                self.disconnect(id, other);
            }
        }
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("there is such a node")
    }

    /// Starts a node on what it has, with another number of shards if one is given.
    pub fn restart(&mut self, id: u64, shards: Option<u32>) {
        let node = self.node(id);
        assert!(!node.is_running(), "only a stopped node can be started");
        node.shards = shards.unwrap_or(node.shards);
        self.start(id);
    }

    fn start(&mut self, id: u64) {
        if let Err(why) = self.node(id).start() {
            return self.trace.line(format!("{id} does not start: {why}"));
        }
        let others: Vec<u64> = self.nodes.values().filter(|other| other.is_running()).map(|other| other.id).collect();
        for other in others.into_iter().filter(|&other| other != id) {
            self.connect(id, other);
        }
        self.turn(id, true);
    }

    /// Stops a node at once.
    pub fn crash(&mut self, id: u64, torn: Torn, keep: Option<usize>) {
        self.node(id).crash(torn, keep);
        let others: Vec<u64> = self.nodes.keys().copied().filter(|&other| other != id).collect();
        for other in others {
            self.disconnect(id, other);
        }
    }

    /// A link stands, and both ends know it.
    pub fn connect(&mut self, a: u64, b: u64) {
        for (from, to) in [(a, b), (b, a)] {
            self.network.connect((from, to));
            self.node(from).tell(&Input::PeerUp(NodeId(to)));
        }
    }

    /// A link breaks, and both ends know it.
    pub fn disconnect(&mut self, a: u64, b: u64) {
        for (from, to) in [(a, b), (b, a)] {
            if self.network.connected((from, to)) {
                self.node(from).tell(&Input::PeerDown(NodeId(to)));
            }
            self.network.disconnect((from, to));
        }
        self.turn(a, false);
        self.turn(b, false);
    }

    /// A node is about to stop.
    pub fn hand_over(&mut self, id: u64) {
        self.node(id).tell(&Input::HandOver);
        self.turn(id, false);
    }

    /// A node learns that nobody listens where the peer did.
    pub fn gone(&mut self, id: u64, peer: u64) {
        self.node(id).tell(&Input::PeerGone(NodeId(peer)));
        self.turn(id, false);
    }

    /// Lets time pass for one node: a tick, and a turn.
    pub fn tick(&mut self, id: u64) {
        let ms = self.settings.timing.tick_ms;
        self.pass_time(id, ms);
    }

    /// Lets time pass for one node, which gets its first turn thereafter.
    pub fn pass_time(&mut self, id: u64, ms: u64) {
        let now = &mut self.node(id).now;
        (now.mono_ms, now.wall_ms) = (now.mono_ms + ms, now.wall_ms + ms);
        self.node(id).tell(&Input::Tick);
        self.turn(id, true);
    }

    /// Lets time pass for one node alone until it asks for votes.
    pub fn campaign(&mut self, id: u64) {
        self.campaigned.clear();
        for _ in 0..2 * self.settings.timing.election_ticks {
            self.tick(id);
            self.work(id);
            if self.campaigned.contains(&id) {
                return;
            }
        }
        self.trace.line(format!("{id} does not campaign"));
    }

    /// Lets a request come in at a node, which takes a turn unless the caller gathers several.
    pub fn request(
        &mut self,
        id: u64,
        bucket_group: GroupId,
        deadline_ms: u64,
        operation: Operation,
        turn: bool,
    ) -> u64 {
        self.requests += 1;
        let request = self.requests;
        let node = self.node(id);
        let deadline_ms = node.now.mono_ms + deadline_ms;
        let shard = node.shard_of(bucket_group);
        let taken = node.inbox(shard).request(RequestId(request), Request { deadline_ms, operation });
        if let Err(error) = taken {
            self.trace.answer(id, RequestId(request), &Err(error));
        }
        if turn {
            self.turn(id, false);
        }
        request
    }

    pub fn write(&mut self, id: u64, deadline_ms: u64, command: Command) {
        let group = command.group(self.settings.groups);
        self.request(id, group, deadline_ms, Operation::Write(command), true);
    }

    pub fn read(&mut self, id: u64, deadline_ms: u64, group: GroupId, mode: ReadMode, op: ReadOp) {
        self.request(id, group, deadline_ms, Operation::Read(group, mode, op), true);
    }

    /// What is under way arrives (in one direction, if one is given), and who got something takes a turn.
    pub fn deliver(&mut self, only: Option<Pair>) -> usize {
        let frames = self.network.take(only);
        let count = frames.len();
        let mut receivers = Vec::new();
        for ((from, to), frame) in frames {
            let node = self.node(to);
            if node.is_running() && !node.receive(from, frame) {
                self.trace.line(format!("{to} ignores a frame from {from} that came before"));
            }
            receivers.push(to);
        }
        receivers.dedup();
        receivers.into_iter().for_each(|id| self.turn(id, false));
        count
    }

    /// A node's disk and store do their work, and it takes a turn.
    pub fn work(&mut self, id: u64) {
        self.node(id).work();
        self.turn(id, false);
    }

    /// Messages arrive, disks and stores work, until nothing is left to do but to let time pass.
    pub fn stabilize(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut delivered = self.deliver(None);
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.nodes[&id].is_busy() {
                    self.work(id);
                    delivered += 1;
                }
            }
            if delivered == 0 {
                return;
            }
        }
        panic!("the cluster does not come to rest:\n{}", self.trace.take());
    }

    /// So many times: all nodes tick, then everything is delivered and done.
    pub fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.tick(id);
            }
            self.stabilize();
        }
    }

    /// A turn of a node, and what follows at once.
    pub fn turn(&mut self, id: u64, all: bool) {
        for seen in self.node(id).turn(all) {
            match seen {
                Seen::Sent { shard, to, envelopes } => {
                    for envelope in &envelopes {
                        self.trace.message(id, to, envelope);
                        let asks = matches!(&envelope.body, Body::Raft(message)
                            if format!("{message:?}").starts_with("MsgRequest"));
                        if asks && self.trace.shows(envelope.group) {
                            self.campaigned.push(id);
                        }
                    }
                    // To a member that was not started there is no link.
                    if self.nodes.contains_key(&to) {
                        self.network.send((id, to), shard, &envelopes);
                    }
                }
                Seen::Output(output) => match *output {
                    Output::Reply(request, answer) => self.trace.answer(id, request, &answer),
                    Output::Report(event) => self.trace.event(id, &event),
                    Output::Link(members) => self.link(id, &members),
                    output => panic!("performed by the node: {output:?}"),
                },
                Seen::Note(note) => self.trace.note(id, note),
            }
        }
    }
}
