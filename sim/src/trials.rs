//! What is tried once all else is calm, in some of the seeds: a single misfortune, of which no client may notice much.
//!
//! - The disk of a node that leads hangs for long. The others can do without it, so every group must answer through them.
//! - The disk of a node that leads fills up. The others have room, so all that is asked must be answered, through whatever node.
//! - A node that leads nothing is away for some election timeouts, and comes back. A term of its own making, higher than the others',
//!   would depose their leaders, and its disk would keep it.
//! - Somebody joins, and somebody else is lost right then ([`members`]).
//! - Values in the stores of one node or two change, and no engine notices. When replicas are compared it must be found out, and all hold the same again.
//! - A node loses a bit of its log while as many others are behind as may be. With them it could elect a leader that knows less than
//!   was acknowledged; so it must not start, and be removed.

mod members;

use drey_core::GroupId;
use drey_core::placement::{all_groups, group_of};

use crate::checker::Violation;
use crate::clients::Task;
use crate::faults::Fault;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::room::{FULL, LOW, ROOMY};
use crate::run::{finish_tasks, settle_members};
use crate::world::World;

/// So long a disk hangs, and a group may take to go on without it.
const HANGS_MS: u64 = 25_000;
const WITHOUT_IT_MS_MAX: u64 = 15_000;
/// So long a pass through a group's state may take, and its beginning.
const FOUND_OUT_MS_MAX: u64 = 30_000;
/// A damaged node has so long to start, and to do harm with those that were behind.
const ALONE_MS: u64 = 4_000;
/// So many election timeouts a node is away.
const AWAY_TIMEOUTS: u64 = 5;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// The disk of a leader hangs.
    DiskHangs,
    /// The disk of a leader fills up.
    DiskFills,
    /// A follower is away for a while.
    FollowerReturns,
    /// A bit of a log changes while a minority is behind.
    LogIsDamaged,
    /// A bit of a store changes.
    StoreDiffers,
    /// A leader is lost with a change of the members on its way.
    ChangeIsPassedOn,
    /// A learner's link breaks when it has everything.
    LearnerIsInterrupted,
}

impl Trial {
    /// That of a plan, if it has one.
    pub fn draw(plan: &Plan) -> Option<Trial> {
        if !plan.trials || plan.minority_stays_down {
            // The others must not lose another.
            return None;
        }
        let is_compared = plan.scrub.every_ms > 0 && plan.older == 0;
        if is_compared && Rng::stream(plan.seed, "trial", 2).chance(150) {
            return Some(Trial::StoreDiffers);
        }
        match Rng::stream(plan.seed, "trial", 0).below(6) {
            0 => Some(Trial::DiskHangs),
            1 => Some(Trial::FollowerReturns),
            // Who is removed must be made up for.
            2 if plan.spares > 0 => Some(Trial::LogIsDamaged),
            3 if plan.spares > 0 => Some(Trial::ChangeIsPassedOn),
            4 if plan.spares > 0 => Some(Trial::LearnerIsInterrupted),
            5 => Some(Trial::DiskFills),
            _ => None,
        }
    }

    /// Tries it. The cluster is whole and calm.
    pub fn run(self, world: &mut World, plan: &Plan) -> Result<(), Violation> {
        let hosts = world.member_hosts();
        if hosts.len() < 3 {
            return Ok(());
        }
        match self {
            Trial::DiskHangs => disk_hangs(world, plan, &hosts),
            Trial::DiskFills => disk_fills(world, plan, &hosts),
            Trial::FollowerReturns => follower_returns(world, plan, &hosts),
            Trial::LogIsDamaged => log_is_damaged(world, plan, &hosts),
            Trial::StoreDiffers => store_differs(world, plan, &hosts),
            Trial::ChangeIsPassedOn => members::change_is_passed_on(world, plan),
            Trial::LearnerIsInterrupted => members::learner_is_interrupted(world, plan),
        }
    }
}

fn disk_hangs(world: &mut World, plan: &Plan, hosts: &[usize]) -> Result<(), Violation> {
    let rng = &mut Rng::stream(plan.seed, "trial", 1);
    let groups: Vec<GroupId> = all_groups(plan.groups).collect();
    let Some(leader) = world.leader_host(*rng.pick(&groups)) else { return Ok(()) };
    let until_ms = world.now_ms() + HANGS_MS;
    world.hang_disk(leader, until_ms);
    add_puts(world, hosts.iter().copied().filter(|&host| host != leader));
    let within_ms = world.now_ms() + WITHOUT_IT_MS_MAX;
    world.run_until(|world| world.clients.borrow().is_done() || world.now_ms() >= within_ms)?;
    let undone = (!world.clients.borrow().is_done()).then(|| world.clients.borrow().describe());
    if let Some(undone) = undone {
        let seen = format!("node {leader} hangs; not done within {WITHOUT_IT_MS_MAX} ms: {undone}");
        return Err(Violation::new("progress while a leader's disk hangs", seen));
    }
    world.run_until(|world| world.now_ms() >= until_ms)
}

fn disk_fills(world: &mut World, plan: &Plan, hosts: &[usize]) -> Result<(), Violation> {
    let rng = &mut Rng::stream(plan.seed, "trial", 1);
    let groups: Vec<GroupId> = all_groups(plan.groups).collect();
    let Some(leader) = world.leader_host(*rng.pick(&groups)) else { return Ok(()) };
    world.fill_disk(leader, *rng.pick(&[LOW, FULL]));
    // Through it, too: what needs room others have.
    add_puts(world, hosts.iter().copied());
    finish_tasks(world, "progress while a leader's disk is full", WITHOUT_IT_MS_MAX)?;
    world.fill_disk(leader, ROOMY);
    settle_members(world)
}

