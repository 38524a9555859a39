//! What the operator has decided, carried out: nodes that join, members that leave, disks that are lost.

use std::collections::BTreeSet;

use drey_core::system::SystemWrite;
use drey_core::{GroupId, Incarnation, NodeId};

use super::{Power, World};
use crate::clients::Task;
use crate::faults::Fault;
use crate::injector::Act;
use crate::node::Death;
use crate::operator::{Aftermath, Change, Doing, Part, address_of, hosts_of};
use crate::story::{Event, Topic};

/// So long after a member is gone all others take its link for broken, even one that stood still meanwhile.
const NOTICED_MS: u64 = 6_500;

impl World {
    /// The operator begins a change, or goes on with one.
    pub(super) fn operate(&mut self, now_ms: u64) {
        if self.plan.spares == 0 {
            return;
        }
        match self.operator.doing {
            Doing::Nothing(until_ms) => match self.let_go() {
                Some((host, id)) => {
                    // That was another attempt's.
                    self.clients.borrow_mut().refused = false;
                    self.operator.doing = Doing::Leaving(host, id);
                }
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
            Change::Join(host) => self.begin_to_join(host),
            Change::Leave(host) => {
                self.begin_to_leave(host);
                if let Some(length_ms) = self.operator.leaver_cut_off_ms(self.plan.timing.election_ms()) {
                    self.cut_off_leaver(host, now_ms + length_ms);
                }
            }
            Change::LoseDisk(host) => self.lose_disk(now_ms, host),
            Change::LoseBit(host) => {
                let number = self.operator.number();
                self.damage_log(host, number);
            }
        }
    }

    /// A node is to join on a host that has none.
    pub fn begin_to_join(&mut self, host: usize) {
        let now_ms = self.now_ms();
        let incarnation = Incarnation(now_ms * 100 + host as u64);
        self.clients.borrow_mut().add_task(join(host, incarnation));
        self.operator.doing = Doing::Joining(host, incarnation);
    }

    /// A member is to leave.
    pub fn begin_to_leave(&mut self, host: usize) {
        let id = self.nodes[host - 1].borrow().id();
        self.ask_to_leave(host, id);
    }

    /// A member is told to leave just when nobody hears it.
    fn cut_off_leaver(&mut self, host: usize, until_ms: u64) {
        self.shared.borrow_mut().happened(host, Fault::LeaverCutOff, format_args!("until {until_ms} ms"));
        let ways = self.ways_of(host);
        self.act(Act::Cut(ways.clone()));
        self.injector.end(until_ms, Act::Heal(ways));
    }

    /// A node loses power, and a bit of its log.
    pub fn damage_log(&mut self, host: usize, number: u64) {
        if self.power[host - 1] == Power::On {
            self.take_down(host, Death::PowerCut);
        }
        let lost = self.nodes[host - 1].borrow_mut().lose_bit(number);
        self.check(host, lost);
    }

    /// A node loses power, and a bit near the end of what it has of a group.
    pub fn damage_log_end(&mut self, host: usize, group: GroupId, number: u64) {
        if self.power[host - 1] == Power::On {
            self.take_down(host, Death::PowerCut);
        }
        let lost = self.nodes[host - 1].borrow_mut().lose_last_bit(group, number);
        self.check(host, lost);
    }

    /// A value in a node's store changes. False: it has none.
    pub fn alter_value(&mut self, host: usize, group: GroupId, number: u64) -> bool {
        let mut node = self.nodes[host - 1].borrow_mut();
        if !node.alter_value(group, number) {
            return false;
        }
        let mut shared = self.shared.borrow_mut();
        shared.altered.insert((group, node.id()));
        shared.happened(host, Fault::ValueChanged, format_args!("node {}, group {group}", node.id()));
        true
    }

    /// Whether all nodes that run have applied the same of a group, and hold the same.
    pub fn agrees(&self, group: GroupId) -> bool {
        let nodes = self.nodes.iter().map(|node| node.borrow());
        let states: BTreeSet<_> = nodes.filter_map(|node| Some(node.process.as_ref()?.state(group))).collect();
        states.len() == 1
    }

    /// What lost bits should not start.
    fn check(&mut self, host: usize, lost: bool) {
        if lost {
            let node = self.nodes[host - 1].borrow();
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
        if self.faulty.get() && self.operator.is_outage() {
            self.act(Act::DieAll);
        }
        let (aftermath, other) = self.operator.aftermath(&self.member_hosts());
        match aftermath {
            // A node that joined is started without founders, and asks for a place.
            Aftermath::ComesBack if !part.joined && part.peers.len() > 1 && self.all_know(&part) => {
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

    /// Whether all members have met this one. Before that, nobody can tell a founder without a disk from one that never had any.
    fn all_know(&self, part: &Part) -> bool {
        self.nodes.iter().map(|node| node.borrow()).filter(|node| node.member().is_some()).all(|node| node.knows(part))
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
            self.join_late(now_ms, host);
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

    /// What asked for this node's place, when it joined, was asked more than once, and is heard only now that it has left.
    fn join_late(&mut self, now_ms: u64, host: usize) {
        let joined_as = {
            let node = self.nodes[host - 1].borrow();
            node.member().filter(|part| part.joined).map(|part| part.incarnation)
        };
        if let Some(incarnation) = joined_as
            && let Some(late_ms) = self.operator.late_join_ms()
        {
            self.shared.borrow_mut().happened(host, Fault::JoinCameLate, format_args!("by {late_ms} ms"));
            self.clients.borrow_mut().add_task_at(now_ms + late_ms, join(host, incarnation));
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
}

/// What asks for a place for the node with this disk.
fn join(host: usize, incarnation: Incarnation) -> Task {
    let (name, address) = (format!("h{host}-{}", incarnation.0), address_of(host));
    Task::System(SystemWrite::Join { name, address, incarnation: Some(incarnation) })
}
