//! Faults that can be put into drey on purpose, one at a time, to see that the simulator finds them. A simulator that finds nothing
//! proves nothing until it is shown to find what is there.
//!
//! Only with the feature `mutations`; without it [`is_on`] is a constant, and nothing of this is in the program. Each site is one
//! expression, and no assertion stands beside it. `docs/mutations.md` has what became of each.

macro_rules! mutations {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        /// A fault, by the rule that it breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutation { $(#[doc = $text] $name = $number,)* }

        #[cfg(feature = "mutations")]
        impl Mutation {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Mutation] = &[$(Mutation::$name,)*];

            /// Its number in the table of the design.
            pub fn number(self) -> u8 {
                self as u8
            }

            /// What was done, for people.
            pub fn text(self) -> &'static str {
                match self { $(Mutation::$name => $text,)* }
            }
        }
    };
}

mutations! {
    ReplyBeforeSync = 1, "a follower confirms entries before its log is synced";
    VoteBeforeSync = 2, "a vote is answered before it is synced";
    VoteForgottenOnStepDown = 3, "who becomes a follower again within a term forgets whom it voted for";
    OlderTermCommitted = 4, "a leader commits entries of an older term by counting who has them";
    ReadBeforeFirstCommit = 5, "a new leader answers a read index before it has committed anything in its term";
    ReadIndexKept = 6, "a read index that is asked for again is asked for under its old name, with the reads that came since";
    LocalReadForLinearizable = 7, "a linearizable read is answered from the node's own state";
    CampaignWithUnappliedChange = 8, "who holds a committed change of members that it has not applied campaigns nevertheless";
    ChangeBeforeFirstCommit = 9, "a leader changes members before it has committed anything in its term, and whoever knows of it votes for who does not";
    JointLeftEarly = 10, "each member leaves a joint configuration as soon as it has entered it";
    SnapshotConfigurationAhead = 11, "a snapshot gets the configuration that its leader has now, not the one of its index";
    AppliedIndexApart = 12, "the applied index is stored in a batch of its own, before the data";
    EntriesDuringInstallation = 13, "messages with entries are taken while a snapshot is being installed";
    TruncatedBeforeDurable = 14, "the log is truncated though the store was not persisted";
    DirectoryEntryNotSynced = 15, "a new segment's entry in its directory is not synced (in the simulated disk)";
    FailedSyncTakenAsDone = 16, "a sync that failed is tried again, and then taken for done (in the simulated disk)";
    MidLogDamageCut = 17, "damage in the middle of the log is cut as if it were a torn tail";
    WipedNodeVotes = 18, "a node that lost its disk is accepted under its old id";
    HangingDiskLeads = 19, "a leader whose disk hangs keeps its leadership";
    ExpiryByOwnClock = 20, "what a read takes for expired is decided by the node's own wall clock";
    ClockGoesBack = 21, "a new leader goes on from the oldest stamp that it is told of, and stamps that fall are accepted";
    NoPreVote = 22, "nobody asks for pre-votes";
    RetryAppliedTwice = 23, "a write that was applied is applied again when it comes again";
    SessionsNotInSnapshot = 24, "sessions are left out of snapshots";
    LearnerCounts = 26, "a learner counts in the quorum that commits";
    EvictedSessionTakenForNew = 27, "a write of a session that is gone is applied as if it had none";
    InstallationDoneEarly = 28, "the log says that a snapshot is installed before the store has it";
    OldRecordsReadAsNew = 30, "a segment's checksums and headers do not say which segment they are of";
    NoLeaderForProposed = 32, "a write that was proposed by a leader which stepped down is answered `no_leader`";
    ChangeNotConfirmed = 33, "a change of voters counts as made before a majority knows of it on disk";
    ClockNeverStamped = 34, "a clock that nobody has counted stays where the last stamp left it: at 0, if there was none";
    HardStateNotWithEntries = 35, "the commit index is not written with the entries behind it";
    EveryoneMayGo = 36, "a member may be removed though the rest has no quorum";
    RetentionForgets = 37, "what the store does not hold durably is not carried over when its segment goes";
    // What was wrong once, and found.
    LeavingHearsLast = 41, "the system group lets a member go before the others do";
    RemovedLeaderLeads = 42, "a leader that is no member of its group any more leads on";
    NewcomersAreStrangers = 43, "who knows of more changes of the members is refused like any stranger";
    CarriedFasterThanWritten = 44, "the next segment is cleared while what the last one held is not written yet";
    WayNotCounted = 45, "for what a wall clock shows, the time until the answer came does not count";
    LoneVoterLeadsEarly = 46, "a lone voter leads before its vote for itself is synced";
    IdleLearnerWaits = 47, "a learner whose link broke is not promoted until something is written";
    RemovedCampaigns = 48, "who takes its leader for dead campaigns though it was removed";
    OldMembersCount = 49, "a client takes the members from whoever it asked last, though it knows of newer ones";
    RepeatsWithoutId = 50, "a client sends a write without an id again as if it had one";
    OutdatedAreElected = 57, "who knows of a change of the voters votes for a candidate that does not, and the next change does not wait";
    // Planted by somebody who looked at the code and not at the laws.
    GoneJoinsAgain = 58, "a join that comes late adds a member that has left once more";
    ServedOneEarly = 51, "a read is served when the entry before the one it waits for is applied";
    FirstOfBatchStays = 52, "of a batch that is refused, the first operation stays";
    PageSkipsLonger = 53, "a scan's next page begins behind all keys that begin with the last one";
    AnswerForgottenEarly = 54, "the answer to a session's oldest write that is not acknowledged is forgotten";
    TransfersMixed = 55, "chunks of one transfer of a snapshot are taken for those of another from the same node";
    // Of what came later.
    FullDiskLeads = 59, "a leader without room keeps its leadership";
    RoomNotSeen = 60, "a node that was short of room does not notice that there is room again";
    UnreadableIsSent = 61, "a peer of an older program is sent messages that it does not know";
    ScrubSkipsValues = 62, "when replicas are compared, their values are left out";
    ScrubOneLate = 63, "a follower reads what is compared one entry later";
    BoundsIgnored = 64, "a bucket that has reached its bound takes more";
    StagedApart = 65, "how far a snapshot is staged is stored in a batch of its own, before what was staged";
    PeersReadIsLocal = 66, "a node that is taken for the leader answers a peer's read from its own state";
    // Beside core: what drives the client's rules.
    LateMeansNotSent = 56, "a client takes what was not answered in time for what was never sent";
}

