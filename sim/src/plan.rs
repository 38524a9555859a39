//! What a seed decides before anything runs: how large the cluster is, how fast its parts are, what goes wrong and how often.

use drey_core::config::{LogLimits, ScrubLimits, Timing, TransferLimits};
use drey_core::wire::outbox::OUTBOX_BYTES_MAX;

use crate::changes::Changes;
use crate::lies::Lie;
use crate::rng::Rng;
use crate::run::{COMPLETED_MIN, SIMULATED_MS_MIN};

/// The most shards of a node.
pub const SHARDS_MAX: u64 = 4;

/// A disk that takes so many bytes each millisecond is fast.
const FAST_LOG_BYTES_PER_MS: u64 = 1 << 20;

/// So many clients are many.
const DENSE_CLIENTS_MIN: usize = 80;

/// The parameters of a run. Rates are in per mille of the cases.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything else.
    pub seed: u64,
    /// The seed that decided this plan: the same, unless somebody changed that.
    pub of_seed: u64,
    /// What somebody has changed in it.
    pub changes: Changes,
    /// Members at first: 3, 5, or one that others join.
    pub nodes: usize,
    /// Hosts without a member at first: nodes may join there.
    pub spares: usize,
    /// Between two changes of who the members are, about.
    pub change_every_ms: u64,
    /// Nobody joins or leaves before.
    pub changes_begin_ms: u64,
    /// Groups that hold buckets.
    pub groups: u32,
    /// Of each node at its first start.
    pub shards: Vec<u32>,
    /// Raft's and the requests' times.
    pub timing: Timing,
    /// Elections are contended.
    pub is_contended: bool,
    /// Small segments, so that they are released, recycled and truncated all the time.
    pub log: LogLimits,
    /// Small messages, in some of the seeds, so that there is something between two of them.
    pub transfer: TransferLimits,
    /// How often replicas are compared, and how much at once.
    pub scrub: ScrubLimits,
    /// How long faults happen, at least.
    pub faults_ms: u64,
    /// They go on until so many operations were completed.
    pub completed_min: usize,
    /// The run goes on for so long.
    pub simulated_ms_min: u64,
    /// Between two planned faults, about.
    pub fault_every_ms: u64,
    /// Between two settings of a wall clock, about; 0: nobody touches them.
    pub wall_every_ms: u64,
    /// A node is told to hand over, once in so many ms on average; 0: never.
    pub hand_over_every_ms: u64,
    /// Between two times that disks fill up, on average; 0: never.
    pub room_every_ms: u64,
    /// Of the starts behind a death: with another number of shards.
    pub reshard: u32,
    /// Of all starts: of an older program.
    pub older: u32,
    /// Of the starts behind a death: with a power cut in the middle.
    pub die_at_start: u32,
    /// Members lose their disks, where members change.
    pub disks_are_lost: bool,
    /// Members lose bits that they had synced, where members change.
    pub bits_are_lost: bool,
    /// Something is tried once all else is calm.
    pub trials: bool,
    /// Datagrams between nodes.
    pub network: NetworkPlan,
    /// Disks and stores.
    pub storage: StoragePlan,
    /// What the clients do.
    pub clients: ClientPlan,
    /// What else they do.
    pub asks: AskPlan,
    /// How likely each planned fault is, beside the others.
    pub weights: FaultWeights,
    /// Faults that wait for their moment.
    pub hunts: HuntPlan,
    /// The disks say that a write is synced when it is not: no seed decides that, tests of the checkers do.
    pub disks_lie: bool,
    /// Answers are changed on their way to the clients: as above, tests of the checkers decide that.
    pub lie: Option<Lie>,
    /// A minority of the nodes stays down when the others must go on.
    pub minority_stays_down: bool,
}

/// Of datagrams between nodes.
#[derive(Clone, Copy, Debug)]
pub struct NetworkPlan {
    /// A link's longest latency, in general.
    pub latency_ms_max: u64,
    /// Datagrams lost.
    pub loss: u32,
    /// Datagrams that come twice.
    pub duplication: u32,
    /// Datagrams held back.
    pub delay: u32,
    /// For how long, at most.
    pub delay_ms_max: u64,
    /// A node is told by mistake that a peer is gone, once in so many ms on average; 0: never.
    pub rumour_every_ms: u64,
    /// What may wait for a link, in bytes.
    pub outbox_bytes_max: usize,
}

