//! `drey start`: a node in the foreground, until a signal or a failure ends it.

mod remedy;
mod stopper;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use drey_core::config::ScrubLimits;
use drey_io::{
    Config, EndError, FoundingMember, JoinAttempt, JoinError, Node, Repair, RepairAttempt, RepairError, StartError,
    room,
};
use futures_lite::future::block_on;

use crate::backend::Shards;
use crate::cli::{Engine, Exit, Failure, StartArgs};
use crate::grpc;
use stopper::Stopper;

/// How long a new node looks for a member that has a place for it: the cluster may be starting, too.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// So often a process repairs its node: a disk that is damaged again and again must be seen to.
const REPAIRS_MAX: usize = 3;

/// Runs a node; returns when it has stopped.
pub fn run(args: &StartArgs) -> Exit {
    start_logging();
    if let Some(parent) = args.parent
        && let Err(why) = stop_with(parent)
    {
        return refuse(&why, (Exit::Refused, "drey start, without --parent".to_owned()));
    }
    let config = match config(args) {
        Ok(config) => config,
        Err(why) => return refuse(&why, (Exit::Usage, "drey start --help".to_owned())),
    };
    let stopper = match Stopper::start() {
        Ok(stopper) => stopper,
        Err(error) => return refuse(&format!("signals cannot be handled: {error}"), (Exit::Refused, String::new())),
    };
    let mut repairs = 0;
    loop {
        let ended = run_node(config.clone(), args, &stopper);
        stopper.has_ended();
        let Some(trouble) = ended.err() else { return Exit::Done };
        if room::is_short(&config) {
            // Whatever is missing was not written for want of room: what is on disk is as after a power cut.
            tracing::error!(why = trouble.why, "the disk is full: the node starts again when there is room");
            if !stopper.wait_until(|| room::is_there_again(&config)) {
                return Exit::Done;
            }
            tracing::warn!("the disk has room again: the node starts");
            continue;
        }
        repairs += 1;
        if let Err(why) = begin_repair(&config, args, &trouble, repairs) {
            return refuse(&why, trouble.remedy);
        }
    }
}

/// Why a node did not start, or did not go on.
struct Trouble {
    why: String,
    /// Its exit code, and what to try.
    remedy: (Exit, String),
    /// What is on disk is not what was written.
    is_damage: bool,
}

/// Runs a node until it stops: one whose repair was begun is repaired first.
fn run_node(config: Config, args: &StartArgs, stopper: &Stopper) -> Result<(), Trouble> {
    let node = start_node(config, args)?;
    stopper.stops(node.handle());
    announce(&node, args);
    node.wait().map_err(|error| Trouble {
        why: format!("the node stopped: {error}"),
        remedy: (Exit::Refused, remedy::of_end(args)),
        is_damage: matches!(error, EndError::Damaged(_)),
    })
}

fn start_node(config: Config, args: &StartArgs) -> Result<Node, Trouble> {
    let of_start = |error: &StartError| Trouble {
        why: error.to_string(),
        remedy: remedy::of_start(error, args),
        is_damage: error.is_damage(),
    };
    let of_join = |error: &JoinError| match error {
        JoinError::Start(error) => of_start(error),
        error => Trouble { why: error.to_string(), remedy: remedy::of_join(error, args), is_damage: false },
    };
    match Repair::pending(&config.data_dir) {
        Ok(Some(repair)) => repair.run(config, say_repair).map_err(|error| match error {
            RepairError::Join(error) => of_join(&error),
            error => Trouble { why: error.to_string(), remedy: remedy::of_repair(args), is_damage: false },
        }),
        Err(error) => Err(of_start(&error.into())),
        Ok(None) if args.join.is_empty() => Node::start(config).map_err(|error| of_start(&error)),
        Ok(None) => Node::join(config, &args.join, JOIN_WITHIN, say_attempt).map_err(|error| of_join(&error)),
    }
}

