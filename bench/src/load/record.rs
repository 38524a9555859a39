//! What is measured while a run goes on.
//!
//! Throughput counts the operations that end within the window of measurement. Latency is that of all operations due in
//! the window, whenever they end: those that are cut off, and those that no client was free to start, count with the
//! time they had waited by then. So no stall is left out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::summary::Latency;

/// The longest latency told apart, in microseconds: longer than the longest run.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Three digits: a value is off by at most a thousandth.
const SIGNIFICANT_DIGITS: u8 = 3;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Puts a key.
    Put,
    /// Gets a key.
    Get,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As asked.
    Done,
    /// Well, but the key to get is not there.
    NotFound,
    /// With an error of this name.
    Failed(&'static str),
}

/// Gathers the outcomes of all clients.
pub(super) struct Recorder {
    window: Window,
    puts: Histogram<u64>,
    gets: Histogram<u64>,
    /// What never started has no kind.
    missed: Histogram<u64>,
    /// What each client waits for.
    outstanding: Vec<Option<(Kind, Instant)>>,
    operations: u64,
    not_found: u64,
    errors: BTreeMap<&'static str, u64>,
}

/// The time that is measured.
#[derive(Clone, Copy)]
enum Window {
    Before,
    Open { start: Instant },
    Closed { start: Instant, end: Instant },
}

impl Window {
    fn contains(self, moment: Instant) -> bool {
        match self {
            Self::Before => false,
            Self::Open { start } => moment >= start,
            Self::Closed { start, end } => (start..end).contains(&moment),
        }
    }
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    /// Operations that ended within the window, errors apart.
    pub(super) operations: u64,
    /// How long the window was.
    pub(super) elapsed: Duration,
    /// Gets, among the operations, of keys that are not there.
    pub(super) not_found: u64,
    /// Operations that were due in the window and never started.
    pub(super) missed: u64,
    /// Errors by name, of operations due in the window.
    pub(super) errors: BTreeMap<String, u64>,
    /// Of all operations.
    pub(super) latency: Latency,
    /// Of the puts alone, if there were any.
    pub(super) puts: Option<Latency>,
    /// Of the gets alone, if there were any.
    pub(super) gets: Option<Latency>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS).expect("the constants are in range")
}

fn record(histogram: &mut Histogram<u64>, due: Instant, now: Instant) {
    let waited = now.saturating_duration_since(due).as_nanos().div_ceil(1_000);
    histogram.saturating_record(u64::try_from(waited).unwrap_or(LATENCY_US_MAX));
}

impl Recorder {
    /// A recorder for so many clients, not yet measuring.
    pub(super) fn new(clients: usize) -> Self {
        Self {
            window: Window::Before,
            puts: histogram(),
            gets: histogram(),
            missed: histogram(),
            outstanding: vec![None; clients],
            operations: 0,
            not_found: 0,
            errors: BTreeMap::new(),
        }
    }

    /// Measures from `now` on.
    pub(super) fn open_window(&mut self, now: Instant) {
        self.window = Window::Open { start: now };
    }

    /// Measures what is due before `now`, and no more.
    pub(super) fn close_window(&mut self, now: Instant) {
        if let Window::Open { start } = self.window {
            self.window = Window::Closed { start, end: now };
        }
    }

    /// A client starts an operation.
    pub(super) fn begin(&mut self, client: usize, kind: Kind, due: Instant) {
        self.outstanding[client] = Some((kind, due));
    }

    /// A client's operation has ended.
    pub(super) fn end(&mut self, client: usize, outcome: Outcome, now: Instant) {
        let Some((kind, due)) = self.outstanding[client].take() else { return };
        if matches!(self.window, Window::Open { .. }) && !matches!(outcome, Outcome::Failed(_)) {
            self.operations += 1;
            self.not_found += u64::from(outcome == Outcome::NotFound);
        }
        if self.window.contains(due) {
            match outcome {
                Outcome::Failed(name) => *self.errors.entry(name).or_default() += 1,
                Outcome::Done | Outcome::NotFound => record(self.histogram(kind), due, now),
            }
        }
    }

    /// Operations that were due and never started.
    pub(super) fn missed(&mut self, due: impl Iterator<Item = Instant>, now: Instant) {
        for due in due.filter(|&due| self.window.contains(due)) {
            record(&mut self.missed, due, now);
        }
    }

