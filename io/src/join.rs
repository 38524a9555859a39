//! How a node gets a place in a cluster that is there already: it asks members for one, again and again, before it starts.
//!
//! They are asked over gRPC, as clients ask, by drey-client on a thread of its own: hence the feature `join`, so that a program
//! that embeds a node without this does not build a client.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use drey_client::logic::Policy;
use drey_client::proto::{self, JoinRequest, JoinResponse};
use drey_client::{Client, Code};
use futures_lite::future::block_on;
use thiserror::Error as ThisError;

use crate::config::{Config, Joined};
use crate::identity::{DataDir, IdentityError, Member, look_into};
use crate::node::{Node, StartError};
use crate::resolve::resolve;

/// How long the seeds are asked before the first word about it.
const ROUND_TIMEOUT: Duration = Duration::from_secs(4);
/// From one round to the next.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// How often it is said that there is no place yet.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Why a node did not join. Each message says what to do.
#[derive(Debug, ThisError)]
pub enum JoinError {
    /// The settings, or the seeds, cannot be right.
    #[error("{0}")]
    Invalid(String),
    /// The data directory is that of a node that founded a cluster.
    #[error("{0}")]
    HasFounded(String),
    /// The cluster says no.
    #[error("the cluster does not take this node, says the member asked: {message}")]
    Refused {
        /// What kind of refusal.
        code: Code,
        /// Why.
        message: String,
    },
    /// No member gave an answer in time.
    #[error("no place in {} s, {why}", .within.as_secs())]
    NoAnswer {
        /// How long they were asked.
        within: Duration,
        /// Who was asked, and what became of it.
        why: String,
    },
    /// The node got a place, or has it from before, and did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl From<IdentityError> for JoinError {
    fn from(error: IdentityError) -> JoinError {
        JoinError::Start(error.into())
    }
}

/// A round in which no seed had a place to give. The node goes on asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAttempt {
    /// Who was asked.
    pub seeds: Vec<String>,
    /// What came of it.
    pub why: String,
    /// How long it goes on.
    pub left: Duration,
}

impl fmt::Display for JoinAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.left.as_secs();
        write!(f, "asking {} for a place: {}; trying for {left} s more", self.seeds.join(","), self.why)
    }
}

impl Node {
    /// Starts a node that joins a cluster by way of `seeds`, addresses of members: one that is alive will do. With a data
    /// directory that has joined before it is [`Node::start`]. Asks for `within` at most, and tells `tell` at the first failure
    /// and every few seconds. Blocks, as [`Node::start`] does; `config` needs a name, and a port or an address to be reached at.
    ///
    /// # Errors
    /// See [`JoinError`]. Joining can be repeated: the node keeps what place it got.
    pub fn join(
        config: Config,
        seeds: &[String],
        within: Duration,
        tell: impl FnMut(&JoinAttempt) + Send,
    ) -> Result<Node, JoinError> {
        Node::join_as(config, seeds, within, false, tell)
    }

    /// As [`Node::join`]. `repaired`: it was another member before, whose files were damaged.
    pub(crate) fn join_as(
        mut config: Config,
        seeds: &[String],
        within: Duration,
        repaired: bool,
        tell: impl FnMut(&JoinAttempt) + Send,
    ) -> Result<Node, JoinError> {
        match look_into(&config.data_dir)? {
            DataDir::Joined => {}
            DataDir::Founded => {
                return Err(JoinError::HasFounded(format!(
                    "{} holds a node that founded a cluster of its own: only an empty directory can join. To join another \
                     cluster, export what is worth keeping, and start with a new --data-dir",
                    config.data_dir.display()
                )));
            }
            DataDir::Empty(incarnation) => {
                let request = request(&config, incarnation)?;
                let seeds = others(&config, &request, seeds)?;
                let (seeds, asked) = (&seeds, request);
                // The caller may be on a runtime of its own, which would not have another one on its thread.
                let answer = std::thread::scope(|scope| {
                    scope.spawn(move || ask(seeds, asked, within, tell)).join().unwrap_or_else(|_| {
                        Err(JoinError::Invalid("the thread that asks for a place has panicked".to_owned()))
                    })
                })?;
                config.joined = Some(joined(answer, repaired));
            }
        }
        Ok(Node::start(config)?)
    }
}

