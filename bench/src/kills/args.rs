//! The options of a run of kills.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use crate::cluster::SystemsArgs;
use crate::error::Error;

/// Whose leaders to kill, how often, and under which load.
#[derive(Args, Clone, Debug)]
pub struct KillsArgs {
    /// What is started
    #[command(flatten)]
    pub systems: SystemsArgs,

    /// How often the leader of each system is killed
    #[arg(long, default_value = "20")]
    pub kills: NonZeroU32,

    /// Clients, which write as fast as they are answered
    #[arg(long, default_value_t = 64)]
    pub clients: usize,

    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub value_size: usize,

    /// Keys, 16 bytes each
    #[arg(long, default_value_t = 10_000)]
    pub key_count: u64,

    /// The bucket whose leader is killed (drey only; etcd has one leader)
    #[arg(long, default_value = "default")]
    pub bucket: String,

    /// A client that has had no answer for so long makes its write again, at another node
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub attempt_timeout: Duration,

    /// Let the clients write for so long before the first kill; drey spreads its leaders meanwhile
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,

    /// Let the clients write for so long when writes go on after a kill, and again when the killed node has caught up
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    pub between: Duration,

    /// Append each kill's line of JSON to this file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Clap gives an `Args` its defaults only within a `Parser`.
#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    kills: KillsArgs,
}

impl Default for KillsArgs {
    fn default() -> Self {
        Defaults::parse_from(["kills"]).kills
    }
}

impl KillsArgs {
    /// Refuses what cannot be run.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.clients == 0 || self.key_count == 0 || self.attempt_timeout.is_zero() {
            return Err(Error::Usage("give at least one client, one key, and some time for an attempt".into()));
        }
        Ok(())
    }
}