fn follower_returns(world: &mut World, plan: &Plan, hosts: &[usize]) -> Result<(), Violation> {
    let rng = &mut Rng::stream(plan.seed, "trial", 1);
    let leaders: Vec<_> = all_groups(plan.groups).map(|group| world.leader_host(group)).collect();
    let followers: Vec<usize> = hosts.iter().copied().filter(|&host| !leaders.contains(&Some(host))).collect();
    if followers.is_empty() || leaders.contains(&None) {
        return Ok(());
    }
    let away = *rng.pick(&followers);
    let settles_ms = plan.timing.election_ms() / 2;
    world.shared.borrow_mut().happened(away, Fault::WasAway, format_args!("node on host {away}"));
    let back_ms = world.now_ms() + AWAY_TIMEOUTS * plan.timing.election_ms();
    world.cut_off(away, true);
    // Votes that were granted before may still arrive, or be waited for.
    let alone_ms = world.now_ms() + settles_ms;
    world.run_until(|world| world.now_ms() >= alone_ms)?;
    let terms: Vec<_> = all_groups(plan.groups).map(|group| world.term(away, group)).collect();
    world.run_until(|world| world.now_ms() >= back_ms)?;
    for (group, before) in all_groups(plan.groups).zip(terms) {
        let others = hosts.iter().filter(|&&host| host != away);
        let highest = others.filter_map(|&host| world.term(host, group)).max();
        let own = world.term(away, group);
        if own > highest.max(before) {
            let seen =
                format!("group {group}: host {away} was away, and is in term {own:?}, the others in {highest:?}");
            return Err(Violation::new("who comes back deposes nobody", seen));
        }
    }
    world.cut_off(away, false);
    add_puts(world, hosts.iter().copied());
    let within_ms = world.now_ms() + WITHOUT_IT_MS_MAX;
    world.run_until(|world| world.clients.borrow().is_done() || world.now_ms() >= within_ms)
}

fn log_is_damaged(world: &mut World, plan: &Plan, hosts: &[usize]) -> Result<(), Violation> {
    let rng = &mut Rng::stream(plan.seed, "trial", 1);
    // One that is written to.
    let group = group_of(rng.pick(&world.clients.borrow().workload.buckets), plan.groups);
    let Some(leader) = world.leader_host(group) else { return Ok(()) };
    let mut followers: Vec<usize> = hosts.iter().copied().filter(|&host| host != leader).collect();
    if hosts.len().is_multiple_of(2) {
        // Without the leader a damaged one and the minority would be too few to do harm.
        return Ok(());
    }
    rng.shuffle(&mut followers);
    let (behind, others) = followers.split_at(hosts.len() / 2);
    let damaged = others[0];
    behind.iter().for_each(|&host| world.cut_off(host, true));
    add_puts(world, others.iter().copied().chain([leader]));
    let within_ms = world.now_ms() + WITHOUT_IT_MS_MAX;
    world.run_until(|world| world.clients.borrow().is_done() || world.now_ms() >= within_ms)?;
    // What was just written is behind it.
    world.damage_log_end(damaged, group, rng.next_u64());
    behind.iter().for_each(|&host| world.cut_off(host, false));
    // Nobody is left who could say what was lost.
    let others: Vec<usize> = others[1..].iter().copied().chain([leader]).collect();
    others.iter().for_each(|&host| world.cut_off(host, true));
    let back_ms = world.now_ms() + ALONE_MS + AWAY_TIMEOUTS * plan.timing.election_ms();
    world.run_until(|world| world.now_ms() >= back_ms)?;
    others.iter().for_each(|&host| world.cut_off(host, false));
    settle_members(world)
}

fn store_differs(world: &mut World, plan: &Plan, hosts: &[usize]) -> Result<(), Violation> {
    let rng = &mut Rng::stream(plan.seed, "trial", 1);
    let buckets = world.clients.borrow().workload.buckets.clone();
    let mut groups: Vec<GroupId> = buckets.iter().map(|bucket| group_of(bucket, plan.groups)).collect();
    groups.sort_unstable();
    groups.dedup();
    rng.shuffle(&mut groups);
    // Leaders, too. Of a group no more than one, or nobody could know which is right.
    groups.truncate(rng.between(1, 2) as usize);
    groups.retain(|&group| world.alter_value(*rng.pick(hosts), group, rng.next_u64()));
    let within_ms = world.now_ms() + 2 * plan.scrub.every_ms + FOUND_OUT_MS_MAX;
    let is_healed = |world: &World| groups.iter().all(|&group| world.agrees(group));
    world.run_until(|world| is_healed(world) || world.now_ms() >= within_ms)?;
    if !is_healed(world) {
        let altered = world.shared.borrow().altered.clone();
        let seen = format!("not within {} ms: {altered:?}", 2 * plan.scrub.every_ms + FOUND_OUT_MS_MAX);
        return Err(Violation::new("a replica that differs is healed", seen));
    }
    world.shared.borrow_mut().altered.clear();
    Ok(())
}

/// A put in each bucket through each of these.
fn add_puts(world: &mut World, hosts: impl Iterator<Item = usize>) {
    let mut clients = world.clients.borrow_mut();
    for host in hosts {
        for bucket in clients.workload.buckets.clone() {
            let name = format!("trial-{}", clients.workload.objects.len());
            let object = clients.workload.add_object(bucket, &[name]);
            clients.add_task(Task::Put(object, host));
        }
    }
}
