//! What `drey start` and `drey demo` take.

use clap::{Args, ValueEnum};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use super::duration::Interval;

/// The options of a node.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// A new node's name, for ever; needed with --initial-members
    #[arg(long, env = "DREY_NAME", value_name = "NAME", hide_env_values = true)]
    pub name: Option<String>,
    /// Where to listen, for peers and clients alike
    #[arg(long, env = "DREY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:9000", hide_env_values = true)]
    pub listen: String,
    /// The address that others reach this node at, if it is not the one it listens on
    #[arg(long, env = "DREY_ADVERTISE", value_name = "ADDR", hide_env_values = true)]
    pub advertise: Option<String>,
    /// Where everything is kept
    #[arg(long, env = "DREY_DATA_DIR", value_name = "DIR", default_value = "drey-data", hide_env_values = true)]
    pub data_dir: PathBuf,
    /// Where the log is kept, if it is to be on another disk
    #[arg(long, env = "DREY_LOG_DIR", value_name = "DIR", hide_env_values = true)]
    pub log_dir: Option<PathBuf>,
    /// What keeps the data of a new node, for ever: `lsm` if not given. The log is on disk with all of them
    #[arg(long, env = "DREY_ENGINE", value_enum, hide_env_values = true)]
    pub engine: Option<Engine>,
    /// Threads with a core of their own; by default one for each core but one
    #[arg(long, env = "DREY_SHARDS", value_name = "N", hide_env_values = true)]
    pub shards: Option<NonZeroU32>,
    /// The nodes that begin a new cluster together, this one included: n1=ADDR,n2=ADDR,..
    #[arg(
        long,
        env = "DREY_INITIAL_MEMBERS",
        value_name = "NAME=ADDR,..",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub initial_members: Vec<InitialMember>,
    /// Members of a cluster that a new node joins; one that is alive will do
    #[arg(
        long,
        env = "DREY_JOIN",
        value_name = "ADDR[,ADDR]",
        value_delimiter = ',',
        conflicts_with_all = ["initial_members", "groups"],
        hide_env_values = true
    )]
    pub join: Vec<String>,
    /// How many Raft groups a new cluster has, for ever: 16 if not given
    #[arg(long, env = "DREY_GROUPS", value_name = "N", hide_env_values = true)]
    pub groups: Option<NonZeroU32>,
    /// What to keep free on the disks: with less, others lead, and writes that need room are refused if no majority has it; 0 to fill them
    #[arg(long, env = "DREY_MIN_FREE_DISK", value_name = "BYTES", default_value = "256MiB", value_parser = super::size::parse, hide_env_values = true)]
    pub min_free_disk: u64,
    /// How fast to bring up members that were away for long, in bytes a second, all together: 1MiB or more; 0: as fast as possible
    #[arg(long, env = "DREY_SNAPSHOT_RATE", value_name = "BYTES", default_value = "64MiB", value_parser = super::size::parse_rate, hide_env_values = true)]
    pub snapshot_rate: u64,
    /// How often what a node leads is compared with its other replicas, a little at a time: 24h, 30m, .. or never
    #[arg(long, env = "DREY_SCRUB_EVERY", value_name = "TIME", default_value = "24h", value_parser = super::duration::parse_interval, hide_env_values = true)]
    pub scrub_every: Interval,
    /// Stop if files are damaged, instead of getting from the others anew what they held
    #[arg(long, env = "DREY_NO_REPAIR", hide_env_values = true)]
    pub no_repair: bool,
    /// Stop when this process, which started the node, is gone
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<u32>,
}

/// What keeps a node's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// A log-structured merge tree on disk
    Lsm,
    /// A B-tree in one file: reads are cheaper, writes dearer
    Btree,
    /// Main memory, filled again from the log, as far as that goes back: for tests
    Memory,
}

/// One of the nodes that begin a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialMember {
    /// Its name.
    pub name: String,
    /// The address that the others reach it at.
    pub address: String,
}

impl FromStr for InitialMember {
    type Err = String;

    fn from_str(text: &str) -> Result<InitialMember, String> {
        match text.split_once('=') {
            Some((name, address)) if !name.is_empty() && !address.is_empty() => {
                Ok(InitialMember { name: name.to_owned(), address: address.to_owned() })
            }
            _ => Err("write NAME=HOST:PORT".to_owned()),
        }
    }
}

/// The options of a demonstration.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Keep the nodes' directory when the demonstration ends
    #[arg(long)]
    pub keep: bool,
    /// Where to keep the nodes' data; a temporary directory by default
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn start(options: &str) -> Result<StartArgs, clap::Error> {
        let line = format!("drey start {options}");
        match Cli::try_parse_from(line.split_whitespace())?.command {
            Command::Start(args) => Ok(args),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn a_node_needs_no_options() {
        let args = start("").expect("no option is needed");
        assert_eq!((args.listen.as_str(), args.data_dir.to_str()), ("127.0.0.1:9000", Some("drey-data")));
        assert_eq!((args.engine, args.shards, args.groups), (None, None, None));
        assert!(args.initial_members.is_empty());
    }

    #[test]
    fn members_are_names_with_addresses() {
        let args = start("--name n1 --initial-members n1=127.0.0.1:1,n2=[::1]:2").expect("two members");
        let member = |name: &str, address: &str| InitialMember { name: name.into(), address: address.into() };
        assert_eq!(args.initial_members, [member("n1", "127.0.0.1:1"), member("n2", "[::1]:2")]);
        for bad in ["n1", "=127.0.0.1:1", "n1="] {
            assert!(start(&format!("--initial-members {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_can_be_had_zero_times() {
        assert!(start("--shards 0").is_err());
        assert!(start("--groups 0").is_err());
    }
}
