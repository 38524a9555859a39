//! The `drey` binary.

use clap::Parser;
use drey_server::cli::{self, Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Client(command) => cli::run(&cli.common, command).into(),
        Command::Start(_) | Command::Demo(_) => {
            eprintln!("error: this build holds the client commands alone\n  why: it was made without the node");
            cli::Exit::Refused.into()
        }
    }
}
