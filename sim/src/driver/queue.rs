//! The world as a queue of events in one process: no task, no socket, no copy of a datagram.
//!
//! Each way between two hosts has a longest latency of its own, drawn from the seed. Within it most datagrams are quick and
//! some are slow, so that they overtake each other. Whoever is down when a datagram arrives does not get it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Datagram, Driver, Host, Net};
use crate::plan::Plan;
use crate::rng::Rng;

/// Whether a host's process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Down,
    /// With the next tick.
    Starts,
    Up,
}

/// The driver.
pub struct Queue {
    rng: Rng,
    hosts: Vec<Box<dyn Host>>,
    running: Vec<Running>,
    /// The order of this tick: all hosts.
    order: Vec<usize>,
    wires: Wires,
}

/// All ways between the hosts.
struct Wires {
    rng: Rng,
    now_ms: u64,
    /// By sender and receiver.
    latency_ms_max: Vec<Vec<u64>>,
    cut: BTreeSet<(usize, usize)>,
    /// By receiver: what is on its way, by the time of its arrival and a count.
    under_way: Vec<BTreeMap<(u64, u64), Datagram>>,
    count: u64,
}

impl Queue {
    /// All hosts, with wires between all of them.
    pub fn new(plan: &Plan, hosts: Vec<Box<dyn Host>>) -> Queue {
        let mut rng = Rng::stream(plan.seed, "queue", 0);
        let longest = plan.network.latency_ms_max;
        let count = hosts.len();
        let mut latencies = || (0..count).map(|_| rng.between(1, longest)).collect();
        let wires = Wires {
            latency_ms_max: (0..count).map(|_| latencies()).collect(),
            now_ms: 0,
            cut: BTreeSet::new(),
            under_way: (0..count).map(|_| BTreeMap::new()).collect(),
            count: 0,
            rng: Rng::stream(plan.seed, "queue", 1),
        };
        Queue { rng, running: vec![Running::Starts; count], order: (0..count).collect(), hosts, wires }
    }
}

impl Driver for Queue {
    fn step(&mut self, now_ms: u64) -> Result<(), String> {
        self.wires.now_ms = now_ms;
        self.rng.shuffle(&mut self.order);
        for &host in &self.order {
            if self.running[host] == Running::Starts {
                // What came while it was down met nobody.
                self.wires.drop_arrived(host);
                self.running[host] = if self.hosts[host].start() { Running::Up } else { Running::Down };
            }
            if self.running[host] == Running::Up {
                self.hosts[host].tick(&mut Plug { host, wires: &mut self.wires });
            }
        }
        Ok(())
    }

    fn start(&mut self, host: usize) {
        self.running[host] = Running::Starts;
    }

    fn crash(&mut self, host: usize) {
        self.running[host] = Running::Down;
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.wires.cut.insert((from, to));
    }

    fn heal(&mut self, from: usize, to: usize) {
        self.wires.cut.remove(&(from, to));
    }
}

impl Wires {
    fn send(&mut self, from: usize, to: usize, datagram: Datagram) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        let longest_ms = self.latency_ms_max[from][to];
        let spread_ms = self.rng.between(1, longest_ms);
        let arrives_ms = self.now_ms + self.rng.below(spread_ms);
        self.count += 1;
        self.under_way[to].insert((arrives_ms, self.count), datagram);
    }

    fn receive(&mut self, to: usize) -> Option<Datagram> {
        let first = self.under_way[to].first_entry()?;
        (first.key().0 <= self.now_ms).then(|| first.remove())
    }

    fn drop_arrived(&mut self, to: usize) {
        while self.receive(to).is_some() {}
    }
}

/// Where a host is connected.
struct Plug<'a> {
    host: usize,
    wires: &'a mut Wires,
}

