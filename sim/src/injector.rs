//! When faults begin and end: drawn from the seed, one after the other, several at a time.

use std::collections::BTreeMap;
use std::rc::Rc;

use drey_core::Room;

use crate::network::CLIENTS;
use crate::node::{Behind, Death, Doom};
use crate::plan::{FaultWeights, Plan};
use crate::rng::Rng;
use crate::room::{ROOMY, Rooms};

/// A leader that gathers what the members' clocks say is done after so many election timeouts, or leads no more.
const COUNTING_TIMEOUTS: u64 = 4;

/// Something that begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// These ways, from one host to another, are cut.
    Cut(Vec<(usize, usize)>),
    /// They are open again.
    Heal(Vec<(usize, usize)>),
    /// A node's process ends.
    Die(usize, Death),
    /// All nodes lose power.
    DieAll,
    /// A node's process will end between two effects.
    Doom(usize, Doom),
    /// A node's process stands still for so many milliseconds.
    Pause(usize, u64),
    /// A node's disk hangs for so many milliseconds, and then it loses power.
    Stall(usize, u64),
    /// What is sent on these ways arrives then, and not before.
    Clog(Vec<(usize, usize)>, u64),
    /// So much of everything is lost, in per mille.
    Loss(u32),
    /// The disks of these nodes have so much room from now on.
    Fill(Vec<usize>, Room),
    /// A node's wall clock is set so many milliseconds off; all others are right from now on.
    SetWallClock(usize, i64),
}

/// Draws the faults of a run.
pub struct Injector {
    rng: Rng,
    walls: Rng,
    next_wall_ms: u64,
    is_a_wall_wrong: bool,
    rooms: Rooms,
    plan: Rc<Plan>,
    next_ms: u64,
    ends: BTreeMap<(u64, u64), Act>,
    count: u64,
}

impl Injector {
    /// The faults of a plan.
    pub fn new(plan: Rc<Plan>) -> Injector {
        let mut rng = Rng::stream(plan.seed, "injector", 0);
        let next_ms = rng.between(0, 2 * plan.fault_every_ms);
        let mut walls = Rng::stream(plan.seed, "walls", 0);
        let next_wall_ms = if plan.wall_every_ms == 0 { u64::MAX } else { walls.between(0, 2 * plan.wall_every_ms) };
        let rooms = Rooms::new(&plan);
        Injector {
            rng,
            walls,
            next_wall_ms,
            is_a_wall_wrong: false,
            rooms,
            plan,
            next_ms,
            ends: BTreeMap::new(),
            count: 0,
        }
    }

    /// What begins or ends now.
    pub fn due(&mut self, now_ms: u64) -> Vec<Act> {
        let mut acts = Vec::new();
        while let Some(first) = self.ends.first_entry()
            && first.key().0 <= now_ms
        {
            acts.push(first.remove());
        }
        if now_ms >= self.next_ms {
            self.next_ms = now_ms + self.rng.between(50, 2 * self.plan.fault_every_ms);
            acts.extend(self.draw(now_ms));
        }
        if now_ms >= self.next_wall_ms {
            acts.push(self.set_wall_clock(now_ms));
        }
        if let Some((hosts, room, until_ms)) = self.rooms.due(now_ms) {
            self.end(until_ms, Act::Fill(hosts.clone(), ROOMY));
            acts.push(Act::Fill(hosts, room));
        }
        acts
    }

    /// Ends everything.
    pub fn stop(&mut self) {
        self.ends.clear();
        self.next_ms = u64::MAX;
        // What is wrong stays wrong.
        self.next_wall_ms = u64::MAX;
        self.rooms.stop();
    }

    /// How long until a node that went down starts again.
    pub fn down_ms(&mut self) -> u64 {
        let soon = if self.plan.is_contended { 800 } else { 300 };
        match self.rng.chance(soon) {
            true if self.plan.is_contended => self.rng.between(5, 30),
            true => self.rng.between(5, 100),
            false => self.rng.between(100, 2_500),
        }
    }

