//! Sums over many runs: what they did, what went wrong in them, and what never happened in any.

use std::fmt;
use std::time::Duration;

use crate::coverage::Coverage;
use crate::faults::{Fault, Faults};
use crate::run::Report;

/// In so many seeds everything should happen that can.
const SEEDS_TELL: u64 = 200;
/// In so many it must.
const SEEDS_PROVE: u64 = 500;

/// What need not happen, and why.
const NEED_NOT: &[(&str, &str, &str)] = &[];

/// Sums over runs.
#[derive(Default)]
pub struct Totals {
    /// How many runs.
    pub seeds: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many passed without having done enough to count.
    pub idle: u64,
    simulated_ms: u64,
    completed: u64,
    elections: u64,
    states_compared: u64,
    recovery_ms_max: u64,
    faults: Faults,
    runs_with: Vec<u64>,
    coverage: Coverage,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.failed += u64::from(report.verdict.is_err());
        self.idle += u64::from(report.verdict.is_ok() && !report.counts());
        self.simulated_ms += report.simulated_ms;
        self.completed += report.completed as u64;
        self.elections += report.elections as u64;
        self.states_compared += report.states_compared;
        self.recovery_ms_max = self.recovery_ms_max.max(report.recovery_ms);
        self.faults.add(&report.faults);
        self.coverage.add(&report.coverage);
        self.runs_with.resize(Fault::ALL.len(), 0);
        for (runs, &fault) in self.runs_with.iter_mut().zip(Fault::ALL) {
            *runs += u64::from(report.faults.count(fault) > 0);
        }
    }

    /// Whether more of them did next to nothing than bad luck explains: then it is the simulator that fails.
    pub fn is_idle(&self) -> bool {
        self.idle > 1 + self.seeds / 100
    }

    /// How far, and how fast.
    pub fn progress(&self, elapsed: Duration, runs_each: u64) -> String {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let rate = (self.simulated_ms * runs_each) as f64 / 1000.0 / seconds;
        let Totals { seeds, failed, idle, .. } = self;
        format!(
            "{seeds} seeds, {failed} failed, {idle} did not count, {seconds:.0} s, {rate:.0} simulated seconds a second"
        )
    }

    /// What never happened and should have, once there were enough seeds to tell.
    pub fn never(&self) -> Vec<(&'static str, &'static str)> {
        if self.seeds < SEEDS_TELL {
            return Vec::new();
        }
        let faults = Fault::ALL.iter().filter(|fault| self.faults.count(**fault) == 0);
        let mut never: Vec<_> = faults.map(|fault| ("fault", fault.name())).collect();
        for (sort, kinds) in self.coverage.sorts() {
            never.extend(kinds.iter().filter(|(_, count)| *count == 0).map(|(kind, _)| (sort, *kind)));
        }
        never.retain(|kind| !NEED_NOT.iter().any(|(sort, name, _)| (*sort, *name) == *kind));
        never
    }

    /// Whether so much never happened, in so many seeds, that the simulator has gone blind somewhere.
    pub fn is_blind(&self) -> bool {
        self.seeds >= SEEDS_PROVE && !self.never().is_empty()
    }
}

impl Totals {
    /// How often the sites of mutations were reached: what was not even reached cannot have been found out.
    #[cfg(feature = "mutations")]
    fn write_sites(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (mutation, sites) in self.coverage.sites() {
            let sites: Vec<_> = sites.iter().map(|(site, times)| format!("{site} {times}")).collect();
            let sites = if sites.is_empty() { "never reached".to_owned() } else { sites.join(", ") };
            writeln!(f, "  mutation {} ({mutation:?}): {sites}", mutation.number())?;
        }
        Ok(())
    }

    #[cfg(not(feature = "mutations"))]
    fn write_sites(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Coverage { turns, starts, snapshots, truncations, refused_messages, seals, .. } = self.coverage;
        writeln!(
            f,
            "{:.0} simulated seconds, {} completed operations, {} elections, {} states compared, slowest recovery {} ms, \
             {turns} turns, {starts} starts, {seals} seals, {snapshots} snapshots installed, {truncations} truncations, \
             {refused_messages} refused messages",
            self.simulated_ms as f64 / 1000.0,
            self.completed,
            self.elections,
            self.states_compared,
            self.recovery_ms_max
        )?;
        for (runs, &fault) in self.runs_with.iter().zip(Fault::ALL) {
            writeln!(
                f,
                "  {:<22} {:>9} times in {runs} of {} seeds",
                fault.name(),
                self.faults.count(fault),
                self.seeds
            )?;
        }
        for (sort, kinds) in self.coverage.sorts() {
            let happened = kinds.iter().filter(|(_, count)| *count > 0);
            let counts: Vec<_> = happened.map(|(kind, count)| format!("{kind} {count}")).collect();
            writeln!(f, "  {sort}s: {}", counts.join(", "))?;
        }
        self.write_sites(f)?;
        for (sort, kind) in self.never() {
            writeln!(f, "never: {sort} {kind}")?;
        }
        Ok(())
    }
}
