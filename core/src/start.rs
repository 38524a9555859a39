//! How a shard comes up from what a node found on its disk: the same for the real one and the simulated one.

use std::sync::Arc;

use crate::config::Config;
use crate::log::RecoveredLog;
use crate::machine::Machine;
use crate::placement::{all_groups, shard_of};
use crate::raft::Configuration;
use crate::replica::FOUNDED;
use crate::shard::{RecoverError, Recovered, Shard};
use crate::storage::{SnapshotMeta, StorageWorker};
use crate::store::Store;
use crate::types::Tick;

/// Brings up one shard and its storage worker. `seed` must be drawn anew at each start.
pub fn start_shard<S: Store>(
    config: Config,
    seed: u64,
    now: Tick,
    log: &RecoveredLog,
    store: S,
) -> Result<(Shard, StorageWorker<S>), RecoverError> {
    let mut machines = Vec::new();
    let founders = Configuration::of(config.founders.iter().map(|founder| founder.id)).encode();
    let mut recovered = Recovered { epoch: log.next_epoch, ..Recovered::default() };
    for group in all_groups(config.groups).filter(|&group| shard_of(group, config.shards) == config.shard) {
        let mut machine =
            Machine::load(&store, group, config.groups).map_err(|error| RecoverError(error.to_string()))?;
        if !config.founders.is_empty() {
            machine.found(FOUNDED, founders.clone(), &config.founders);
        }
        if let Some(members) = machine.members() {
            recovered.members = Some(Arc::clone(members));
        }
        let stored = SnapshotMeta {
            index: machine.applied(),
            term: machine.applied_term(),
            configuration: machine.configuration().clone(),
        };
        recovered.stored.insert(group, stored);
        recovered.clocks.insert(group, machine.clock());
        if let Some(log) = log.groups.get(&group) {
            recovered.logs.insert(group, log.clone());
        }
        machines.push(machine);
    }
    let mut worker = StorageWorker::new(store, machines, log.next_epoch);
    recovered.staged = worker.find_staged().map_err(|error| RecoverError(error.to_string()))?;
    Ok((Shard::recover(config, seed, now, recovered)?, worker))
}
