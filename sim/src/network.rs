//! Datagrams between the hosts, over turmoil's network: it gives latency and partitions; loss, duplication and long delays
//! are added here, since they must be counted one by one, and the order within a tick is drawn.
//!
//! A datagram that is delayed waits on its receiver's side, in the network: neither its sender's nor its receiver's death
//! keeps it from arriving later.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use turmoil::net::UdpSocket;

use crate::faults::{Fault, Faults};
use crate::plan::NetworkPlan;
use crate::rng::Rng;

/// All hosts listen here.
pub const PORT: u16 = 7000;
/// The number of the clients' host; nodes have 1 and up.
pub const CLIENTS: usize = 0;
/// The name of the clients' host.
pub const CLIENTS_HOST: &str = "clients";
/// The largest datagram, in bytes.
const DATAGRAM_BYTES_MAX: usize = 4 << 20;
/// Who sent it, whether it is a copy, and when it may arrive.
const HEADER_BYTES: usize = 10;

/// A datagram as it arrives.
#[derive(Debug)]
pub struct Datagram {
    /// The sending host.
    pub from: usize,
    /// The network made it of another one.
    pub is_copy: bool,
    /// What it carries.
    pub body: Bytes,
}

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

/// The network's own state.
pub struct Network {
    rng: Rng,
    /// What happens to datagrams between nodes now.
    pub rates: NetworkPlan,
    /// By sender and receiver, as set in turmoil's topology.
    cuts: BTreeMap<(usize, usize), Cut>,
    /// By receiver: what arrived, by the time when it may be received and a drawn number.
    held: Vec<BTreeMap<(u64, u64), Datagram>>,
    buffer: Vec<u8>,
    /// How many datagrams were sent.
    pub sent: u64,
}

impl Network {
    /// A network for so many hosts.
    pub fn new(rng: Rng, rates: NetworkPlan, hosts: usize) -> Network {
        let held = (0..hosts).map(|_| BTreeMap::new()).collect();
        let buffer = vec![0; DATAGRAM_BYTES_MAX];
        Network { rng, rates, cuts: BTreeMap::new(), held, buffer, sent: 0 }
    }

    /// Notes a change of turmoil's topology.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: Cut) {
        self.cuts.insert((from, to), cut);
    }

    /// Sends, from within the sending host.
    pub fn send(
        &mut self,
        socket: &UdpSocket,
        (from, to): (usize, usize),
        now_ms: u64,
        body: &[u8],
        faults: &mut Faults,
    ) -> io::Result<()> {
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
        self.send_one(socket, (from, to), false, not_before_ms, body)?;
        if between_nodes && self.rng.chance(rates.duplication) {
            let not_before_ms = now_ms + self.rng.between(0, rates.delay_ms_max);
            self.send_one(socket, (from, to), true, not_before_ms, body)?;
        }
        Ok(())
    }

    fn send_one(
        &mut self,
        socket: &UdpSocket,
        (from, to): (usize, usize),
        is_copy: bool,
        not_before_ms: u64,
        body: &[u8],
    ) -> io::Result<()> {
        let mut datagram = Vec::with_capacity(HEADER_BYTES + body.len());
        datagram.extend_from_slice(&[from as u8, u8::from(is_copy)]);
        datagram.extend_from_slice(&not_before_ms.to_le_bytes());
        datagram.extend_from_slice(body);
        assert!(datagram.len() <= DATAGRAM_BYTES_MAX, "a datagram of {} bytes", datagram.len());
        let host = if to == CLIENTS { CLIENTS_HOST.to_owned() } else { crate::plan::Plan::host(to - 1) };
        match socket.try_send_to(&datagram, (host.as_str(), PORT)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What arrives at a host now, in a drawn order.
    pub fn receive(&mut self, socket: &UdpSocket, to: usize, now_ms: u64, faults: &mut Faults) -> Vec<Datagram> {
        while let Ok((length, _)) = socket.try_recv_from(&mut self.buffer) {
            let datagram = &self.buffer[..length];
            let (Some(&[from, is_copy]), Some(not_before)) =
                (datagram.first_chunk::<2>(), datagram.get(2..).and_then(|rest| rest.first_chunk::<8>()))
            else {
                continue;
            };
            let at_ms = u64::from_le_bytes(*not_before).max(now_ms);
            let body = Bytes::copy_from_slice(&datagram[HEADER_BYTES..]);
            let order = self.rng.next_u64();
            self.held[to].insert((at_ms, order), Datagram { from: from.into(), is_copy: is_copy != 0, body });
        }
        let held = &mut self.held[to];
        let mut due = Vec::new();
        while let Some(first) = held.first_entry()
            && first.key().0 <= now_ms
        {
            let datagram = first.remove();
            faults.happened_times(Fault::Duplicated, u64::from(datagram.is_copy));
            due.push(datagram);
        }
        due
    }
}