#[cfg(feature = "mutations")]
mod switch {
    use std::cell::{Cell, RefCell};
    use std::panic::Location;

    use super::Mutation;

    /// As many as mutations may have.
    const NUMBERS: usize = u8::MAX as usize + 1;

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
        /// By mutation: its sites that were reached. Few have more than one.
        static REACHED: RefCell<[Vec<Reached>; NUMBERS]> = const { RefCell::new([const { Vec::new() }; NUMBERS]) };
    }

    /// A site that was reached, and how often: what is not reached cannot be found.
    #[derive(Clone, Copy, Debug)]
    pub struct Reached {
        /// Whose site.
        pub mutation: Mutation,
        /// Where it is.
        pub site: &'static Location<'static>,
        /// How often.
        pub times: u64,
    }

    /// The sites that were reached on this thread since this was asked last.
    pub fn take_reached() -> Vec<Reached> {
        REACHED.with_borrow_mut(|reached| reached.iter_mut().flat_map(std::mem::take).collect())
    }

    fn reach(mutation: Mutation, site: &'static Location<'static>) {
        REACHED.with_borrow_mut(|reached| {
            let Some(sites) = reached.get_mut(usize::from(mutation.number())) else { return };
            match sites.iter_mut().find(|reached| reached.site == site) {
                Some(reached) => reached.times += 1,
                None => sites.push(Reached { mutation, site, times: 1 }),
            }
        });
    }

    /// Puts this fault, or none, into all that runs on this thread from now on.
    pub fn set(mutation: Option<Mutation>) {
        ON.set(mutation);
    }

    /// Whether this fault is in. Asked at its sites alone.
    #[track_caller]
    pub fn is_on(mutation: Mutation) -> bool {
        reach(mutation, Location::caller());
        ON.get() == Some(mutation)
    }
}

#[cfg(feature = "mutations")]
pub use switch::{Reached, is_on, set, take_reached};

/// Whether this fault is in: never, without the feature.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn is_on(_: Mutation) -> bool {
    false
}
