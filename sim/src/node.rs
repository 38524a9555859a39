//! A node: what outlives its processes (the disk, the store, whom it knows) and, while it runs, its process. Its start is
//! here: read the log, seal what was torn, bring up every shard, as the real node does.

use std::rc::Rc;

use drey_core::config::Config;
use drey_core::log::{LogScan, RecoveredLog};
use drey_core::placement::shard_of;
use drey_core::store::{Store, WriteSet};
use drey_core::system::Founder;
use drey_core::wire::format::{FORMAT, FORMAT_OLDEST};
use drey_core::wire::handshake::Acquaintances;
use drey_core::{ClusterId, GroupId, Incarnation, NodeId, Room, ShardId, Tick, start_shard};

use crate::checker::Violation;
use crate::checker::expiry::RIGHT_WALLS_DIFFER_MS_MAX;
use crate::disk::Disk;
use crate::driver::Net;
use crate::faults::Fault;
use crate::links::Links;
use crate::operator::Part;
use crate::plan::{Plan, SHARDS_MAX, StoragePlan};
use crate::process::Process;
use crate::rng::Rng;
use crate::room::ROOMY;
use crate::shared::Shared;
use crate::store::SharedStore;
use crate::story::{Event, Topic, What};

/// The cluster's name.
pub const CLUSTER: ClusterId = ClusterId(0x5eed);
/// The time on the nodes' clocks when the world begins, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// How far a wall clock is off that is right.
const SKEW_MS_MAX: u64 = RIGHT_WALLS_DIFFER_MS_MAX / 4;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The machine goes on.
    Kill,
    /// It does not.
    PowerCut,
}

/// Behind which effect a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Any.
    Anything,
    /// A write to the disk, so that it is under way.
    Write,
    /// A segment's first write: what did not fit into the last segment is under way.
    FirstWrite,
    /// Soon behind a write of terms and votes: what they promise may be out already.
    Promise,
}

/// A death to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doom {
    /// So many effects are performed.
    pub effects: u64,
    /// Then one of these.
    pub behind: Behind,
    /// From then on what it writes is not synced, for so long.
    pub stalls_ms: u64,
    /// Then this.
    pub death: Death,
}

/// One machine with its disk.
pub struct Node {
    host: usize,
    /// What it is to the cluster; none: nothing, so that a node may join there.
    pub part: Option<Part>,
    plan: Rc<Plan>,
    rng: Rng,
    /// Decides which program starts.
    programs: Rng,
    disk: Disk,
    store: SharedStore,
    known: Acquaintances,
    shards: u32,
    starts: u64,
    skew_ms: u64,
    /// How far somebody has set its wall clock off.
    wrong_ms: i64,
    /// What its disk has left.
    room: Room,
    storage: StoragePlan,
    /// The process, while there is one.
    pub process: Option<Process>,
    /// The next start ends with a power cut in its middle.
    dies_at_start: bool,
    /// What the next process dies of.
    pub doom: Option<Doom>,
    /// A bit of its log has changed: it need not start.
    pub has_rotted: bool,
    /// It did not.
    pub is_damaged: bool,
}

impl Node {
    /// A machine with an empty disk: a founder's, or a spare one.
    pub fn new(host: usize, plan: Rc<Plan>) -> Node {
        let mut rng = Rng::stream(plan.seed, "node", host as u64);
        let founders = 1..=plan.nodes;
        let part = founders.contains(&host).then(|| Part {
            id: NodeId(host as u64),
            incarnation: Incarnation(1000 + host as u64),
            joined: false,
            impostor: false,
            peers: founders.map(|host| (NodeId(host as u64), host)).collect(),
        });
        Node {
            host,
            part,
            disk: Disk::new(Rng::stream(plan.seed, "disk", host as u64), plan.disks_lie),
            store: SharedStore::default(),
            known: Acquaintances::default(),
            shards: plan.shards[host - 1],
            starts: 0,
            skew_ms: rng.between(0, 2 * SKEW_MS_MAX),
            wrong_ms: 0,
            room: ROOMY,
            storage: plan.storage,
            process: None,
            dies_at_start: false,
            doom: None,
            has_rotted: false,
            is_damaged: false,
            rng,
            programs: Rng::stream(plan.seed, "program", host as u64),
            plan,
        }
    }

