//! The simulator's command line: run a seed, look for seeds that fail, read what happened in one.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use drey_sim::changes::Changes;
use drey_sim::digest;
use drey_sim::driver::DriverKind;
use drey_sim::plan::Plan;
use drey_sim::pool;
use drey_sim::report;
use drey_sim::run::{Report, run, run_plan, run_plan_twice, run_twice};
use drey_sim::shrink::{self, Shrunk};
use drey_sim::story::{Keep, page};
use drey_sim::throughput;
use drey_sim::totals::Totals;
use drey_sim::trace::Text;

/// Runs make and drop small things all the time, each on a thread of its own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whole clusters with their faults, from one seed.
#[derive(Parser)]
#[command(name = "drey-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed twice, and say what came of it.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// What drives the world.
        #[arg(long, value_enum, default_value_t = DriverKind::Turmoil)]
        driver: DriverKind,
        #[command(flatten)]
        changes: Changes,
    },
    /// Run many seeds, each twice, and stop at the first that fails.
    Explore {
        /// How many.
        #[arg(long)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Threads; as many as there are cores if not given.
        #[arg(long)]
        threads: Option<usize>,
        /// Run each seed once only: twice as fast, and blind to what differs between two runs.
        #[arg(long)]
        once: bool,
        /// Go on behind a seed that fails.
        #[arg(long)]
        keep_going: bool,
        /// What drives the world.
        #[arg(long, value_enum, default_value_t = DriverKind::Queue)]
        driver: DriverKind,
    },
    /// Run one seed and print all that happens, or draw it.
    Trace {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// What drives the world.
        #[arg(long, value_enum, default_value_t = DriverKind::Turmoil)]
        driver: DriverKind,
        /// Print nothing; write a page for a browser, with the nodes as lanes over time.
        #[arg(long)]
        html: Option<PathBuf>,
        #[command(flatten)]
        changes: Changes,
    },
    /// Of a seed that fails, look for less that still breaks the same law.
    Shrink {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// What drives the world.
        #[arg(long, value_enum, default_value_t = DriverKind::Queue)]
        driver: DriverKind,
        #[command(flatten)]
        changes: Changes,
    },
    /// Put one fault after the other into drey on purpose, and see how soon each is found.
    #[cfg(feature = "mutations")]
    Mutations {
        /// Only those with these numbers.
        #[arg(long, value_delimiter = ',')]
        only: Vec<u8>,
        /// Each must be found within so many seeds.
        #[arg(long, default_value_t = 2_000)]
        seeds: u64,
        /// Only so many, those that are found soonest.
        #[arg(long)]
        quickest: Option<usize>,
        /// Threads; as many as there are cores if not given.
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Put back what was wrong with drey once, and see that the seed of each still sees it.
    #[cfg(feature = "mutations")]
    Regressions,
    /// Run many seeds, and print a line of each that says all that happened: two builds must print the same.
    Digest {
        /// How many.
        #[arg(long)]
        seeds: u64,
        /// The first.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Threads; as many as there are cores if not given.
        #[arg(long)]
        threads: Option<usize>,
        /// What drives the world.
        #[arg(long, value_enum, default_value_t = DriverKind::Queue)]
        driver: DriverKind,
    },
    /// Measure how fast seeds run whose five nodes are asked densely, on one core.
    Throughput {
        /// How many, on each driver.
        #[arg(long, default_value_t = 10)]
        seeds: usize,
        /// Only on this one; on both if not given.
        #[arg(long, value_enum)]
        driver: Option<DriverKind>,
    },
}

