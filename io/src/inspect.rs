//! Looks at the files of a node without running it.

use std::path::{Path, PathBuf};

use drey_core::config::{LogLimits, ScrubLimits, Timing, TransferLimits};
use drey_core::log::{DumpLine, RecoveredLog, SegmentId, dump};
use drey_core::store::MemoryStore;
use drey_core::{NodeId, ShardId, Tick, start_shard};

use crate::config::Engine;
use crate::identity::{Identity, load_acquaintances};
use crate::lock::DirectoryLock;
use crate::node::StartError;
use crate::recovery;
use crate::store::{AnyStore, StoreCopy, cut_broken_tail, is_absent_or_empty, without_panic};

/// The files of a node.
#[derive(Debug)]
pub struct Files {
    data_dir: PathBuf,
    log_dir: PathBuf,
    identity: Identity,
}

/// A store that is looked at. It is closed before its copy goes.
struct Opened {
    store: AnyStore,
    _copy: Option<StoreCopy>,
}

/// A part of a node's files, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub part: &'static str,
    /// What it holds; or what is wrong, where, and what can be done.
    pub found: Result<String, String>,
}

impl Files {
    /// Those in `data_dir`; the log is in `log_dir`, if not where it is otherwise.
    ///
    /// # Errors
    /// If no node was ever started there, or its identity is damaged.
    pub fn open(data_dir: &Path, log_dir: Option<&Path>) -> Result<Files, StartError> {
        let identity = Identity::of(data_dir)?.ok_or_else(|| {
            StartError::Invalid(format!("{} is not the data directory of a node", data_dir.display()))
        })?;
        let log_dir = log_dir.map_or_else(|| data_dir.join("log"), Path::to_owned);
        Ok(Files { data_dir: data_dir.to_owned(), log_dir, identity })
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the log comes to.
    pub(crate) fn recover_log(&self) -> Result<RecoveredLog, StartError> {
        recovery::scan(&self.identity, &recovery::segments(&self.log_dir)?)
    }

    /// The segments of the log, in order. A node may be running: then they are those of a moment.
    pub fn segments(&self) -> Result<Vec<SegmentId>, StartError> {
        Ok(recovery::segments(&self.log_dir)?.into_iter().map(|(segment, _)| segment).collect())
    }

    /// Tells what is in a segment, line by line. A node may be running.
    pub fn dump(&self, segment: SegmentId, tell: &mut dyn FnMut(DumpLine)) -> Result<(), StartError> {
        let mut bytes = Vec::new();
        recovery::read(&self.log_dir.join(segment.to_string()), &mut bytes)?;
        dump(segment, &bytes, self.identity.cluster(), NodeId(self.identity.node), tell);
        Ok(())
    }

    /// Reads everything, and checks each checksum that there is. The node must not run. Nothing is changed: the store is looked at in a
    /// copy beside it (the tables of the engine lsm are linked), which is removed again.
    ///
    /// # Errors
    /// If it runs.
    pub fn check(&self) -> Result<Vec<Finding>, StartError> {
        let _lock = DirectoryLock::acquire(&self.data_dir)?;
        let finding = |part, found: Result<String, StartError>| {
            let found = found.map_err(|error| error.to_string());
            Finding { part, found }
        };
        let identity = &self.identity;
        let who = format!("{} (id {}) of cluster {}", identity.name, identity.node, identity.cluster());
        let met = load_acquaintances(&self.data_dir).map_err(StartError::from);
        let (log, store) = (self.check_log(), self.check_store());
        let both = match (&log, &store) {
            (Ok((_, log)), Ok((_, opened))) => Some(self.check_both(log, &opened.store)),
            _ => None,
        };
        let mut findings = vec![
            finding("identity", identity.owns_log(&self.log_dir).map(|()| who).map_err(StartError::from)),
            finding("peers", met.map(|met| format!("{} were met", met.incarnations.len()))),
            finding("log", log.map(|(found, _)| found)),
            finding("store", store.map(|(found, _)| found)),
        ];
        findings.extend(both.map(|found| finding("both", found)));
        Ok(findings)
    }

    fn check_log(&self) -> Result<(String, RecoveredLog), StartError> {
        let segments = recovery::segments(&self.log_dir)?;
        let log = recovery::scan(&self.identity, &segments)?;
        let entries: usize = log.groups.values().map(|group| group.entries.len()).sum();
        let unfinished = match log.seals.len() {
            0 => String::new(),
            count => format!("; {count} chains were not ended, and will be at the next start"),
        };
        let found = format!("{} segments, {} groups, {entries} entries{unfinished}", segments.len(), log.groups.len());
        Ok((found, log))
    }

    fn check_store(&self) -> Result<(String, Opened), StartError> {
        let (engine, path) = (self.identity.engine, self.data_dir.join("store"));
        let failed = |reason: String| StartError::Store { path: path.display().to_string(), reason };
        let none = |why: &str| Ok((why.to_owned(), Opened { store: AnyStore::Memory, _copy: None }));
        if engine == Engine::Memory {
            return none("nothing is on disk of the engine memory");
        }
        if is_absent_or_empty(&path).map_err(|error| failed(error.to_string()))? {
            return none("there is none: a start makes one, and fills it from the log");
        }
        let copy =
            StoreCopy::of(&path).map_err(|error| failed(format!("a copy to look at cannot be made: {error}")))?;
        let cut = match engine {
            Engine::Lsm => cut_broken_tail(copy.path()).map_err(|error| failed(error.to_string()))?,
            Engine::Btree | Engine::Memory => 0,
        };
        let verified = without_panic(|| {
            let mut store = AnyStore::open(engine, copy.path())?;
            Ok((store.verify()?, store))
        });
        let (pairs, store) = verified.flatten().map_err(|error| failed(error.to_string()))?;
        let cut = match cut {
            0 => String::new(),
            bytes => format!(
                "; {bytes} bytes at the end of its journal are no whole batches, and go at the next start: what a crash interrupted, or damage"
            ),
        };
        let found = format!("{} records, {} bytes, in the engine {engine}{cut}", pairs.count, pairs.bytes);
        Ok((found, Opened { store, _copy: Some(copy) }))
    }

    /// Whether a node would start with them: the store must reach as far as the log begins.
    fn check_both(&self, log: &RecoveredLog, store: &AnyStore) -> Result<String, StartError> {
        let identity = &self.identity;
        let config = drey_core::Config {
            node: NodeId(identity.node),
            cluster: identity.cluster(),
            epoch: identity.epoch,
            shard: ShardId(0),
            // All groups at once.
            shards: 1,
            groups: identity.groups,
            founders: if identity.joined { Vec::new() } else { identity.first_members() },
            timing: Timing::default(),
            log: LogLimits::default(),
            transfer: TransferLimits::default(),
            scrub: ScrubLimits::default(),
        };
        let now = Tick { mono_ms: 0, wall_ms: 0 };
        let started = without_panic(|| match store {
            AnyStore::Lsm(store) => start_shard(config, 0, now, log, store.clone()).map(drop),
            AnyStore::Btree(store) => start_shard(config, 0, now, log, store.clone()).map(drop),
            AnyStore::Memory => start_shard(config, 0, now, log, MemoryStore::new()).map(drop),
        });
        started.map_err(|error| StartError::Invalid(error.to_string()))??;
        Ok("the log goes on where the store ends".to_owned())
    }
}
