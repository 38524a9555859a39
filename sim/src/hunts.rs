//! Faults that wait for their moment. Chance cuts links and ends processes at any time, and seldom within the few milliseconds that
//! decide an election or a change of the members. A hunt looks at one group, of which it sees what nobody else can, and does its
//! harm right then: nothing that an unlucky network could not have done.

use std::collections::VecDeque;

use drey_core::placement::all_groups;
use drey_core::raft::Configuration;
use drey_core::{GroupId, NodeId};

use crate::faults::Fault;
use crate::injector::Act;
use crate::node::Death;
use crate::plan::{HuntPlan, Plan};
use crate::rng::Rng;

/// So long the hunts go on: in a run that goes on for longer, too little was done because of them.
const UNTIL_MS: u64 = 40_000;
/// Of the leaders that were held up: so many are followed by an outage of all, in per mille.
const OUTAGES: u32 = 250;
/// How long after its election a leader is cut off, at most: at once, before others have all that it has, or a while later.
const LEADS_MS_MAX: [u64; 3] = [0, 60, 1_500];

/// What a running member makes of the group.
pub struct Sighting {
    /// Where.
    pub host: usize,
    /// Who.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
    /// It leads.
    pub leads: bool,
    /// It asks for votes that count.
    pub campaigns: bool,
    /// It leads, and its log may hold a change of the configuration that is not applied: it was just elected, or changes it.
    pub unsettled: bool,
    /// What it knows to be committed.
    pub committed: u64,
    /// The configuration, by what it knows to be committed.
    pub configuration: Configuration,
}

/// Whose moment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prey {
    /// The leader on this host.
    Leader(usize),
    /// The leader on this host, and the rival on the other.
    Rivals(usize, usize),
    /// The leader on this host, which has not settled: it was just elected, or changes the configuration.
    Unsettled(usize),
    /// Those who know what the node on this host does.
    Configurations(usize),
    /// The learner on this host.
    Learner(usize),
    /// All of them.
    Everybody,
    /// Nobody any more: something ends.
    Nobody,
}

impl Prey {
    /// What happens to whom.
    pub fn fault(self) -> Option<(Fault, usize)> {
        match self {
            Prey::Leader(host) => Some((Fault::LeaderCutOff, host)),
            Prey::Rivals(leader, _) => Some((Fault::VotedTwice, leader)),
            Prey::Unsettled(host) => Some((Fault::LeaderHeldUp, host)),
            Prey::Configurations(host) => Some((Fault::Parted, host)),
            Prey::Learner(_) | Prey::Everybody | Prey::Nobody => None,
        }
    }
}

/// Ways that are cut.
struct Snare {
    until_ms: u64,
    ways: Vec<(usize, usize)>,
    /// It holds a whole node.
    holds_node: bool,
}

/// All hunts of a run.
pub struct Hunts {
    rng: Rng,
    plan: HuntPlan,
    hosts: usize,
    tick_ms: u64,
    election_ms: u64,
    /// The group that is watched, if one is.
    pub group: Option<GroupId>,
    /// The last term of which a leader was seen.
    term: u64,
    /// A leader that is to be cut off, and when.
    marked: Option<(u64, usize)>,
    snares: VecDeque<Snare>,
    is_trial: bool,
    /// Until then there are two sides.
    parted_until_ms: u64,
    /// No two sides are made before, unless each could go on without the other.
    parts_again_ms: u64,
    /// The last term of a leader that had settled.
    settled: u64,
    /// Who was unsettled when this looked last, and its term.
    unsettled: Option<(usize, u64)>,
    /// No leader is held up before.
    holds_up_again_ms: u64,
    /// Then all lose power.
    outage_ms: Option<u64>,
    /// Then the learner on this host is killed.
    lost_learner: Option<(u64, usize)>,
}

