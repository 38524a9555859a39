//! The `drey-bench` command: one run, or a comparison of systems.

use std::process::ExitCode;

use clap::Parser;
use drey_bench::{Error, LoadArgs};

/// Puts load on drey or etcd, and sets them side by side
#[derive(Parser)]
#[command(name = "drey-bench", version)]
enum Command {
    /// Make one run against a cluster that is up, and print one line of JSON
    Load(Box<LoadArgs>),
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
    }
}