    fn draw(&mut self, now_ms: u64) -> Option<Act> {
        let FaultWeights {
            split,
            one_way,
            client_cut_off,
            kill,
            power_cut,
            power_cut_of_all,
            die_in_turn,
            pause,
            stall,
            clog,
            storm,
        } = self.plan.weights;
        let weights =
            [split, one_way, client_cut_off, kill, power_cut, power_cut_of_all, die_in_turn, pause, stall, clog, storm];
        let all: u64 = weights.iter().sum();
        if all == 0 {
            return None;
        }
        let mut drawn = self.rng.below(all);
        let kind = weights.iter().position(|&weight| {
            let hit = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            hit
        })?;
        let node = self.node();
        let is_alone = self.plan.hosts() == 1;
        Some(match kind {
            0 | 1 if is_alone => return None,
            0 => self.split(now_ms),
            1 => self.one_way(now_ms, node),
            2 => self.cut(now_ms, vec![(CLIENTS, node), (node, CLIENTS)]),
            3 => Act::Die(node, Death::Kill),
            4 => Act::Die(node, Death::PowerCut),
            5 => Act::DieAll,
            6 => {
                let death = if self.rng.chance(700) { Death::PowerCut } else { Death::Kill };
                let behind = *self.rng.pick(&[Behind::Anything, Behind::Write, Behind::FirstWrite, Behind::Promise]);
                let effects_max = if behind == Behind::Promise { 40 } else { 400 };
                let stalls_ms = if self.rng.chance(500) { self.stall_ms() } else { 0 };
                Act::Doom(node, Doom { effects: self.rng.between(1, effects_max), behind, stalls_ms, death })
            }
            7 => Act::Pause(node, self.rng.between(100, 3_000)),
            8 => Act::Stall(node, self.stall_ms()),
            9 if is_alone => return None,
            9 => {
                let length_ms = self.length_ms();
                Act::Clog(self.one_sided(node), now_ms + length_ms)
            }
            _ => {
                let length_ms = self.rng.between(200, 2_000);
                self.end(now_ms + length_ms, Act::Loss(self.plan.network.loss));
                Act::Loss(self.rng.between(150, 600) as u32)
            }
        })
    }

    /// By a second to some hours, forward or back, and later right again. Then all stay right while a leader still counts what one
    /// told that was wrong: another wrong one would be the second that it counts.
    fn set_wall_clock(&mut self, now_ms: u64) -> Act {
        let counting_ms = COUNTING_TIMEOUTS * self.plan.timing.election_ms();
        self.is_a_wall_wrong = !self.is_a_wall_wrong;
        let at_least_ms = if self.is_a_wall_wrong { 50 } else { counting_ms };
        self.next_wall_ms = now_ms + self.walls.between(at_least_ms, at_least_ms.max(2 * self.plan.wall_every_ms));
        let node = 1 + self.walls.below(self.plan.nodes as u64) as usize;
        let wrong_ms = (1_000 << self.walls.between(0, 14)) + self.walls.between(0, 999) as i64;
        let sign = if self.is_a_wall_wrong { *self.walls.pick(&[1, -1]) } else { 0 };
        Act::SetWallClock(node, sign * wrong_ms)
    }

    fn node(&mut self) -> usize {
        1 + self.rng.below(self.plan.hosts() as u64) as usize
    }

    fn split(&mut self, now_ms: u64) -> Act {
        let mut nodes: Vec<usize> = (1..=self.plan.hosts()).collect();
        self.rng.shuffle(&mut nodes);
        let (one, other) = nodes.split_at(self.rng.between(1, self.plan.hosts() as u64 / 2) as usize);
        let ways = one.iter().flat_map(|&a| other.iter().flat_map(move |&b| [(a, b), (b, a)])).collect();
        self.cut(now_ms, ways)
    }

    fn one_way(&mut self, now_ms: u64, node: usize) -> Act {
        let ways = self.one_sided(node);
        self.cut(now_ms, ways)
    }

    /// All ways to a node, or all from it, or one of them.
    fn one_sided(&mut self, node: usize) -> Vec<(usize, usize)> {
        let others = (1..=self.plan.hosts()).filter(|&other| other != node);
        let heard = self.rng.chance(500);
        let mut ways: Vec<_> = others.map(|other| if heard { (other, node) } else { (node, other) }).collect();
        if self.rng.chance(400) {
            ways.truncate(1);
        }
        ways
    }

    /// How long a disk hangs, before its machine loses power.
    fn stall_ms(&mut self) -> u64 {
        self.rng.between(10, 600)
    }

    fn length_ms(&mut self) -> u64 {
        if self.rng.chance(800) { self.rng.between(100, 1_500) } else { self.rng.between(1_500, 5_000) }
    }

    fn cut(&mut self, now_ms: u64, ways: Vec<(usize, usize)>) -> Act {
        let length_ms = self.length_ms();
        self.end(now_ms + length_ms, Act::Heal(ways.clone()));
        Act::Cut(ways)
    }

    /// This happens then.
    pub fn end(&mut self, at_ms: u64, act: Act) {
        self.count += 1;
        self.ends.insert((at_ms, self.count), act);
    }
}
