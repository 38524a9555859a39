//! A whole world: nodes and clients as a driver's hosts, stepped together, and the faults that befall them.

mod membership;
mod sight;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use drey_core::{GroupId, NodeId, Room};

use crate::checker::Violation;
use crate::clients::Clients;
use crate::driver::{Driver, DriverKind, Host, Net, drive};
use crate::faults::Fault;
use crate::hunts::Hunts;
use crate::injector::{Act, Injector};
use crate::network::{Cut, Network};
use crate::node::{Death, Node};
use crate::operator::{MEMBERS_WANTED_MIN, Operator};
use crate::plan::{NetworkPlan, Plan, StoragePlan};
use crate::rng::Rng;
use crate::room::ROOMY;
use crate::shared::Shared;
use crate::story::{Event, Topic, What, words};
use crate::trace::{Text, Trace};

/// The grain of simulated time: what happens within it happens at once.
pub const TICK_MS: u64 = 5;
/// Between two marks of the trace.
const MARK_EVERY_MS: u64 = 500;

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// Until then.
    Off(u64),
    /// There is no node there.
    Spare,
}

/// The world.
pub struct World {
    driver: Box<dyn Driver>,
    plan: Rc<Plan>,
    /// What all hosts see.
    pub shared: Rc<RefCell<Shared>>,
    /// All nodes, by their number less one.
    pub nodes: Vec<Rc<RefCell<Node>>>,
    /// All clients.
    pub clients: Rc<RefCell<Clients>>,
    power: Vec<Power>,
    injector: Injector,
    hunts: Hunts,
    operator: Operator,
    /// How many faults cut each way now.
    cuts: BTreeMap<(usize, usize), u32>,
    /// Faults happen.
    faulty: Rc<Cell<bool>>,
}

impl World {
    /// The world of a plan, at its beginning.
    pub fn new(plan: Plan, kind: DriverKind, text: Text) -> World {
        let plan = Rc::new(plan);
        let network = Network::new(Rng::stream(plan.seed, "network", 0), plan.network, plan.hosts() + 1);
        let shared = Rc::new(RefCell::new(Shared::new(Trace::new(text), network)));
        let clients = Rc::new(RefCell::new(Clients::new(&plan)));
        let new_node = |host| Rc::new(RefCell::new(Node::new(host, plan.clone())));
        let nodes: Vec<_> = (1..=plan.hosts()).map(new_node).collect();
        // In the order of their numbers: the clients are CLIENTS.
        let mut hosts: Vec<Box<dyn Host>> =
            vec![Box::new(ClientsHost { clients: clients.clone(), shared: shared.clone() })];
        for node in &nodes {
            hosts.push(Box::new(NodeHost { node: node.clone(), shared: shared.clone() }));
        }
        World {
            driver: drive(kind, &plan, hosts),
            shared,
            nodes,
            clients,
            power: (1..=plan.hosts()).map(|host| if host <= plan.nodes { Power::On } else { Power::Spare }).collect(),
            operator: Operator::new(&plan),
            injector: Injector::new(plan.clone()),
            hunts: Hunts::new(&plan),
            cuts: BTreeMap::new(),
            faulty: Rc::new(Cell::new(true)),
            plan,
        }
    }

    /// Simulated time.
    pub fn now_ms(&self) -> u64 {
        self.shared.borrow().now_ms
    }

    /// Steps until it is done. An error when a law is broken.
    pub fn run_until(&mut self, mut done: impl FnMut(&mut World) -> bool) -> Result<(), Violation> {
        while !done(self) {
            self.step()?;
        }
        Ok(())
    }

