//! The commands that look at a node's files, without a node.

use std::io;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use drey_core::log::DumpLine;
use drey_io::{Files, StartError};
use serde::Serialize;

use super::output::{Output, printable};
use super::{CommonArgs, Exit, Failure};

/// Where a node's files are.
#[derive(Debug, Args)]
pub struct FilesArgs {
    /// Where everything is kept
    #[arg(long, env = "DREY_DATA_DIR", value_name = "DIR", default_value = "drey-data", hide_env_values = true)]
    data_dir: PathBuf,
    /// Where the log is kept, if it is on another disk
    #[arg(long, env = "DREY_LOG_DIR", value_name = "DIR", hide_env_values = true)]
    log_dir: Option<PathBuf>,
}

impl FilesArgs {
    fn open(&self) -> Result<Files, Failure> {
        Files::open(&self.data_dir, self.log_dir.as_deref()).map_err(|error| {
            failure("there is nothing to look at", &error, "--data-dir DIR, with the directory of a node")
        })
    }
}

/// Arguments of `drey check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    files: FilesArgs,
}

/// What can be done with a log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print a log as text: each batch, and each record in it
    Dump(DumpArgs),
}

/// Arguments of `drey log dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Only records of this group; 0 is the system group
    #[arg(long, value_name = "N")]
    group: Option<u32>,
    /// Only these segments, by the names of their files
    #[arg(value_name = "SEGMENT")]
    segments: Vec<String>,
}

/// `drey check`.
pub fn check(common: &CommonArgs, args: &CheckArgs) -> Exit {
    ended(look(common, args))
}

/// `drey log`.
pub fn log(common: &CommonArgs, LogCommand::Dump(args): &LogCommand) -> Exit {
    ended(dump(common, args))
}

fn ended(outcome: Result<(), Failure>) -> Exit {
    match outcome {
        // `drey log dump | head` ends when head has enough.
        Err(failure) if !failure.is_closed_pipe() => {
            failure.report();
            failure.exit
        }
        _ => Exit::Done,
    }
}

fn failure(what: &str, error: &StartError, next: &str) -> Failure {
    Failure::new(Exit::Refused, what, error.to_string(), next)
}

fn look(common: &CommonArgs, args: &CheckArgs) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Part<'a> {
        part: &'a str,
        whole: bool,
        found: &'a str,
    }
    let files = args.files.open()?;
    let findings = files.check().map_err(|error| failure("nothing was checked", &error, ""))?;
    let mut output = Output::stdout(common.output);
    for finding in &findings {
        let (whole, found) = match &finding.found {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        if output.is_json() {
            output.json(&Part { part: finding.part, whole, found })?;
        } else {
            let verdict = if whole { "whole" } else { "DAMAGED" };
            output.line(&format!("{:<10}{verdict}: {}", finding.part, printable(found.as_bytes())))?;
        }
    }
    output.finish()?;
    let damaged: Vec<&str> =
        findings.iter().filter(|finding| finding.found.is_err()).map(|finding| finding.part).collect();
    if damaged.is_empty() {
        return Ok(());
    }
    let next = "what is said of each part; with other members, drey remove there, and let this node join anew with an empty directory";
    Err(Failure::new(Exit::Refused, "this node's files are damaged", damaged.join(", "), next))
}

/// A line of a dump, for programs.
#[derive(Serialize)]
struct Dumped<'a> {
    segment: &'a str,
    offset: Option<u64>,
    group: Option<u32>,
    text: &'a str,
}

fn dump(common: &CommonArgs, args: &DumpArgs) -> Result<(), Failure> {
    let files = args.files.open()?;
    let unreadable = |error: StartError| failure("the log cannot be read", &error, "drey log dump --log-dir DIR");
    let segments = files.segments().map_err(unreadable)?;
    let names: Vec<String> = segments.iter().map(ToString::to_string).collect();
    if let Some(unknown) = args.segments.iter().find(|wanted| !names.contains(wanted)) {
        let why = format!("{unknown} is not one of {} segments", names.len());
        return Err(Failure::new(Exit::NotThere, "there is no such segment", why, "drey log dump, for all"));
    }
    let mut output = Output::stdout(common.output);
    for (segment, name) in segments.into_iter().zip(names) {
        if !args.segments.is_empty() && !args.segments.contains(&name) {
            continue;
        }
        let mut printed: io::Result<()> = Ok(());
        files
            .dump(segment, &mut |line| {
                if printed.is_err()
                    || args.group.is_some() && line.group.is_some_and(|group| Some(group.0) != args.group)
                {
                    return;
                }
                if output.is_json_by_request() {
                    let DumpLine { offset, group, text } = &line;
                    let object = Dumped { segment: &name, offset: *offset, group: group.map(|group| group.0), text };
                    printed = output.json(&object);
                    return;
                }
                printed = output.line(&match (line.offset, line.group) {
                    (None, _) => format!("{name}: {}", line.text),
                    (Some(offset), None) => format!("{offset:>10}  {}", line.text),
                    (Some(_), Some(group)) => format!("{:>10}  group {group}: {}", "", line.text),
                });
            })
            .map_err(unreadable)?;
        printed?;
    }
    Ok(output.finish()?)
}