impl Net for Plug<'_> {
    fn send(&mut self, to: usize, datagram: Datagram) -> Result<(), String> {
        if to >= self.wires.under_way.len() {
            return Err(format!("host {} to host {to}, which is not there", self.host));
        }
        self.wires.send(self.host, to, datagram);
        Ok(())
    }

    fn receive(&mut self) -> Option<Datagram> {
        self.wires.receive(self.host)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use bytes::Bytes;

    use super::*;

    /// Sends its time to the other host at each tick, and writes down what it hears and when.
    struct Talker {
        number: usize,
        now_ms: u64,
        heard: Rc<RefCell<Vec<(usize, u64, u64)>>>,
    }

    impl Host for Talker {
        fn start(&mut self) -> bool {
            true
        }

        fn tick(&mut self, net: &mut dyn Net) {
            self.now_ms += 5;
            while let Some(datagram) = net.receive() {
                let sent = datagram.body.first_chunk().copied().expect("a number");
                self.heard.borrow_mut().push((self.number, self.now_ms, u64::from_le_bytes(sent)));
            }
            let body = Bytes::copy_from_slice(&self.now_ms.to_le_bytes());
            let datagram = Datagram { from: self.number, is_copy: false, number: 0, not_before_ms: 0, body };
            net.send(1 - self.number, datagram).expect("there are two");
        }
    }

    type Heard = Rc<RefCell<Vec<(usize, u64, u64)>>>;

    fn two_talkers(seed: u64) -> (Queue, Heard) {
        let heard = Heard::default();
        let talker = |number| Box::new(Talker { number, now_ms: 0, heard: heard.clone() }) as Box<dyn Host>;
        let mut plan = Plan::draw(seed);
        plan.network.latency_ms_max = 40;
        (Queue::new(&plan, vec![talker(0), talker(1)]), heard)
    }

    fn steps(queue: &mut Queue, ticks: std::ops::RangeInclusive<u64>) {
        for tick in ticks {
            queue.step(tick * 5).expect("nothing is wrong");
        }
    }

    #[test]
    fn datagrams_arrive_within_their_latency_some_out_of_order_and_alike_for_a_seed() {
        let story = |seed| {
            let (mut queue, heard) = two_talkers(seed);
            steps(&mut queue, 1..=400);
            heard.take()
        };
        let mut overtakes = 0;
        for seed in 0..10 {
            let heard = story(seed);
            assert_eq!(heard, story(seed));
            assert!(heard.len() > 760, "{} of 800", heard.len());
            assert!(heard.iter().all(|(_, now_ms, sent_ms)| (0..=40).contains(&(now_ms - sent_ms))));
            let at_1: Vec<u64> = heard.iter().filter(|(to, ..)| *to == 1).map(|(_, _, sent_ms)| *sent_ms).collect();
            overtakes += at_1.windows(2).filter(|pair| pair[0] > pair[1]).count();
        }
        assert!(overtakes > 50, "{overtakes}");
        assert_ne!(story(1), story(2));
    }

    #[test]
    fn a_cut_is_one_way_and_ends() {
        let (mut queue, heard) = two_talkers(1);
        queue.cut(0, 1);
        steps(&mut queue, 1..=100);
        assert!(heard.borrow().iter().all(|(to, ..)| *to == 0) && heard.borrow().len() > 80);
        queue.heal(0, 1);
        steps(&mut queue, 101..=200);
        let at_1: Vec<u64> = heard.borrow().iter().filter(|(to, ..)| *to == 1).map(|(_, _, sent)| *sent).collect();
        assert!(at_1.len() > 80 && at_1.iter().all(|&sent_ms| sent_ms > 500), "{at_1:?}");
    }

    #[test]
    fn who_is_down_hears_nothing_of_it_later() {
        let (mut queue, heard) = two_talkers(1);
        steps(&mut queue, 1..=20);
        queue.crash(1);
        heard.borrow_mut().clear();
        steps(&mut queue, 21..=100);
        assert!(
            heard.borrow().iter().all(|(to, _, sent_ms)| *to == 0 && *sent_ms <= 100),
            "what was under way arrives"
        );
        queue.start(1);
        heard.borrow_mut().clear();
        steps(&mut queue, 101..=110);
        let at_1: Vec<u64> = heard.borrow().iter().filter(|(to, ..)| *to == 1).map(|(_, _, sent)| *sent).collect();
        assert!(!at_1.is_empty() && at_1.iter().all(|&sent_ms| sent_ms > 400), "{at_1:?}");
    }
}
