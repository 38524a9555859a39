//! What people read of a run: a line, and for a failure what led to it and the way to see it again.

use std::fmt::Write as _;

use crate::checker::Violation;
use crate::run::{Report, run_plan};
use crate::story::columns::{shorten, table};
use crate::story::{Keep, Topic};
use crate::trace::Text;

/// How many of the last events a failure shows.
const LAST_EVENTS: usize = 100;
/// What it does not show: there is too much of it.
const NOT_SHOWN: &[Topic] = &[Topic::Heartbeat, Topic::Log, Topic::Store];
/// How much of what was seen.
const SEEN_LINES: usize = 12;
const SEEN_CHARS: usize = 240;

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

/// What a failure is: the law and what was seen of its breach, the last events before it, and the command that shows it again.
pub fn failure(report: &Report) -> Option<String> {
    let violation = report.verdict.as_ref().err()?;
    let mut text = String::new();
    let _ = writeln!(text, "seed {} breaks a law: {}", report.seed, violation.law);
    write_seen(&mut text, violation);
    let until_ms = violation.at_ms.unwrap_or(report.simulated_ms);
    let keep = Keep { last: LAST_EVENTS, until_ms, group: violation.group, without: NOT_SHOWN };
    // The plan tells its story again, this time with words.
    let told = run_plan(&report.plan, report.driver, Text::Story(keep)).told;
    let of_group = violation.group.map_or(String::new(), |group| format!(" of group {group} and of no group"));
    let not_shown: Vec<_> = NOT_SHOWN.iter().map(|topic| topic.name()).collect();
    let _ = writeln!(
        text,
        "the last {} events{of_group} until {:.3} s, without {}:",
        told.events.len(),
        until_ms as f64 / 1000.0,
        not_shown.join(", ")
    );
    text.push_str(&table(&told, report.plan.hosts()));
    let _ = writeln!(text, "to see it again: {}", command(report, "run"));
    let _ = write!(
        text,
        "in the place of `run`: `trace` tells all of it, `trace --html FILE` draws it, `shrink` looks for less"
    );
    Some(text)
}

/// The command that does something with the same plan.
pub fn command(report: &Report, verb: &str) -> String {
    let Report { seed, driver, plan, .. } = report;
    let features = if cfg!(feature = "mutations") { " --features mutations" } else { "" };
    format!("cargo run --release -p drey-sim{features} -- {verb} --seed {seed} --driver {driver}{}", plan.changes)
}

fn write_seen(text: &mut String, violation: &Violation) {
    let lines = violation.seen.lines();
    for line in lines.clone().take(SEEN_LINES) {
        let _ = writeln!(text, "  {}", shorten(line, SEEN_CHARS));
    }
    let more = lines.count().saturating_sub(SEEN_LINES);
    if more > 0 {
        let _ = writeln!(text, "  … and {more} lines more, which `trace` prints");
    }
}
