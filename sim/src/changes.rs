//! What somebody has changed in a seed's plan: less of everything, until only what makes a run fail is left. The command line says
//! it, and so do reports, in the same words, so that what is printed can be run.

use std::fmt;

use clap::{Args, ValueEnum};

use crate::plan::{HuntPlan, Plan};

/// What can be left out of a run altogether.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Cause {
    /// Two sides, or single nodes, that do not hear each other.
    Partitions,
    /// Clients that do not reach a node.
    ClientCutOffs,
    /// Killed processes.
    Kills,
    /// Machines without power.
    PowerCuts,
    /// Deaths between two effects of a turn.
    DeathsInTurns,
    /// Power cuts while a node starts.
    DeathsAtStart,
    /// Processes that stand still.
    Pauses,
    /// Disks that hang until their machines lose power.
    Stalls,
    /// Ways on which all waits.
    Clogs,
    /// Faults that wait for their moment.
    Hunts,
    /// Whiles of heavy loss.
    Storms,
    /// Lost datagrams.
    Loss,
    /// Datagrams that come twice.
    Duplication,
    /// Datagrams that are held back.
    Delays,
    /// Datagrams that take longer than they must.
    Latency,
    /// Log writes that take longer than they must.
    SlowDisks,
    /// Storage jobs that take longer than they must.
    SlowStores,
    /// Syncs that fail.
    FailedSyncs,
    /// Wall clocks that are set wrong.
    WallClocks,
    /// Nodes that come back with another number of shards.
    Resharding,
    /// Nodes of an older program.
    OlderPrograms,
    /// Comparing replicas.
    Scrubs,
    /// Members that lose their disks.
    LostDisks,
    /// Synced bits that change.
    LostBits,
    /// More sessions than a group keeps.
    Floods,
    /// Writes that come again after they were answered.
    Strays,
    /// Disks that fill up.
    FullDisks,
    /// Nodes that are told to hand over what they lead.
    HandOvers,
    /// Nodes that are told wrongly that a peer is gone.
    Rumours,
    /// Keys with times to live.
    TimedKeys,
    /// Writes with an id, which their clients make again.
    Ids,
    /// Transactions.
    Txns,
    /// Buckets that come and go.
    Drops,
    /// Reads of a node's own copy.
    LocalReads,
    /// Clients that count together.
    Counters,
    /// Clients that lock.
    Locks,
    /// Tables of several pages.
    Tables,
    /// Clients that write a journal together.
    Journals,
    /// Clients that have groups led by others.
    Movers,
    /// Clients that drey's client library routes.
    Routing,
    /// Clients that put too much into a bucket.
    Hoards,
    /// Clients that ask for what cannot be done.
    Misuse,
    /// What is tried once all else is calm.
    Trials,
    /// The minority that stays down when all else is healed.
    MinorityDown,
}

