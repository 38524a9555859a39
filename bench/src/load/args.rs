//! The options of a run.

use std::time::Duration;

use clap::{Args, Parser};

use crate::error::Error;
use crate::keys::{Distribution, KeyChooser};
use crate::target::{Route, Target};

/// A run that is given neither a duration nor a number of operations is so long.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// A run that is given only a number of operations gives up after so long.
const DURATION_MAX: Duration = Duration::from_secs(600);

/// The most clients, and the most connections, of a run.
const CLIENTS_MAX: usize = 100_000;

/// The largest value, in bytes: what both systems take is below it.
const VALUE_SIZE_MAX: usize = 16 << 20;

/// What to do to which system, for how long.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// The system to drive
    #[arg(long, value_enum, default_value = "drey")]
    pub target: Target,

    /// Addresses of nodes
    // As the `drey` command has it, where this replaces what all its commands take.
    #[arg(id = "server", long, value_name = "ADDR[,ADDR]", value_delimiter = ',', default_value = "127.0.0.1:9000")]
    #[arg(env = "DREY_SERVER", hide_env_values = true)]
    pub endpoints: Vec<String>,

    /// Which of the endpoints to use: all in turn, or the bucket's leader alone
    #[arg(long, value_enum, default_value = "all")]
    pub to: Route,

    /// Clients; each has at most one operation outstanding
    #[arg(long, default_value_t = 64)]
    pub clients: usize,

    /// Connections, which the clients share; spread over the endpoints in turn [default: one for each endpoint]
    #[arg(long)]
    pub connections: Option<usize>,

    /// Bytes of each value, which are random
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub value_size: usize,

    /// Keys, 16 bytes each
    #[arg(long, default_value_t = 100_000)]
    pub key_count: u64,

    /// The share of operations that are puts, in per cent; the others are linearizable gets
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub puts: u8,

    /// How often each key is touched: `uniform`, or `zipf:THETA`
    #[arg(long, default_value = "uniform")]
    pub keys: Distribution,

    /// Measure for so long [default: 10s, if --operations is not given]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,

    /// Measure so many operations
    #[arg(long)]
    pub operations: Option<u64>,

    /// Run for so long before measuring
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,

    /// Start so many operations a second, however slow the answers (an open loop); latency is counted from the moment an
    /// operation was due. Without it, a client starts its next operation when the last is done (a closed loop)
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,

    /// The bucket (drey only)
    #[arg(long, default_value = "default")]
    pub bucket: String,

    /// Where the random choices of keys, values and kinds start
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Put every key once before the run
    #[arg(long)]
    pub preload: bool,

    /// Processes of the servers, on this machine, whose CPU time and memory to report
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub server_pids: Vec<u32>,
}

/// Clap gives an `Args` its defaults only within a `Parser`.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    load: LoadArgs,
}

impl Default for LoadArgs {
    fn default() -> Self {
        Defaults::parse_from(["load"]).load
    }
}

impl LoadArgs {
    /// Refuses what cannot be run, and gives the chooser of keys.
    pub(super) fn check(&self) -> Result<KeyChooser, Error> {
        let problem = if self.endpoints.is_empty() {
            "give at least one endpoint"
        } else if !(1..=CLIENTS_MAX).contains(&self.clients) {
            "give at least 1 client, and at most 100,000"
        } else if !(1..=CLIENTS_MAX).contains(&self.connection_count(1)) {
            "give at least 1 connection, and at most 100,000"
        } else if self.value_size > VALUE_SIZE_MAX {
            "a value has at most 16 MiB"
        } else if !self.rate.is_none_or(|rate| (0.001..=1e9).contains(&rate)) {
            "the rate is above 0 and at most 1e9 a second"
        } else if self.operations == Some(0) || self.duration == Some(Duration::ZERO) {
            "a run has at least one operation, and takes time"
        } else {
            return KeyChooser::new(self.key_count, self.keys).map_err(Error::Usage);
        };
        Err(Error::Usage(problem.to_owned()))
    }

    /// How many connections to make to so many endpoints.
    pub(super) fn connection_count(&self, endpoints: usize) -> usize {
        self.connections.unwrap_or(endpoints)
    }

    /// How long measuring takes at most.
    pub(super) fn duration(&self) -> Duration {
        self.duration.unwrap_or(if self.operations.is_some() { DURATION_MAX } else { DURATION_DEFAULT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_can_be_run() {
        let defaults = LoadArgs::default();
        assert!(defaults.check().is_ok());
        assert_eq!(defaults.duration(), DURATION_DEFAULT);
        assert_eq!(defaults.connection_count(3), 3);
        assert_eq!(LoadArgs { operations: Some(5), ..defaults }.duration(), DURATION_MAX);
    }

    #[test]
    fn nonsense_is_refused_with_words() {
        let good = LoadArgs::default;
        for bad in [
            LoadArgs { endpoints: vec![], ..good() },
            LoadArgs { clients: 0, ..good() },
            LoadArgs { connections: Some(0), ..good() },
            LoadArgs { value_size: VALUE_SIZE_MAX + 1, ..good() },
            LoadArgs { rate: Some(0.0), ..good() },
            LoadArgs { rate: Some(f64::NAN), ..good() },
            LoadArgs { operations: Some(0), ..good() },
            LoadArgs { duration: Some(Duration::ZERO), ..good() },
            LoadArgs { key_count: 0, ..good() },
        ] {
            assert!(matches!(bad.check(), Err(Error::Usage(_))), "{bad:?}");
        }
    }

    #[test]
    fn options_are_read() {
        let line = "load --target etcd --server a:1,b:2 --puts 50 --keys zipf:0.99 --duration 1500ms --to leader";
        let load = Defaults::parse_from(line.split(' ')).load;
        assert_eq!((load.target, load.to, load.puts), (Target::Etcd, Route::Leader, 50));
        assert_eq!(load.endpoints, ["a:1", "b:2"]);
        assert_eq!(load.keys, Distribution::Zipf(0.99));
        assert_eq!(load.duration, Some(Duration::from_millis(1_500)));
        assert!(Defaults::try_parse_from(["load", "--puts", "101"]).is_err());
    }
}
