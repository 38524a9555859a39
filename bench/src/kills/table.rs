//! All kills, and the table of their figures.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::figures::{grouped, median, percentile};
use crate::target::Target;

/// One kill, and what the clients saw of it.
#[derive(Clone, Debug, Serialize)]
pub struct Kill {
    /// The system.
    pub target: Target,
    /// Which kill, from 0.
    pub number: u32,
    /// The leader that was killed, by its endpoint.
    pub leader: String,
    /// When, by the wall clock, as the nodes' logs have it.
    pub at_unix_ms: u64,
    /// From the kill to the first acknowledgement of a write that was sent after it.
    pub gap_ms: f64,
    /// The longest time without any acknowledgement, until the node was started again.
    pub silence_ms: f64,
    /// From its start until the node had caught up and all saw each other.
    pub return_ms: f64,
    /// The longest time without any acknowledgement, from its start until the next kill.
    pub silence_at_return_ms: f64,
    /// Writes acknowledged since the kill.
    pub writes: u64,
    /// Attempts that failed since the kill, by what clients saw. Each was made again.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Kill {
    /// The kill as one line of JSON, without its end.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text always have a JSON form")
    }
}

/// What the table shows of a system's kills: a heading, the figure of each, and what is made of them.
type Column = (&'static str, fn(&Kill) -> f64, fn(Vec<f64>) -> Option<f64>);

const COLUMNS: [Column; 7] = [
    ("gap median ms", |kill| kill.gap_ms, median),
    ("gap p90 ms", |kill| kill.gap_ms, ninetieth),
    ("gap max ms", |kill| kill.gap_ms, largest),
    ("silence median ms", |kill| kill.silence_ms, median),
    ("silence p90 ms", |kill| kill.silence_ms, ninetieth),
    ("silence max ms", |kill| kill.silence_ms, largest),
    ("silence at the return, max ms", |kill| kill.silence_at_return_ms, largest),
];

fn ninetieth(numbers: Vec<f64>) -> Option<f64> {
    percentile(numbers, 90)
}

fn largest(numbers: Vec<f64>) -> Option<f64> {
    percentile(numbers, 100)
}

/// The table in Markdown, a row for each system.
pub(super) fn to_markdown(systems: &[Target], kills: &[Kill]) -> String {
    let headings = COLUMNS.map(|(heading, ..)| heading).join(" | ");
    let mut text = format!("| system | kills | {headings} | writes | errors |\n| --- |");
    text.push_str(&" ---: |".repeat(COLUMNS.len() + 2));
    text.push_str(" --- |\n");
    for &system in systems {
        let kills: Vec<&Kill> = kills.iter().filter(|kill| kill.target == system).collect();
        let figure = |(_, of, made): Column| made(kills.iter().map(|kill| of(kill)).collect());
        let figures = COLUMNS.map(|column| figure(column).map_or("-".into(), grouped)).join(" | ");
        let writes: u64 = kills.iter().map(|kill| kill.writes).sum();
        let (count, writes) = (kills.len(), grouped(writes as f64));
        let _ = writeln!(text, "| {} | {count} | {figures} | {writes} | {} |", system.name(), errors(&kills));
    }
    text
}

/// The errors of all kills by what clients saw.
fn errors(kills: &[&Kill]) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (error, count) in kills.iter().flat_map(|kill| &kill.errors) {
        *sums.entry(error).or_default() += count;
    }
    let sums: Vec<String> = sums.iter().map(|(error, &sum)| format!("{} {error}", grouped(sum as f64))).collect();
    if sums.is_empty() { "none".into() } else { sums.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(target: Target, number: u32, gap_ms: f64) -> Kill {
        Kill {
            target,
            number,
            leader: "127.0.0.1:1".into(),
            at_unix_ms: 1,
            gap_ms,
            silence_ms: gap_ms + 1.0,
            return_ms: 10.0,
            silence_at_return_ms: 2.0,
            writes: 1_000,
            errors: BTreeMap::from([("connection", 20), ("timeout", u64::from(number))]),
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_system() {
        let drey = [200.0, 100.0, 1_500.0].into_iter().enumerate();
        let kills: Vec<Kill> = drey.map(|(number, gap)| kill(Target::Drey, number as u32, gap)).collect();
        let text = to_markdown(&[Target::Etcd, Target::Drey], &kills);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.iter().all(|line| line.matches('|').count() == 12), "{text}");
        assert_eq!(lines[2], "| etcd | 0 | - | - | - | - | - | - | - | 0 | none |");
        let figures = "200 | 1,500 | 1,500 | 201 | 1,501 | 1,501 | 2";
        assert_eq!(lines[3], format!("| drey | 3 | {figures} | 3,000 | 60 connection, 3 timeout |"));
    }

    #[test]
    fn a_kill_is_one_line_that_names_its_system() {
        let line = kill(Target::Drey, 2, 100.0).to_json();
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&fields["target"], &fields["number"]), (&"drey".into(), &2.into()));
        assert_eq!(fields["errors"]["connection"], 20);
    }
}