impl Cause {
    /// All of them.
    pub fn all() -> &'static [Cause] {
        Cause::value_variants()
    }

    fn leave_out(self, plan: &mut Plan) {
        let weights = &mut plan.weights;
        match self {
            Cause::Partitions => (weights.split, weights.one_way) = (0, 0),
            Cause::ClientCutOffs => weights.client_cut_off = 0,
            Cause::Kills => weights.kill = 0,
            Cause::PowerCuts => (weights.power_cut, weights.power_cut_of_all) = (0, 0),
            Cause::DeathsInTurns => weights.die_in_turn = 0,
            Cause::DeathsAtStart => plan.die_at_start = 0,
            Cause::Pauses => weights.pause = 0,
            Cause::Stalls => weights.stall = 0,
            Cause::Clogs => weights.clog = 0,
            Cause::Hunts => plan.hunts = HuntPlan::default(),
            Cause::Storms => weights.storm = 0,
            Cause::Loss => plan.network.loss = 0,
            Cause::Duplication => plan.network.duplication = 0,
            Cause::Delays => plan.network.delay = 0,
            Cause::Latency => plan.network.latency_ms_max = 1,
            Cause::SlowDisks => (plan.storage.sync_ms_max, plan.storage.slow_sync) = (0, 0),
            Cause::SlowStores => (plan.storage.job_ms_max, plan.storage.slow_job) = (0, 0),
            Cause::FailedSyncs => plan.storage.one_fails_in = 0,
            Cause::WallClocks => plan.wall_every_ms = 0,
            Cause::Resharding => plan.reshard = 0,
            Cause::OlderPrograms => plan.older = 0,
            Cause::Scrubs => plan.scrub.every_ms = 0,
            Cause::LostDisks => plan.disks_are_lost = false,
            Cause::LostBits => plan.bits_are_lost = false,
            Cause::Floods => plan.clients.floods = 0,
            Cause::Strays => plan.clients.strays = 0,
            Cause::FullDisks => plan.room_every_ms = 0,
            Cause::HandOvers => plan.hand_over_every_ms = 0,
            Cause::Rumours => plan.network.rumour_every_ms = 0,
            Cause::TimedKeys => plan.clients.timed = 0,
            Cause::Ids => plan.asks.ids_every = 0,
            Cause::Txns => plan.asks.txns = 0,
            Cause::Drops => plan.asks.drops = 0,
            Cause::LocalReads => plan.asks.local = 0,
            Cause::Counters => plan.asks.counters = 0,
            Cause::Locks => plan.asks.lockers = 0,
            Cause::Tables => plan.asks.tables = 0,
            Cause::Journals => plan.asks.writers = 0,
            Cause::Movers => plan.asks.movers = 0,
            Cause::Routing => plan.asks.routed_every = 0,
            Cause::Hoards => plan.asks.hoarders = 0,
            Cause::Misuse => plan.asks.misusers = 0,
            Cause::Trials => plan.trials = false,
            Cause::MinorityDown => plan.minority_stays_down = false,
        }
    }
}

/// The name that the command line has for it.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// Changes of a plan.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Leave these out.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub without: Vec<Cause>,
    /// So many members at first.
    #[arg(long)]
    pub nodes: Option<usize>,
    /// So many hosts where others may join.
    #[arg(long)]
    pub spares: Option<usize>,
    /// So many groups beside the system group.
    #[arg(long)]
    pub groups: Option<u32>,
    /// So many shards at most on a node at its first start.
    #[arg(long)]
    pub shards: Option<u32>,
    /// So many clients.
    #[arg(long)]
    pub clients: Option<usize>,
    /// So many objects in use at a time, at most.
    #[arg(long)]
    pub objects: Option<usize>,
    /// So many operations of the clients' own choice.
    #[arg(long)]
    pub operations: Option<usize>,
    /// Faults happen for so long.
    #[arg(long)]
    pub faults_ms: Option<u64>,
    /// The plan is the seed's, all other chance that of this one.
    #[arg(long)]
    pub chance_of: Option<u64>,
    /// Disks say that a write is synced when it is not: a mistake to see how one is found.
    #[arg(long)]
    pub disks_lie: bool,
    /// The mutation of this number is in.
    #[cfg(feature = "mutations")]
    #[arg(long)]
    pub mutation: Option<u8>,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Whether there is less of anything. With a mutation alone a run is what it is for `mutations`.
    fn leaves_out(&self) -> bool {
        #[cfg(feature = "mutations")]
        return Changes { mutation: None, ..self.clone() } != Changes::default();
        #[cfg(not(feature = "mutations"))]
        return !self.is_empty();
    }

    /// A seed's plan with these changes.
    pub fn plan(&self, seed: u64) -> Plan {
        self.apply(&Plan::draw(seed))
    }

    /// A plan with these changes.
    pub fn apply(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        self.without.iter().for_each(|cause| cause.leave_out(&mut plan));
        plan.nodes = self.nodes.unwrap_or(plan.nodes).clamp(1, plan.nodes);
        plan.spares = self.spares.unwrap_or(plan.spares).min(plan.spares);
        plan.shards.truncate(plan.hosts());
        plan.groups = self.groups.unwrap_or(plan.groups).clamp(1, plan.groups);
        let shards_max = self.shards.unwrap_or(u32::MAX).max(1);
        plan.shards.iter_mut().for_each(|shards| *shards = (*shards).min(shards_max));
        plan.clients.clients = self.clients.unwrap_or(plan.clients.clients);
        plan.clients.objects_max = self.objects.unwrap_or(plan.clients.objects_max).max(1);
        plan.clients.operations_max = self.operations.unwrap_or(plan.clients.operations_max);
        plan.faults_ms = self.faults_ms.unwrap_or(plan.faults_ms);
        plan.seed = self.chance_of.unwrap_or(plan.seed);
        plan.disks_lie |= self.disks_lie;
        if self.leaves_out() {
            // It is to fail, not to prove anything.
            (plan.completed_min, plan.simulated_ms_min) = (0, 0);
        }
        plan.changes = self.clone();
        plan
    }
}