impl Hunts {
    /// Those of a plan.
    pub fn new(plan: &Plan) -> Hunts {
        let mut rng = Rng::stream(plan.seed, "hunts", 1);
        let groups: Vec<GroupId> = all_groups(plan.groups).collect();
        let group = *rng.pick(&groups);
        Hunts {
            rng,
            plan: plan.hunts,
            hosts: plan.hosts(),
            tick_ms: plan.timing.tick_ms,
            election_ms: plan.timing.election_ms(),
            group: plan.hunts.watches().then_some(group),
            term: 0,
            marked: None,
            snares: VecDeque::new(),
            is_trial: false,
            parted_until_ms: 0,
            parts_again_ms: 0,
            settled: 0,
            unsettled: None,
            holds_up_again_ms: 0,
            outage_ms: None,
            lost_learner: None,
        }
    }

    /// Those of a trial: nothing but two sides, once each could go on without the other.
    pub fn of_trial(plan: &Plan, group: GroupId) -> Hunts {
        let hunts = HuntPlan { configurations: 1, ..HuntPlan::default() };
        let plan = Plan { hunts, ..plan.clone() };
        Hunts { group: Some(group), is_trial: true, parts_again_ms: u64::MAX, ..Hunts::new(&plan) }
    }

    /// Whether they are a trial's.
    pub fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Whether there were two sides.
    pub fn is_parted(&self) -> bool {
        self.parted_until_ms > 0
    }

    /// Ends all.
    pub fn stop(&mut self) -> Vec<(Prey, Vec<Act>)> {
        self.group = None;
        std::iter::from_fn(|| self.open(0)).collect()
    }

    /// Looks at the group, and says what happens now.
    pub fn look(&mut self, now_ms: u64, sightings: &[Sighting]) -> Vec<(Prey, Vec<Act>)> {
        let mut caught = Vec::new();
        while let Some(place) = self.snares.iter().position(|snare| snare.until_ms <= now_ms) {
            caught.extend(self.open(place));
        }
        if now_ms >= UNTIL_MS && !self.is_trial {
            return caught;
        }
        if !self.is_trial {
            self.look_at_leaders(now_ms, sightings, &mut caught);
            self.look_at_unsettled(now_ms, sightings, &mut caught);
        }
        self.look_at_configurations(now_ms, sightings, &mut caught);
        if let Some((at_ms, host)) = self.lost_learner
            && now_ms >= at_ms
        {
            self.lost_learner = None;
            caught.push((Prey::Learner(host), vec![Act::Die(host, Death::Kill)]));
        }
        if self.outage_ms.is_some_and(|outage_ms| now_ms >= outage_ms) {
            self.outage_ms = None;
            caught.push((Prey::Everybody, vec![Act::DieAll]));
        }
        caught
    }

    fn look_at_leaders(&mut self, now_ms: u64, sightings: &[Sighting], caught: &mut Vec<(Prey, Vec<Act>)>) {
        let newest = sightings.iter().filter(|sighting| sighting.leads).max_by_key(|sighting| sighting.term);
        if let Some(leader) = newest.filter(|leader| leader.term > self.term) {
            self.term = leader.term;
            let rival = sightings.iter().find(|other| other.campaigns && other.term == leader.term);
            match rival {
                Some(rival) if self.rng.chance(self.plan.rivals) => {
                    self.marked = None;
                    caught.push(self.hold_back_vote(now_ms, leader.host, rival.host));
                }
                _ if self.rng.chance(self.plan.leaders) => {
                    let within_ms = *self.rng.pick(&LEADS_MS_MAX);
                    self.marked = Some((now_ms + self.rng.between(0, within_ms), leader.host));
                }
                _ => {}
            }
        }
        if let Some((at_ms, host)) = self.marked
            && now_ms >= at_ms
        {
            self.marked = None;
            caught.extend(self.cut_off(now_ms, host));
        }
    }

