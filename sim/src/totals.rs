//! Sums over many runs: what they did, what went wrong in them, and what never happened in any.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::coverage::Coverage;
use crate::faults::{Fault, Faults};
use crate::run::Report;

/// In so many seeds everything should happen that can.
const SEEDS_TELL: u64 = 200;
/// In so many it must.
const SEEDS_PROVE: u64 = 500;

/// What happened in so few seeds is rare: one of them is worth a look.
const RARE_SEEDS_MAX: u64 = 5;

/// What need not happen, and why.
const NEED_NOT: &[(&str, &str, &str)] = &[
    ("raft message", "Foreign", "no peer sends it, and the fuzzed guard refuses it"),
    ("error", "ConditionFailed", NOT_OF_CORE),
    ("error", "Overloaded", "seldom: members are removed one at a time, and no client fills a queue"),
    ("error", "DataLoss", NOT_OF_CORE),
    ("error", "NotFound", NOT_OF_CORE),
    ("error", "Explained", NOT_OF_CORE),
    ("event", "Damaged", "no engine notices damage, and who lost bits of its log does not start"),
    ("event", "ClockJumped", "one wall clock at a time is wrong, and no group is without a leader for an hour"),
];
const NOT_OF_CORE: &str = "only what is around core says so";

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
    /// And in which seed.
    recovery_ms_max: (u64, u64),
    /// Of each sort and kind that happened: in how many seeds, and in which one.
    seen: BTreeMap<(&'static str, &'static str), (u64, u64)>,
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
        self.recovery_ms_max = self.recovery_ms_max.max((report.recovery_ms, report.plan.of_seed));
        for (sort, kinds) in report.coverage.sorts() {
            for (kind, _) in kinds.iter().filter(|(_, count)| *count > 0) {
                self.seen.entry((sort, kind)).or_insert((0, report.plan.of_seed)).0 += 1;
            }
        }
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

    /// What never happened, known or not.
    fn absent(&self) -> Vec<(&'static str, &'static str)> {
        let faults = Fault::ALL.iter().filter(|fault| self.faults.count(**fault) == 0);
        let mut absent: Vec<_> = faults.map(|fault| ("fault", fault.name())).collect();
        for (sort, kinds) in self.coverage.sorts() {
            absent.extend(kinds.iter().filter(|(_, count)| *count == 0).map(|(kind, _)| (sort, *kind)));
        }
        absent
    }

    /// What never happened and should have, once there were enough seeds to tell.
    pub fn never(&self) -> Vec<(&'static str, &'static str)> {
        if self.seeds < SEEDS_TELL {
            return Vec::new();
        }
        let mut never = self.absent();
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
            "{:.0} simulated seconds, {} completed operations, {} elections, {} states compared, slowest recovery {} ms (seed {}), \
             {turns} turns, {starts} starts, {seals} seals, {snapshots} snapshots installed, {truncations} truncations, \
             {refused_messages} refused messages",
            self.simulated_ms as f64 / 1000.0,
            self.completed,
            self.elections,
            self.states_compared,
            self.recovery_ms_max.0,
            self.recovery_ms_max.1
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
        for ((sort, kind), (seeds, one)) in self.seen.iter().filter(|(_, (seeds, _))| *seeds <= RARE_SEEDS_MAX) {
            writeln!(f, "  rare: {sort} {kind}, in {seeds} of {} seeds, one of them {one}", self.seeds)?;
        }
        self.write_sites(f)?;
        let absent = self.absent();
        for (sort, kind, why) in NEED_NOT {
            let is_absent = absent.contains(&(*sort, *kind));
            let said = if is_absent { "never, and need not" } else { "need not happen, and did" };
            writeln!(f, "  {said}: {sort} {kind} ({why})")?;
        }
        for (sort, kind) in self.never() {
            writeln!(f, "never: {sort} {kind}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::DriverKind;
    use crate::run::run;
    use crate::trace::Text;

    #[test]
    fn what_never_happens_is_said_once_there_are_seeds_enough() {
        let report = run(1, DriverKind::Queue, Text::None);
        let mut totals = Totals::default();
        totals.add(&report);
        assert!(totals.never().is_empty() && !totals.is_blind(), "one seed tells nothing");
        totals.seeds = SEEDS_TELL;
        let never = totals.never();
        assert!(!never.is_empty() && !totals.is_blind());
        let seen = Fault::ALL.iter().find(|fault| report.faults.count(**fault) > 0).expect("something went wrong");
        let unseen = Fault::ALL.iter().find(|fault| report.faults.count(**fault) == 0).expect("but not everything");
        assert!(!never.contains(&("fault", seen.name())));
        assert!(never.contains(&("fault", unseen.name())));
        assert!(!never.contains(&("raft message", "Append")));
        assert!(totals.to_string().contains(&format!("never: fault {}", unseen.name())));
        totals.seeds = SEEDS_PROVE;
        assert!(totals.is_blind());
    }

    #[test]
    fn what_need_not_happen_has_a_name() {
        let coverage = Coverage::default();
        for (sort, kind, _) in NEED_NOT {
            let is_there =
                |(name, kinds): &(&str, Vec<(&str, u64)>)| name == sort && kinds.iter().any(|(name, _)| name == kind);
            assert!(coverage.sorts().iter().any(is_there), "{sort} {kind}");
        }
    }
}
