//! Two drivers for one world. A driver carries datagrams between hosts, lets time pass for them, ends them and starts them
//! again; what the hosts are, what goes wrong and what must hold is none of its business, and the same for both.
//!
//! [`over_turmoil`] runs every host as a task of its own on turmoil's network. [`queue`] is a plain queue of events in the same
//! process, and many times faster. They draw latencies and orders differently, so that a seed tells another story on each: the
//! same faults, at the same times, over other races.

pub mod over_turmoil;
pub mod queue;

use std::fmt;

use bytes::Bytes;

use crate::plan::Plan;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DriverKind {
    /// Every host a task, on turmoil's network.
    Turmoil,
    /// A queue of events.
    Queue,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriverKind::Turmoil => "turmoil",
            DriverKind::Queue => "queue",
        })
    }
}

/// What travels between hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The sending host.
    pub from: usize,
    /// The network made it of another one.
    pub is_copy: bool,
    /// Its number among those that its sender sent to its receiver.
    pub number: u64,
    /// It is held back until then, wherever it is.
    pub not_before_ms: u64,
    /// What it carries.
    pub body: Bytes,
}

/// The network as a host sees it while it ticks.
pub trait Net {
    /// Sends to a host. What is cut, or what nobody takes there, is lost without a word; an error is a mistake of the simulator.
    fn send(&mut self, to: usize, datagram: Datagram) -> Result<(), String>;

    /// Something that has arrived.
    fn receive(&mut self) -> Option<Datagram>;
}

/// What runs on a host.
pub trait Host {
    /// A process begins. False: it ended at once.
    fn start(&mut self) -> bool;

    /// What happens within a tick.
    fn tick(&mut self, net: &mut dyn Net);
}

/// A driver. Hosts are numbered as they were given to it.
pub trait Driver {
    /// One tick of every host that runs, in a drawn order. It is `now_ms` for all of them.
    fn step(&mut self, now_ms: u64) -> Result<(), String>;

    /// A host's process begins with the next tick. At the beginning of the world all do.
    fn start(&mut self, host: usize);

    /// A host's process is gone. What is on its way from there still arrives.
    fn crash(&mut self, host: usize);

    /// What is sent from here to there from now on is lost.
    fn cut(&mut self, from: usize, to: usize);

    /// It is not any more.
    fn heal(&mut self, from: usize, to: usize);
}

/// A driver for the hosts of a world.
pub fn drive(kind: DriverKind, plan: &Plan, hosts: Vec<Box<dyn Host>>) -> Box<dyn Driver> {
    match kind {
        DriverKind::Turmoil => Box::new(over_turmoil::OverTurmoil::new(plan, hosts)),
        DriverKind::Queue => Box::new(queue::Queue::new(plan, hosts)),
    }
}