    /// One tick of everything.
    fn step(&mut self) -> Result<(), Violation> {
        let now_ms = {
            let mut shared = self.shared.borrow_mut();
            shared.now_ms += TICK_MS;
            let now_ms = shared.now_ms;
            shared.trace.at(now_ms);
            if now_ms.is_multiple_of(MARK_EVERY_MS) {
                self.nodes.iter().for_each(|node| {
                    let node = node.borrow();
                    shared.trace.event(format_args!("disk of node {}: {:016x}", node.host(), node.disk_hash()));
                });
                shared.trace.mark();
            }
            now_ms
        };
        for act in self.injector.due(now_ms) {
            self.act(act);
        }
        self.hunt(now_ms);
        self.operate(now_ms);
        self.start_due(now_ms);
        // What panics has said so itself.
        let stepped = catch_unwind(AssertUnwindSafe(|| self.driver.step(now_ms)));
        stepped
            .unwrap_or_else(|panic| Err(format!("a host panicked: {}", said(&*panic))))
            .map_err(|seen| Violation::new("nothing panics", seen))?;
        self.bury(now_ms);
        match self.shared.borrow().violation() {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// What would befall a host without a member befalls one that has one.
    fn aimed(&self, act: Act) -> Act {
        let hosts = self.member_hosts();
        let aimed = |host: usize| match hosts.contains(&host) || hosts.is_empty() {
            true => host,
            false => hosts[host % hosts.len()],
        };
        match act {
            Act::Die(host, death) => Act::Die(aimed(host), death),
            Act::Doom(host, doom) => Act::Doom(aimed(host), doom),
            Act::Pause(host, length_ms) => Act::Pause(aimed(host), length_ms),
            Act::Stall(host, length_ms) => Act::Stall(aimed(host), length_ms),
            act => act,
        }
    }

    fn act(&mut self, act: Act) {
        let act = self.aimed(act);
        self.shared.borrow_mut().trace.event(format_args!("act: {act:?}"));
        match act {
            Act::Cut(ways) => self.cut_all(ways),
            Act::Heal(ways) => self.heal_ways(ways),
            Act::Die(node, death) => {
                if self.power[node - 1] == Power::On {
                    let fault = if death == Death::Kill { Fault::Killed } else { Fault::PowerCut };
                    self.shared.borrow_mut().happened(node, fault, format_args!("node {node}"));
                    self.take_down(node, death);
                }
            }
            Act::DieAll => {
                self.shared.borrow_mut().happened(None, Fault::PowerCutOfAll, format_args!(""));
                for node in 1..=self.plan.hosts() {
                    if self.power[node - 1] == Power::On {
                        self.take_down(node, Death::PowerCut);
                    }
                }
            }
            Act::Doom(node, doom) => {
                let mut node = self.nodes[node - 1].borrow_mut();
                match &mut node.process {
                    Some(process) => process.doom = Some(doom),
                    None => node.doom = Some(doom),
                }
            }
            Act::Pause(number, length_ms) => {
                let mut shared = self.shared.borrow_mut();
                if let Some(process) = &mut self.nodes[number - 1].borrow_mut().process {
                    process.paused_until_ms = shared.now_ms + length_ms;
                    shared.happened(number, Fault::Paused, format_args!("node {number} for {length_ms} ms"));
                }
            }
            Act::SetWallClock(node, wrong_ms) => {
                // One wrong clock among less than three is no minority.
                let may_err = self.member_hosts().len() >= MEMBERS_WANTED_MIN && self.is_as_large_as_it_seems();
                let wrong_ms = if may_err { wrong_ms } else { 0 };
                for (number, other) in self.nodes.iter().enumerate() {
                    let wrong_ms = if number + 1 == node { wrong_ms } else { 0 };
                    if other.borrow_mut().set_wall_clock(wrong_ms) {
                        let mut shared = self.shared.borrow_mut();
                        shared.happened(
                            number + 1,
                            Fault::WallClockSet,
                            format_args!("node {}: {wrong_ms} ms off", number + 1),
                        );
                    }
                }
            }
            Act::Stall(number, length_ms) => {
                let until_ms = self.now_ms() + length_ms;
                if let Some(process) = &mut self.nodes[number - 1].borrow_mut().process {
                    process.stall(until_ms, Death::PowerCut);
                }
            }
            Act::Fill(hosts, room) => hosts.into_iter().for_each(|host| self.fill_disk(host, room)),
            Act::Clog(ways, until_ms) => {
                let mut shared = self.shared.borrow_mut();
                shared.network.clog(&ways, until_ms);
                shared.trace.tell(|| {
                    let text = format!("waits until {until_ms} ms: {}", words::ways(&ways));
                    Some(Event::new(None, Topic::Fault, text))
                });
            }
            Act::Loss(per_mille) => {
                let mut shared = self.shared.borrow_mut();
                shared.network.rates.loss = per_mille;
                shared.trace.tell(|| {
                    Some(Event::new(None, Topic::Fault, format!("{per_mille} of 1000 datagrams are lost from now on")))
                });
            }
        }
    }

    /// What waits for a moment, and whether it has come.
    fn hunt(&mut self, now_ms: u64) {
        let Some(group) = self.hunts.group.filter(|_| self.faulty.get() || self.hunts.is_trial()) else { return };
        let caught = self.hunts.look(now_ms, &self.sightings(group));
        for (prey, acts) in caught {
            if let Some((fault, host)) = prey.fault() {
                self.shared.borrow_mut().happened(host, fault, format_args!("group {group}: {prey:?}"));
            }
            acts.into_iter().for_each(|act| self.act(act));
        }
    }

    fn cut_all(&mut self, ways: Vec<(usize, usize)>) {
        ways.iter().for_each(|&way| self.cut(way));
        self.tell_ways("cut", What::Cut(ways));
    }

    fn heal_ways(&mut self, ways: Vec<(usize, usize)>) {
        ways.iter().for_each(|&way| self.heal(way));
        self.tell_ways("healed", What::Healed(ways));
    }

    fn tell_ways(&self, verb: &str, what: What) {
        self.shared.borrow_mut().trace.tell(|| match &what {
            What::Cut(ways) | What::Healed(ways) if !ways.is_empty() => {
                Some(Event::new(None, Topic::Fault, format!("{verb}: {}", words::ways(ways))).did(what))
            }
            _ => None,
        });
    }

    fn cut(&mut self, (from, to): (usize, usize)) {
        *self.cuts.entry((from, to)).or_default() += 1;
        self.driver.cut(from, to);
        self.note_cuts(from, to);
    }

    fn heal(&mut self, (from, to): (usize, usize)) {
        let count = self.cuts.entry((from, to)).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.driver.heal(from, to);
        }
        self.note_cuts(from, to);
    }

    fn note_cuts(&mut self, from: usize, to: usize) {
        let is_cut = |way| self.cuts.get(&way).copied().unwrap_or_default() > 0;
        let (there, back) = (is_cut((from, to)), is_cut((to, from)));
        let kind = if there && back { Cut::BothWays } else { Cut::OneWay };
        let network = &mut self.shared.borrow_mut().network;
        network.set_cut(from, to, if there { kind } else { Cut::None });
        network.set_cut(to, from, if back { kind } else { Cut::None });
    }

    /// What a node writes from now on is synced then, and not before.
    pub fn hang_disk(&mut self, host: usize, until_ms: u64) {
        self.shared.borrow_mut().happened(host, Fault::DiskHangs, format_args!("host {host} until {until_ms} ms"));
        if let Some(process) = &mut self.nodes[host - 1].borrow_mut().process {
            process.disk_hangs_until_ms = until_ms;
        }
    }

    /// A host's disk has so much room.
    pub fn fill_disk(&mut self, host: usize, room: Room) {
        self.nodes[host - 1].borrow_mut().fill_disk(room, &mut self.shared.borrow_mut());
    }

    /// From now on who knows a group's latest configuration is parted from the others, as soon as both sides could go on.
    pub fn part_when_possible(&mut self, group: GroupId) {
        self.hunts = Hunts::of_trial(&self.plan, group);
    }

    /// Whether they were.
    pub fn is_parted(&self) -> bool {
        self.hunts.is_parted()
    }

    /// No two sides any more.
    pub fn stop_hunting(&mut self) {
        for (_, acts) in self.hunts.stop() {
            acts.into_iter().for_each(|act| self.act(act));
        }
    }

    /// The link from a host's node to another node breaks.
    pub fn break_link(&mut self, host: usize, peer: NodeId) {
        if let Some(process) = &mut self.nodes[host - 1].borrow_mut().process {
            process.break_link(peer, &mut self.shared.borrow_mut());
        }
    }

    /// A host hears no other any more, or hears them again.
    pub fn deafen(&mut self, host: usize, is_deaf: bool) {
        let ways = self.ways_of(host).into_iter().filter(|way| way.1 == host).collect();
        if is_deaf { self.cut_all(ways) } else { self.heal_ways(ways) }
    }

    /// What others send to a host takes until then.
    pub fn hold_up(&mut self, host: usize, until_ms: u64) {
        self.shared.borrow_mut().happened(host, Fault::LeaderHeldUp, format_args!("until {until_ms} ms"));
        let ways = self.ways_of(host).into_iter().filter(|way| way.1 == host).collect();
        self.act(Act::Clog(ways, until_ms));
    }

    /// Cuts a host off from all others, clients aside, or lets it hear and be heard again.
    pub fn cut_off(&mut self, host: usize, is_off: bool) {
        let ways = self.ways_of(host);
        if is_off { self.cut_all(ways) } else { self.heal_ways(ways) }
    }

    /// All ways from a host and to it, clients aside.
    fn ways_of(&self, host: usize) -> Vec<(usize, usize)> {
        let others = (1..=self.plan.hosts()).filter(|&other| other != host);
        others.flat_map(|other| [(host, other), (other, host)]).collect()
    }

    fn take_down(&mut self, node: usize, death: Death) {
        let now_ms = self.now_ms();
        self.driver.crash(node);
        let may_change = self.faulty.get();
        self.nodes[node - 1].borrow_mut().die(death, may_change, &mut self.shared.borrow_mut());
        self.power[node - 1] = Power::Off(now_ms + self.injector.down_ms());
    }

    /// Starts the nodes whose time has come.
    fn start_due(&mut self, now_ms: u64) {
        for node in 1..=self.plan.hosts() {
            if matches!(self.power[node - 1], Power::Off(until_ms) if now_ms >= until_ms) {
                self.power[node - 1] = Power::On;
                self.driver.start(node);
            }
        }
    }

    /// Takes down the nodes that died by themselves, in a turn or while they started.
    fn bury(&mut self, now_ms: u64) {
        for number in 0..self.plan.hosts() {
            if self.power[number] != Power::On || self.nodes[number].borrow().is_up() {
                continue;
            }
            let died = self.nodes[number].borrow().process.as_ref().and_then(|process| process.died);
            match died {
                Some(death) => self.take_down(number + 1, death),
                // It died at its start: its disk has seen that already.
                None => self.power[number] = Power::Off(now_ms + self.injector.down_ms()),
            }
        }
    }

    /// Ends all faults but one: these nodes stay down, if any.
    pub fn heal_all(&mut self, stay_down: &[usize]) {
        self.injector.stop();
        self.faulty.set(false);
        let ways: Vec<_> = self.cuts.iter().filter(|(_, count)| **count > 0).map(|(way, _)| *way).collect();
        ways.iter().for_each(|&way| {
            self.cuts.insert(way, 1);
        });
        self.heal_ways(ways);
        let now_ms = self.now_ms();
        self.shared.borrow_mut().network.unclog();
        self.shared.borrow_mut().network.in_order = true;
        self.shared.borrow_mut().network.rates = NetworkPlan { loss: 0, duplication: 0, delay: 0, ..self.plan.network };
        for node in 1..=self.plan.hosts() {
            if self.power[node - 1] == Power::Spare {
                continue;
            }
            if stay_down.contains(&node) {
                if self.power[node - 1] == Power::On {
                    self.take_down(node, Death::PowerCut);
                }
                self.power[node - 1] = Power::Off(u64::MAX);
            } else if self.power[node - 1] != Power::On {
                self.power[node - 1] = Power::Off(now_ms);
            }
        }
        self.calm();
    }

    /// Starts the nodes that stayed down.
    pub fn start_all(&mut self) {
        let now_ms = self.now_ms();
        for power in &mut self.power {
            if matches!(power, Power::Off(_)) {
                *power = Power::Off(now_ms);
            }
        }
    }

    /// Takes what is left of planned faults from the running processes.
    fn calm(&mut self) {
        let calm = StoragePlan { slow_sync: 0, slow_job: 0, one_fails_in: 0, ..self.plan.storage };
        for node in &self.nodes {
            let mut node = node.borrow_mut();
            node.calm(calm);
            node.fill_disk(ROOMY, &mut self.shared.borrow_mut());
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}

/// A node on its host.
struct NodeHost {
    node: Rc<RefCell<Node>>,
    shared: Rc<RefCell<Shared>>,
}

impl Host for NodeHost {
    fn start(&mut self) -> bool {
        self.node.borrow_mut().start(&mut self.shared.borrow_mut())
    }

    fn tick(&mut self, net: &mut dyn Net) {
        self.node.borrow_mut().tick(&mut self.shared.borrow_mut(), net);
    }
}

/// All clients on theirs.
struct ClientsHost {
    clients: Rc<RefCell<Clients>>,
    shared: Rc<RefCell<Shared>>,
}

impl Host for ClientsHost {
    fn start(&mut self) -> bool {
        true
    }

    fn tick(&mut self, net: &mut dyn Net) {
        self.clients.borrow_mut().tick(&mut self.shared.borrow_mut(), net);
    }
}
