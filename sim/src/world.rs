//! A whole world: nodes and clients as a driver's hosts, stepped together, and the faults that befall them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use drey_core::system::SystemWrite;
use drey_core::{GroupId, Incarnation, NodeId};

use crate::checker::Violation;
use crate::clients::{Clients, Task};
use crate::driver::{Driver, DriverKind, Host, Net, drive};
use crate::faults::Fault;
use crate::injector::{Act, Injector};
use crate::network::{Cut, Network};
use crate::node::{Death, Node};
use crate::operator::{Aftermath, Change, Doing, MEMBERS_WANTED_MIN, Operator, Part, address_of, hosts_of};
use crate::plan::{NetworkPlan, Plan, StoragePlan};
use crate::rng::Rng;
use crate::shared::Shared;
use crate::story::{Event, Topic, What, words};
use crate::trace::{Text, Trace};

/// The grain of simulated time: what happens within it happens at once.
pub const TICK_MS: u64 = 5;
/// So long after a member is gone all others take its link for broken, even one that stood still meanwhile.
const NOTICED_MS: u64 = 6_500;
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

    fn act(&mut self, act: Act) {
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
            Act::Loss(per_mille) => {
                let mut shared = self.shared.borrow_mut();
                shared.network.rates.loss = per_mille;
                shared.trace.tell(|| {
                    Some(Event::new(None, Topic::Fault, format!("{per_mille} of 1000 datagrams are lost from now on")))
                });
            }
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

    /// The hosts with a member.
    pub fn member_hosts(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().map(|node| node.borrow());
        nodes.filter(|node| node.member().is_some()).map(|node| node.host()).collect()
    }

    /// Whether nobody is joining or leaving, and every group has the members as its voters.
    pub fn is_settled(&self) -> bool {
        if !matches!(self.operator.doing, Doing::Nothing(_)) {
            return false;
        }
        let mut members: Vec<NodeId> = self.nodes.iter().filter_map(|node| Some(node.borrow().member()?.id)).collect();
        members.sort_unstable();
        drey_core::placement::all_groups(self.plan.groups).all(|group| {
            let nodes = self.nodes.iter().map(|node| node.borrow());
            let configurations = nodes.filter_map(|node| Some(node.process.as_ref()?.configuration(group)));
            let latest = configurations.max_by_key(|(applied, _)| *applied);
            latest.is_some_and(|(_, latest)| {
                let mut voters = latest.voters();
                voters.sort_unstable();
                voters == members && latest.learners().is_empty() && !latest.is_joint()
            })
        })
    }

    /// Whether each group's leader says that all members vote, so that a minority of them may be lost.
    fn is_as_large_as_it_seems(&self) -> bool {
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.borrow()).collect();
        let mut ids: Vec<NodeId> = nodes.iter().filter_map(|node| Some(node.member()?.id)).collect();
        ids.sort_unstable();
        let running: Vec<_> =
            nodes.iter().filter_map(|node| node.process.as_ref()).filter(|process| !process.is_dead()).collect();
        drey_core::placement::all_groups(self.plan.groups)
            .all(|group| running.iter().any(|process| process.sure_voters(group).as_ref() == Some(&ids)))
    }

    /// How many hosts had no member at first.
    pub fn plan_spares(&self) -> usize {
        self.plan.spares
    }

    /// The host of the node that leads a group, if there is one that says so.
    pub fn leader_host(&self, group: GroupId) -> Option<usize> {
        let nodes = self.nodes.iter().map(|node| node.borrow());
        let leads = |node: &std::cell::Ref<'_, Node>| {
            node.process.as_ref().is_some_and(|process| process.sure_voters(group).is_some())
        };
        nodes.filter(leads).map(|node| node.host()).next()
    }

    /// The term in which a host's node is in a group.
    pub fn term(&self, host: usize, group: GroupId) -> Option<u64> {
        self.nodes[host - 1].borrow().process.as_ref()?.term(group)
    }

    /// What a node writes from now on is synced then, and not before.
    pub fn hang_disk(&mut self, host: usize, until_ms: u64) {
        self.shared.borrow_mut().happened(host, Fault::DiskHangs, format_args!("host {host} until {until_ms} ms"));
        if let Some(process) = &mut self.nodes[host - 1].borrow_mut().process {
            process.disk_hangs_until_ms = until_ms;
        }
    }

    /// Cuts a host off from all others, clients aside, or lets it hear and be heard again.
    pub fn cut_off(&mut self, host: usize, is_off: bool) {
        let others = (1..=self.plan.hosts()).filter(|&other| other != host);
        let ways = others.flat_map(|other| [(host, other), (other, host)]).collect();
        if is_off { self.cut_all(ways) } else { self.heal_ways(ways) }
    }

    /// Who the members are and what every group makes of it, for people.
    pub fn describe_members(&self) -> String {
        let members = self.clients.borrow().members.as_ref().map_or(String::new(), |members| members.to_string());
        let mut text = format!("{:?}, members {members}", self.operator.doing);
        for node in self.nodes.iter().map(|node| node.borrow()) {
            let Some(process) = &node.process else { continue };
            for group in drey_core::placement::all_groups(self.plan.groups) {
                let (applied, configuration) = process.configuration(group);
                text += &format!("; node {} group {group} at {applied}: {configuration:?}", node.id());
            }
        }
        text
    }

    /// The operator begins a change, or goes on with one.
    fn operate(&mut self, now_ms: u64) {
        if self.plan.spares == 0 {
            return;
        }
        match self.operator.doing {
            Doing::Nothing(until_ms) => match self.let_go() {
                Some((host, id)) => self.operator.doing = Doing::Leaving(host, id),
                None if self.faulty.get() && now_ms >= until_ms => self.begin_change(now_ms),
                None if self.faulty.get() || self.is_settled() || self.clients.borrow().will_look() => {}
                None => self.clients.borrow_mut().add_task(Task::Members),
            },
            Doing::Joining(host, incarnation) => self.go_on_joining(now_ms, host, incarnation),
            Doing::Leaving(host, id) => self.go_on_leaving(now_ms, host, id),
            Doing::Checking(host, _) => self.go_on_checking(now_ms, host),
        }
    }

    /// Whom the members let go though the operator was refused: an earlier attempt, of which no answer came, has gone through since.
    fn let_go(&self) -> Option<(usize, NodeId)> {
        let clients = self.clients.borrow();
        let members = clients.members.as_ref()?;
        let is_let_go = |id| members.is_gone(id) || members.get(id).is_some_and(|member| member.leaving.is_some());
        self.nodes.iter().zip(1..).find_map(|(node, host)| {
            let id = node.borrow().member()?.id;
            is_let_go(id).then_some((host, id))
        })
    }

    fn begin_change(&mut self, now_ms: u64) {
        let members = self.member_hosts();
        let spares: Vec<usize> = (1..=self.plan.hosts()).filter(|host| !members.contains(host)).collect();
        // Before that the cluster is as large as it was, and a lost disk may be one too many.
        let settled = self.is_settled() && self.is_as_large_as_it_seems();
        let Some(change) = self.operator.begin(now_ms, &spares, &members, settled) else { return };
        self.shared.borrow_mut().trace.event(format_args!("operator: {change:?}"));
        let told = || Some(Event::new(None, Topic::Members, format!("operator: {change:?}")));
        self.shared.borrow_mut().trace.tell(told);
        self.clients.borrow_mut().refused = false;
        match change {
            Change::Join(host) => {
                let incarnation = Incarnation(now_ms * 100 + host as u64);
                let (name, address) = (format!("h{host}-{now_ms}"), address_of(host));
                let write = SystemWrite::Join { name, address, incarnation: Some(incarnation) };
                self.clients.borrow_mut().add_task(Task::System(write));
                self.operator.doing = Doing::Joining(host, incarnation);
            }
            Change::Leave(host) => {
                let id = self.nodes[host - 1].borrow().id();
                self.ask_to_leave(host, id);
            }
            Change::LoseDisk(host) => self.lose_disk(now_ms, host),
            Change::LoseBit(host) => {
                let number = self.operator.number();
                self.damage_log(host, number);
            }
        }
    }

    /// A node loses power, and a bit of its log.
    pub fn damage_log(&mut self, host: usize, number: u64) {
        if self.power[host - 1] == Power::On {
            self.take_down(host, Death::PowerCut);
        }
        let mut node = self.nodes[host - 1].borrow_mut();
        if node.lose_bit(number) {
            self.shared.borrow_mut().happened(host, Fault::BitLost, format_args!("node {}", node.id()));
            self.operator.doing = Doing::Checking(host, node.id());
        }
    }

    fn ask_to_leave(&mut self, host: usize, id: NodeId) {
        self.ask_to_leave_at(0, host, id);
    }

    fn ask_to_leave_at(&mut self, at_ms: u64, host: usize, id: NodeId) {
        self.clients.borrow_mut().refused = false;
        self.clients.borrow_mut().add_task_at(at_ms, Task::System(SystemWrite::Leave { member: id }));
        self.operator.doing = Doing::Leaving(host, id);
    }

    /// A member loses its disk, and is to be removed. Not all goes well with that.
    fn lose_disk(&mut self, now_ms: u64, host: usize) {
        let part = self.nodes[host - 1].borrow().part.clone();
        let Some(part) = part else { return };
        let id = part.id;
        self.shared.borrow_mut().happened(host, Fault::DiskGone, format_args!("node {id}"));
        self.retire(host, Power::Spare);
        let (aftermath, other) = self.operator.aftermath(&self.member_hosts());
        match aftermath {
            // A node that joined is started without founders, and asks for a place.
            Aftermath::ComesBack if !part.joined && part.peers.len() > 1 => {
                self.shared.borrow_mut().happened(host, Fault::WipedCameBack, format_args!("node {id}"));
                self.nodes[host - 1].borrow_mut().come_back(part);
                self.power[host - 1] = Power::Off(now_ms + self.injector.down_ms());
                self.ask_to_leave(host, id);
            }
            Aftermath::WrongOneFirst => {
                let other_id = self.nodes[other - 1].borrow().id();
                self.shared.borrow_mut().happened(
                    other,
                    Fault::WrongRemoval,
                    format_args!("node {other_id}, not {id}"),
                );
                self.operator.lost = Some((host, id));
                self.ask_to_leave_at(now_ms + NOTICED_MS, other, other_id);
            }
            Aftermath::Removed | Aftermath::ComesBack => self.ask_to_leave(host, id),
        }
    }

    /// A node with a changed bit has started, or has noticed.
    fn go_on_checking(&mut self, now_ms: u64, host: usize) {
        let (is_up, is_damaged) = {
            let node = self.nodes[host - 1].borrow();
            (node.is_up(), node.is_damaged)
        };
        if is_damaged {
            self.lose_disk(now_ms, host);
        } else if is_up {
            self.nodes[host - 1].borrow_mut().has_rotted = false;
            self.operator.rest(now_ms);
        }
    }

    /// Somebody has left, or stays.
    fn done_leaving(&mut self, now_ms: u64) {
        match self.operator.lost.take() {
            Some((host, id)) => self.ask_to_leave(host, id),
            None => self.operator.rest(now_ms),
        }
    }

    fn go_on_joining(&mut self, now_ms: u64, host: usize, incarnation: Incarnation) {
        let members = self.clients.borrow().members.clone();
        let joined = members.as_ref().and_then(|members| {
            let id = members.iter().find(|member| member.incarnation == Some(incarnation))?.id;
            Some(Part { id, incarnation, joined: true, impostor: false, peers: hosts_of(members) })
        });
        let Some(part) = joined else { return };
        self.shared.borrow_mut().happened(host, Fault::Joined, format_args!("node {} on host {host}", part.id));
        self.nodes[host - 1].borrow_mut().part = Some(part);
        self.power[host - 1] = Power::Off(now_ms);
        self.clients.borrow_mut().hosts = self.member_hosts();
        self.operator.rest(now_ms);
    }

    fn go_on_leaving(&mut self, now_ms: u64, host: usize, id: NodeId) {
        let (is_gone, refused, will_look) = {
            let clients = self.clients.borrow();
            let is_gone = clients.members.as_ref().is_some_and(|members| members.is_gone(id));
            (is_gone, clients.refused, clients.will_look())
        };
        let lost = self.nodes[host - 1].borrow().member().is_none();
        if is_gone {
            self.shared.borrow_mut().happened(host, Fault::Left, format_args!("node {id} of host {host}"));
            self.retire(host, Power::Spare);
            self.done_leaving(now_ms);
        } else if refused && lost {
            // Others are down: once they are back it can be spared.
            self.clients.borrow_mut().refused = false;
            self.clients.borrow_mut().add_task(Task::System(SystemWrite::Leave { member: id }));
        } else if refused {
            self.done_leaving(now_ms);
        } else if !will_look {
            self.clients.borrow_mut().add_task(Task::Members);
        }
    }

    /// Takes a node's process and all that it had.
    fn retire(&mut self, host: usize, power: Power) {
        if self.power[host - 1] == Power::On {
            self.take_down(host, Death::PowerCut);
        }
        self.nodes[host - 1].borrow_mut().wipe();
        self.power[host - 1] = power;
        self.clients.borrow_mut().hosts = self.member_hosts();
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
