//! What people read of a run: a line, and for a failure what led to it and the way to see it again.

use std::fmt::Write as _;

use crate::run::{Report, run};
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
