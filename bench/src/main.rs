//! The `drey-bench` command: one run, or a comparison of systems.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use drey_bench::{CompareArgs, Error, LoadArgs};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Puts load on drey or etcd, and sets them side by side
#[derive(Parser)]
#[command(name = "drey-bench", version)]
enum Command {
    /// Make one run against a cluster that is up, and print one line of JSON
    Load(Box<LoadArgs>),
    /// Start three nodes of each system in turn, put the same load on them, and print a table
    Compare(Box<CompareArgs>),
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
        Command::Compare(args) => {
            let interrupted = watch_for_signals()?;
            let mut lines = lines_to(&args)?;
            let table = drey_bench::compare(&args, |line| {
                let written = writeln!(lines, "{line}");
                if interrupted.load(Ordering::Relaxed) || written.is_err() {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            println!("{table}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Tells by a flag that the process was asked to end. The comparison looks at it after each run, so that it can end the
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
fn lines_to(args: &CompareArgs) -> Result<Box<dyn Write>, Error> {
    let Some(path) = &args.json else { return Ok(Box::new(io::stdout())) };
    match File::options().create(true).append(true).open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(source) => Err(Error::Io { what: format!("opening {path:?}"), source }),
    }
}