fn main() -> ExitCode {
    let failed = match Arguments::parse().command {
        Command::Run { seed, driver, changes } => {
            let report = run_plan_twice(&changes.plan(seed), driver);
            println!("{}", report::line(&report));
            print_failure(&report)
        }
        Command::Trace { seed, driver, html: None, changes } => {
            let report = run_plan(&changes.plan(seed), driver, Text::Print);
            println!("{}", report::line(&report));
            if let Err(violation) = &report.verdict {
                println!("seed {seed} breaks a law: {violation}");
            }
            report.verdict.is_err()
        }
        Command::Trace { seed, driver, html: Some(file), changes } => {
            let report = run_plan(&changes.plan(seed), driver, Text::Story(Keep::ALL));
            println!("{}", report::line(&report));
            let written = std::fs::write(&file, page::page(&report));
            if let Err(error) = &written {
                println!("{}: {error}", file.display());
            }
            report.verdict.is_err() || written.is_err()
        }
        Command::Shrink { seed, driver, changes } => shrink(&changes.plan(seed), driver),
        #[cfg(feature = "mutations")]
        Command::Mutations { only, seeds, quickest, threads } => {
            let chosen = drey_sim::mutations::chosen(&only, quickest);
            !drey_sim::mutations::all_found(&chosen, seeds, threads.unwrap_or_else(pool::cores))
        }
        #[cfg(feature = "mutations")]
        Command::Regressions => !drey_sim::mutations::none_returns(pool::cores()),
        Command::Digest { seeds, from, threads, driver } => {
            let threads = threads.unwrap_or_else(pool::cores);
            digest::of_all(from..from + seeds, driver, threads).iter().for_each(|line| println!("{line}"));
            false
        }
        Command::Throughput { seeds, driver } => {
            let drivers = driver.map_or(vec![DriverKind::Queue, DriverKind::Turmoil], |driver| vec![driver]);
            let mut failed = false;
            for driver in drivers {
                let measured = throughput::measure(driver, seeds);
                println!("{driver}: {measured}");
                failed |= measured.failed > 0;
            }
            failed
        }
        Command::Explore { seeds, from, threads, once, keep_going, driver } => {
            explore(from..from + seeds, driver, threads, once, keep_going)
        }
    };
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print_failure(report: &Report) -> bool {
    let failure = report::failure(report);
    if let Some(failure) = &failure {
        println!("{failure}");
    }
    failure.is_some()
}

fn shrink(plan: &Plan, driver: DriverKind) -> bool {
    // What panics is one of the ways to fail: a line of it is enough.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let Some(Shrunk { report, runs }) = shrink::shrink(plan, driver, |step| println!("{step}")) else {
        println!("seed {} breaks no law on {driver}", plan.of_seed);
        return false;
    };
    println!("nothing more can be left out, after {runs} runs; what is left differs from the seed's plan:");
    shrink::differences(&Plan::draw(plan.of_seed), &report.plan).iter().for_each(|line| println!("  {line}"));
    println!("{}", report::line(&report));
    print_failure(&report)
}

/// Prints a line every so many seeds.
const PROGRESS_EVERY: u64 = 20;

fn explore(
    seeds: std::ops::Range<u64>,
    driver: DriverKind,
    threads: Option<usize>,
    once: bool,
    keep_going: bool,
) -> bool {
    let (started, runs_each) = (Instant::now(), if once { 1 } else { 2 });
    let mut totals = Totals::default();
    let go = |seed| if once { run(seed, driver, Text::None) } else { run_twice(seed, driver) };
    pool::each(seeds, threads.unwrap_or_else(pool::cores), go, |_, report| {
        totals.add(&report);
        let failed = report.verdict.is_err();
        if failed {
            println!("{}", report::line(&report));
            print_failure(&report);
        }
        if !failed && !report.counts() {
            println!("{}", report::line(&report));
        }
        if totals.seeds.is_multiple_of(PROGRESS_EVERY) {
            println!("{}", totals.progress(started.elapsed(), runs_each));
        }
        keep_going || !failed
    });
    println!("{}\n{totals}", totals.progress(started.elapsed(), runs_each));
    if totals.is_idle() {
        println!("too many seeds did too little to count");
    }
    if totals.is_blind() {
        println!("what never happens is not tried: the simulator lost it, or has to say why it need not happen");
    }
    totals.failed > 0 || totals.is_idle() || totals.is_blind()
}
