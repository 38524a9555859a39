//! The `drey-bench` command: one run, or a comparison of systems.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use drey_bench::{CompareArgs, Error, LoadArgs};

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
            let mut lines = lines_to(&args)?;
            let table = drey_bench::compare(&args, |line| {
                // A reader that has gone away must not keep the nodes from being ended in order.
                let _ = writeln!(lines, "{line}");
            })?;
            println!("{table}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Where the lines of JSON go.
fn lines_to(args: &CompareArgs) -> Result<Box<dyn Write>, Error> {
    let Some(path) = &args.json else { return Ok(Box::new(io::stdout())) };
    match File::options().create(true).append(true).open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(source) => Err(Error::Io { what: format!("opening {path:?}"), source }),
    }
}