/// Begins a repair, if it is damage that stopped the node, and the others have what it had. The error: why it stays as it is.
fn begin_repair(config: &Config, args: &StartArgs, trouble: &Trouble, repairs: usize) -> Result<(), String> {
    let why = &trouble.why;
    if !trouble.is_damage {
        return Err(why.clone());
    }
    if args.no_repair {
        return Err(format!("{why}. It is not repaired, by --no-repair"));
    }
    if repairs > REPAIRS_MAX {
        return Err(format!("{why}. It was repaired {REPAIRS_MAX} times since it was started: see to its disk"));
    }
    let repair = Repair::begin(config, why).map_err(|error| format!("{why}. It cannot be repaired: {error}"))?;
    tracing::error!(
        why = repair.reason,
        "damaged: this node gives up its place, and gets all that it had from the others, anew"
    );
    Ok(())
}

/// To people, whatever is logged.
fn say_repair(attempt: &RepairAttempt) {
    match attempt {
        RepairAttempt::NotLetGo(why) => {
            tracing::warn!(why, "repairing: the others do not let go of what this node was, yet")
        }
        RepairAttempt::Cleared => {
            tracing::warn!("repairing: this node is no member any more, its files are removed, and it joins anew")
        }
        RepairAttempt::Joining(attempt) => say_attempt(attempt),
    }
}

/// To people, whatever is logged.
fn say_attempt(attempt: &JoinAttempt) {
    drop(writeln!(std::io::stderr(), "{attempt}"));
}

fn refuse(why: &str, (exit, next): (Exit, String)) -> Exit {
    Failure::new(exit, "the node cannot run", why, next).report();
    exit
}

fn config(args: &StartArgs) -> Result<Config, String> {
    let listen = resolve(&args.listen)?;
    if args.name.is_none() && !args.initial_members.is_empty() {
        return Err("--initial-members names nodes: say with --name which of them this one is".to_owned());
    }
    let members = args
        .initial_members
        .iter()
        .map(|member| FoundingMember { name: member.name.clone(), address: member.address.clone() })
        .collect();
    let config = Config::new(&args.data_dir);
    Ok(Config {
        name: args.name.clone(),
        listen,
        advertise: args.advertise.clone(),
        log_dir: args.log_dir.clone(),
        engine: args.engine.map(|engine| match engine {
            Engine::Lsm => drey_io::Engine::Lsm,
            Engine::Btree => drey_io::Engine::Btree,
            Engine::Memory => drey_io::Engine::Memory,
        }),
        min_free_disk: args.min_free_disk,
        snapshot_rate: args.snapshot_rate,
        scrub: ScrubLimits {
            every_ms: args.scrub_every.0.map_or(0, |every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX)),
            ..config.scrub
        },
        shards: args.shards.map(Into::into),
        groups: args.groups.map(Into::into),
        initial_members: members,
        on_connection: Some(Arc::new(|handle, stream| Box::pin(grpc::serve_connection(Shards(handle), stream)))),
        ..config
    })
}

fn resolve(address: &str) -> Result<SocketAddr, String> {
    let resolved = block_on(drey_io::resolve::resolve(address));
    // There is at least one.
    resolved
        .map(|addresses| addresses[0])
        .map_err(|error| format!("--listen {address}: {error}: write HOST:PORT, as in 127.0.0.1:9000"))
}

/// One line on stdout, for people and for scripts that wait for it.
fn announce(node: &Node, args: &StartArgs) {
    match block_on(node.handle().status()) {
        // That nobody may be reading there is no reason to panic.
        Ok(status) => drop(writeln!(
            std::io::stdout(),
            "drey {} ready on {} (cluster {}, {} members, {} shards, engine {}, data in {})",
            status.name,
            node.address(),
            status.cluster,
            status.members.len(),
            status.shards,
            status.engine,
            args.data_dir.display()
        )),
        Err(error) => eprintln!("drey listens on {}, but does not answer: {error}", node.address()),
    }
}

/// Has the system stop this process when its parent ends, however that ends.
fn stop_with(parent: u32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(|error| format!("--parent {parent}: {error}"))?;
    // It may have ended before it could be watched.
    match rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get() as u32) {
        Some(present) if present == parent => Ok(()),
        _ => Err(format!("process {parent}, which started this node, is gone")),
    }
}

/// Logs go to stderr; `RUST_LOG` says which.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // A second subscriber in one process would be refused; the first one serves.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}
