//! All runs of a comparison, and the table of their medians.

use std::fmt::Write;

use serde::Serialize;

use super::row::Row;
use crate::figures::{grouped, median};
use crate::load::summary::Summary;
use crate::target::Target;

/// One run of the comparison.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    /// Which repetition, from 0.
    pub(super) repetition: u32,
    /// The row's name.
    pub(super) row: String,
    /// What the run found.
    #[serde(flatten)]
    pub(super) summary: Summary,
}

impl Measured {
    /// The run as one line of JSON, without its end.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text always have a JSON form")
    }
}

/// All runs of a comparison.
pub(super) struct Table {
    rows: Vec<String>,
    systems: Vec<Target>,
    runs: Vec<Measured>,
}

/// What the table shows of each run: a heading, the figure, and how it is written.
type Column = (&'static str, fn(&Summary) -> Option<f64>, fn(f64) -> String);

const COLUMNS: [Column; 7] = [
    ("ops/s", |run| Some(run.ops_per_second), grouped),
    ("p50 ms", |run| Some(run.latency.p50_us as f64 / 1e3), two_digits),
    ("p99 ms", |run| Some(run.latency.p99_us as f64 / 1e3), two_digits),
    ("p99.9 ms", |run| Some(run.latency.p999_us as f64 / 1e3), two_digits),
    ("server CPU µs/op", |run| run.server_cpu_us_per_op, one_digit),
    ("client CPU µs/op", |run| Some(run.client_cpu_us_per_op), one_digit),
    ("servers' memory MiB", |run| run.server_rss_bytes.map(|bytes| bytes as f64 / 1_048_576.0), grouped),
];

fn one_digit(number: f64) -> String {
    format!("{number:.1}")
}

fn two_digits(number: f64) -> String {
    format!("{number:.2}")
}

impl Table {
    /// A table of these rows and systems, still empty.
    pub(super) fn new(rows: &[Row], systems: Vec<Target>) -> Self {
        Self { rows: rows.iter().map(Row::name).collect(), systems, runs: Vec::new() }
    }

    /// Adds a run.
    pub(super) fn add(&mut self, run: Measured) {
        self.runs.push(run);
    }

    /// The median over a row's and a system's repetitions of some figure.
    fn median(&self, row: &str, system: Target, figure: fn(&Summary) -> Option<f64>) -> Option<f64> {
        let runs = self.runs.iter().filter(|run| run.row == row && run.summary.target == system);
        median(runs.filter_map(|run| figure(&run.summary)).collect())
    }

    /// The table in Markdown. The ratios are those of each system to the first one: more than 1 is better, throughput as
    /// it is, latency turned upside down.
    pub(super) fn to_markdown(&self) -> String {
        let mut headings = vec!["", "system"];
        headings.extend(COLUMNS.iter().map(|(heading, ..)| *heading));
        headings.extend(["throughput ratio", "p99 ratio", "errors"]);
        let mut text = format!("| {} |\n| --- | --- |", headings.join(" | "));
        text.push_str(&" ---: |".repeat(headings.len() - 2));
        text.push('\n');
        for row in &self.rows {
            for &system in &self.systems {
                let cells =
                    COLUMNS.iter().map(|(_, figure, show)| self.median(row, system, *figure).map_or("-".into(), show));
                let cells: Vec<String> =
                    cells.chain(self.ratios(row, system)).chain([self.errors(row, system)]).collect();
                let _ = writeln!(text, "| {row} | {} | {} |", system.name(), cells.join(" | "));
            }
        }
        text
    }

    fn ratios(&self, row: &str, system: Target) -> [String; 2] {
        let first = self.systems[0];
        if system == first {
            return ["".into(), "".into()];
        }
        let ratio = |of: Option<f64>, to: Option<f64>| match (of, to) {
            (Some(of), Some(to)) if to > 0.0 => format!("{:.2}", of / to),
            _ => "-".into(),
        };
        let throughput = |system| self.median(row, system, |run| Some(run.ops_per_second));
        let p99 = |system| self.median(row, system, |run| Some(run.latency.p99_us as f64));
        [ratio(throughput(system), throughput(first)), ratio(p99(first), p99(system))]
    }

    /// Errors of all repetitions together: a median would hide the one repetition that had them.
    fn errors(&self, row: &str, system: Target) -> String {
        let runs = self.runs.iter().filter(|run| run.row == row && run.summary.target == system);
        grouped(runs.flat_map(|run| run.summary.errors.values()).sum::<u64>() as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::summary::Latency;
    use crate::target::Route;

    fn run(target: Target, repetition: u32, ops_per_second: f64, p99_us: u64) -> Measured {
        let summary = Summary {
            target,
            to: Route::All,
            endpoints: 3,
            clients: 64,
            connections: 3,
            value_size: 256,
            key_count: 1,
            puts_percent: 100,
            keys: "uniform".into(),
            rate: None,
            seed: 1,
            elapsed_s: 1.0,
            operations: ops_per_second as u64,
            ops_per_second,
            latency: Latency { count: 1, p50_us: 500, p99_us, p999_us: p99_us, max_us: p99_us },
            puts: None,
            gets: None,
            not_found: 0,
            missed: 0,
            errors: BTreeMap::from([("ABORTED".into(), u64::from(repetition))]),
            client_cpu_us_per_op: 6.25,
            server_cpu_us_per_op: Some(20.0),
            machine_cpu_us_per_op: 30.0,
            server_rss_bytes: None,
        };
        Measured { repetition, row: "puts, 64 clients".into(), summary }
    }

    #[test]
    fn the_table_has_medians_and_ratios() {
        let row = Row { puts_percent: 100, clients: 64 };
        let mut table = Table::new(&[row], vec![Target::Etcd, Target::Drey]);
        for (repetition, ops) in [9_000.0, 10_000.0, 90_000.0].into_iter().enumerate() {
            table.add(run(Target::Etcd, repetition as u32, ops, 30_000));
            table.add(run(Target::Drey, repetition as u32, ops * 2.5, 10_000));
        }
        let text = table.to_markdown();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.matches('|').count() == 13), "{text}");
        let etcd = "| puts, 64 clients | etcd | 10,000 | 0.50 | 30.00 | 30.00 | 20.0 | 6.2 | - |  |  | 3 |";
        let drey = "| puts, 64 clients | drey | 25,000 | 0.50 | 10.00 | 10.00 | 20.0 | 6.2 | - | 2.50 | 3.00 | 3 |";
        assert_eq!(lines[2..], [etcd, drey]);
    }

    #[test]
    fn a_run_is_one_line_that_names_row_and_repetition() {
        let line = run(Target::Drey, 2, 100.0, 5).to_json();
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&fields["repetition"], &fields["row"]), (&2.into(), &"puts, 64 clients".into()));
        assert_eq!((&fields["target"], &fields["p99_us"]), (&"drey".into(), &5.into()));
    }
}
