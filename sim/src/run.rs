//! One run of a seed, from the first tick to the last check; and the two runs of the same seed that must not differ.

use crate::checker::{Violation, check_history, expiry};
use crate::clients::Task;
use crate::coverage::Coverage;
use crate::driver::DriverKind;
use crate::faults::Faults;
use crate::history::ObjectId;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::story::Told;
use crate::trace::{Mark, Text, first_difference};
use crate::trials::Trial;
use crate::world::World;

/// A run that saw less proves nothing, and fails.
pub const SIMULATED_MS_MIN: u64 = 30_000;
/// As above.
pub const COMPLETED_MIN: usize = 500;
/// As above.
pub const FAULT_KINDS_MIN: usize = 3;
/// While too few operations were completed, faults go on, up to so long.
const FAULTS_MS_MAX: u64 = 150_000;
/// Within so long after the faults, every group must answer through every node that runs.
const RECOVERY_MS_MAX: u64 = 20_000;
/// So long nothing happens at the end.
const QUIET_MS: u64 = 1_000;
/// Segments of a shard beside those that it keeps: one that is prepared.
const SEGMENTS_BESIDE_MAX: usize = 1;
/// Within so long, all replicas must be equal.
const CONVERGENCE_MS_MAX: u64 = 30_000;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Its plan, with what somebody has changed in it.
    pub plan: Plan,
    /// What drove it.
    pub driver: DriverKind,
    /// The first broken law, if any.
    pub verdict: Result<(), Violation>,
    /// Nodes in the cluster.
    pub nodes: usize,
    /// Simulated time.
    pub simulated_ms: u64,
    /// Operations with a definite answer.
    pub completed: usize,
    /// All operations.
    pub operations: usize,
    /// What went wrong in the world.
    pub faults: Faults,
    /// What else it went through.
    pub coverage: Coverage,
    /// Elections won.
    pub elections: usize,
    /// Pairs of states compared.
    pub states_compared: u64,
    /// From the end of the faults until everything answered.
    pub recovery_ms: u64,
    /// Events in the trace, and their hash.
    pub events: u64,
    /// Of all events.
    pub hash: u64,
    /// The trace's marks.
    pub marks: Vec<Mark>,
    /// The last lines of the trace, if they were kept.
    pub lines: Vec<String>,
    /// Its story, if one was wanted.
    pub told: Told,
}

impl Report {
    /// Whether the run was worth something: that nothing is broken where hardly anything was done proves little.
    pub fn counts(&self) -> bool {
        self.simulated_ms >= SIMULATED_MS_MIN
            && self.completed >= COMPLETED_MIN
            && self.faults.kinds() >= FAULT_KINDS_MIN
    }
}

/// Runs a seed once.
pub fn run(seed: u64, driver: DriverKind, text: Text) -> Report {
    run_plan(&Plan::draw(seed), driver, text)
}

/// Runs a plan once.
pub fn run_plan(plan: &Plan, driver: DriverKind, text: Text) -> Report {
    let nodes = plan.nodes;
    // What this thread ran before is no part of it.
    #[cfg(feature = "mutations")]
    drey_core::mutation::take_reached();
    #[cfg(feature = "mutations")]
    let _mutated = plan.changes.mutate();
    let mut world = World::new(plan.clone(), driver, text);
    let mut recovery_ms = 0;
    let verdict = play(&mut world, plan, &mut recovery_ms);
    let broken_ms = world.now_ms();
    let verdict = verdict.map_err(|violation| Violation { at_ms: violation.at_ms.or(Some(broken_ms)), ..violation });
    let history = world.clients.borrow_mut().finish();
    let verdict = verdict.and_then(|()| check_history(&history)).and_then(|()| {
        let clients = world.clients.borrow();
        expiry::check(&clients.timed)?;
        clients.scripts.iter().try_for_each(|script| script.check())
    });
    let mut shared = world.shared.borrow_mut();
    shared.trace.mark();
    #[cfg(feature = "mutations")]
    shared.coverage.reached(drey_core::mutation::take_reached());
    Report {
        seed: plan.of_seed,
        plan: plan.clone(),
        driver,
        verdict,
        nodes,
        simulated_ms: shared.now_ms,
        completed: world.clients.borrow().completed,
        operations: history.operations.len() + world.clients.borrow().asked_by_scripts,
        faults: shared.faults.clone(),
        coverage: shared.coverage.clone(),
        elections: shared.watch.elections(),
        states_compared: shared.watch.states_compared(),
        recovery_ms,
        events: shared.trace.events(),
        hash: shared.trace.hash(),
        marks: shared.trace.marks().to_vec(),
        lines: shared.trace.lines().map(str::to_owned).collect(),
        told: shared.trace.told(),
    }
}

