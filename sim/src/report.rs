//! What people read of runs: a line for each, sums over many, and for a failure the way to see it again.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::faults::{Fault, Faults};
use crate::run::{Report, run};
use crate::shared::Coverage;
use crate::trace::Text;

/// How many of the last events a failure shows.
const LAST_EVENTS: usize = 60;

/// A run in a line.
pub fn line(report: &Report) -> String {
    let Report {
        seed, driver, nodes, simulated_ms, completed, operations, elections, recovery_ms, events, hash, ..
    } = report;
    format!(
        "seed {seed} on {driver}: {} {nodes} nodes, {:.1} s, {completed} of {operations} operations completed, {elections} elections, \
         recovered in {recovery_ms} ms, {events} events, trace {hash:016x}; {}",
        match &report.verdict {
            Ok(()) if report.counts() => "ok,",
            Ok(()) => "does not count,",
            Err(_) => "FAILED,",
        },
        *simulated_ms as f64 / 1000.0,
        report.faults
    )
}

/// What a failure is, with the last events before it and the command that shows it again.
pub fn failure(report: &Report) -> Option<String> {
    let violation = report.verdict.as_ref().err()?;
    // The seed tells the story again, this time with words.
    let again = run(report.seed, report.driver, Text::Last(LAST_EVENTS));
    let mut text = String::new();
    let _ = writeln!(text, "the last events of seed {} on {}:", report.seed, report.driver);
    again.lines.iter().for_each(|line| {
        let _ = writeln!(text, "  {line}");
    });
    let _ = writeln!(text, "seed {} breaks a law: {violation}", report.seed);
    let _ = write!(
        text,
        "to see it again: cargo run --release -p drey-sim -- run --seed {} --driver {}",
        report.seed, report.driver
    );
    Some(text)
}

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
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Coverage { turns, starts, snapshots, truncations, refused_messages, seals } = self.coverage;
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
        Ok(())
    }
}
