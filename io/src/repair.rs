//! How a node whose files are damaged gets whole again, without an operator.
//!
//! What it promised others is gone with its files, so it must never vote again as what it was: its place is given up, its files are removed,
//! and it joins its cluster anew, under its old name and address and a new id. The others send it all that it had. They let it go only if a
//! majority of them is left, so that a cluster in which too much is damaged stays as it is.
//!
//! What is under way is written down first (`repair.json`), so that whoever is killed in the middle goes on where it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use drey_client::logic::Policy;
use drey_client::proto::RemoveRequest;
use drey_client::{Client, Code};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

use crate::config::{Config, Engine};
use crate::identity::{self, Identity, IdentityError, Remains};
use crate::join::{JoinAttempt, JoinError};
use crate::lock::{DirectoryLock, LockError};
use crate::node::{Node, StartError};
use crate::notes;

const FILE: &str = "repair.json";
/// One question to the others.
const ASK_TIMEOUT: Duration = Duration::from_secs(4);
/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(300);
/// How often it is said that the others do not let it go yet.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// So long the others are asked for a place before that is told.
const JOIN_WITHIN: Duration = Duration::from_secs(60);

/// Why a node cannot be repaired. Each message says what to do.
#[derive(Debug, ThisError)]
pub enum RepairError {
    /// Too little is left to say who it was.
    #[error(
        "neither its identity nor its log says who this node was: remove it from its cluster, and start with an empty directory and --join"
    )]
    Unknown,
    /// There is nobody to get anything from.
    #[error("this node is the only member of its cluster: nobody else has what is damaged here")]
    Alone,
    /// Whoever answers belongs to another cluster.
    #[error("whoever answers at {seeds} belongs to cluster {found}, and this node to {own}")]
    AnotherCluster {
        /// Who was asked.
        seeds: String,
        /// Theirs.
        found: String,
        /// Its own.
        own: String,
    },
    /// The node is running.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// A file cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The damaged files cannot be removed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was let go, and gets no place, or does not start.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// A word about a repair that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairAttempt {
    /// The others do not let the former member go yet: why.
    NotLetGo(String),
    /// It is gone, and so are its files.
    Cleared,
    /// There is no place for it yet.
    Joining(JoinAttempt),
}

/// A node that is being repaired, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// What was wrong.
    pub reason: String,
    cluster: String,
    /// What it was.
    node: u64,
    name: String,
    address: String,
    engine: Option<Engine>,
    /// Where the others are.
    seeds: Vec<String>,
    /// The cluster has let the former member go, and its files are removed.
    cleared: bool,
}

impl Repair {
    /// The one that was begun in a data directory, and is not done.
    pub fn pending(data_dir: &Path) -> Result<Option<Repair>, IdentityError> {
        notes::load(&data_dir.join(FILE))
    }

    /// Begins one: from now on the node of this directory is not what it was.
    ///
    /// # Errors
    /// If nobody could repair it. Nothing is changed then.
    pub fn begin(config: &Config, reason: &str) -> Result<Repair, RepairError> {
        let remains = Remains::of(&config.data_dir, &log_dir(config)).ok_or(RepairError::Unknown)?;
        let own = remains.members.iter().find(|member| member.id == remains.node).ok_or(RepairError::Unknown)?;
        let others = remains.members.iter().filter(|member| member.id != remains.node);
        let seeds: Vec<String> = others.map(|member| member.address.clone()).collect();
        if seeds.is_empty() {
            return Err(RepairError::Alone);
        }
        let repair = Repair {
            reason: reason.to_owned(),
            cluster: remains.cluster,
            node: remains.node,
            name: own.name.clone(),
            address: own.address.clone(),
            engine: remains.engine,
            seeds,
            cleared: false,
        };
        notes::save(&config.data_dir.join(FILE), &repair)?;
        Ok(repair)
    }