    /// Its id; 0 while it is no member.
    pub fn id(&self) -> NodeId {
        self.part.as_ref().map_or(NodeId(0), |part| part.id)
    }

    fn wall_base_ms(&self) -> u64 {
        (EPOCH_MS - SKEW_MS_MAX + self.skew_ms).saturating_add_signed(self.wrong_ms)
    }

    /// Somebody sets its wall clock so far off, or right (0). Whether that changes anything.
    pub fn set_wall_clock(&mut self, wrong_ms: i64) -> bool {
        let changes = self.wrong_ms != wrong_ms;
        self.wrong_ms = wrong_ms;
        let wall_base_ms = self.wall_base_ms();
        if let Some(process) = &mut self.process {
            process.clock.wall_base_ms = wall_base_ms;
        }
        changes
    }

    /// Its disk has so much room from now on.
    pub fn fill_disk(&mut self, room: Room, shared: &mut Shared) {
        if self.room == room {
            return;
        }
        self.room = room;
        shared.disk_has(self.host, room);
        if room != ROOMY {
            shared.happened(self.host, Fault::DiskFull, format_args!("{} MiB are left", room.free_bytes >> 20));
        }
        if let Some(process) = &mut self.process {
            process.has_room(room, shared);
        }
    }

    /// Its own number among the hosts.
    pub fn host(&self) -> usize {
        self.host
    }

    /// An empty disk in the place of what it had.
    pub fn wipe(&mut self) {
        self.process = None;
        self.part = None;
        self.disk = Disk::new(Rng::new(self.rng.next_u64()), self.plan.disks_lie);
        self.store = SharedStore::default();
        self.known = Acquaintances::default();
        (self.doom, self.dies_at_start) = (None, false);
        (self.has_rotted, self.is_damaged) = (false, false);
    }

    /// What it is to the cluster, if it is what it says.
    pub fn member(&self) -> Option<&Part> {
        self.part.as_ref().filter(|part| !part.impostor)
    }

    /// Whether it would tell another disk from the one that this member had.
    pub fn knows(&self, part: &Part) -> bool {
        self.known.incarnations.get(&part.id) == Some(&part.incarnation)
    }

    /// Starts anew on an empty disk, under the id that it had.
    pub fn come_back(&mut self, part: Part) {
        let incarnation = Incarnation(self.rng.next_u64() >> 1);
        self.part = Some(Part { incarnation, impostor: true, ..part });
    }

    /// Changes a bit of what its log had synced. False: there is none of which it can know.
    pub fn lose_bit(&mut self, number: u64) -> bool {
        self.has_rotted = self.disk.rot(number);
        self.has_rotted
    }

    /// Changes a bit near the end of what it has synced of a group. False: there is none of which it can know.
    pub fn lose_last_bit(&mut self, group: GroupId, number: u64) -> bool {
        self.has_rotted = self.disk.rot_end(shard_of(group, self.shards).0, number);
        self.has_rotted
    }

    /// Changes a bit of a value in its store, behind everybody's back. False: it has none.
    pub fn alter_value(&mut self, group: GroupId, number: u64) -> bool {
        let Some(process) = &self.process else { return false };
        let mut values = process.lasting_values(group);
        if values.is_empty() {
            return false;
        }
        let (key, value) = values.swap_remove((number % values.len() as u64) as usize);
        let mut altered = value.to_vec();
        if let Some(last) = altered.last_mut() {
            *last ^= 1;
        }
        self.store.write(WriteSet { changes: [(key, Some(altered.into()))].into() }).is_ok()
    }

