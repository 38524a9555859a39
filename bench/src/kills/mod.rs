//! What clients see when a leader's process is killed: for how long no write is acknowledged.
//!
//! Three nodes of each system, one system at a time; clients write as fast as they are answered, and turn to another node
//! when theirs fails. The node that leads what they write to is killed, writes go on under its successor, the node is
//! started again and catches up, and so on with whoever leads then.

mod acks;
mod args;
mod table;
mod writer;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use self::args::KillsArgs;
pub use self::table::Kill;
use self::writer::{Shared, Writer};
use crate::cluster::{Cluster, surroundings};
use crate::error::Error;
use crate::grpc::Link;
use crate::load::runtime;
use crate::target::{Standing, Target, leader_of, standing_of};

/// How long writes may take to go on after a kill, and a killed node to catch up.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the nodes are asked how far a returning one has come.
const STANDING_POLL: Duration = Duration::from_millis(50);

/// A node that does not say how far it has come within this time is asked again.
const STANDING_TIMEOUT: Duration = Duration::from_secs(2);

/// Nodes that can be killed.
pub trait Nodes {
    /// Where clients connect, a node each.
    fn endpoints(&self) -> Vec<String>;
    /// Kills a node, without waiting for its end: the clients run on the thread that would wait.
    fn kill(&mut self, number: usize) -> Result<(), Error>;
    /// Starts a killed node again, with the data that it had.
    fn start_again(&mut self, number: usize) -> Result<(), Error>;
    /// What they have said lately, for an error's report.
    fn log_tails(&self) -> String;
}

impl Nodes for Cluster {
    fn endpoints(&self) -> Vec<String> {
        self.endpoints()
    }

    fn kill(&mut self, number: usize) -> Result<(), Error> {
        self.kill(number)
    }

    fn start_again(&mut self, number: usize) -> Result<(), Error> {
        self.start_again(number)
    }

    fn log_tails(&self) -> String {
        self.log_tails()
    }
}

/// Kills leaders of each system, tells each kill to `line` as one line of JSON, and gives the table in Markdown. When `line`
/// says to break, the nodes are ended in order and the rest is given up.
///
/// Like [`crate::run`], not to be called from within one of tokio's runtimes.
pub fn kills(args: &KillsArgs, mut line: impl FnMut(&str) -> ControlFlow<()>) -> Result<String, Error> {
    let place = args.systems.place()?;
    let mut kills = Vec::new();
    for &target in args.systems.targets()? {
        let mut cluster = Cluster::start(target, &args.systems, &place)?;
        cluster.wait_until_led()?;
        let ended = kill_leaders(target, args, &mut cluster, |kill| {
            kills.push(kill.clone());
            line(&kill.to_json())
        });
        cluster.stop()?;
        ended?;
    }
    let table = table::to_markdown(args.systems.targets()?, &kills);
    Ok(format!(
        "{} {} clients, values of {} B, {} keys, clients to all nodes in turn; an attempt without an answer for {} ms is \
         made again at the next node. One system running at a time.\n\n{table}",
        surroundings(&args.systems, &place)?,
        args.clients,
        args.value_size,
        args.key_count,
        args.attempt_timeout.as_millis(),
    ))
}

/// Kills leaders of a cluster that is up, and tells each kill to `found`, which may end this.
///
/// Like [`crate::run`], not to be called from within one of tokio's runtimes.
pub fn kill_leaders(
    target: Target,
    args: &KillsArgs,
    nodes: &mut impl Nodes,
    mut found: impl FnMut(&Kill) -> ControlFlow<()>,
) -> Result<(), Error> {
    args.check()?;
    runtime()?.block_on(async {
        let shared = Shared::new(target, args);
        let endpoints = nodes.endpoints();
        let links = connect(&endpoints).await?;
        let mut run = Run { target, args, endpoints, links, nodes, shared: shared.clone() };
        let _writers = run.start_writers().await;
        sleep(args.warmup).await;
        for number in 0..args.kills.get() {
            let kill = run.kill(number).await?;
            if found(&kill).is_break() {
                return Err(Error::Interrupted);
            }
        }
        shared.stop();
        Ok(())
    })
}

/// A link to each node, which all clients share.
async fn connect(endpoints: &[String]) -> Result<Vec<Link>, Error> {
    let mut links = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let link = Link::connect(endpoint).await;
        links.push(link.map_err(|source| Error::Connect { endpoint: endpoint.clone(), source })?);
    }
    Ok(links)
}

