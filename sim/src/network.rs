//! What happens to datagrams between the hosts beside latency and partitions, which are the driver's: loss, duplication and long
//! delays are added here, since they must be counted one by one, and the order within a tick is drawn.
//!
//! A datagram that is delayed waits on its receiver's side, in the network: neither its sender's nor its receiver's death
//! keeps it from arriving later.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::driver::{Datagram, Net};
use crate::faults::{Fault, Faults};
use crate::plan::NetworkPlan;
use crate::rng::Rng;
use crate::world::TICK_MS;

/// The number of the clients' host; nodes have 1 and up.
pub const CLIENTS: usize = 0;

/// Whether datagrams from one host to another get through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// They do.
    #[default]
    None,
    /// Neither these nor those the other way.
    BothWays,
    /// These do not.
    OneWay,
}

#[derive(Default)]
struct Turns {
    next: u64,
    early: BTreeMap<u64, (u64, Datagram)>,
}

/// The network's own state.
pub struct Network {
    rng: Rng,
    /// What happens to datagrams between nodes now.
    pub rates: NetworkPlan,
    /// By sender and receiver, as the driver was told.
    cuts: BTreeMap<(usize, usize), Cut>,
    /// By sender and receiver: until then all that is sent waits, and then it arrives in the order in which it was sent.
    clogs: BTreeMap<(usize, usize), u64>,
    /// By receiver: what arrived, by the time when it may be received and a drawn number; what waited, by its count.
    held: Vec<BTreeMap<(u64, u64), Datagram>>,
    /// What is sent on a way is received in that order, as over a connection.
    pub in_order: bool,
    /// By sender and receiver: how many were sent.
    numbers: BTreeMap<(usize, usize), u64>,
    /// By receiver and sender: the number of the one that comes next, and what came before it was its turn, with when it came.
    turns: BTreeMap<(usize, usize), Turns>,
    /// How many datagrams waited.
    waited: u64,
    /// How many datagrams were sent.
    pub sent: u64,
}

impl Network {
    /// A network for so many hosts.
    pub fn new(rng: Rng, rates: NetworkPlan, hosts: usize) -> Network {
        let held = (0..hosts).map(|_| BTreeMap::new()).collect();
        Network {
            rng,
            rates,
            cuts: BTreeMap::new(),
            clogs: BTreeMap::new(),
            held,
            in_order: false,
            numbers: BTreeMap::new(),
            turns: BTreeMap::new(),
            waited: 0,
            sent: 0,
        }
    }

    /// Notes what the driver was told.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: Cut) {
        self.cuts.insert((from, to), cut);
    }

    /// Whether nothing gets from one host to another and back.
    pub fn is_cut(&self, one: usize, other: usize) -> bool {
        [(one, other), (other, one)].iter().any(|way| self.cuts.get(way).is_some_and(|cut| *cut != Cut::None))
    }

    /// What is sent on these ways waits until then.
    pub fn clog(&mut self, ways: &[(usize, usize)], until_ms: u64) {
        self.clogs.extend(ways.iter().map(|&way| (way, until_ms)));
    }

    /// Nothing waits that is sent from now on.
    pub fn unclog(&mut self) {
        self.clogs.clear();
    }

    /// Sends, from within the sending host.
    pub fn send(
        &mut self,
        net: &mut dyn Net,
        (from, to): (usize, usize),
        now_ms: u64,
        body: Bytes,
        faults: &mut Faults,
    ) -> Result<(), String> {
        self.sent += 1;
        let between_nodes = from != CLIENTS && to != CLIENTS;
        match self.cuts.get(&(from, to)).copied().unwrap_or_default() {
            Cut::None => {}
            Cut::BothWays if between_nodes => faults.happened(Fault::Partitioned),
            Cut::OneWay if between_nodes => faults.happened(Fault::PartitionedOneWay),
            Cut::BothWays | Cut::OneWay => faults.happened(Fault::ClientCutOff),
        }
        let rates = self.rates;
        if between_nodes && self.rng.chance(rates.loss) {
            faults.happened(Fault::Lost);
            return Ok(());
        }
        let mut not_before_ms = 0;
        if between_nodes && self.rng.chance(rates.delay) {
            faults.happened(Fault::Delayed);
            not_before_ms = now_ms + self.rng.between(5, rates.delay_ms_max);
        }
        if let Some(&until_ms) = self.clogs.get(&(from, to))
            && until_ms > now_ms
        {
            faults.happened(Fault::Clogged);
            not_before_ms = not_before_ms.max(until_ms);
        }
        let numbers = self.numbers.entry((from, to)).or_default();
        *numbers += 1;
        let number = *numbers;
        net.send(to, Datagram { from, is_copy: false, number, not_before_ms, body: body.clone() })?;
        if between_nodes && self.rng.chance(rates.duplication) {
            let not_before_ms = now_ms + self.rng.between(0, rates.delay_ms_max);
            net.send(to, Datagram { from, is_copy: true, number, not_before_ms, body })?;
        }
        Ok(())
    }

    /// What arrives at a host now, in a drawn order.
    pub fn receive(&mut self, net: &mut dyn Net, to: usize, now_ms: u64, faults: &mut Faults) -> Vec<Datagram> {
        let (held, cuts) = (&mut self.held[to], &self.cuts);
        while let Some(datagram) = net.receive() {
            let place = if datagram.not_before_ms > now_ms {
                self.waited += 1;
                self.waited
            } else {
                self.rng.next_u64()
            };
            held.insert((datagram.not_before_ms.max(now_ms), place), datagram);
        }
        let mut due = Vec::new();
        while let Some(first) = held.first_entry()
            && first.key().0 <= now_ms
        {
            let datagram = first.remove();
            // What is on its way when the way is cut does not arrive.
            if cuts.get(&(datagram.from, to)).is_some_and(|cut| *cut != Cut::None) {
                faults.happened(Fault::CutOnItsWay);
                continue;
            }
            faults.happened_times(Fault::Duplicated, u64::from(datagram.is_copy));
            due.push(datagram);
        }
        self.put_in_order(to, now_ms, due)
    }

    /// What comes before its turn waits, but no longer than what it waits for may be on its way.
    fn put_in_order(&mut self, to: usize, now_ms: u64, arrived: Vec<Datagram>) -> Vec<Datagram> {
        let mut due = Vec::new();
        for datagram in arrived {
            let turns = self.turns.entry((to, datagram.from)).or_default();
            if self.in_order && datagram.number > turns.next {
                turns.early.insert(datagram.number, (now_ms, datagram));
                continue;
            }
            turns.next = turns.next.max(datagram.number + 1);
            due.push(datagram);
        }
        let longest_ms = self.rates.latency_ms_max + TICK_MS;
        for (_, turns) in self.turns.range_mut((to, 0)..(to + 1, 0)) {
            while let Some(first) = turns.early.first_entry()
                && (*first.key() <= turns.next || now_ms >= first.get().0 + longest_ms)
            {
                let (number, (_, datagram)) = first.remove_entry();
                turns.next = turns.next.max(number + 1);
                due.push(datagram);
            }
        }
        due
    }
}