/// Runs a seed twice.
pub fn run_twice(seed: u64, driver: DriverKind) -> Report {
    run_plan_twice(&Plan::draw(seed), driver)
}

/// Runs a plan twice: the second time everything must happen again, in the same order, to the last byte on the disks.
pub fn run_plan_twice(plan: &Plan, driver: DriverKind) -> Report {
    let mut report = run_plan(plan, driver, Text::None);
    if report.verdict.is_ok() {
        let again = run_plan(plan, driver, Text::None);
        if let Some((one, other)) = first_difference(&report.marks, &again.marks) {
            let seen = format!("the second run of the seed differs at {one:?}, which is {other:?}");
            report.verdict = Err(Violation::new("the same inputs give the same outputs", seen));
        }
    }
    report
}

/// Faults, healing, recovery, convergence, and a last look at everything.
fn play(world: &mut World, plan: &Plan, recovery_ms: &mut u64) -> Result<(), Violation> {
    world.run_until(|world| {
        let enough = world.clients.borrow().completed >= plan.completed_min;
        world.now_ms() >= if enough { plan.faults_ms } else { FAULTS_MS_MAX }
    })?;
    let stay_down = nodes_that_stay_down(plan);
    world.clients.borrow_mut().working = false;
    world.heal_all(&stay_down);
    let healed_ms = world.now_ms();
    settle_members(world)?;
    add_probes(world, &stay_down);
    finish_tasks(world, "progress after healing", RECOVERY_MS_MAX)?;
    *recovery_ms = world.now_ms() - healed_ms;
    world.clients.borrow_mut().add_timed_probes();
    let serving: Vec<usize> = world.member_hosts().into_iter().filter(|host| !stay_down.contains(host)).collect();
    world.clients.borrow_mut().add_reaches(&serving);
    finish_tasks(world, "progress after healing", RECOVERY_MS_MAX)?;
    if let Some(trial) = Trial::draw(plan) {
        trial.run(world, plan)?;
    }
    world.start_all();
    converge(world, plan)?;
    add_last_reads(world);
    world.clients.borrow_mut().add_last_timed_reads();
    world.clients.borrow_mut().add_last_looks();
    finish_tasks(world, "progress after healing", RECOVERY_MS_MAX)?;
    let quiet_ms = world.now_ms() + QUIET_MS;
    world.run_until(|world| world.now_ms() >= plan.simulated_ms_min.max(quiet_ms))?;
    check_logs(world, plan)
}

fn nodes_that_stay_down(plan: &Plan) -> Vec<usize> {
    if !plan.minority_stays_down {
        return Vec::new();
    }
    let mut nodes: Vec<usize> = (1..=plan.nodes).collect();
    Rng::stream(plan.seed, "minority", 0).shuffle(&mut nodes);
    nodes.truncate((plan.nodes - 1) / 2);
    nodes
}

/// Until whoever was joining or leaving has, in every group.
pub fn settle_members(world: &mut World) -> Result<(), Violation> {
    if world.plan_spares() == 0 {
        return Ok(());
    }
    let until_ms = world.now_ms() + RECOVERY_MS_MAX;
    world.run_until(|world| world.is_settled() || world.now_ms() >= until_ms)?;
    if world.is_settled() {
        return Ok(());
    }
    let seen = format!("not within {RECOVERY_MS_MAX} ms: {}", world.describe_members());
    Err(Violation::new("every group follows the members", seen))
}