    /// Goes on until the node is a member again, and runs. Blocks for as long as the others take; whoever kills it meanwhile does no harm.
    ///
    /// # Errors
    /// See [`RepairError`]. It can be tried again.
    pub fn run(mut self, mut config: Config, mut tell: impl FnMut(&RepairAttempt) + Send) -> Result<Node, RepairError> {
        let note = config.data_dir.join(FILE);
        if !self.cleared {
            self.give_up_place(&mut tell)?;
            self.clear(&config)?;
            self.cleared = true;
            notes::save(&note, &self)?;
            tell(&RepairAttempt::Cleared);
        }
        config.name = Some(self.name.clone());
        config.advertise = Some(self.address.clone());
        config.engine = config.engine.or(self.engine);
        (config.initial_members, config.groups) = (Vec::new(), None);
        let tell = |attempt: &JoinAttempt| tell(&RepairAttempt::Joining(attempt.clone()));
        let node = Node::join_as(config, &self.seeds, JOIN_WITHIN, true, tell)?;
        notes::remove(&note)?;
        Ok(node)
    }

    /// Has the others let go of what this node was, and waits until they have.
    fn give_up_place(&self, tell: &mut (impl FnMut(&RepairAttempt) + Send)) -> Result<(), RepairError> {
        // The caller may be on a runtime of its own, which would not have another one on its thread.
        thread::scope(|scope| {
            let asking = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|source| {
                    let operation = "start a client that asks the others".to_owned();
                    JoinError::Start(StartError::Io { operation, source })
                })?;
                runtime.block_on(self.ask_to_be_let_go(tell))
            });
            asking.join().unwrap_or_else(|_| {
                Err(JoinError::Invalid("the thread that asks the others has panicked".to_owned()).into())
            })
        })
    }

    async fn ask_to_be_let_go(&self, tell: &mut impl FnMut(&RepairAttempt)) -> Result<(), RepairError> {
        // A round that reaches nobody ends at once, so that it can be told.
        let policy = Policy { unreachable_rounds_max: Some(1), ..Policy::default() };
        let client = Client::builder(self.seeds.clone()).policy(policy).sessions(false).connect();
        let client =
            client.map_err(|error| JoinError::Invalid(format!("the others cannot be asked: {}", error.message)))?;
        let client = client.with_timeout(ASK_TIMEOUT);
        let mut told: Option<Instant> = None;
        loop {
            let why = match self.is_let_go(&client).await? {
                Ok(true) => return Ok(()),
                Ok(false) => None,
                Err(why) => Some(why),
            };
            if let Some(why) = why
                && told.is_none_or(|told| told.elapsed() >= TELL_EVERY)
            {
                told = Some(Instant::now());
                tell(&RepairAttempt::NotLetGo(why));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether it is no member any more. The inner error: the others cannot say yes now, and may later.
    async fn is_let_go(&self, client: &Client) -> Result<Result<bool, String>, RepairError> {
        let status = match client.status().await {
            Ok(status) => status,
            Err(error) => return Ok(Err(error.message)),
        };
        if status.cluster != self.cluster {
            let (found, own) = (status.cluster, self.cluster.clone());
            return Err(RepairError::AnotherCluster { seeds: self.seeds.join(","), found, own });
        }
        match client.remove(RemoveRequest { id: self.node, name: String::new() }).await {
            Ok(answer) => Ok(Ok(answer.members.iter().all(|member| member.id != self.node))),
            Err(error) if error.code == Code::NotFound => Ok(Ok(true)),
            Err(error) => Ok(Err(error.message)),
        }
    }

    /// Removes everything that made this directory that of the former member.
    fn clear(&self, config: &Config) -> Result<(), RepairError> {
        let _lock = DirectoryLock::acquire(&config.data_dir)?;
        let log_dir = log_dir(config);
        // Whatever it is now, it must not be a node that another member began since.
        if Identity::of(&config.data_dir).ok().flatten().is_some_and(|identity| identity.node != self.node) {
            return Ok(());
        }
        remove_all(&config.data_dir.join("store"))?;
        for file in log_files(&log_dir)? {
            fs::remove_file(&file).map_err(|source| RepairError::Io { operation: "remove", path: file, source })?;
        }
        Ok(identity::forget(&config.data_dir, &log_dir)?)
    }
}

fn log_dir(config: &Config) -> PathBuf {
    config.log_dir.clone().unwrap_or_else(|| config.data_dir.join("log"))
}

fn remove_all(directory: &Path) -> Result<(), RepairError> {
    match fs::remove_dir_all(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RepairError::Io { operation: "remove", path: directory.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The files of a log's directory, whatever they are called: spare segments, too.
fn log_files(log_dir: &Path) -> Result<Vec<PathBuf>, RepairError> {
    let failed = |source| RepairError::Io { operation: "list", path: log_dir.to_owned(), source };
    let entries = match fs::read_dir(log_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}
