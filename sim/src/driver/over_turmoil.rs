//! The world on turmoil: every host is a task with a socket of its own, and datagrams are bytes on turmoil's network, which
//! gives them latency.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use drey_core::limits::FRAME_BYTES_MAX;
use turmoil::net::UdpSocket;

use super::{Datagram, Driver, Host, Net};
use crate::network::CLIENTS;
use crate::plan::{Plan, SHARDS_MAX};
use crate::rng::Rng;
use crate::world::TICK_MS;

/// All hosts listen here.
const PORT: u16 = 7000;
/// The largest datagram, in bytes: all that the shards of a node send to a peer within a tick.
const DATAGRAM_BYTES_MAX: usize = 2 * SHARDS_MAX as usize * FRAME_BYTES_MAX;
/// Who sent it, whether it is a copy, and when it may be received.
const HEADER_BYTES: usize = 1 + 1 + 8 + 8;

/// The driver.
pub struct OverTurmoil {
    sim: turmoil::Sim<'static>,
}

impl OverTurmoil {
    /// All hosts on one network.
    pub fn new(plan: &Plan, hosts: Vec<Box<dyn Host>>) -> OverTurmoil {
        let mut sim = turmoil::Builder::new()
            .tick_duration(Duration::from_millis(TICK_MS))
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis(plan.network.latency_ms_max))
            .udp_capacity(4_096)
            .enable_random_order()
            .rng_seed(Rng::stream(plan.seed, "turmoil", 0).next_u64())
            .build();
        let buffer = Rc::new(RefCell::new(vec![0; DATAGRAM_BYTES_MAX]));
        let mut numbered: Vec<_> = hosts.into_iter().enumerate().collect();
        // turmoil goes by the order in which it learns of the hosts: the nodes first.
        numbered.sort_by_key(|(number, _)| *number == CLIENTS);
        for (number, host) in numbered {
            let host = Rc::new(RefCell::new(host));
            let buffer = buffer.clone();
            sim.host(name(number), move || run(number, host.clone(), buffer.clone()));
        }
        OverTurmoil { sim }
    }
}

impl Driver for OverTurmoil {
    fn step(&mut self, _: u64) -> Result<(), String> {
        self.sim.step().map(|_| ()).map_err(|error| error.to_string())
    }

    fn start(&mut self, host: usize) {
        self.sim.bounce(name(host));
    }

    fn crash(&mut self, host: usize) {
        self.sim.crash(name(host));
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.sim.partition_oneway(name(from), name(to));
    }

    fn heal(&mut self, from: usize, to: usize) {
        self.sim.repair_oneway(name(from), name(to));
    }
}

fn name(host: usize) -> String {
    format!("host-{host}")
}

/// What runs on a host, from one death to the next.
async fn run(number: usize, host: Rc<RefCell<Box<dyn Host>>>, buffer: Rc<RefCell<Vec<u8>>>) -> turmoil::Result {
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).await?;
    if !host.borrow_mut().start() {
        return Ok(());
    }
    loop {
        host.borrow_mut().tick(&mut Socket { number, socket: &socket, buffer: &mut buffer.borrow_mut() });
        tokio::time::sleep(Duration::from_millis(TICK_MS)).await;
    }
}

struct Socket<'a> {
    number: usize,
    socket: &'a UdpSocket,
    buffer: &'a mut [u8],
}

impl Net for Socket<'_> {
    fn send(&mut self, to: usize, datagram: Datagram) -> Result<(), String> {
        let bytes = encode(&datagram);
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(format!("a datagram of {} bytes", bytes.len()));
        }
        match self.socket.try_send_to(&bytes, (name(to).as_str(), PORT)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(format!("host {} to host {to}: {error}", self.number)),
        }
    }

    fn receive(&mut self) -> Option<Datagram> {
        loop {
            let (length, _) = self.socket.try_recv_from(self.buffer).ok()?;
            if let Some(datagram) = decode(&self.buffer[..length]) {
                return Some(datagram);
            }
        }
    }
}

fn encode(datagram: &Datagram) -> Vec<u8> {
    let Datagram { from, is_copy, number, not_before_ms, body } = datagram;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&[*from as u8, u8::from(*is_copy)]);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&not_before_ms.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Datagram> {
    let (&[from, is_copy], rest) = bytes.split_first_chunk::<2>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (not_before, body) = rest.split_first_chunk::<8>()?;
    Some(Datagram {
        from: from.into(),
        is_copy: is_copy != 0,
        number: u64::from_le_bytes(*number),
        not_before_ms: u64::from_le_bytes(*not_before),
        body: Bytes::copy_from_slice(body),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_back_as_it_went() {
        let datagram =
            Datagram { from: 3, is_copy: true, number: 5, not_before_ms: 77, body: Bytes::from_static(b"body") };
        let bytes = encode(&datagram);
        assert_eq!(decode(&bytes), Some(datagram));
        assert_eq!(decode(&bytes[..HEADER_BYTES - 1]), None);
    }
}
