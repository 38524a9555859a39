//! The commands that look at a node's files, without a node.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, Subcommand};
use drey_core::log::DumpLine;
use drey_io::{Files, StartError};
use serde::Serialize;

use super::output::{JsonBytes, Output, printable, say_bytes};
use super::{CommonArgs, Exit, Failure};

/// So many gaps of a bucket are told one by one.
const GAPS_SHOWN: usize = 20;

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

/// Arguments of `drey recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Write what can be read to this new file: one JSON object a line, with bucket, key, value, version and time to live
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
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

/// `drey recover`.
pub fn recover(common: &CommonArgs, args: &RecoverArgs) -> Exit {
    ended(salvage(common, args))
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

/// An entry in the file that `drey recover` writes.
#[derive(Serialize)]
struct Saved<'a> {
    bucket: &'a str,
    key: JsonBytes<'a>,
    value: JsonBytes<'a>,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

/// What could be read of a bucket, for programs.
#[derive(Serialize)]
struct SavedBucket<'a> {
    bucket: &'a str,
    keys: u64,
    bytes: u64,
    gaps: usize,
}

fn salvage(common: &CommonArgs, args: &RecoverArgs) -> Result<(), Failure> {
    let files = args.files.open()?;
    let cannot_save = |path: &PathBuf, error: &io::Error| {
        let what = format!("{} cannot be written", path.display());
        Failure::new(
            Exit::Refused,
            what,
            error.to_string(),
            "drey recover --save FILE, with a file that is not there yet",
        )
    };
    let mut file = match &args.save {
        Some(path) => Some(BufWriter::new(File::create_new(path).map_err(|error| cannot_save(path, &error))?)),
        None => None,
    };
    let mut failed = None;
    let report = files
        .salvage(&mut |bucket, entry| {
            let Some(file) = file.as_mut().filter(|_| failed.is_none()) else { return };
            let (key, value) = (JsonBytes(&entry.key), JsonBytes(&entry.value));
            let saved = Saved { bucket: bucket.as_str(), key, value, version: entry.version.0, ttl_ms: entry.ttl_ms };
            let line = serde_json::to_vec(&saved).map_err(io::Error::from);
            failed = line.and_then(|line| file.write_all(&line).and_then(|()| file.write_all(b"\n"))).err();
        })
        .map_err(|error| failure("nothing was read", &error, ""))?;
    let flushed = match &mut file {
        Some(file) if failed.is_none() => file.flush().and_then(|()| file.get_ref().sync_all()),
        _ => Ok(()),
    };
    if let (Some(path), Some(error)) = (&args.save, failed.or(flushed.err())) {
        return Err(cannot_save(path, &error));
    }
    let mut output = Output::stdout(common.output);
    for (name, salvaged) in &report.buckets {
        let gaps = salvaged.gaps.len();
        if output.is_json() {
            output.json(&SavedBucket { bucket: name.as_str(), keys: salvaged.keys, bytes: salvaged.bytes, gaps })?;
            continue;
        }
        let readable = format!("{} keys, {}", salvaged.keys, say_bytes(salvaged.bytes));
        output.line(&format!("{name:<20} {readable}"))?;
        for gap in salvaged.gaps.iter().take(GAPS_SHOWN) {
            let key = |key: &Option<Bytes>, end: &str| key.as_ref().map_or(end.to_owned(), |key| printable(key));
            let (after, before) = (key(&gap.after, "its beginning"), key(&gap.before, "its end"));
            output.line(&format!("  LOST: what may be between {after} and {before}"))?;
        }
        if gaps > GAPS_SHOWN {
            output.line(&format!("  LOST: what may be in {} more such gaps", gaps - GAPS_SHOWN))?;
        }
    }
    if let Some(path) = &args.save
        && !output.is_json()
    {
        output.line(&format!("what could be read is in {}", path.display()))?;
    }
    output.finish()?;
    let mut lost = report.lost;
    let gaps: usize = report.buckets.iter().map(|(_, salvaged)| salvaged.gaps.len()).sum();
    if gaps > 0 {
        lost.push(format!("what is in {gaps} gaps between keys"));
    }
    if lost.is_empty() {
        return Ok(());
    }
    let next = "drey check, for what is damaged; and --save FILE, to keep what can be read";
    Err(Failure::new(Exit::Refused, "not all of it can be read", printable(lost.join("; ").as_bytes()), next))
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
