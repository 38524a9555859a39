//! The kinds of faults, counted where they take effect: a partition that no message ran into has not happened.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// All kinds.
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// The kind's name in reports.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// A datagram was lost.
    Lost = "lost",
    /// A datagram arrived twice.
    Duplicated = "duplicated",
    /// A datagram was held back.
    Delayed = "delayed",
    /// A datagram waited with all others of its way.
    Clogged = "clogged",
    /// A datagram arrived behind one that was sent after it.
    Reordered = "reordered",
    /// A datagram ran into a partition that cuts both ways.
    Partitioned = "partitioned",
    /// A datagram ran into a partition that cuts its way only.
    PartitionedOneWay = "one-way",
    /// A datagram was on its way when that was cut.
    CutOnItsWay = "cut on its way",
    /// A client's datagram ran into a partition.
    ClientCutOff = "client cut off",
    /// A process was killed; what it had written stays in the page cache.
    Killed = "killed",
    /// A machine lost power.
    PowerCut = "power cut",
    /// All machines lost power at once.
    PowerCutOfAll = "power cut of all",
    /// A process died between two effects of one turn.
    DiedInTurn = "died in a turn",
    /// A machine lost power after its disk had hung for a while.
    DiedStalled = "died stalled",
    /// A machine lost power while it started.
    DiedAtStart = "died at start",
    /// A log write that was not synced is gone.
    WriteLost = "write lost",
    /// A log write that was not synced is there in part.
    WriteTorn = "write torn",
    /// A log write that was not synced is there.
    WriteKept = "write kept",
    /// A segment's preparation was cut off.
    PreparationCutOff = "preparation cut off",
    /// A deleted segment was there again.
    SegmentCameBack = "segment came back",
    /// A segment was made of an old one, with its bytes.
    SegmentRecycled = "segment recycled",
    /// The store lost batches behind its last persist.
    StoreRolledBack = "store rolled back",
    /// A log write took long.
    SlowDisk = "slow disk",
    /// A log write that took longer than an election timeout.
    DiskHangs = "disk hangs",
    /// A disk filled up.
    DiskFull = "disk full",
    /// A segment could not be made, for want of room.
    NoRoomForSegment = "no room for a segment",
    /// The sync of a log write failed, and its process ended.
    SyncFailed = "sync failed",
    /// A storage job took long.
    SlowStore = "slow store",
    /// A link broke while both its ends went on.
    LinkBroken = "link broken",
    /// A node was told that a peer's process is gone, which may be so.
    SaidGone = "said to be gone",
    /// A node was told to hand over what it leads.
    HandedOver = "told to hand over",
    /// A process stood still for a while.
    Paused = "paused",
    /// A node joined.
    Joined = "joined",
    /// A member left, or was removed.
    Left = "left",
    /// A member lost its disk.
    DiskGone = "disk gone",
    /// A write that had been answered came again.
    Stray = "stray write",
    /// Somebody opened more sessions than a group keeps.
    SessionsFlooded = "sessions flooded",
    /// What was sent found too much waiting for the link.
    LinkFull = "link full",
    /// A node was cut off from the others in a calm cluster, and came back.
    WasAway = "was away",
    /// A leader was cut off soon after it was elected.
    LeaderCutOff = "leader cut off",
    /// Of two candidates of a term, one won, and was asked for the other's vote later.
    VotedTwice = "vote held back",
    /// A leader was new, or changing the configuration, and the others' answers waited.
    LeaderHeldUp = "leader held up",
    /// Members that knew of a change of the configuration were parted from those that did not.
    Parted = "parted by configuration",
    /// A member that was to leave was cut off.
    LeaverCutOff = "leaver cut off",
    /// What asked for a place was heard once more after its node had left.
    JoinCameLate = "join came late",
    /// A bit of a log changed that was synced.
    BitLost = "bit lost",
    /// A member that had lost its disk came back under its old name.
    WipedCameBack = "wiped came back",
    /// Somebody asked to remove a member while another one was lost.
    WrongRemoval = "wrong removal",
    /// A wall clock was set, to what is right or to what is not.
    WallClockSet = "wall clock set",
    /// A value in the store of a replica changed.
    ValueChanged = "value changed",
    /// Of two programs that linked, one or both are older than others.
    OlderProgram = "older program",
    /// A node came back with another number of shards.
    Resharded = "resharded",
}

/// How often each kind happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    counts: Vec<u64>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults { counts: vec![0; Fault::ALL.len()] }
    }
}

impl Faults {
    /// It happened.
    pub fn happened(&mut self, fault: Fault) {
        self.counts[fault as usize] += 1;
    }

    /// It happened so many times.
    pub fn happened_times(&mut self, fault: Fault, times: u64) {
        self.counts[fault as usize] += times;
    }

    /// How often it happened.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// How many kinds happened.
    pub fn kinds(&self) -> usize {
        self.counts.iter().filter(|&&count| count > 0).count()
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Faults) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for &fault in Fault::ALL {
            let count = self.count(fault);
            if count > 0 {
                write!(f, "{comma}{} {count}", fault.name())?;
                comma = ", ";
            }
        }
        Ok(())
    }
}
