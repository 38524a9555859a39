//! `bench`: load on a running cluster, by the load generator that also compares drey with others.

use drey_bench::{Error, Latency, LoadArgs, Summary};

use super::output::Output;
use super::{CommonArgs, Exit, Failure};

/// Makes one run, and prints what it found. Not to be called on an asynchronous runtime.
pub fn run(common: &CommonArgs, args: LoadArgs) -> Exit {
    match load(common, args) {
        Ok(()) => Exit::Done,
        Err(failure) => {
            failure.report();
            failure.exit
        }
    }
}

fn load(common: &CommonArgs, args: LoadArgs) -> Result<(), Failure> {
    let summary = drey_bench::run(args).map_err(|error| failure(&error))?;
    let mut output = Output::stdout(common.output);
    if output.is_json() {
        output.json(&summary)?;
    } else {
        print(&summary, &mut output)?;
    }
    output.finish()?;
    if summary.operations == 0 {
        let why = format!("{} errors, in the line above", summary.errors.values().sum::<u64>());
        return Err(Failure::new(Exit::Unavailable, "no operation succeeded", why, "drey cluster"));
    }
    Ok(())
}

fn failure(error: &Error) -> Failure {
    let (exit, next) = match error {
        Error::Usage(_) => (Exit::Usage, "drey bench --help"),
        Error::Connect { .. } | Error::Call { .. } | Error::NoLeader(_) | Error::Preload { .. } => {
            (Exit::Unavailable, "drey cluster")
        }
        _ => (Exit::Refused, "drey bench --help"),
    };
    Failure::new(exit, "the load cannot be made", error.to_string(), next)
}

fn print(summary: &Summary, output: &mut Output) -> std::io::Result<()> {
    output.line(&format!(
        "{:.0} operations a second: {} in {:.1} s, by {} clients on {} connections",
        summary.ops_per_second, summary.operations, summary.elapsed_s, summary.clients, summary.connections
    ))?;
    let latencies = [("puts", summary.puts), ("gets", summary.gets)];
    let rows = latencies.iter().filter_map(|(name, latency)| latency.map(|latency| row(name, &latency))).collect();
    output.table(&["", "COUNT", "P50", "P99", "P99.9", "MAX"], &[1, 2, 3, 4, 5], rows)?;
    for (error, count) in &summary.errors {
        output.line(&format!("error {error}: {count} times"))?;
    }
    if summary.not_found > 0 {
        output.line(&format!("{} gets found no entry (--preload puts all keys first)", summary.not_found))?;
    }
    Ok(())
}

fn row(name: &str, latency: &Latency) -> Vec<String> {
    let milliseconds = |us: u64| format!("{:.2} ms", us as f64 / 1_000.0);
    let times = [latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us].map(milliseconds);
    [name.to_owned(), latency.count.to_string()].into_iter().chain(times).collect()
}
