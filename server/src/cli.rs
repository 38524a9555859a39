//! The `drey` command: what can be typed, and the commands that talk to a running cluster.
//!
//! The commands are clients like any other: one call or two through drey-client, and one answer on stdout, for people
//! on a terminal and for programs (one JSON object a line) anywhere else. What went wrong goes to stderr, and how it
//! went is in the exit code: see [`Exit`].

mod bench;
mod buckets;
mod cluster;
mod data;
mod duration;
mod failure;
mod line;
mod members;
mod offline;
mod output;
mod scrub;
mod size;
mod start_args;

pub use bench::run as bench;
pub use failure::{Exit, Failure};
pub use line::refuse_line;
pub use offline::{CheckArgs, LogCommand, RecoverArgs, check, log, recover};
pub use start_args::{DemoArgs, Engine, InitialMember, StartArgs};

use clap::{Args, Parser, Subcommand};
use drey_client::logic::Policy;
use output::{Format, Output};
use std::time::Duration;

/// Where a command looks for a node if nobody says otherwise.
const SERVER_DEFAULT: &str = "127.0.0.1:9000";

/// How often a command finds nobody at home before it says so, instead of trying until its time is over: a node that
/// restarts is worth a moment's wait, a wrong address is not worth ten seconds.
const UNREACHABLE_ROUNDS_MAX: u32 = 5;

/// A replicated key-value store: start nodes of it, and talk to them.
#[derive(Debug, Parser)]
#[command(name = "drey", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What all commands take that talk to a cluster.
    #[command(flatten)]
    pub common: CommonArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Everything that `drey` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a node; without options one that stands alone in ./drey-data
    Start(StartArgs),
    /// Start three nodes on loopback in a temporary directory, and say what to try with them
    Demo(DemoArgs),
    /// Put load on a running cluster, and say what it took: writes keys of 16 bytes into a bucket
    Bench(Box<drey_bench::LoadArgs>),
    /// Read all files of a node that does not run, check each checksum, and say what is damaged; changes nothing
    Check(CheckArgs),
    /// Read what can be read of a node that does not run and whose files are damaged, and say what is lost; changes nothing
    Recover(RecoverArgs),
    /// Look into a node's log, whether it runs or not
    #[command(subcommand)]
    Log(LogCommand),
    /// The commands that talk to a running cluster.
    #[command(flatten)]
    Client(ClientCommand),
}

/// The commands that talk to a running cluster.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Create a bucket
    Create(buckets::CreateArgs),
    /// Drop a bucket and all that is in it
    Drop(buckets::DropArgs),
    /// List the buckets, or the entries of one
    Ls(buckets::LsArgs),
    /// Write a pair
    #[command(override_usage = "drey set [OPTIONS] [BUCKET] <KEY> <VALUE|->")]
    Set(data::SetArgs),
    /// Print the value of a key, byte for byte
    #[command(override_usage = "drey get [OPTIONS] [BUCKET] <KEY>")]
    Get(data::GetArgs),
    /// Remove a key
    #[command(override_usage = "drey delete [OPTIONS] [BUCKET] <KEY>")]
    Delete(data::DeleteArgs),
    /// Let a key go after some time, or no more
    #[command(override_usage = "drey expire [OPTIONS] [BUCKET] <KEY> <TIME|never>")]
    Expire(data::ExpireArgs),
    /// List the entries of a range, in order
    Scan(data::ScanArgs),
    /// Show a node: its address, what it runs, and whether it can serve
    Node,
    /// Show the cluster: its members, and who leads which group
    Cluster,
    /// Keep a place for a node that will be started with --join
    Join(members::JoinArgs),
    /// Have the node that is asked leave its cluster, and stop
    Leave,
    /// Remove a member, alive or dead, unless the others could not decide anything without it
    Remove(members::RemoveArgs),
    /// Have a member lead all groups, or one
    Transfer(members::TransferArgs),
}