    /// Whether it runs and serves.
    pub fn is_up(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.is_dead())
    }

    /// Starts a process. False: it died in the middle of it.
    pub fn start(&mut self, shared: &mut Shared) -> bool {
        let Some(part) = self.part.clone() else { return false };
        self.starts += 1;
        shared.coverage.starts += 1;
        shared.exchange.starts.insert(self.host, self.starts);
        shared.exchange.refusing.remove(&self.host);
        let log = match self.recover_log(shared) {
            Ok(Some(log)) => log,
            Ok(None) => return false,
            Err(_) if self.has_rotted => {
                self.is_damaged = true;
                return false;
            }
            Err(why) => {
                shared.violated(Violation::new(
                    "a node starts from what its disk kept",
                    format!("node {}: {why}", self.id()),
                ));
                return false;
            }
        };
        let mono_base_ms = self.rng.between(0, 1_000_000);
        let clock = Clock { mono_base_ms, wall_base_ms: self.wall_base_ms() };
        let mut shards = Vec::new();
        for shard in 0..self.shards {
            let seed = self.rng.next_u64();
            let started =
                start_shard(self.config(ShardId(shard)), seed, clock.read(shared.now_ms), &log, self.store.clone());
            match started {
                Ok(started) => shards.push(started),
                Err(_) if self.has_rotted => {
                    self.is_damaged = true;
                    return false;
                }
                Err(why) => {
                    let seen = format!("node {} shard {shard}: {why}", self.id());
                    shared.violated(Violation::new("a node starts from what its disk kept", seen));
                    return false;
                }
            }
        }
        let links = Links::new(
            (CLUSTER, part.id, part.incarnation),
            &part.peers,
            (self.shards, self.draw_format()),
            self.starts,
            self.plan.network.outbox_bytes_max,
        );
        let rng = Rng::new(self.rng.next_u64());
        let config = self.config(ShardId(0));
        let mut process =
            Process::new((self.host, config, self.storage), &self.plan, rng, clock, shards, links, log.segments);
        process.doom = self.doom.take();
        process.has_room(self.room, shared);
        shared.exchange.running.insert(self.host);
        shared.exchange.nodes.insert(self.host, part.id);
        shared.exchange.members.remove(&self.host);
        let (host, name) = (self.host, format!("n{}", part.id));
        shared.trace.tell(|| {
            let text = format!("{name} starts, {} shards", self.shards);
            Some(Event::new(host, Topic::Process, text).did(What::Up(name)))
        });
        self.process = Some(process);
        true
    }

    /// What the program speaks that starts: nodes are replaced by newer ones, and by older ones again.
    fn draw_format(&mut self) -> u16 {
        if self.programs.chance(self.plan.older) { FORMAT_OLDEST } else { FORMAT }
    }

    /// Reads the log and seals it. None: the power failed before that was done.
    fn recover_log(&mut self, shared: &mut Shared) -> Result<Option<RecoveredLog>, String> {
        let mut scan = LogScan::new(CLUSTER, self.id());
        for segment in self.disk.segments() {
            scan.segment(segment, &self.disk.read(segment)).map_err(|damage| damage.to_string())?;
        }
        let log = scan.finish().map_err(|damage| damage.to_string())?;
        shared.trace.event(format_args!(
            "node {} starts: shards {}, epoch {}, {} segments, seals {:?}, disk {:016x}",
            self.id(),
            self.shards,
            log.next_epoch,
            log.segments.len(),
            log.seals.iter().map(|seal| (seal.segment, seal.offset)).collect::<Vec<_>>(),
            self.disk.hash()
        ));
        let dies_before = self.dies_at_start.then(|| self.rng.below(2 * log.seals.len() as u64 + 1));
        self.dies_at_start = false;
        for (number, seal) in log.seals.iter().enumerate() {
            shared.coverage.seals += 1;
            if dies_before == Some(2 * number as u64) {
                return Ok(self.die_at_start(shared));
            }
            self.disk.sync(seal.segment);
            if let Err(seen) = self.disk.write_now(seal.segment, seal.offset, &seal.bytes) {
                // Whatever was damaged: what was synced must not be written over.
                shared.violated(Violation::new("the log's rules for its files", format!("node {}: {seen}", self.id())));
                return Ok(None);
            }
            if dies_before == Some(2 * number as u64 + 1) {
                return Ok(self.die_at_start(shared));
            }
            self.disk.sync(seal.segment);
        }
        if dies_before.is_some() {
            return Ok(self.die_at_start(shared));
        }
        Ok(Some(log))
    }

    fn die_at_start(&mut self, shared: &mut Shared) -> Option<RecoveredLog> {
        shared.happened(self.host, Fault::DiedAtStart, format_args!("node {}", self.id()));
        self.lose_power(shared);
        None
    }

    fn config(&self, shard: ShardId) -> Config {
        Config {
            node: self.id(),
            cluster: CLUSTER,
            epoch: 0,
            shard,
            shards: self.shards,
            groups: self.plan.groups,
            founders: match &self.part {
                Some(Part { joined: false, .. }) => (1..=self.plan.nodes as u64).map(Founder::numbered).collect(),
                _ => Vec::new(),
            },
            timing: self.plan.timing,
            log: self.plan.log,
            transfer: self.plan.transfer,
            scrub: self.plan.scrub,
        }
    }

    /// Ends the process. The next start may have another number of shards, and may itself be cut off.
    pub fn die(&mut self, death: Death, may_change: bool, shared: &mut Shared) {
        self.process = None;
        self.doom = None;
        shared.exchange.running.remove(&self.host);
        if death == Death::Kill {
            shared.exchange.refusing.insert(self.host);
        }
        match death {
            Death::Kill => self.disk.kill(&mut shared.faults),
            Death::PowerCut => self.lose_power(shared),
        }
        shared.trace.tell(|| {
            let text = if death == Death::Kill { "is down: killed" } else { "is down: no power" };
            Some(Event::new(self.host, Topic::Process, text).did(What::Down))
        });
        shared.trace.event(format_args!("node {} is down, disk {:016x}", self.id(), self.disk.hash()));
        if may_change && self.rng.chance(self.plan.reshard) {
            let shards = self.rng.between(1, SHARDS_MAX) as u32;
            if shards != self.shards {
                self.shards = shards;
                shared.happened(self.host, Fault::Resharded, format_args!("node {}: {shards} shards", self.id()));
            }
        }
        self.dies_at_start = may_change && self.rng.chance(self.plan.die_at_start);
    }

    fn lose_power(&mut self, shared: &mut Shared) {
        self.disk.cut_power(&mut shared.faults);
        self.store.crash(&mut self.rng, &mut shared.faults);
    }

    /// One tick of its process.
    pub fn tick(&mut self, shared: &mut Shared, net: &mut dyn Net) {
        if let Some(process) = &mut self.process {
            process.tick(&mut self.disk, &mut self.known, shared, net);
        }
    }

    /// Ends the faults that its parts make by themselves, now and at later starts.
    pub fn calm(&mut self, storage: StoragePlan) {
        self.storage = storage;
        self.dies_at_start = false;
        self.doom = None;
        if let Some(process) = &mut self.process {
            process.calm(storage);
        }
    }

    /// How many segments its disk has.
    pub fn segments(&self) -> usize {
        self.disk.segments().len()
    }

    /// How many shards it has.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// A hash of what was synced to its disk.
    pub fn disk_hash(&self) -> u64 {
        self.disk.synced_hash()
    }
}

/// A process's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Of the monotonic clock.
    pub mono_base_ms: u64,
    /// Of the wall clock.
    pub wall_base_ms: u64,
}

impl Clock {
    /// What they show at a simulated time.
    pub fn read(&self, now_ms: u64) -> Tick {
        Tick { mono_ms: self.mono_base_ms + now_ms, wall_ms: self.wall_base_ms + now_ms }
    }
}
