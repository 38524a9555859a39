//! What all hosts of a world see: the time, the network, the record of what happened, and the first broken law.

use std::collections::BTreeSet;

use bytes::Bytes;
use drey_core::{GroupId, NodeId, Room};

use crate::checker::{Violation, Watch};
use crate::clients::Exchange;
use crate::coverage::Coverage;
use crate::driver::{Datagram, Net};
use crate::faults::{Fault, Faults};
use crate::network::Network;
use crate::room::{BELIEVED_MS, ROOMY};
use crate::story::{Event, Topic};
use crate::trace::Trace;

/// The common part of a world.
pub struct Shared {
    /// Simulated time.
    pub now_ms: u64,
    /// What happened.
    pub trace: Trace,
    /// Which faults did.
    pub faults: Faults,
    /// What nodes say about themselves.
    pub watch: Watch,
    /// Between hosts.
    pub network: Network,
    /// Between clients and nodes.
    pub exchange: Exchange,
    /// What turned out to be used, for the report.
    pub coverage: Coverage,
    /// Hosts whose disks are short of room, and until when one that has room again may be taken for such a one.
    short: (BTreeSet<usize>, u64),
    /// Replicas whose store holds something else than was written.
    pub altered: BTreeSet<(GroupId, NodeId)>,
    violation: Option<Violation>,
}

impl Shared {
    /// A world's common part at its beginning.
    pub fn new(trace: Trace, network: Network) -> Shared {
        Shared {
            now_ms: 0,
            trace,
            faults: Faults::default(),
            watch: Watch::default(),
            network,
            exchange: Exchange::default(),
            coverage: Coverage::default(),
            short: (BTreeSet::new(), 0),
            altered: BTreeSet::new(),
            violation: None,
        }
    }

    /// A host's disk has so much room from now on.
    pub fn disk_has(&mut self, host: usize, room: Room) {
        if room != ROOMY {
            self.short.0.insert(host);
        } else if self.short.0.remove(&host) {
            self.short.1 = self.now_ms + BELIEVED_MS;
        }
    }

    /// A write was refused for want of room.
    pub fn refused_for_room(&mut self, why: &str) {
        if self.short.0.is_empty() && self.now_ms > self.short.1 {
            self.violated(Violation::new("what is refused for want of room has none", why.to_owned()));
        }
    }

    /// These replicas were told that they do not hold what the others do.
    pub fn told_apart(&mut self, group: GroupId, nodes: &[NodeId]) {
        if !nodes.iter().all(|&node| self.altered.contains(&(group, node))) {
            let seen = format!("group {group}: {nodes:?} differ, of which changed: {:?}", self.altered);
            self.violated(Violation::new("replicas that hold the same are not told apart", seen));
        }
    }

    /// Takes down a fault of the world's making, on a host or everywhere.
    pub fn happened(&mut self, host: impl Into<Option<usize>>, fault: Fault, what: std::fmt::Arguments<'_>) {
        self.faults.happened(fault);
        self.trace.event(format_args!("fault: {} {what}", fault.name()));
        self.trace.tell(|| Some(Event::new(host, Topic::Fault, format!("{}: {what}", fault.name()))));
    }

    /// Takes down a broken law. The first counts: what comes behind it may follow from it.
    pub fn violated(&mut self, violation: Violation) {
        self.trace.event(format_args!("BROKEN {violation}"));
        self.trace.tell(|| Some(Event::new(None, Topic::Broken, violation.to_string())));
        self.violation.get_or_insert(violation);
    }

    /// Takes down what a law says.
    pub fn judge(&mut self, judged: Result<(), Violation>) {
        if let Err(violation) = judged {
            self.violated(violation);
        }
    }

    /// The first broken law.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Sends a datagram from within the sending host.
    pub fn send(&mut self, net: &mut dyn Net, (from, to): (usize, usize), body: Bytes) {
        if let Err(error) = self.network.send(net, (from, to), self.now_ms, body, &mut self.faults) {
            self.violated(Violation::new("the network works", error));
        }
    }

    /// What arrives at a host now.
    pub fn receive(&mut self, net: &mut dyn Net, to: usize) -> Vec<Datagram> {
        self.network.receive(net, to, self.now_ms, &mut self.faults)
    }
}
