//! What can be saved of a node whose files are damaged, and that has no peers to get it from.

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use drey_core::log::RecoveredLog;
use drey_core::machine::Machine;
use drey_core::name::BucketName;
use drey_core::placement::all_groups;
use drey_core::raft::Configuration;
use drey_core::request::Entry;
use drey_core::salvage::{Replayed, Salvaged, replay, salvage};
use drey_core::store::{MemoryStore, Read, Store, StoreError, WriteSet};
use drey_core::{FOUNDED, NodeId};

use crate::config::Engine;
use crate::inspect::Files;
use crate::lock::DirectoryLock;
use crate::node::StartError;
use crate::store::{AnyStore, StoreCopy, cut_behind_damage, without_panic};

/// What was found, and what was not.
#[derive(Clone, Debug, Default)]
pub struct SalvageReport {
    /// Of each bucket that is known, in the order of names.
    pub buckets: Vec<(BucketName, Salvaged)>,
    /// What is lost, or may be, and why.
    pub lost: Vec<String>,
}

impl Files {
    /// Reads what can be read, and hands each entry to `visit`, in any order. The node must not run. Nothing is changed: the store is
    /// looked at in a copy beside it, into which the log is applied as far as it can be.
    ///
    /// # Errors
    /// If it runs, or there is no room for the copy.
    pub fn salvage(&self, visit: &mut dyn FnMut(&BucketName, Entry)) -> Result<SalvageReport, StartError> {
        let _lock = DirectoryLock::acquire(self.data_dir())?;
        let mut report = SalvageReport::default();
        let owned = self.identity().owns_log(self.log_dir()).map_err(StartError::from);
        let log = match owned.and_then(|()| self.recover_log()) {
            Ok(log) => Some(log),
            Err(error) => {
                report.lost.push(format!("what was written last, and stands in the log alone: {error}"));
                None
            }
        };
        let path = self.data_dir().join("store");
        match self.identity().engine {
            Engine::Memory => self.each_group(MemoryStore::new(), log.as_ref(), &mut report, visit),
            engine => {
                let copy = StoreCopy::of(&path).map_err(|source| StartError::Io {
                    operation: format!("copy {} to look at", path.display()),
                    source,
                })?;
                match open(engine, copy.path()) {
                    Ok((store, cut)) => {
                        // With a log that begins no later than the store ends, nothing of it is lost.
                        if cut > 0 && log.is_none() {
                            report.lost.push(format!(
                                "{cut} bytes at the end of the store's journal: what a crash interrupted, or damage"
                            ));
                        }
                        match store {
                            AnyStore::Lsm(store) => self.each_group(store, log.as_ref(), &mut report, visit),
                            AnyStore::Btree(store) => self.each_group(store, log.as_ref(), &mut report, visit),
                            AnyStore::Memory => {}
                        }
                    }
                    Err(error) => report.lost.push(format!(
                        "all that {} holds, since the engine {engine} cannot open it: {error}",
                        path.display()
                    )),
                }
            }
        }
        report.buckets.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
        Ok(report)
    }

    fn each_group<S: Store>(
        &self,
        store: S,
        log: Option<&RecoveredLog>,
        report: &mut SalvageReport,
        visit: &mut dyn FnMut(&BucketName, Entry),
    ) {
        let identity = self.identity();
        let founders = if identity.joined { Vec::new() } else { identity.first_members() };
        let configuration = Configuration::of(founders.iter().map(|founder| founder.id)).encode();
        let mut store = Careful(store);
        for group in all_groups(identity.groups) {
            let mut machine = match Machine::load(&store, group, identity.groups) {
                Ok(machine) => machine,
                Err(error) => {
                    report.lost.push(format!("group {group}: which buckets it has cannot be read: {error}"));
                    continue;
                }
            };
            if !founders.is_empty() {
                machine.found(FOUNDED, configuration.clone(), &founders);
            }
            report.lost.extend(log.and_then(|log| {
                let Some(log) = log.groups.get(&group) else {
                    return (machine.applied() > FOUNDED.0).then(|| format!("group {group}: what was written last: its log has none of it"));
                };
                let lost = match replay(&mut store, &mut machine, log, NodeId(identity.node)) {
                    Replayed::Whole => return None,
                    Replayed::Unsure(index) => format!(
                        "what stands in its log behind entry {index}, up to {}: it may or may not have been acknowledged, and is left out",
                        log.last()
                    ),
                    Replayed::Gap(index) => format!(
                        "all that was written behind entry {index}: its store ends there, and its log begins behind entry {}. What its store has may be old",
                        log.truncated.0
                    ),
                    Replayed::Failed(index, error) => format!("what stands in its log behind entry {index}: {error}"),
                };
                Some(format!("group {group}: {lost}"))
            }));
            let names: Vec<BucketName> = machine.buckets().keys().cloned().collect();
            for name in names {
                let salvaged = salvage(&store, &machine, &name, &mut |entry| visit(&name, entry));
                report.buckets.extend(salvaged.map(|salvaged| (name, salvaged)));
            }
        }
    }
}

/// Opens what is looked at. Also: how many bytes of its journals stand behind damage, or behind the last whole batch.
fn open(engine: Engine, path: &Path) -> Result<(AnyStore, u64), StoreError> {
    let cut = match engine {
        Engine::Lsm => cut_behind_damage(path).map_err(|error| StoreError::Failed(error.to_string()))?,
        Engine::Btree | Engine::Memory => 0,
    };
    Ok((without_panic(|| AnyStore::open(engine, path)).flatten()?, cut))
}

/// A store whose engine may panic over what is damaged.
struct Careful<S>(S);

impl<S: Read> Read for Careful<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        without_panic(|| self.0.get(key)).flatten()
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        without_panic(|| self.0.scan(start, end, reverse, visit)).flatten()
    }
}

impl<S: Store> Store for Careful<S> {
    type View = S::View;

    fn view(&self) -> S::View {
        self.0.view()
    }

    fn write(&mut self, batch: WriteSet) -> Result<(), StoreError> {
        without_panic(|| self.0.write(batch)).flatten()
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        without_panic(|| self.0.persist()).flatten()
    }
}