/// One cluster under its load.
struct Run<'a, N> {
    target: Target,
    args: &'a KillsArgs,
    endpoints: Vec<String>,
    links: Vec<Link>,
    nodes: &'a mut N,
    shared: Arc<Shared>,
}

impl<N: Nodes> Run<'_, N> {
    async fn start_writers(&self) -> JoinSet<()> {
        let mut writers = JoinSet::new();
        for number in 0..self.args.clients {
            writers.spawn(Writer::new(number, self.shared.clone(), &self.links).await.run());
        }
        writers
    }

    /// From one kill to the moment of the next.
    async fn kill(&mut self, number: u32) -> Result<Kill, Error> {
        let leader = leader_of(self.target, &self.args.bucket, &self.endpoints).await?;
        let victim = self.endpoints.iter().position(|endpoint| *endpoint == leader);
        let victim = victim.ok_or_else(|| self.stuck(format!("{leader} leads, which is none of the nodes")))?;
        self.shared.acks().take_counted();
        self.nodes.kill(victim)?;
        self.shared.acks().kill(Instant::now());
        let at_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let gap = self.wait_for_writes(&leader).await?;
        sleep(self.args.between).await;
        let silence = self.shared.acks().take_longest_silence(Instant::now());

        let started = Instant::now();
        self.nodes.start_again(victim)?;
        self.wait_until_whole(victim).await?;
        let returned = started.elapsed();
        // The clients come home to a connection that works, rather than each learning that the old one does not.
        let link = &self.links[victim];
        let renewed = link.replace(&link.connection().await).await;
        renewed.map_err(|source| Error::Connect { endpoint: leader.clone(), source })?;
        self.shared.send_home();
        sleep(self.args.between).await;
        let silence_at_return = self.shared.acks().take_longest_silence(Instant::now());
        let counted = self.shared.acks().take_counted();
        Ok(Kill {
            target: self.target,
            number,
            leader,
            at_unix_ms,
            gap_ms: ms(gap),
            silence_ms: ms(silence),
            return_ms: ms(returned),
            silence_at_return_ms: ms(silence_at_return),
            writes: counted.writes,
            errors: counted.errors,
        })
    }

    async fn wait_for_writes(&self, killed: &str) -> Result<Duration, Error> {
        let resumed = timeout(RECOVERY_TIMEOUT, async {
            loop {
                if let Some(gap) = self.shared.acks().gap() {
                    return gap;
                }
                self.shared.resumed.notified().await;
            }
        });
        resumed.await.map_err(|_| self.stuck(format!("no write has been acknowledged since {killed} was killed")))
    }

    /// Waits until all nodes answer, see a leader and each other, and the one that was started again has applied what the
    /// others knew to be committed at the last look. They go on meanwhile, so that it is behind them by that at most.
    async fn wait_until_whole(&self, returning: usize) -> Result<(), Error> {
        let deadline = Instant::now() + RECOVERY_TIMEOUT;
        let mut before: Vec<Standing> = Vec::new();
        loop {
            let now = self.standings().await;
            let missing = match &now {
                Err(error) => error.to_string(),
                Ok(now) if !now.iter().all(|node| node.is_led) => "a node sees no leader".into(),
                Ok(now) if !now.iter().all(|node| node.reaches_all) => "a node does not reach another".into(),
                Ok(now) if before.is_empty() || !before.iter().all(|other| now[returning].has_reached(other)) => {
                    "the node that was killed has not caught up".into()
                }
                Ok(_) => return Ok(()),
            };
            if Instant::now() > deadline {
                return Err(self.stuck(missing));
            }
            before = now.unwrap_or_default();
            sleep(STANDING_POLL).await;
        }
    }

    async fn standings(&self) -> Result<Vec<Standing>, Error> {
        let mut standings = Vec::with_capacity(self.endpoints.len());
        for endpoint in &self.endpoints {
            let standing = timeout(STANDING_TIMEOUT, standing_of(self.target, endpoint)).await;
            let late = |_| Error::Connect { endpoint: endpoint.clone(), source: std::io::ErrorKind::TimedOut.into() };
            standings.push(standing.map_err(late)??);
        }
        Ok(standings)
    }

    fn stuck(&self, reason: String) -> Error {
        let log = self.nodes.log_tails();
        Error::NotReady { system: self.target.name(), seconds: RECOVERY_TIMEOUT.as_secs(), reason, log }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
