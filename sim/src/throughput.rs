//! How fast the simulator is: simulated seconds a second of one core's time, over seeds whose five nodes are asked
//! densely. Everything that a run does is in it: faults, the trace's hash, the checkers. What is left out are full disks, and the hunts,
//! which cut leaders off all the time, so that clients wait more than they ask; and all have as many clients as the fewest of them draw.

use std::fmt;
use std::time::{Duration, Instant};

use crate::driver::DriverKind;
use crate::plan::{ClientPlan, HuntPlan, Plan};
use crate::run::run_plan;
use crate::trace::Text;

/// Nodes at first of the seeds that count.
const NODES: usize = 5;
/// They ask at least 200 times a simulated second together.
const CLIENTS: usize = 80;

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throughput {
    /// Runs.
    pub seeds: usize,
    /// Of them.
    pub failed: usize,
    /// Simulated time.
    pub simulated_ms: u64,
    /// Operations with a definite answer.
    pub completed: usize,
    /// Wall clock.
    pub elapsed: Duration,
    /// The core's time: what others took of it meanwhile does not count.
    pub core_time: Duration,
}

/// Runs the first so many seeds that are dense and have five nodes, one after the other.
pub fn measure(driver: DriverKind, seeds: usize) -> Throughput {
    let plans = (0..).map(Plan::draw).filter(|plan| plan.nodes == NODES && plan.is_dense()).take(seeds);
    let mut sum = Throughput::default();
    for plan in plans {
        let clients = ClientPlan { clients: CLIENTS, ..plan.clients };
        let plan = Plan { hunts: HuntPlan::default(), room_every_ms: 0, clients, ..plan };
        let (started, core_before) = (Instant::now(), core_time());
        let report = run_plan(&plan, driver, Text::None);
        sum.elapsed += started.elapsed();
        sum.core_time += core_time().saturating_sub(core_before);
        sum.seeds += 1;
        sum.failed += usize::from(report.verdict.is_err());
        sum.simulated_ms += report.simulated_ms;
        sum.completed += report.completed;
    }
    sum
}

fn core_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

impl Throughput {
    /// Simulated seconds a second of the core's time.
    pub fn speed(&self) -> f64 {
        self.simulated_ms as f64 / 1000.0 / self.core_time.as_secs_f64().max(0.001)
    }

    /// Completed operations a simulated second.
    pub fn density(&self) -> f64 {
        self.completed as f64 * 1000.0 / self.simulated_ms.max(1) as f64
    }
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} simulated seconds a second of one core, {:.0} completed operations a simulated second, {NODES} nodes \
             ({} seeds, {} failed, {:.0} simulated seconds, {:.1} s of a core, {:.1} s in all)",
            self.speed(),
            self.density(),
            self.seeds,
            self.failed,
            self.simulated_ms as f64 / 1000.0,
            self.core_time.as_secs_f64(),
            self.elapsed.as_secs_f64()
        )
    }
}