/// Of disks and stores.
#[derive(Clone, Copy, Debug)]
pub struct StoragePlan {
    /// A log write with its sync, mostly.
    pub sync_ms_max: u64,
    /// What a shard's log writes takes longer by a millisecond for so many bytes.
    pub log_bytes_per_ms: u64,
    /// A storage job, mostly.
    pub job_ms_max: u64,
    /// Writes that take long.
    pub slow_sync: u32,
    /// Storage jobs that take long.
    pub slow_job: u32,
    /// How long, at most.
    pub slow_ms_max: u64,
    /// The sync of one log write in so many fails; 0: of none.
    pub one_fails_in: u64,
}

/// Of the clients.
#[derive(Clone, Copy, Debug)]
pub struct ClientPlan {
    /// How many there are.
    pub clients: usize,
    /// Until then they ask nothing, and no bucket is made.
    pub begin_ms: u64,
    /// Between an answer and the next call, at most.
    pub think_ms_max: u64,
    /// The shortest and the longest deadline.
    pub deadline_ms: (u64, u64),
    /// Reads among all calls.
    pub reads: u32,
    /// The longest value, mostly.
    pub value_bytes_max: u64,
    /// How often somebody opens more sessions in a group than it keeps.
    pub floods: usize,
    /// Of the writes with an id: those that come again after they were answered.
    pub strays: u32,
    /// So many clients beside the others ask about keys with times to live, and draw nothing else.
    pub timed: usize,
    /// At most so many objects are in use at a time.
    pub objects_max: usize,
    /// At most so many operations are drawn.
    pub operations_max: usize,
}

/// How often each planned fault is chosen, relative to the others.
#[derive(Clone, Copy, Debug)]
pub struct FaultWeights {
    /// Two sides that do not hear each other.
    pub split: u64,
    /// One node that is not heard, or hears nothing.
    pub one_way: u64,
    /// Clients that do not reach a node.
    pub client_cut_off: u64,
    /// A killed process.
    pub kill: u64,
    /// A machine without power.
    pub power_cut: u64,
    /// All of them.
    pub power_cut_of_all: u64,
    /// A death between two effects.
    pub die_in_turn: u64,
    /// A process that stands still.
    pub pause: u64,
    /// A disk that hangs until its machine loses power.
    pub stall: u64,
    /// Ways on which all waits.
    pub clog: u64,
    /// A while of heavy loss.
    pub storm: u64,
}

/// Faults that wait for their moment, which chance alone would seldom meet. In per mille of these moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HuntPlan {
    /// A leader was elected: it is cut off soon.
    pub leaders: u32,
    /// A leader was elected while another campaigns in the same term: that one's question comes when it leads no more.
    pub rivals: u32,
    /// A leader was elected, or changes the configuration: what the others answer takes long.
    pub unsettled: u32,
    /// Members know different configurations: those who know the latest are parted from the others.
    pub configurations: u32,
    /// A member is to leave: it is cut off for a while. This one needs no group to be watched.
    pub leavers: u32,
}

