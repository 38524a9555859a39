//! The one who changes the cluster: starts new nodes that join, has members leave, loses a disk now and then. One change at a
//! time; what is decided is asked for through clients, as anybody would.

use std::sync::Arc;

use drey_core::system::{Member, Members};
use drey_core::{Incarnation, NodeId};

use crate::plan::Plan;
use crate::rng::Rng;

/// The most members that are wanted at once.
const MEMBERS_WANTED_MAX: usize = 5;
/// The fewest.
pub const MEMBERS_WANTED_MIN: usize = 3;

/// An operator who is in no hurry rests for so long at least.
const REST_MS_MIN: u64 = 200;
/// A buffer may hold what asked for a place so long after its node has left.
const LATE_JOIN_MS_MAX: u64 = 1000;

/// What a host is to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its id among the members.
    pub id: NodeId,
    /// Of its disk.
    pub incarnation: Incarnation,
    /// It joined; otherwise it founded the cluster.
    pub joined: bool,
    /// It has lost its disk, and was started as if it never had one: the others must not listen to it.
    pub impostor: bool,
    /// The members and their hosts, when it began.
    pub peers: Vec<(NodeId, usize)>,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Nothing, until then.
    Nothing(u64),
    /// This host's node gets a place, under this incarnation.
    Joining(usize, Incarnation),
    /// The node of this host goes.
    Leaving(usize, NodeId),
    /// The node of this host starts from a disk on which a bit has changed.
    Checking(usize, NodeId),
}

/// A change to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node is made on this host.
    Join(usize),
    /// The member on this host is told to leave.
    Leave(usize),
    /// The member on this host loses its disk, and is removed.
    LoseDisk(usize),
    /// The member on this host loses power, and a bit that it had synced.
    LoseBit(usize),
}

/// What else happens when a disk is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// The member is removed.
    Removed,
    /// Its node starts meanwhile with an empty disk, under its old name.
    ComesBack,
    /// At first somebody asks for the removal of another member, by mistake.
    WrongOneFirst,
}

/// The operator.
pub struct Operator {
    rng: Rng,
    /// What is being done.
    pub doing: Doing,
    /// What has lost its disk and is to be removed next.
    pub lost: Option<(usize, NodeId)>,
    every_ms: u64,
    disks_are_lost: bool,
    bits_are_lost: bool,
    leavers_cut_off: u32,
}

impl Operator {
    /// That of a plan.
    pub fn new(plan: &Plan) -> Operator {
        let mut rng = Rng::stream(plan.seed, "operator", 0);
        let Plan { change_every_ms, disks_are_lost, bits_are_lost, hunts, .. } = *plan;
        let doing = Doing::Nothing(plan.changes_begin_ms + rng.between(0, 2 * change_every_ms));
        Operator {
            rng,
            doing,
            lost: None,
            every_ms: change_every_ms,
            disks_are_lost,
            bits_are_lost,
            leavers_cut_off: hunts.leavers,
        }
    }

    /// What to begin now, if anything. `settled`: every group has the members as its voters, so that one of three may be lost.
    pub fn begin(&mut self, now_ms: u64, spares: &[usize], members: &[usize], settled: bool) -> Option<Change> {
        let due = matches!(self.doing, Doing::Nothing(until_ms) if now_ms >= until_ms);
        if !due {
            return None;
        }
        self.rest(now_ms);
        let mut changes = Vec::new();
        if members.len() < MEMBERS_WANTED_MAX {
            changes.extend(spares.iter().map(|&host| Change::Join(host)));
        }
        if members.len() > MEMBERS_WANTED_MIN {
            changes.extend(members.iter().map(|&host| Change::Leave(host)));
        }
        if members.len() >= MEMBERS_WANTED_MIN && settled {
            let (disks, bits) = (self.disks_are_lost, self.bits_are_lost);
            changes.extend(members.iter().filter(|_| disks).map(|&host| Change::LoseDisk(host)));
            changes.extend(members.iter().filter(|_| bits).map(|&host| Change::LoseBit(host)));
        }
        if changes.is_empty() { None } else { Some(*self.rng.pick(&changes)) }
    }

    /// What else a lost disk brings, and whom of the others it may hit.
    pub fn aftermath(&mut self, others: &[usize]) -> (Aftermath, usize) {
        let aftermaths = [Aftermath::Removed, Aftermath::ComesBack, Aftermath::WrongOneFirst];
        (*self.rng.pick(&aftermaths), *self.rng.pick(others))
    }

    /// How long the member that is told to leave is cut off, if it is.
    pub fn leaver_cut_off_ms(&mut self, election_ms: u64) -> Option<u64> {
        let cut_off = self.rng.chance(self.leavers_cut_off);
        cut_off.then(|| self.rng.between(election_ms / 8, 2 * election_ms))
    }

    /// After how long what asked for the place of a member that has left is heard once more, if it is.
    pub fn late_join_ms(&mut self) -> Option<u64> {
        let is_heard = self.rng.chance(300);
        is_heard.then(|| self.rng.between(0, LATE_JOIN_MS_MAX))
    }

    /// Whether the disk that is lost is lost because the power failed everywhere.
    pub fn is_outage(&mut self) -> bool {
        self.rng.chance(300)
    }

    /// A bit to change.
    pub fn number(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Does nothing for a while.
    pub fn rest(&mut self, now_ms: u64) {
        self.doing = Doing::Nothing(now_ms + self.rng.between(self.every_ms.min(REST_MS_MIN), 2 * self.every_ms));
    }
}

/// The host of a member: its address says so.
pub fn host_of(member: &Member) -> usize {
    host_of_address(&member.address)
}

/// The host with this address.
pub fn host_of_address(address: &str) -> usize {
    let number = address.strip_prefix("host").and_then(|rest| rest.split(':').next());
    number.and_then(|number| number.parse().ok()).expect("an address of this world")
}

/// A host's address.
pub fn address_of(host: usize) -> String {
    format!("host{host}:9000")
}

/// All members and their hosts.
pub fn hosts_of(members: &Arc<Members>) -> Vec<(NodeId, usize)> {
    members.iter().map(|member| (member.id, host_of(member))).collect()
}
