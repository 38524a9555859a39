//! A node, embeddable in any program: start, call, stop.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use drey_core::config::{LogLimits, TransferLimits};
use drey_core::log::{Damage, RecoveredLog, SegmentId};
use drey_core::storage::{StorageJob, StorageWorker};
use drey_core::store::{MemoryStore, Store, StoreError};
use drey_core::system::Members;
use drey_core::{NodeId, RecoverError, Shard, ShardId, start_shard};
use thiserror::Error as ThisError;

use crate::config::{Config, ConnectionHandler, Engine};
use crate::effects::ShardEffects;
use crate::handle::Handle;
use crate::identity::{self, Identity, IdentityError};
use crate::keeper::Keeper;
use crate::listener::{BindError, BoundListener, Listener};
use crate::lock::{DirectoryLock, LockError};
use crate::log_files::{LogDirectory, LogFileError};
use crate::mail::{MAIL_MAX, Mail};
use crate::mailbox::{Mailbox, Sender, mailbox};
use crate::roster::Roster;
use crate::runtime::{self, ExecutorConfig, Executors};
use crate::shard_handle::ShardHandle;
use crate::shard_loop;
use crate::shared::Shared;
use crate::store::{AnyStore, without_panic};
use crate::{probe, recovery, storage_thread};

/// Released segments that are kept for the next ones.
const SPARE_SEGMENTS_MAX: usize = 2;

/// Why a node did not start. Each message says what to do.
#[derive(Debug, ThisError)]
#[allow(missing_docs)]
pub enum StartError {
    #[error(transparent)]
    IoUring(#[from] probe::ProbeError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Locked(#[from] LockError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    LogFile(#[from] LogFileError),
    #[error("{0}")]
    Damaged(Damage),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(
        "{name} keeps its data in main memory (--engine memory) and filled them from its log, which does not reach back to their \
         beginning{}: they are gone with its last run. Remove {name}, and let it join anew with an empty directory; with the \
         engine lsm, the default, it can be started again ({source})",
        if *.joined { ", as it joined later" } else { "" }
    )]
    MemoryOnly { name: String, joined: bool, source: RecoverError },
    #[error("the store in {path} cannot be opened: {reason}")]
    Store { path: String, reason: String },
    #[error("the store in {path} is damaged ({reason}): remove this member and let it join anew")]
    DamagedStore { path: String, reason: String },
    #[error(transparent)]
    Executors(#[from] runtime::StartError),
    #[error("{0}")]
    Invalid(String),
    #[error("cannot {operation}: {source}")]
    Io { operation: String, source: std::io::Error },
}

impl StartError {
    /// Whether what is on disk is not what was written, or less. The node must not go on with that, and can join its cluster anew.
    pub fn is_damage(&self) -> bool {
        match self {
            StartError::Damaged(_)
            | StartError::Recover(_)
            | StartError::DamagedStore { .. }
            | StartError::Identity(IdentityError::Damaged { .. } | IdentityError::Lost(_)) => true,
            StartError::IoUring(_)
            | StartError::Bind(_)
            | StartError::Locked(_)
            | StartError::Identity(_)
            | StartError::LogFile(_)
            | StartError::Store { .. }
            // That is as it was chosen.
            | StartError::MemoryOnly { .. }
            | StartError::Executors(_)
            | StartError::Invalid(_)
            | StartError::Io { .. } => false,
        }
    }
}

/// Why a node ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum EndError {
    /// It could not go on. It may be started again.
    #[error("{0}")]
    Failed(String),
    /// What is on its disks is not what it wrote, or less. It must not go on with that, and can join its cluster anew.
    #[error("{0}")]
    Damaged(String),
}

/// A running node. Dropping it lets it run on; [`Node::stop`] ends it.
pub struct Node {
    handle: Handle,
    address: SocketAddr,
    listener: Option<Listener>,
    executors: Executors<Option<EndError>>,
    storage_threads: Vec<JoinHandle<()>>,
    _keeper: Keeper,
    _lock: DirectoryLock,
}

/// What one executor's thread is given.
struct Body {
    shard: Shard,
    storage: mpsc::Sender<StorageJob>,
    mailbox: Mailbox<Mail>,
    node: Handle,
    log_directory: LogDirectory,
    log_config: drey_core::log::LogConfig,
    earlier_segments: Vec<SegmentId>,
    on_connection: Option<ConnectionHandler>,
    tick_ms: u64,
}