impl HuntPlan {
    /// Whether a group is watched.
    pub fn watches(&self) -> bool {
        self.leaders + self.rivals + self.unsettled + self.configurations > 0
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Plan {
        let rng = &mut Rng::stream(seed, "plan", 0);
        let nodes = if rng.chance(350) { 5 } else { 3 };
        let tick_ms = *rng.pick(&[50, 100]);
        let mut plan = Plan {
            seed,
            of_seed: seed,
            changes: Changes::default(),
            nodes,
            spares: 0,
            change_every_ms: 0,
            changes_begin_ms: 0,
            groups: rng.between(2, 4) as u32,
            shards: (0..nodes).map(|_| rng.between(1, SHARDS_MAX) as u32).collect(),
            timing: Timing {
                tick_ms,
                heartbeat_ticks: 1,
                election_ticks: *rng.pick(&[8, 10, 12]),
                leader_wait_ms: rng.between(200, 1_000),
                read_retry_ms: rng.between(150, 500),
                snapshot_ack_ms: rng.between(500, 2_000),
                snapshot_resume_ms: Rng::stream(seed, "transfer", 1).between(500, 20_000),
            },
            is_contended: false,
            log: LogLimits {
                segment_bytes: *rng.pick(&[32 << 10, 64 << 10, 128 << 10, 256 << 10]),
                segments_kept: rng.between(1, 3) as usize,
                held_bytes_max: *Rng::stream(seed, "transfer", 2).pick(&[
                    0,
                    64 << 10,
                    LogLimits::default().held_bytes_max,
                ]),
            },
            transfer: draw_transfer(seed),
            scrub: draw_scrub(seed),
            faults_ms: 28_000,
            completed_min: COMPLETED_MIN,
            simulated_ms_min: SIMULATED_MS_MIN,
            fault_every_ms: rng.between(1_000, 5_000),
            wall_every_ms: if Rng::stream(seed, "walls", 1).chance(800) { 2_500 } else { 0 },
            hand_over_every_ms: 30_000,
            room_every_ms: if Rng::stream(seed, "rooms", 1).chance(300) { 4_000 } else { 0 },
            reshard: 350,
            older: if Rng::stream(seed, "programs", 0).chance(300) { 500 } else { 0 },
            die_at_start: 120,
            disks_are_lost: true,
            bits_are_lost: true,
            trials: true,
            network: NetworkPlan {
                latency_ms_max: rng.between(5, 30),
                loss: sometimes(rng, 80),
                duplication: sometimes(rng, 60),
                delay: sometimes(rng, 60),
                delay_ms_max: rng.between(20, 500),
                rumour_every_ms: 20_000,
                outbox_bytes_max: draw_outbox(seed),
            },
            storage: StoragePlan {
                sync_ms_max: rng.between(0, 15),
                log_bytes_per_ms: FAST_LOG_BYTES_PER_MS,
                job_ms_max: rng.between(0, 15),
                slow_sync: sometimes(rng, 20),
                slow_job: sometimes(rng, 20),
                slow_ms_max: rng.between(150, 1_500),
                one_fails_in: 0,
            },
            clients: ClientPlan {
                clients: rng.between(5, 9) as usize,
                begin_ms: 0,
                think_ms_max: rng.between(60, 200),
                deadline_ms: (rng.between(200, 500), rng.between(600, 1_500)),
                reads: rng.between(250, 600) as u32,
                value_bytes_max: *rng.pick(&[40, 40, 300, 3_000]),
                floods: if Rng::stream(seed, "floods", 0).chance(30) { 3 } else { 0 },
                strays: 60,
                timed: 2,
                objects_max: usize::MAX,
                operations_max: usize::MAX,
            },
            asks: AskPlan::draw(seed),
            weights: FaultWeights {
                split: rng.below(4),
                one_way: rng.below(4),
                client_cut_off: rng.below(3),
                kill: rng.below(4),
                power_cut: 1 + rng.below(4),
                power_cut_of_all: rng.below(2),
                die_in_turn: 1 + rng.below(5),
                pause: rng.below(3),
                stall: rng.below(4),
                clog: rng.below(3),
                storm: rng.below(2),
            },
            hunts: HuntPlan::default(),
            disks_lie: false,
            lie: None,
            minority_stays_down: rng.chance(250),
        };
        if rng.chance(500) {
            plan.spares = rng.between(1, 2) as usize;
            plan.change_every_ms = rng.between(500, 4_000);
            plan.shards.extend((0..plan.spares).map(|_| rng.between(1, SHARDS_MAX) as u32));
            // Who is a minority changes.
            plan.minority_stays_down = false;
        }
        let syncs = &mut Rng::stream(seed, "syncs", 0);
        if syncs.chance(300) {
            plan.storage.one_fails_in = syncs.between(300, 3_000);
        }
        plan.hunt();
        plan.contend();
        plan.ask_densely();
        plan.begin_alone();
        plan
    }

    /// In some of the seeds one founds the cluster alone, and others join before anything is written, or just as it begins.
    fn begin_alone(&mut self) {
        let rng = &mut Rng::stream(self.seed, "alone", 0);
        if !rng.chance(if self.is_contended { 400 } else { 120 }) {
            return;
        }
        self.nodes = 1;
        self.spares = 4;
        self.change_every_ms = rng.between(200, 1_000);
        self.shards = (0..self.hosts()).map(|_| rng.between(1, SHARDS_MAX) as u32).collect();
        self.changes_begin_ms = if rng.chance(500) { rng.below(10_000) } else { 0 };
        self.clients.begin_ms = rng.below(8_000);
        self.minority_stays_down = false;
    }

    /// In some of the seeds faults wait for their moment.
    fn hunt(&mut self) {
        let rng = &mut Rng::stream(self.seed, "hunts", 0);
        if !rng.chance(400) {
            return;
        }
        self.hunts = HuntPlan {
            leaders: *rng.pick(&[0, 300, 600, 900]),
            rivals: 800,
            unsettled: *rng.pick(&[0, 500]),
            configurations: if self.spares > 0 { 500 } else { 0 },
            leavers: 400,
        };
        if self.hunts.leaders > 0 && rng.chance(500) {
            // What a new leader has of its own is on its way apart from what it found.
            self.transfer.append_bytes_max = 1;
        }
        if self.spares > 0 && rng.chance(500) {
            self.change_every_ms = rng.between(50, 500);
        }
    }

    /// In some of the seeds members are quick to take each other for dead and quick to return, so that several campaign in one term,
    /// and who dies with a promise is asked again at once.
    fn contend(&mut self) {
        let rng = &mut Rng::stream(self.seed, "contention", 0);
        if !rng.chance(150) {
            return;
        }
        self.is_contended = true;
        if self.spares == 0 && rng.chance(500) {
            self.spares = 2;
            self.shards.resize(self.hosts(), 1);
            self.change_every_ms = 1_000;
            self.minority_stays_down = false;
        }
        (self.timing.tick_ms, self.timing.election_ticks) = (*rng.pick(&[40, 60]), *rng.pick(&[3, 4]));
        self.fault_every_ms = rng.between(200, 1_000);
        self.change_every_ms = self.change_every_ms.min(1_000);
        self.network.latency_ms_max = rng.between(5, 15);
        (self.network.delay, self.network.delay_ms_max) = (rng.between(20, 100) as u32, rng.between(30, 300));
        self.network.rumour_every_ms = rng.between(500, 3_000);
        self.storage.slow_ms_max = rng.between(150, 300);
        self.weights.die_in_turn = 12;
        self.weights.pause = 0;
    }

    /// In some of the seeds so many clients ask that turns, frames and log writes are shared.
    fn ask_densely(&mut self) {
        let rng = &mut Rng::stream(self.seed, "density", 0);
        if rng.chance(150) {
            self.clients.clients = rng.between(DENSE_CLIENTS_MIN as u64, DENSE_CLIENTS_MIN as u64 + 20) as usize;
            self.clients.think_ms_max = rng.between(5, 30);
            if rng.chance(200) {
                self.storage.log_bytes_per_ms = rng.between(300, 3_000);
            }
            // Their states are large.
            self.transfer.chunk_bytes = TransferLimits::default().chunk_bytes;
            self.transfer.bytes_per_second = 0;
            self.scrub.part_bytes = ScrubLimits::default().part_bytes;
            (self.timing.tick_ms, self.timing.election_ticks) = (100, 10);
            // A store that takes longer for a job does not keep up with so many, and is behind for as long after the faults as
            // they lasted.
            self.storage.job_ms_max = self.storage.job_ms_max.min(4);
            self.storage.slow_job = self.storage.slow_job.min(3);
            self.network.latency_ms_max = self.network.latency_ms_max.min(20);
            // Large pages and values are for seeds with fewer answers.
            (self.asks.tables, self.asks.misusers) = (0, 0);
        }
    }

    /// Whether this is such a seed.
    pub fn is_dense(&self) -> bool {
        self.clients.clients >= DENSE_CLIENTS_MIN
    }

    /// The states of replicas are compared at every so many indexes: to hash a whole state takes longer than all else, and what
    /// differs stays different.
    pub fn compare_every(&self) -> u64 {
        if self.is_dense() || self.clients.floods > 0 || self.asks.tables > 0 { 32 } else { 1 }
    }

    /// Hosts of nodes, numbered from 1.
    pub fn hosts(&self) -> usize {
        self.nodes + self.spares
    }
}

/// In some of the seeds links take little at once, as slow ones do.
fn draw_outbox(seed: u64) -> usize {
    let rng = &mut Rng::stream(seed, "outbox", 0);
    if rng.chance(100) { rng.between(1 << 10, 64 << 10) as usize } else { OUTBOX_BYTES_MAX }
}

/// In most of the seeds replicas are compared all the time.
fn draw_scrub(seed: u64) -> ScrubLimits {
    let rng = &mut Rng::stream(seed, "scrub", 0);
    let every_ms = if rng.chance(600) { rng.between(1_000, 6_000) } else { 0 };
    ScrubLimits { every_ms, part_bytes: *rng.pick(&[8 << 10, 64 << 10, ScrubLimits::default().part_bytes]) }
}

fn draw_transfer(seed: u64) -> TransferLimits {
    let rng = &mut Rng::stream(seed, "transfer", 0);
    let TransferLimits { append_bytes_max, chunk_bytes, .. } = TransferLimits::default();
    TransferLimits {
        append_bytes_max: *rng.pick(&[append_bytes_max, 4 << 10, 1]),
        chunk_bytes: *rng.pick(&[chunk_bytes, 64 << 10, 16 << 10, 2 << 10]),
        bytes_per_second: *rng.pick(&[0, 0, 1 << 20, 256 << 10]),
    }
}

/// In a part of the seeds none at all, in the others up to `max`.
fn sometimes(rng: &mut Rng, max: u64) -> u32 {
    if rng.chance(350) { 0 } else { rng.between(1, max) as u32 }
}

/// What is asked in some of the seeds beside reads, writes and batches. Rates are in per mille of the calls that could be such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskPlan {
    /// Every so many-th client gives its writes ids, and makes them again; 0: none does.
    pub ids_every: usize,
    /// Every so many-th client is a thread of a program that drey's client library routes; 0: none is.
    pub routed_every: usize,
    /// Transactions; and objects of three keys.
    pub txns: u32,
    /// Calls about keys whose bucket comes and goes.
    pub drops: u32,
    /// Reads of a node's own copy.
    pub local: u32,
    /// Clients that count together.
    pub counters: usize,
    /// Clients that lock.
    pub lockers: usize,
    /// Clients that write and scan a table of several pages.
    pub tables: usize,
    /// Clients that write a journal together.
    pub writers: usize,
    /// Clients that have groups led by others.
    pub movers: usize,
    /// Clients that ask for what cannot be done.
    pub misusers: usize,
    /// Clients that put too much into a bucket.
    pub hoarders: usize,
}

impl AskPlan {
    fn draw(seed: u64) -> AskPlan {
        let rng = &mut Rng::stream(seed, "asks", 0);
        let mut some = |of_seeds: u32, low: u64, high: u64| {
            let (is_one, drawn) = (rng.chance(of_seeds), rng.between(low, high));
            if is_one { drawn } else { 0 }
        };
        AskPlan {
            ids_every: *Rng::stream(seed, "ids", 0).pick(&[2, 2, 2, 1, 0]),
            routed_every: *Rng::stream(seed, "routed", 0).pick(&[0, 0, 1, 2, 3]),
            txns: some(500, 200, 800) as u32,
            drops: some(350, 60, 200) as u32,
            local: some(500, 100, 400) as u32,
            counters: some(300, 2, 4) as usize,
            lockers: some(250, 2, 4) as usize,
            tables: some(80, 2, 3) as usize,
            writers: some(300, 2, 4) as usize,
            movers: some(200, 1, 2) as usize,
            misusers: some(250, 1, 1) as usize,
            hoarders: some(250, 1, 2) as usize,
        }
    }
}
