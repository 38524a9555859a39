//! The `drey` binary.

use clap::Parser;
use drey_server::cli::{self, Cli, Command};
use drey_server::{demo, start};
use std::process::ExitCode;

/// What one thread makes another drops here: values on their way through the store. The system's allocator does not give that room back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::refuse_line(&error).into(),
    };
    match cli.command {
        Command::Client(command) => cli::run(&cli.common, command).into(),
        Command::Bench(args) => cli::bench(&cli.common, *args).into(),
        Command::Check(args) => cli::check(&cli.common, &args).into(),
        Command::Recover(args) => cli::recover(&cli.common, &args).into(),
        Command::Log(command) => cli::log(&cli.common, &command).into(),
        Command::Start(args) => start::run(&args).into(),
        Command::Demo(args) => demo::run(&args).into(),
    }
}
