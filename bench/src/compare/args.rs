//! The options of a comparison.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::row::Row;
use crate::cluster::SystemsArgs;
use crate::error::Error;
use crate::keys::Distribution;
use crate::target::Route;

/// Which systems to set side by side, and under which load.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// What is started
    #[command(flatten)]
    pub systems: SystemsArgs,

    /// How often each system is started and measured; the table has the medians
    #[arg(long, default_value = "5")]
    pub repetitions: NonZeroU32,

    /// Rows: the share of puts in per cent, the others are linearizable gets
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_value = "100,0,50",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub puts: Vec<u8>,

    /// Rows: clients; each share of puts is run with each number of clients
    #[arg(long, value_delimiter = ',', default_value = "64,1000")]
    pub clients: Vec<usize>,

    /// Which of the nodes to use: all in turn, or the bucket's leader alone
    #[arg(long, value_enum, default_value = "all")]
    pub to: Route,

    /// Connections, which the clients share [default: one for each node]
    #[arg(long)]
    pub connections: Option<usize>,

    /// Bytes of each value, which are random
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub value_size: usize,

    /// Keys, all put before the first row
    #[arg(long, default_value_t = 100_000)]
    pub key_count: u64,

    /// How often each key is touched: `uniform`, or `zipf:THETA`
    #[arg(long, default_value = "uniform")]
    pub keys: Distribution,

    /// Measure each row for so long
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,

    /// Run each row for so long before measuring
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,

    /// Where the random choices of keys, values and kinds start
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Append each run's line of JSON to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl CompareArgs {
    /// The rows, each number of clients within each share of puts.
    pub(super) fn rows(&self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for &puts_percent in &self.puts {
            rows.extend(self.clients.iter().map(|&clients| Row { puts_percent, clients }));
        }
        if rows.is_empty() {
            return Err(Error::Usage("give at least one share of puts and one number of clients".into()));
        }
        Ok(rows)
    }
}
