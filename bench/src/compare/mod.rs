//! Systems side by side on one machine: the same rows of load on three nodes of each, one system at a time.
//!
//! A repetition starts a system's nodes anew in empty directories, puts all keys, makes each row's run, and ends the
//! nodes. The systems alternate, and the one that goes first changes with every repetition, so that what drifts on the
//! machine does so for both. The other system is not running then: it takes neither CPU nor disk. Each figure of the
//! table is the median of the repetitions.

mod args;
mod cluster;
mod node;
mod row;
mod table;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub use self::args::CompareArgs;
use self::cluster::Cluster;
use self::row::Row;
use self::table::{Measured, Table};
use crate::error::Error;
use crate::load::args::LoadArgs;
use crate::load::{preload, run};
use crate::machine;
use crate::target::Target;

/// Makes the comparison, tells each run to `line` as one line of JSON, and gives the table in Markdown. When `line` says
/// to break, the nodes are ended in order and the comparison is given up.
///
/// Like [`crate::run`], not to be called from within one of tokio's runtimes.
pub fn compare(args: &CompareArgs, mut line: impl FnMut(&str) -> ControlFlow<()>) -> Result<String, Error> {
    let directory = directory(args)?;
    let (file_system, in_memory) = machine::file_system(&directory)
        .map_err(|source| Error::io(format!("asking for the file system of {directory:?}"), source))?;
    if in_memory {
        return Err(Error::InMemory { directory, file_system });
    }
    let systems = args.systems()?;
    let rows = args.rows()?;
    let mut table = Table::new(&rows, systems.iter().map(|(target, _)| *target).collect());
    for repetition in 0..args.repetitions.get() {
        let mut order: Vec<&(Target, PathBuf)> = systems.iter().collect();
        if repetition % 2 == 1 {
            order.reverse();
        }
        for (target, binary) in order {
            measure(args, *target, binary, &directory, &rows, |row, summary| {
                let measured = Measured { repetition, row: row.name(), summary };
                let go_on = line(&measured.to_json());
                table.add(measured);
                go_on
            })?;
        }
    }
    let versions: Vec<String> = systems.iter().map(|(target, binary)| cluster::version(*target, binary)).collect();
    Ok(format!("{}\n{}", conditions(args, &file_system, &versions), table.to_markdown()))
}

/// One system's part of one repetition.
fn measure(
    args: &CompareArgs,
    target: Target,
    binary: &Path,
    directory: &Path,
    rows: &[Row],
    mut found: impl FnMut(&Row, crate::Summary) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut cluster = Cluster::start(target, binary, args.arguments_of(target), directory)?;
    cluster.wait_until_led()?;
    let load = LoadArgs {
        target,
        endpoints: cluster.endpoints(),
        server_pids: cluster.pids(),
        to: args.to,
        connections: args.connections,
        value_size: args.value_size,
        key_count: args.key_count,
        keys: args.keys,
        duration: Some(args.duration),
        warmup: args.warmup,
        seed: args.seed,
        ..LoadArgs::default()
    };
    preload(&load)?;
    for row in rows {
        let summary = run(LoadArgs { clients: row.clients, puts: row.puts_percent, ..load.clone() })?;
        if found(row, summary).is_break() {
            cluster.stop()?;
            return Err(Error::Interrupted);
        }
    }
    cluster.stop()
}

fn directory(args: &CompareArgs) -> Result<PathBuf, Error> {
    let directory = args.directory.clone().unwrap_or_else(std::env::temp_dir);
    directory.canonicalize().map_err(|source| Error::io(format!("looking for {directory:?}"), source))
}

/// What was measured where, in words.
fn conditions(args: &CompareArgs, file_system: &str, versions: &[String]) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let to = match args.to {
        crate::Route::All => "all nodes in turn",
        crate::Route::Leader => "the leader alone",
    };
    format!(
        "{versions}. Three nodes and the load generator on {cores} cores, Linux {kernel}, {file_system}. Values of {} B, {} \
         keys ({}), one bucket, clients to {to}. Median of {} alternations, {} s each after {} s of warm-up; one system \
         running at a time.\n",
        args.value_size,
        args.key_count,
        args.keys,
        args.repetitions,
        args.duration.as_secs_f64(),
        args.warmup.as_secs_f64(),
        versions = versions.join(" and "),
        kernel = kernel.trim(),
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        compare: CompareArgs,
    }

    fn parse(line: &str) -> CompareArgs {
        Defaults::parse_from(line.split(' ')).compare
    }

    #[test]
    fn the_default_rows_are_three_loads_with_few_and_with_many_clients() {
        let names: Vec<String> = parse("compare").rows().unwrap().iter().map(Row::name).collect();
        let half = "half and half";
        let expected =
            ["puts", "gets", half].map(|mix| [format!("{mix}, 64 clients"), format!("{mix}, 1,000 clients")]);
        assert_eq!(names, expected.concat());
        assert_eq!(
            parse("compare --systems drey --drey /a/drey").systems().unwrap(),
            [(Target::Drey, "/a/drey".into())]
        );
        assert!(parse("compare --systems drey,drey").systems().is_err());
    }

    #[test]
    fn a_directory_in_memory_is_refused_by_name_before_anything_starts() {
        let args = parse("compare --directory /dev/shm --etcd /nonexistent --drey /nonexistent");
        let error = compare(&args, |_| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains("tmpfs, where a sync costs nothing"), "{error}");
    }
}