impl Node {
    /// Starts a node and returns when it accepts connections. Blocks while the log is read: on an asynchronous runtime, call
    /// it where blocking is allowed.
    pub fn start(config: Config) -> Result<Node, StartError> {
        probe::io_uring(4096)?;
        let shards = config.shard_count();
        if shards == 0 || shards > 256 {
            return Err(StartError::Invalid(format!("--shards must be from 1 to 256, not {shards}")));
        }
        std::fs::create_dir_all(&config.data_dir).map_err(|source| StartError::Io {
            operation: format!("make the data directory {}", config.data_dir.display()),
            source,
        })?;
        let lock = DirectoryLock::acquire(&config.data_dir)?;
        let bound = BoundListener::bind(config.listen)?;
        let address = bound.address();
        let advertised = config.advertise.clone().unwrap_or_else(|| address.to_string());
        let log_dir = config.log_dir.clone().unwrap_or_else(|| config.data_dir.join("log"));
        let (identity, is_new) = Identity::load_or_found(&config, &advertised, &log_dir)?;
        if identity.address().parse().is_ok_and(|known: SocketAddr| known.port() != address.port()) {
            let known = identity.address();
            tracing::warn!(%address, known, "listens elsewhere than its cluster knows: peers and clients go to the latter");
        }
        let log_directory = LogDirectory::open(&log_dir, config.log.segment_bytes, SPARE_SEGMENTS_MAX)?;
        let log = recover_log(&log_directory, &identity)?;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let shared = Arc::new(Shared {
            met: Mutex::new(identity::load_acquaintances(&config.data_dir)?),
            versions: Mutex::default(),
            need_earlier_epochs: AtomicU32::new(shards),
            next_link: AtomicU64::new(now_ms),
            shards,
            log_dir,
            data_dir: config.data_dir.clone(),
            started: Instant::now(),
            ending: OnceLock::new(),
            link_bytes: AtomicU64::new(0),
            link_refused: AtomicU64::new(0),
            inbox_refused: AtomicU64::new(0),
            roster: Roster::new(Members::found(&identity.first_members())),
            is_new,
            identity,
        });
        let (mailboxes, receivers): (Vec<_>, Vec<_>) = (0..shards).map(|_| mailbox(MAIL_MAX)).unzip();
        let handle = Handle { shared, mailboxes };
        let mut bodies = Vec::new();
        let mut storage_threads = Vec::new();
        let store = open_store(handle.shared.identity.engine, &config.data_dir.join("store"))?;
        for (shard, mailbox) in (0..shards).map(ShardId).zip(receivers) {
            let core_config = core_config(&config, &handle.shared, shard);
            let log_config = core_config.log_config();
            let (sender, jobs) = mpsc::channel();
            let own = handle.mailboxes[shard.0 as usize].clone();
            let (shard, thread) = match &store {
                AnyStore::Lsm(store) => start_storage(core_config, &log, store.clone(), jobs, own)?,
                AnyStore::Btree(store) => start_storage(core_config, &log, store.clone(), jobs, own)?,
                AnyStore::Memory => start_storage(core_config, &log, MemoryStore::new(), jobs, own)
                    .map_err(|error| memory_only(error, &handle.shared.identity))?,
            };
            storage_threads.push(thread);
            bodies.push(Body {
                shard,
                storage: sender,
                mailbox,
                node: handle.clone(),
                log_directory: log_directory.clone(),
                log_config,
                earlier_segments: log.segments.clone(),
                on_connection: config.on_connection.clone(),
                tick_ms: config.timing.tick_ms,
            });
        }
        drop(log);
        let keeper = Keeper::start(config.clone(), handle.clone())
            .map_err(|source| StartError::Io { operation: "start a thread".into(), source })?;
        let executor_config = ExecutorConfig::new("drey-shard");
        let executors = runtime::start(&executor_config, bodies.into_iter().map(run_body).collect())?;
        let mut next = 0;
        let deliver_to = handle.mailboxes.clone();
        let listener = bound
            .accept(config.connections_max.min(executor_config.connections_max * shards as usize), move |connection| {
                next = (next + 1) % deliver_to.len();
                // A full mailbox: the connection is dropped, which closes it.
                let _ = deliver_to[next].send(Mail::Connection(connection));
            })
            .map_err(|source| StartError::Io { operation: "accept connections".into(), source })?;
        Ok(Node { handle, address, listener: Some(listener), executors, storage_threads, _keeper: keeper, _lock: lock })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For calls.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops the node and waits until all is on disk and closed. The error: it had stopped by itself, for this reason.
    pub fn stop(mut self) -> Result<(), EndError> {
        self.handle.begin_stop();
        if let Some(listener) = self.listener.take() {
            listener.stop();
        }
        self.wait()
    }

    /// Waits until the node stops: after [`Handle::begin_stop`], or by itself, for the reason that is the error.
    pub fn wait(self) -> Result<(), EndError> {
        let Node { listener, executors, storage_threads, _keeper, _lock, .. } = self;
        let outcomes = executors.join();
        if let Some(listener) = listener {
            listener.stop();
        }
        // Their jobs' senders went with the executors.
        storage_threads.into_iter().for_each(|thread| drop(thread.join()));
        for outcome in outcomes {
            match outcome {
                Ok(None) => {}
                Ok(Some(why)) => return Err(why),
                Err(error) => return Err(EndError::Failed(error.to_string())),
            }
        }
        Ok(())
    }
}

fn core_config(config: &Config, shared: &Shared, shard: ShardId) -> drey_core::Config {
    drey_core::Config {
        node: NodeId(shared.identity.node),
        cluster: shared.identity.cluster(),
        epoch: shared.identity.epoch,
        shard,
        shards: shared.shards,
        groups: shared.identity.groups,
        founders: if shared.identity.joined { Vec::new() } else { shared.identity.first_members() },
        timing: config.timing,
        log: LogLimits { held_bytes_max: config.log.held_bytes_max / u64::from(shared.shards), ..config.log },
        transfer: TransferLimits {
            bytes_per_second: config.snapshot_rate.div_ceil(u64::from(shared.shards)),
            ..TransferLimits::default()
        },
        scrub: config.scrub,
    }
}

/// Reads all segments, and ends each chain where its synced part ends.
fn recover_log(directory: &LogDirectory, identity: &Identity) -> Result<RecoveredLog, StartError> {
    let log = recovery::scan(identity, &recovery::segments(directory.path())?)?;
    for seal in &log.seals {
        directory.seal(&seal.segment.to_string(), seal.offset, &seal.bytes)?;
    }
    Ok(log)
}

fn open_store(engine: Engine, path: &Path) -> Result<AnyStore, StartError> {
    let path_text = || path.display().to_string();
    without_panic(|| AnyStore::open(engine, path)).flatten().map_err(|error| match error {
        StoreError::Failed(reason) => StartError::Store { path: path_text(), reason },
        StoreError::Damaged(reason) => StartError::DamagedStore { path: path_text(), reason },
    })
}

/// Of the engine `memory`, a log that does not begin at the beginning is no damage.
fn memory_only(error: StartError, identity: &Identity) -> StartError {
    match error {
        StartError::Recover(source) => {
            StartError::MemoryOnly { name: identity.name.clone(), joined: identity.joined, source }
        }
        error => error,
    }
}

fn start_storage<S: Store>(
    config: drey_core::Config,
    log: &RecoveredLog,
    store: S,
    jobs: mpsc::Receiver<StorageJob>,
    done: Sender<Mail>,
) -> Result<(Shard, JoinHandle<()>), StartError> {
    let name = format!("drey-store-{}", config.shard);
    let seed = identity::random_u64()?;
    let now = shard_loop::now();
    let started = without_panic(|| start_shard(config, seed, now, log, store));
    let (shard, worker): (Shard, StorageWorker<S>) = started.map_err(|error| RecoverError(error.to_string()))??;
    let thread = storage_thread::start(&name, worker, jobs, done)
        .map_err(|source| StartError::Io { operation: format!("start the thread {name}"), source })?;
    Ok((shard, thread))
}

/// Runs on the executor's thread.
fn run_body(
    body: Body,
) -> impl FnOnce(runtime::ExecutorContext) -> std::pin::Pin<Box<dyn Future<Output = Option<EndError>>>> + Send {
    move |context| {
        Box::pin(async move {
            let shard = ShardId(context.index as u32);
            let handle = Rc::new(ShardHandle::new(body.node, shard));
            let mut effects = ShardEffects {
                handle: Rc::clone(&handle),
                links: BTreeMap::new(),
                storage: body.storage,
                log_directory: body.log_directory,
                log_config: body.log_config,
                segments: Rc::new(RefCell::new(HashMap::new())),
                earlier_segments: body.earlier_segments,
            };
            effects.link(&handle.node.shared.roster.members());
            runtime::spawn(shard_loop::take_mail(handle, body.mailbox, body.on_connection));
            shard_loop::run(body.shard, effects, body.tick_ms).await
        })
    }
}