/// What the node asks for.
fn request(config: &Config, incarnation: u64) -> Result<JoinRequest, JoinError> {
    let invalid = |why: String| Err(JoinError::Invalid(why));
    let Some(name) = config.name.clone() else {
        return invalid("--join needs a name that no member has: say it with --name".to_owned());
    };
    let address = config.advertise.clone().unwrap_or_else(|| config.listen.to_string());
    let lacks_address = |address: &SocketAddr| address.ip().is_unspecified() || address.port() == 0;
    if address.parse().is_ok_and(|address| lacks_address(&address)) {
        return invalid(format!("nobody can reach {name} at {address}: say with --advertise where they can"));
    }
    Ok(JoinRequest { name, address, incarnation, cluster: String::new() })
}

/// The seeds without this node itself: lists of all nodes are handed to all of them.
fn others(config: &Config, request: &JoinRequest, seeds: &[String]) -> Result<Vec<String>, JoinError> {
    let seeds: Vec<String> = seeds.iter().map(|seed| seed.trim().to_owned()).filter(|seed| !seed.is_empty()).collect();
    let others: Vec<String> = seeds.iter().filter(|seed| !is_own(config, request, seed)).cloned().collect();
    match (seeds.first(), others.is_empty()) {
        (None, _) => Err(JoinError::Invalid("--join names nobody: give it the address of a member".to_owned())),
        (Some(own), true) => Err(JoinError::Invalid(format!(
            "--join {own} is this node's own address: name a member that runs with --join, and where this node is to be with \
             --listen"
        ))),
        (Some(_), false) => Ok(others),
    }
}

fn is_own(config: &Config, request: &JoinRequest, seed: &str) -> bool {
    let seed = seed.strip_prefix("http://").unwrap_or(seed);
    if seed == request.address {
        return true;
    }
    let own = config.listen;
    let here = |address: &SocketAddr| {
        *address == own
            || address.port() == own.port()
                && own.ip().is_unspecified()
                && (address.ip().is_loopback() || address.ip().is_unspecified())
    };
    // One whose name is not known now is said to be unreachable later.
    block_on(resolve(seed)).is_ok_and(|addresses| addresses.iter().any(here))
}

fn ask(
    seeds: &[String],
    request: JoinRequest,
    within: Duration,
    mut tell: impl FnMut(&JoinAttempt),
) -> Result<JoinResponse, JoinError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|source| StartError::Io { operation: "start a client that asks for a place".to_owned(), source })?;
    runtime.block_on(async {
        // A round that reaches nobody ends at once, so that it can be told.
        let policy = Policy { unreachable_rounds_max: Some(1), ..Policy::default() };
        let client = Client::builder(seeds.to_vec()).policy(policy).discover(false).sessions(false).connect();
        let client = client.map_err(|error| JoinError::Invalid(format!("--join cannot be used: {}", error.message)))?;
        let begun = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            let left = within.saturating_sub(begun.elapsed());
            let round = client.with_timeout(left.min(ROUND_TIMEOUT));
            let error = match round.join(request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) if may_work_later(error.code) => error,
                Err(error) if error.code == Code::InvalidArgument => return Err(JoinError::Invalid(error.message)),
                Err(error) => return Err(JoinError::Refused { code: error.code, message: error.message }),
            };
            let left = within.saturating_sub(begun.elapsed());
            let attempt = JoinAttempt { seeds: seeds.to_vec(), why: error.message, left };
            if left <= ROUND_PAUSE {
                let why = format!("asking {}: {}", seeds.join(","), attempt.why);
                return Err(JoinError::NoAnswer { within, why });
            }
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                tell(&attempt);
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    })
}

/// The seeds may be starting, or electing.
fn may_work_later(code: Code) -> bool {
    code.nothing_was_proposed() || code.outcome_is_unknown() && code != Code::Internal
}

fn joined(answer: JoinResponse, repaired: bool) -> Joined {
    let member = |member: proto::Member| Member { id: member.id, name: member.name, address: member.address };
    Joined {
        cluster: answer.cluster,
        epoch: answer.epoch,
        groups: answer.groups,
        node: answer.id,
        members: answer.members.into_iter().map(member).collect(),
        repaired,
    }
}
