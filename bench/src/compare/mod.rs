//! Systems side by side on one machine: the same rows of load on three nodes of each, one system at a time.
//!
//! A repetition starts a system's nodes anew in empty directories, puts all keys, makes each row's run, and ends the
//! nodes. The systems alternate, and the one that goes first changes with every repetition, so that what drifts on the
//! machine does so for both. The other system is not running then: it takes neither CPU nor disk. Each figure of the
//! table is the median of the repetitions.

mod args;
mod row;
mod table;

use std::ops::ControlFlow;

pub use self::args::CompareArgs;
use self::row::Row;
use self::table::{Measured, Table};
use crate::cluster::{Cluster, Place, surroundings};
use crate::error::Error;
use crate::load::args::LoadArgs;
use crate::load::{preload, run};
use crate::target::Target;

/// Makes the comparison, tells each run to `line` as one line of JSON, and gives the table in Markdown. When `line` says
/// to break, the nodes are ended in order and the comparison is given up.
///
/// Like [`crate::run`], not to be called from within one of tokio's runtimes.
pub fn compare(args: &CompareArgs, mut line: impl FnMut(&str) -> ControlFlow<()>) -> Result<String, Error> {
    let place = args.systems.place()?;
    let systems = args.systems.targets()?;
    let rows = args.rows()?;
    let mut table = Table::new(&rows, systems.to_vec());
    for repetition in 0..args.repetitions.get() {
        let mut order = systems.to_vec();
        if repetition % 2 == 1 {
            order.reverse();
        }
        for target in order {
            measure(args, target, &place, &rows, |row, summary| {
                let measured = Measured { repetition, row: row.name(), summary };
                let go_on = line(&measured.to_json());
                table.add(measured);
                go_on
            })?;
        }
    }
    Ok(format!("{}\n{}", conditions(args, &place)?, table.to_markdown()))
}

/// One system's part of one repetition.
fn measure(
    args: &CompareArgs,
    target: Target,
    place: &Place,
    rows: &[Row],
    mut found: impl FnMut(&Row, crate::Summary) -> ControlFlow<()>,
) -> Result<(), Error> {
    let mut cluster = Cluster::start(target, &args.systems, place)?;
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

/// What was measured where, in words.
fn conditions(args: &CompareArgs, place: &Place) -> Result<String, Error> {
    let to = match args.to {
        crate::Route::All => "all nodes in turn",
        crate::Route::Leader => "the leader alone",
    };
    Ok(format!(
        "{surroundings} Values of {} B, {} \
         keys ({}), one bucket, clients to {to}. Median of {} alternations, {} s each after {} s of warm-up; one system \
         running at a time.\n",
        args.value_size,
        args.key_count,
        args.keys,
        args.repetitions,
        args.duration.as_secs_f64(),
        args.warmup.as_secs_f64(),
        surroundings = surroundings(&args.systems, place)?,
    ))
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
    }

    #[test]
    fn a_directory_in_memory_is_refused_by_name_before_anything_starts() {
        let args = parse("compare --directory /dev/shm --etcd /nonexistent --drey /nonexistent");
        let error = compare(&args, |_| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains("tmpfs, where a sync costs nothing"), "{error}");
    }
}
