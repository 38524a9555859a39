//! Trials of changes of the members: somebody is lost at the moment that matters.

use drey_core::GroupId;
use drey_core::placement::all_groups;

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

/// A leader is cut off with the promotion of a new member on its way, and is to leave. The next leader has both changes to make, and
/// must not begin the second before the first is done. Those who know both would need too few of those who know neither.
pub(super) fn change_is_passed_on(world: &mut World, plan: &Plan) -> Result<(), Violation> {
    let Some((group, leader)) = join(world, plan)? else { return Ok(()) };
    let promotes = |world: &World| {
        let sightings = world.sightings(group);
        let learns = |sighting: &Sighting| {
            let learners = sighting.configuration.learners();
            sightings.iter().any(|other| learners.contains(&other.node))
        };
        sightings.iter().any(|it| it.host == leader && it.leads && it.unsettled && learns(it))
    };
    let until_ms = world.now_ms() + LEARNS_MS_MAX;
    world.run_until(|world| promotes(world) || world.now_ms() >= until_ms)?;
    if !world.is_operator_idle() {
        return settle_members(world);
    }
    world.deafen(leader, true);
    let sent_ms = world.now_ms() + ON_ITS_WAY_MS;
    world.run_until(|world| world.now_ms() >= sent_ms)?;
    world.deafen(leader, false);
    world.cut_off(leader, true);
    world.begin_to_leave(leader);
    let hosts = world.member_hosts();
    add_puts(world, hosts.into_iter().filter(|&host| host != leader));
    world.part_when_possible(group);
    let until_ms = world.now_ms() + GOES_ON_TIMEOUTS * plan.timing.election_ms();
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
    let Some((group, leader)) = join(world, plan)? else { return Ok(()) };
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

/// Somebody joins. The group that is looked at, and its leader's host.
fn join(world: &mut World, plan: &Plan) -> Result<Option<(GroupId, usize)>, Violation> {
    let rng = &mut Rng::stream(plan.seed, "trial", 1);
    let group = *rng.pick(&all_groups(plan.groups).collect::<Vec<_>>());
    let (Some(leader), Some(host)) = (world.leader_host(group), world.spare_host()) else { return Ok(None) };
    world.begin_to_join(host);
    Ok(Some((group, leader)))
}