    /// A node is not heard any more, and in most cases hears nothing either. The first of those that were is let go if they would be
    /// no minority any more.
    fn cut_off(&mut self, now_ms: u64, host: usize) -> Vec<(Prey, Vec<Act>)> {
        let mut caught = Vec::new();
        let held = self.snares.iter().filter(|snare| snare.holds_node).count();
        if 2 * (held + 1) >= self.hosts
            && let Some(first) = self.snares.iter().position(|snare| snare.holds_node)
        {
            caught.extend(self.open(first));
        }
        let until_ms = now_ms + self.rng.between(self.election_ms / 2, 4 * self.election_ms);
        let others = self.all_but(&[host]);
        let ways = match self.rng.chance(600) {
            true => between(&[host], &others),
            false => others.iter().map(|&other| (host, other)).collect(),
        };
        self.snares.push_back(Snare { until_ms, ways: ways.clone(), holds_node: true });
        caught.push((Prey::Leader(host), vec![Act::Cut(ways)]));
        caught
    }

    /// The leader hears nobody, until it knows that it cannot lead, and then it hears its rival's question, which is as old as its
    /// own term. Nobody else is restless: they hear the leader.
    fn hold_back_vote(&mut self, now_ms: u64, leader: usize, rival: usize) -> (Prey, Vec<Act>) {
        let until_ms = now_ms + self.election_ms + self.rng.between(1, 4) * self.tick_ms / 2;
        let others = self.all_but(&[leader, rival]);
        let mut ways: Vec<_> = others.iter().map(|&other| (other, leader)).collect();
        ways.push((leader, rival));
        self.snares.push_back(Snare { until_ms, ways: ways.clone(), holds_node: false });
        (Prey::Rivals(leader, rival), vec![Act::Cut(ways), Act::Clog(vec![(rival, leader)], until_ms)])
    }

    /// What the others answer a new leader, or one that changes the configuration, takes long, so that more happens before it knows.
    fn look_at_unsettled(&mut self, now_ms: u64, sightings: &[Sighting], caught: &mut Vec<(Prey, Vec<Act>)>) {
        let leader = sightings.iter().filter(|sighting| sighting.unsettled).max_by_key(|sighting| sighting.term);
        if let Some(settled) = sightings.iter().find(|sighting| sighting.leads && !sighting.unsettled) {
            self.settled = settled.term;
        }
        let was_unsettled = std::mem::replace(&mut self.unsettled, leader.map(|leader| (leader.host, leader.term)));
        let Some(leader) = leader.filter(|leader| was_unsettled != Some((leader.host, leader.term))) else { return };
        if now_ms < self.holds_up_again_ms || !self.rng.chance(self.plan.unsettled) {
            return;
        }
        let until_ms = now_ms + self.rng.between(self.election_ms / 5, self.election_ms * 9 / 10);
        self.holds_up_again_ms = until_ms;
        if self.rng.chance(OUTAGES) {
            self.outage_ms = Some(until_ms + self.rng.between(self.election_ms / 2, 4 * self.election_ms));
        }
        let learners = leader.configuration.learners();
        let (learning, others): (Vec<_>, Vec<_>) = self.all_but(&[leader.host]).into_iter().partition(|&host| {
            sightings.iter().any(|sighting| sighting.host == host && learners.contains(&sighting.node))
        });
        let (new, changing) = ([0, 1, 2, 3], [0, 0, 2, 3]);
        let is_new = self.settled != leader.term;
        match *self.rng.pick(if is_new { &new } else { &changing }) {
            // It is as good as gone, and others have of it what they should not commit as it is.
            0 => caught.extend(self.cut_off(now_ms, leader.host)),
            // It hears what it asked for at first, much later.
            1 => {
                let mut acts = vec![Act::Clog(ways_to(leader.host, &[learning, others].concat()), until_ms)];
                let ways: Vec<_> = self.all_but(&[leader.host]).iter().map(|&other| (leader.host, other)).collect();
                self.snares.push_back(Snare { until_ms, ways: ways.clone(), holds_node: false });
                acts.push(Act::Cut(ways));
                caught.push((Prey::Unsettled(leader.host), acts));
            }
            // It hears of a learner what it needs, and then loses it, before the others let it do anything.
            2 if !learning.is_empty() => {
                let acts = vec![Act::Clog(ways_to(leader.host, &others), until_ms)];
                self.lost_learner = Some((now_ms + self.rng.between(0, until_ms - now_ms), *self.rng.pick(&learning)));
                caught.push((Prey::Unsettled(leader.host), acts));
            }
            _ => {
                let ways = ways_to(leader.host, &[learning, others].concat());
                caught.push((Prey::Unsettled(leader.host), vec![Act::Clog(ways, until_ms)]));
            }
        }
    }