/// What all commands take that talk to a cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Nodes of the cluster; one that is alive will do
    #[arg(
        long,
        global = true,
        env = "DREY_SERVER",
        value_name = "ADDR[,ADDR]",
        value_delimiter = ',',
        default_value = SERVER_DEFAULT,
        hide_env_values = true
    )]
    pub server: Vec<String>,
    /// How to print: for people, for programs, or by what stdout is
    #[arg(long, global = true, value_name = "FORM", value_enum, env = "DREY_OUTPUT", default_value = "auto")]
    #[arg(hide_env_values = true)]
    pub output: Format,
    /// How long to try, as 500ms, 5s or 2m
    #[arg(long, global = true, value_name = "TIME", env = "DREY_TIMEOUT", default_value = "5s")]
    #[arg(value_parser = duration::parse, allow_hyphen_values = true, hide_env_values = true)]
    pub timeout: Duration,
}

/// What a client command works with.
struct Context {
    client: drey_client::Client,
    output: Output,
    /// What a suggested command must carry to reach the same cluster; empty where the default reaches it.
    server_option: String,
}

/// Runs a command that talks to a cluster, and says how it went.
pub fn run(common: &CommonArgs, command: ClientCommand) -> Exit {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("cannot start", &error))
        .and_then(|runtime| runtime.block_on(dispatch(common, command)));
    match outcome {
        Ok(()) => Exit::Done,
        Err(failure) => {
            failure.report();
            failure.exit
        }
    }
}

async fn dispatch(common: &CommonArgs, command: ClientCommand) -> Result<(), Failure> {
    let addresses = common.server.iter().map(|address| address.trim()).filter(|address| !address.is_empty());
    let client = drey_client::Client::builder(addresses)
        .timeout(common.timeout)
        .policy(Policy { unreachable_rounds_max: Some(UNREACHABLE_ROUNDS_MAX), ..Policy::default() })
        .discover(false)
        .sessions(false)
        .connect()
        .map_err(|error| Failure::usage("--server cannot be used", &error.message, "drey node --server HOST:PORT"))?;
    let mut context =
        Context { client, output: Output::stdout(common.output), server_option: server_option(&common.server) };
    let outcome = match command {
        ClientCommand::Create(args) => buckets::create(&mut context, &args).await,
        ClientCommand::Drop(args) => buckets::drop(&mut context, &args).await,
        ClientCommand::Ls(args) => buckets::ls(&mut context, args).await,
        ClientCommand::Set(args) => data::set(&mut context, args).await,
        ClientCommand::Get(args) => data::get(&mut context, args).await,
        ClientCommand::Delete(args) => data::delete(&mut context, args).await,
        ClientCommand::Expire(args) => data::expire(&mut context, args).await,
        ClientCommand::Scan(args) => data::scan(&mut context, args).await,
        ClientCommand::Node => cluster::node(&mut context).await,
        ClientCommand::Cluster => cluster::cluster(&mut context).await,
        ClientCommand::Join(args) => members::join(&mut context, &args).await,
        ClientCommand::Leave => members::leave(&mut context).await,
        ClientCommand::Remove(args) => members::remove(&mut context, &args).await,
        ClientCommand::Transfer(args) => members::transfer(&mut context, &args).await,
    };
    let outcome = outcome.and_then(|()| Ok(context.output.finish()?));
    match outcome {
        // `drey scan | head` ends when head has enough. That is no failure of anything.
        Err(failure) if failure.is_closed_pipe() => Ok(()),
        outcome => outcome,
    }
}

/// The `--server` that a suggested command needs, when typing it without would go elsewhere.
fn server_option(servers: &[String]) -> String {
    let given = servers.join(",");
    let implied = std::env::var("DREY_SERVER").unwrap_or_else(|_| SERVER_DEFAULT.to_owned());
    if given == implied { String::new() } else { format!(" --server {given}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_or_after_the_command() {
        for line in ["drey --server a:1,b:2 node", "drey node --server a:1,b:2"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.common.server, ["a:1", "b:2"]);
        }
        for line in ["drey --server a:1,b:2 bench", "drey bench --server a:1,b:2 --puts 50"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            let Command::Bench(load) = cli.command else { panic!("{line}") };
            assert_eq!(load.endpoints, ["a:1", "b:2"]);
        }
    }
}
