//! Trials of changes of the members: somebody is lost at the moment that matters.

use drey_core::GroupId;
use drey_core::placement::{SYSTEM_GROUP, all_groups};

use super::add_puts;
use crate::checker::Violation;
use crate::hunts::Sighting;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::run::{finish_tasks, settle_members};
use crate::world::World;

/// So long a new member may take to become a learner everywhere.
const LEARNS_MS_MAX: u64 = 10_000;
/// So long what a leader has sent takes to its followers, and is not answered.
const ON_ITS_WAY_MS: u64 = 60;
/// Within so long all that was asked meanwhile is answered.
const ENDS_MS_MAX: u64 = 15_000;
/// So many election timeouts others have to go on.
const GOES_ON_TIMEOUTS: u64 = 10;

/// A leader hears nobody any more while the promotion of a new member is on its way, is told to leave, and is lost. The next leader
/// finds the promotion in its log and the leaving among the members, and must not begin the second change before the first is done.
/// Those who know both would need too few of those who know neither.
pub(super) fn change_is_passed_on(world: &mut World, plan: &Plan) -> Result<(), Violation> {
    // Who is told to leave must not be needed for that.
    let system = world.leader_host(SYSTEM_GROUP);
    let led_by_another = |group: &GroupId| {
        let leader = world.leader_host(*group);
        leader.is_some() && leader != system
    };
    let groups: Vec<GroupId> = all_groups(plan.groups).filter(led_by_another).collect();
    if groups.is_empty() {
        return Ok(());
    }
    let Some((group, leader)) = join(world, plan, &groups) else { return Ok(()) };
    // First somebody learns, and then a change is on its way.
    let is_learning = |world: &World, unsettled: bool| {
        let sightings = world.sightings(group);
        let learns = |it: &Sighting| {
            let learners = it.configuration.learners();
            sightings.iter().any(|other| learners.contains(&other.node))
        };
        sightings.iter().any(|it| it.host == leader && it.leads && it.unsettled == unsettled && learns(it))
    };
    let until_ms = world.now_ms() + LEARNS_MS_MAX;
    for unsettled in [false, true] {
        world.run_until(|world| is_learning(world, unsettled) || world.now_ms() >= until_ms)?;
    }
    if !world.is_operator_idle() {
        return settle_members(world);
    }
    world.deafen(leader, true);
    world.begin_to_leave(leader);
    // What it sends reaches the others, who follow it until it has heard nobody for too long.
    let until_ms = world.now_ms() + plan.timing.election_ms();
    let sent_ms = world.now_ms() + ON_ITS_WAY_MS;
    let hosts: Vec<usize> = world.member_hosts().into_iter().filter(|&host| host != leader).collect();
    world.run_until(|world| {
        let all_know = hosts.iter().all(|&host| world.knows_leaving(host, leader));
        (all_know && world.now_ms() >= sent_ms) || world.now_ms() >= until_ms
    })?;
    world.deafen(leader, false);
    world.cut_off(leader, true);
    add_puts(world, hosts.into_iter());
    let until_ms = world.now_ms() + GOES_ON_TIMEOUTS * plan.timing.election_ms();
    let heir = |world: &World| {
        let sightings = world.sightings(group);
        sightings.iter().find(|it| it.host != leader && it.leads).map(|heir| heir.host)
    };
    world.run_until(|world| heir(world).is_some() || world.now_ms() >= until_ms)?;
    if let Some(heir) = heir(world) {
        // It looks at the members before anybody has answered.
        world.hold_up(heir, world.now_ms() + plan.timing.election_ms() * 3 / 4);
    }
    world.part_when_possible(group);
    world.run_until(|world| world.is_parted() || world.now_ms() >= until_ms)?;
    world.cut_off(leader, false);
    let until_ms = world.now_ms() + GOES_ON_TIMEOUTS * plan.timing.election_ms();
    world.run_until(|world| world.now_ms() >= until_ms)?;
    world.stop_hunting();
    settle_members(world)?;
    finish_tasks(world, "progress after healing", ENDS_MS_MAX)
}

/// A new member has all that there is, and before the leader lets it vote, the link between them breaks. Nothing is written that
/// would show the leader that it is back.
pub(super) fn learner_is_interrupted(world: &mut World, plan: &Plan) -> Result<(), Violation> {
    let groups: Vec<GroupId> = all_groups(plan.groups).collect();
    let Some((group, leader)) = join(world, plan, &groups) else { return Ok(()) };
    let until_ms = world.now_ms() + LEARNS_MS_MAX;
    let mut learner = None;
    world.run_until(|world| {
        learner = world.equal_learner(leader, group);
        learner.is_some() || world.now_ms() >= until_ms
    })?;
    if let Some(learner) = learner {
        world.break_link(leader, learner);
    }
    settle_members(world)
}

/// Somebody joins. The group that is looked at, one of these, and its leader's host.
fn join(world: &mut World, plan: &Plan, groups: &[GroupId]) -> Option<(GroupId, usize)> {
    let rng = &mut Rng::stream(plan.seed, "trial", 1);
    let group = *rng.pick(groups);
    let (leader, host) = (world.leader_host(group)?, world.spare_host()?);
    world.begin_to_join(host);
    Some((group, leader))
}