/// A put and a read of each group, through each node that runs.
fn add_probes(world: &mut World, stay_down: &[usize]) {
    let hosts = world.member_hosts();
    let mut clients = world.clients.borrow_mut();
    for bucket in clients.workload.buckets.clone() {
        for node in hosts.iter().copied().filter(|node| !stay_down.contains(node)) {
            let object = clients.workload.add_object(bucket.clone(), &[format!("probe-{node}")]);
            clients.add_task(Task::Put(object, node));
            clients.add_task(Task::Read(object, Some(node)));
        }
    }
}

fn add_last_reads(world: &mut World) {
    let mut clients = world.clients.borrow_mut();
    for object in 0..clients.workload.objects.len() {
        clients.add_task(Task::Read(ObjectId(object), None));
    }
}

/// Until all that clients were told to ask was answered.
pub fn finish_tasks(world: &mut World, law: &'static str, within_ms: u64) -> Result<(), Violation> {
    let until_ms = world.now_ms() + within_ms;
    world.run_until(|world| world.clients.borrow().is_done() || world.now_ms() >= until_ms)?;
    let clients = world.clients.borrow();
    if clients.is_done() {
        return Ok(());
    }
    Err(Violation::new(law, format!("not done within {within_ms} ms: {}", clients.describe())))
}

/// Until all replicas of each group have applied the same and hold the same.
fn converge(world: &mut World, plan: &Plan) -> Result<(), Violation> {
    let until_ms = world.now_ms() + CONVERGENCE_MS_MAX;
    let mut states = Vec::new();
    let mut equal = false;
    world.run_until(|world| {
        if world.now_ms().is_multiple_of(100) {
            states = group_states(world, plan);
            equal = states.iter().all(|state| {
                state.len() == world.member_hosts().len()
                    && state.iter().all(|(_, applied, hash)| (*applied, *hash) == (state[0].1, state[0].2))
            });
        }
        equal || world.now_ms() >= until_ms
    })?;
    if equal {
        return Ok(());
    }
    let seen = format!("not within {CONVERGENCE_MS_MAX} ms; (node, applied, hash) of each group: {states:?}");
    Err(Violation::new("replicas converge", seen))
}

/// Until the logs are as short as they should be. Elections and attestations still write a little, so that a segment may just
/// be on its way out.
fn check_logs(world: &mut World, plan: &Plan) -> Result<(), Violation> {
    let until_ms = world.now_ms() + CONVERGENCE_MS_MAX;
    let mut long = None;
    world.run_until(|world| {
        long = long_log(world, plan);
        long.is_none() || world.now_ms() >= until_ms
    })?;
    long.map_or(Ok(()), |seen| Err(Violation::new("the log is bounded", seen)))
}

fn long_log(world: &World, plan: &Plan) -> Option<String> {
    world.nodes.iter().find_map(|node| {
        let node = node.borrow();
        let (segments, shards) = (node.segments(), node.shards() as usize);
        let kept = plan.log.segments_kept;
        let is_long = segments > shards * (kept + SEGMENTS_BESIDE_MAX);
        is_long.then(|| format!("node {}: {segments} segments of {shards} shards, {kept} each to keep", node.id()))
    })
}

/// Of each group: the nodes that run, what they have applied, and the hash of their state.
fn group_states(world: &World, plan: &Plan) -> Vec<Vec<(u64, u64, u64)>> {
    let state = |group| {
        let nodes = world.nodes.iter().map(|node| node.borrow());
        nodes
            .filter_map(|node| {
                // What is no member has nothing to say.
                node.member()?;
                node.process.as_ref().map(|process| {
                    let (applied, hash) = process.state(group);
                    (node.id().0, applied, hash)
                })
            })
            .collect()
    };
    drey_core::placement::all_groups(plan.groups).map(state).collect()
}
