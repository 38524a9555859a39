//! The `drey-bench` command: one run, a comparison of systems, or leaders killed.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use drey_bench::{CompareArgs, Error, KillsArgs, LoadArgs};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Puts load on drey or etcd, and sets them side by side
#[derive(Parser)]
#[command(name = "drey-bench", version)]
enum Command {
    /// Make one run against a cluster that is up, and print one line of JSON
    Load(Box<LoadArgs>),
    /// Start three nodes of each system in turn, put the same load on them, and print a table
    Compare(Box<CompareArgs>),
    /// Start three nodes of each system in turn, kill whoever leads under writing clients, and print a table
    Kills(Box<KillsArgs>),
}

fn main() -> ExitCode {
    match execute(Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(if matches!(error, Error::Usage(_)) { 2 } else { 1 })
        }
    }
}

fn execute(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Load(args) => {
            let summary = drey_bench::run(*args)?;
            println!("{}", summary.to_json());
            Ok(ExitCode::from(u8::from(summary.operations == 0)))
        }
        Command::Compare(args) => print_table(args.json.as_deref(), |line| drey_bench::compare(&args, line)),
        Command::Kills(args) => print_table(args.json.as_deref(), |line| drey_bench::kills(&args, line)),
    }
}

/// What takes lines of JSON, and says whether to go on.
type TakeLine<'a> = &'a mut dyn FnMut(&str) -> ControlFlow<()>;

/// Prints the table that `make` makes. Its lines of JSON go to `path`, or are printed.
fn print_table(
    path: Option<&Path>,
    make: impl FnOnce(TakeLine<'_>) -> Result<String, Error>,
) -> Result<ExitCode, Error> {
    let interrupted = watch_for_signals()?;
    let mut lines = lines_to(path)?;
    let table = make(&mut |line| {
        let written = writeln!(lines, "{line}");
        if interrupted.load(Ordering::Relaxed) || written.is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

/// Tells by a flag that the process was asked to end. What starts nodes looks at it after each run or kill, so that it can end the
/// nodes that it has started; they would outlive it otherwise.
fn watch_for_signals() -> Result<Arc<AtomicBool>, Error> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second signal ends the process as it would have without this.
        signal_hook::flag::register_conditional_default(signal, flag.clone())
            .and_then(|_| signal_hook::flag::register(signal, flag.clone()))
            .map_err(|source| Error::Io { what: "watching for signals".into(), source })?;
    }
    Ok(flag)
}

/// Where the lines of JSON go.
fn lines_to(path: Option<&Path>) -> Result<Box<dyn Write>, Error> {
    let Some(path) = path else { return Ok(Box::new(io::stdout())) };
    match File::options().create(true).append(true).open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(source) => Err(Error::Io { what: format!("opening {path:?}"), source }),
    }
}