    /// Those who know the latest configuration are on one side, no more of them than it needs, and first those that only it lets vote.
    fn look_at_configurations(&mut self, now_ms: u64, sightings: &[Sighting], caught: &mut Vec<(Prey, Vec<Act>)>) {
        if self.plan.configurations == 0 {
            return;
        }
        let Some(latest) = sightings.iter().max_by_key(|sighting| sighting.committed) else { return };
        let knows_older = |other: &&Sighting| other.committed > 0 && other.configuration != latest.configuration;
        let Some(older) = sightings.iter().filter(knows_older).max_by_key(|other| other.committed) else { return };
        let voters = latest.configuration.voters();
        if !voters.contains(&latest.node) {
            return;
        }
        let former = older.configuration.voters();
        let mut able = vec![latest.node];
        able.extend(voters.iter().filter(|voter| **voter != latest.node && !former.contains(voter)));
        able.extend(voters.iter().filter(|voter| **voter != latest.node && former.contains(voter)));
        let side = (1..=able.len()).map(|count| &able[..count]).find(|side| latest.configuration.is_quorum(side));
        let Some(side) = side else { return };
        let knows_no_better = |voter: &NodeId| {
            let knows = |other: &Sighting| other.node == *voter && other.configuration == older.configuration;
            !side.contains(voter) && sightings.iter().any(knows)
        };
        let others: Vec<NodeId> = former.into_iter().filter(knows_no_better).collect();
        let both_may_lead = older.configuration.is_quorum(&others);
        if latest.configuration.is_joint() && !both_may_lead {
            return;
        }
        // Two quorums that share nobody: this is what must never happen, and is not left to chance.
        let again_ms = if both_may_lead { self.parted_until_ms } else { self.parts_again_ms };
        if now_ms < again_ms {
            return;
        }
        if !both_may_lead && !self.rng.chance(self.plan.configurations) {
            self.parts_again_ms = now_ms + self.election_ms;
            return;
        }
        // Those who know less may need them.
        while let Some(held) = self.snares.iter().position(|snare| snare.holds_node) {
            caught.extend(self.open(held));
        }
        let host_of = |node: &NodeId| sightings.iter().find(|sighting| sighting.node == *node).map(|found| found.host);
        let side: Vec<usize> = side.iter().filter_map(host_of).collect();
        let until_ms = now_ms + self.rng.between(2 * self.election_ms, 8 * self.election_ms);
        self.parted_until_ms = until_ms;
        self.parts_again_ms = until_ms + self.rng.between(0, 4 * self.election_ms);
        let ways = between(&side, &self.all_but(&side));
        self.snares.push_back(Snare { until_ms, ways: ways.clone(), holds_node: false });
        caught.push((Prey::Configurations(latest.host), vec![Act::Cut(ways)]));
    }

    fn open(&mut self, place: usize) -> Option<(Prey, Vec<Act>)> {
        let snare = self.snares.remove(place)?;
        Some((Prey::Nobody, vec![Act::Heal(snare.ways)]))
    }

    fn all_but(&self, hosts: &[usize]) -> Vec<usize> {
        (1..=self.hosts).filter(|host| !hosts.contains(host)).collect()
    }
}

/// All ways to a host.
fn ways_to(host: usize, others: &[usize]) -> Vec<(usize, usize)> {
    others.iter().map(|&other| (other, host)).collect()
}

/// All ways between two sides.
fn between(one: &[usize], other: &[usize]) -> Vec<(usize, usize)> {
    one.iter().flat_map(|&a| other.iter().flat_map(move |&b| [(a, b), (b, a)])).collect()
}