/// As the command line takes them: each behind a space.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.without.is_empty() {
            let causes: Vec<_> = self.without.iter().map(Cause::to_string).collect();
            write!(f, " --without {}", causes.join(","))?;
        }
        let numbers = [
            ("nodes", self.nodes.map(|number| number as u64)),
            ("spares", self.spares.map(|number| number as u64)),
            ("groups", self.groups.map(u64::from)),
            ("shards", self.shards.map(u64::from)),
            ("clients", self.clients.map(|number| number as u64)),
            ("objects", self.objects.map(|number| number as u64)),
            ("operations", self.operations.map(|number| number as u64)),
            ("faults-ms", self.faults_ms),
            ("chance-of", self.chance_of),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(f, " --{name} {number}")?;
            }
        }
        if self.disks_lie {
            f.write_str(" --disks-lie")?;
        }
        #[cfg(feature = "mutations")]
        if let Some(number) = self.mutation {
            write!(f, " --mutation {number}")?;
        }
        Ok(())
    }
}

/// Takes out again what [`Changes::mutate`] has put in.
#[cfg(feature = "mutations")]
pub struct Mutated;

#[cfg(feature = "mutations")]
impl Drop for Mutated {
    fn drop(&mut self) {
        drey_core::mutation::set(None);
    }
}

#[cfg(feature = "mutations")]
impl Changes {
    /// Puts their mutation, if they have one, into all that this thread runs, until what is answered is dropped.
    pub fn mutate(&self) -> Option<Mutated> {
        let number = self.mutation?;
        let mutation = *drey_core::mutation::Mutation::ALL.iter().find(|mutation| mutation.number() == number)?;
        drey_core::mutation::set(Some(mutation));
        Some(Mutated)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        changes: Changes,
    }

    #[test]
    fn what_is_printed_can_be_run() {
        let changes = Changes {
            without: Cause::all().to_vec(),
            nodes: Some(3),
            spares: Some(0),
            groups: Some(1),
            shards: Some(2),
            clients: Some(2),
            objects: Some(1),
            operations: Some(40),
            faults_ms: Some(8_000),
            chance_of: Some(7),
            disks_lie: true,
            #[cfg(feature = "mutations")]
            mutation: Some(4),
        };
        let line = format!("run{changes}");
        assert_eq!(Line::parse_from(line.split(' ')).changes, changes);
        assert_eq!(Changes::default().to_string(), "");
    }

    #[test]
    fn each_cause_can_be_left_out_and_is_there_in_some_seed() {
        for &cause in Cause::all() {
            let there = |seed| {
                let plan = Plan::draw(seed);
                let mut without = plan.clone();
                cause.leave_out(&mut without);
                format!("{plan:?}") != format!("{without:?}")
            };
            assert!((0..200).any(there), "{cause}");
        }
    }
}