    /// Gives up on what is outstanding.
    pub(super) fn cut_off(&mut self, now: Instant) {
        for client in 0..self.outstanding.len() {
            if let Some((kind, due)) = self.outstanding[client].take()
                && self.window.contains(due)
            {
                record(self.histogram(kind), due, now);
                *self.errors.entry("unfinished").or_default() += 1;
            }
        }
    }

    fn histogram(&mut self, kind: Kind) -> &mut Histogram<u64> {
        match kind {
            Kind::Put => &mut self.puts,
            Kind::Get => &mut self.gets,
        }
    }

    /// The sums.
    pub(super) fn measured(&self, now: Instant) -> Measured {
        let elapsed = match self.window {
            Window::Before => Duration::ZERO,
            Window::Open { start } => now.saturating_duration_since(start),
            Window::Closed { start, end } => end.saturating_duration_since(start),
        };
        let mut all = self.puts.clone();
        for part in [&self.gets, &self.missed] {
            all.add(part).expect("all histograms have the same bounds");
        }
        Measured {
            operations: self.operations,
            elapsed,
            not_found: self.not_found,
            missed: self.missed.len(),
            errors: self.errors.iter().map(|(&name, &count)| (name.to_owned(), count)).collect(),
            latency: Latency::of(&all),
            puts: (!self.puts.is_empty()).then(|| Latency::of(&self.puts)),
            gets: (!self.gets.is_empty()).then(|| Latency::of(&self.gets)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_window_decides_what_counts() {
        let start = Instant::now();
        let mut recorder = Recorder::new(3);
        // Due before the window, done within: throughput, but no latency.
        recorder.begin(0, Kind::Put, start);
        recorder.open_window(start + 10 * MS);
        recorder.end(0, Outcome::Done, start + 500 * MS);
        // Within.
        recorder.begin(0, Kind::Put, start + 500 * MS);
        recorder.end(0, Outcome::Done, start + 503 * MS);
        recorder.begin(1, Kind::Get, start + 500 * MS);
        recorder.end(1, Outcome::NotFound, start + 501 * MS);
        // Due within, done after: latency, but no throughput.
        recorder.begin(0, Kind::Get, start + 900 * MS);
        recorder.close_window(start + 1_010 * MS);
        recorder.end(0, Outcome::Done, start + 1_100 * MS);
        // After.
        recorder.begin(0, Kind::Put, start + 1_100 * MS);
        recorder.end(0, Outcome::Failed("UNAVAILABLE"), start + 1_101 * MS);

        let measured = recorder.measured(start + 2_000 * MS);
        assert_eq!((measured.operations, measured.not_found), (3, 1));
        assert_eq!(measured.elapsed, 1_000 * MS);
        assert!(measured.errors.is_empty());
        assert_eq!(measured.latency.count, 3);
        let (puts, gets) = (measured.puts.unwrap(), measured.gets.unwrap());
        assert_eq!((puts.count, gets.count), (1, 2));
        assert!((2_998..=3_003).contains(&puts.p50_us), "{puts:?}");
        assert!((199_800..=200_200).contains(&gets.max_us), "{gets:?}");
    }

    #[test]
    fn what_hangs_or_never_starts_counts_with_its_wait() {
        let start = Instant::now();
        let mut recorder = Recorder::new(2);
        recorder.open_window(start);
        recorder.begin(0, Kind::Put, start + 100 * MS);
        recorder.begin(1, Kind::Put, start + 100 * MS);
        recorder.end(1, Outcome::Failed("ABORTED"), start + 200 * MS);
        recorder.close_window(start + 1_000 * MS);
        let missed = [start + 400 * MS, start + 1_000 * MS].into_iter();
        recorder.missed(missed, start + 1_000 * MS);
        recorder.cut_off(start + 3_100 * MS);

        let measured = recorder.measured(start + 3_100 * MS);
        assert_eq!(measured.missed, 1, "the second is due after the window");
        assert_eq!(measured.puts.unwrap().count, 1, "what never started is not known to be a put");
        assert_eq!(measured.operations, 0);
        let errors = [("ABORTED".to_owned(), 1), ("unfinished".to_owned(), 1)];
        assert_eq!(measured.errors, BTreeMap::from(errors));
        assert_eq!(measured.latency.count, 2);
        assert!((599_000..=601_000).contains(&measured.latency.p50_us));
        assert!((2_997_000..=3_003_000).contains(&measured.latency.max_us));
    }
}
