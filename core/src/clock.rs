//! A group's clock, as one replica knows it.
//!
//! Times to live are durations on this clock, so all that matters is how far it moves between two entries of the log: as far as
//! time did, and never further. Its leader stamps each entry; a stamp is what the clock showed when the leader became that, plus
//! the time that its own monotonic clock has counted since. Invariants worth naming:
//! - along a log, stamps never fall: a leader begins at the highest one that it has seen or later;
//! - a leader stamps nothing before a quorum has told it what it needs ([`Told`]): a clock that moved only after a write was stamped
//!   would make that write's key expire early, by as much as it moved;
//! - whatever wall clocks do during a leadership changes nothing.
//!
//! Where does a leader begin? Each leader tells the others what its clock shows as soon as it knows, and who has missed that asks. Who
//! has run since counts the time on its own: it knows what the clock shows, but for the time for which the answer was under way, and no
//! wall clock can know better. A stamp in the log tells less: the entry may have been on its way for hours. It says what the clock has
//! shown at the least, and who has stamped last. Of a quorum at least one has the stamp of whatever is committed, and the newest leader's
//! clock counts, since what hangs on it was written last. A replica that was restarted asks the others for what they have counted, so that
//! the count is handed on when one after the other is. Only when nobody in the quorum has it, as after a restart of all, do wall
//! clocks say how much time has passed.
//!
//! What a replica has counted is behind its leader's clock by what the answer was under way, and a leader that begins there makes the
//! group's clock slower for good: what was counted since an older leader began is ahead of it. Those who know only that much know what
//! the clock shows at the most. Wall clocks say by how much it is less, but are not believed more than [`TOLD_LATE_MS_MAX`] of it: one of
//! them may be wrong. That holds only as long as leaders took over what others had counted. Where one began by wall clocks alone, a wrong
//! one may have had it lose any time, and what was counted before is ahead of it by as much. So each leader says since which term the
//! time has been counted ([`Reading::counted_since`]).
//!
//! Of several wall clocks nobody knows which is right, but if most are, then the lower median of a quorum is not ahead of what is
//! right, and the upper one is not behind it. Each stamp says by how much the upper one was ahead of the group's clock when its
//! leader began. After a restart of all the clock shows the lower one less that: never more than the time that has passed,
//! and less if one was wrong then or is now. So a wall clock that is wrong, and then right again, expires nothing.

use std::collections::BTreeMap;

use crate::limits::{CLOCK_JUMP_MS_MAX, TOLD_LATE_MS_MAX};
use crate::machine::entry::Stamp;
use crate::mutation::{Mutation, is_on};
use crate::types::{NodeId, Term, Tick};

/// What a replica tells. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its wall clock.
    pub wall_ms: u64,
    /// What the end of its log says: the group's clock shows at least that.
    pub logged: Reading,
    /// What it has counted since a leader told it, or since one did who was told; nothing, if it was restarted. The group's clock
    /// shows hardly more.
    pub counted: Option<Reading>,
}

/// What a group's clock shows by what one leader said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The leader's.
    pub term: Term,
    /// In milliseconds; 0: the clock has not begun.
    pub clock_ms: u64,
    /// By how much wall clocks were ahead of it at the most, in milliseconds, as that leader says.
    pub walls_ahead_ms: i64,
    /// Each leader since the one of this term took over what another had counted, that one too.
    pub counted_since: Term,
}

/// The clock was seen when this node's monotonic clock showed `at_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sight {
    reading: Reading,
    at_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Follows,
    /// Leads in this term since then, and waits for what the others tell.
    Asks(Term, u64, BTreeMap<NodeId, Told>),
    /// Leads in this term, which began then, and stamps. How far each one's wall clock is ahead of the group's, at most.
    Stamps(Term, u64, BTreeMap<NodeId, i64>),
}

/// A group's clock at one replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupClock {
    /// The stamp at the end of the log, since this process saw it: the next one must not be lower.
    logged: Sight,
    /// What a leader told, itself or through others, and this process has counted since.
    counted: Option<Sight>,
    role: Role,
    asked_ms: Option<u64>,
}

/// What settling the clock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// What the leader had thought that it shows.
    pub from_ms: u64,
    /// What it shows.
    pub to_ms: u64,
}

impl Settled {
    /// Whether it moved so far that people should know. A clock that begins moves far.
    pub fn is_jump(&self) -> bool {
        self.from_ms > 0 && self.to_ms.saturating_sub(self.from_ms) > CLOCK_JUMP_MS_MAX
    }
}

impl Sight {
    /// What it shows now at least.
    fn reading(&self, now: Tick) -> Reading {
        let clock_ms = match self.reading.clock_ms {
            0 => 0,
            clock_ms => clock_ms.saturating_add(now.mono_ms.saturating_sub(self.at_ms)),
        };
        Reading { clock_ms, ..self.reading }
    }
}

impl GroupClock {
    /// As it was found on disk: time may have passed since, nobody here knows how much.
    pub fn recovered(term: Term, stamp: Stamp, now: Tick) -> GroupClock {
        let logged = Sight { reading: Reading::of(term, stamp), at_ms: now.mono_ms };
        GroupClock { logged, ..GroupClock::default() }
    }

    /// An entry with this stamp came to the end of the log, its leader's or this replica's own; or a snapshot did.
    pub fn saw(&mut self, term: Term, stamp: Stamp, now: Tick) {
        if stamp.clock_ms == 0 {
            // A snapshot of a group in which nothing was stamped yet: nobody has seen its clock.
            return;
        }
        let seen = Sight { reading: Reading::of(term, stamp), at_ms: now.mono_ms };
        self.logged = seen;
        if let Some(counted) = &mut self.counted
            && counted.reading.term == term
            && counted.reading(now).clock_ms <= stamp.clock_ms
        {
            // It was under way for less than what was told.
            *counted = seen;
        }
    }

    /// What the clock shows, as far as this replica can know. 0: it has not begun.
    pub fn estimate_ms(&self, now: Tick) -> u64 {
        self.counted.unwrap_or(self.logged).reading(now).clock_ms
    }

    /// What this replica tells.
    pub fn told(&self, now: Tick) -> Told {
        let counted = self.counted.map(|counted| counted.reading(now));
        // Who has not counted since a leader told has counted since its own start.
        let logged = if counted.is_some() { self.logged.reading } else { self.logged.reading(now) };
        Told { wall_ms: now.wall_ms, logged, counted }
    }

    /// This replica leads from now on, and asks.
    pub fn lead(&mut self, term: Term, now: Tick) {
        self.role = Role::Asks(term, now.mono_ms, BTreeMap::new());
        self.asked_ms = None;
    }

    /// This replica leads no more.
    pub fn stand_down(&mut self) {
        self.role = Role::Follows;
    }

    /// Whether nobody is to be asked. A follower is told by its leader, if it has one, which leads in that term. A clock that has
    /// not begun is nobody's business.
    pub fn is_known(&self, leads_in: Option<Term>) -> bool {
        match (&self.role, &self.counted) {
            (Role::Stamps(..), _) => true,
            (Role::Asks(..), _) => false,
            (Role::Follows, Some(counted)) => leads_in.is_none_or(|term| counted.reading.term >= term),
            (Role::Follows, None) => self.logged.reading.clock_ms == 0,
        }
    }

    /// Who of `peers` is to be asked now, if the clock is not known. A new leader asks those who have not told, a follower all. A
    /// question that was not answered for a tick is asked again.
    pub fn ask(&mut self, peers: &[NodeId], now: Tick, tick_ms: u64) -> Vec<NodeId> {
        let wanted = |peer: &NodeId| match &self.role {
            Role::Asks(_, _, told) => !told.contains_key(peer),
            Role::Follows => true,
            Role::Stamps(..) => false,
        };
        let wanted: Vec<NodeId> = peers.iter().copied().filter(wanted).collect();
        if self.asked_ms.is_some_and(|asked_ms| now.mono_ms.saturating_sub(asked_ms) < tick_ms) {
            return Vec::new();
        }
        self.asked_ms = (!wanted.is_empty()).then_some(now.mono_ms);
        wanted
    }

    /// A replica tells.
    pub fn take(&mut self, from: NodeId, round: Term, told: Told, now: Tick) {
        match &mut self.role {
            Role::Asks(term, _, all) if *term == round => drop(all.insert(from, told)),
            Role::Stamps(term, since_ms, walls) if *term == round => {
                // It came behind a quorum's, and makes it clearer whose wall clock is wrong.
                let Some(counted) = &mut self.counted else { return };
                let clock_ms = counted.reading(now).clock_ms;
                walls.insert(from, ahead_ms(told.wall_ms, clock_ms, now.mono_ms - *since_ms));
                counted.reading.walls_ahead_ms = medians(walls.values().copied()).1;
            }
            Role::Follows => self.follow(told, now),
            _ => {}
        }
    }

    /// Takes what another has counted, if that is by a newer leader's word than what this replica has.
    fn follow(&mut self, told: Told, now: Tick) {
        let Some(theirs) = told.counted.filter(|counted| counted.clock_ms > 0) else { return };
        let is_news = match &self.counted {
            Some(own) => (theirs.term, theirs.clock_ms) > (own.reading.term, own.reading(now).clock_ms),
            None => theirs.term >= self.logged.reading.term,
        };
        if is_news {
            self.counted = Some(Sight { reading: theirs, at_ms: now.mono_ms });
        }
    }

    /// Begins to stamp, once those who told are a quorum. If nobody of them has counted the time since the newest leader began,
    /// and there is a time to be counted, it waits up to `patience_ms` for the rest of `voters`: one of them may have, and of three
    /// wall clocks the middle one is right.
    pub fn settle(
        &mut self,
        now: Tick,
        voters: &[NodeId],
        patience_ms: u64,
        is_quorum: impl FnOnce(&[NodeId]) -> bool,
    ) -> Option<Settled> {
        let Role::Asks(term, since_ms, told) = &self.role else { return None };
        let all: Vec<Told> = told.values().copied().collect();
        let is_lost = readings(&all).next().is_some() && newest_counted_term(&all) != Some(newest_term(&all));
        let waits = is_lost && now.mono_ms.saturating_sub(*since_ms) < patience_ms;
        let all_told = voters.iter().all(|voter| told.contains_key(voter));
        if (waits && !all_told) || !is_quorum(&told.keys().copied().collect::<Vec<_>>()) {
            return None;
        }
        let from_ms = self.estimate_ms(now);
        let floor_ms = if is_on(Mutation::ClockGoesBack) { 0 } else { self.logged.reading.clock_ms };
        let (begin_ms, counted_since) = begin(&all);
        let clock_ms = begin_ms.max(floor_ms);
        let walls: BTreeMap<_, _> =
            told.iter().map(|(&id, told)| (id, ahead_ms(told.wall_ms, clock_ms, now.mono_ms - since_ms))).collect();
        let (_, walls_ahead_ms) = medians(walls.values().copied());
        let reading = Reading { term: *term, clock_ms, walls_ahead_ms, counted_since: counted_since.unwrap_or(*term) };
        self.counted = Some(Sight { reading, at_ms: now.mono_ms });
        self.role = Role::Stamps(*term, *since_ms, walls);
        Some(Settled { from_ms, to_ms: clock_ms })
    }

    /// The stamp for what is proposed now. None: this replica must not propose.
    pub fn stamp(&self, now: Tick) -> Option<Stamp> {
        let Role::Stamps(..) = self.role else { return None };
        let Reading { clock_ms, walls_ahead_ms, counted_since, .. } = self.counted?.reading(now);
        Some(Stamp { clock_ms, walls_ahead_ms, counted_since })
    }
}

impl Reading {
    fn of(term: Term, Stamp { clock_ms, walls_ahead_ms, counted_since }: Stamp) -> Reading {
        Reading { term, clock_ms, walls_ahead_ms, counted_since }
    }
}

/// What the clock shows at least, by what a quorum told, and since which term that has been counted. None: only wall clocks know.
fn begin(told: &[Told]) -> (u64, Option<Term>) {
    let shown_ms = |term| {
        let of_term = readings(told).filter(|reading| reading.term == term);
        of_term.map(|reading| reading.clock_ms).max().unwrap_or_default()
    };
    if is_on(Mutation::ClockGoesBack) {
        return (readings(told).map(|reading| reading.clock_ms).min().unwrap_or_default(), None);
    }
    let (newest, counted) = (newest_term(told), newest_counted_term(told));
    let of_newest = readings(told).filter(|reading| reading.term == newest);
    let since = of_newest.map(|reading| reading.counted_since).max().unwrap_or_default();
    let walls_ms = by_walls_ms(told, newest);
    let (passed_ms, counted_since) = match counted {
        Some(term) if term == newest => (0, Some(since)),
        Some(term) if since <= term => {
            (walls_ms.clamp(shown_ms(term).saturating_sub(TOLD_LATE_MS_MAX), shown_ms(term)), Some(since))
        }
        Some(term) => (walls_ms.min(shown_ms(term)), None),
        None if is_on(Mutation::ClockNeverStamped) => (0, None),
        None => (walls_ms, None),
    };
    (passed_ms.max(shown_ms(newest)), counted_since)
}

/// Whatever somebody knows of the clock since it began.
fn readings(told: &[Told]) -> impl Iterator<Item = Reading> {
    let all = told.iter().flat_map(|told| [Some(told.logged), told.counted]);
    all.flatten().filter(|reading| reading.clock_ms > 0)
}

/// The last leader whose clock one of them knows. 0: the clock has not begun.
fn newest_term(told: &[Told]) -> Term {
    readings(told).map(|reading| reading.term).max().unwrap_or_default()
}

/// The last leader since whose word one of them has counted the time.
fn newest_counted_term(told: &[Told]) -> Option<Term> {
    let counted = told.iter().filter_map(|told| told.counted);
    counted.filter(|reading| reading.clock_ms > 0).map(|reading| reading.term).max()
}

/// What the clock shows by wall clocks, told now, and when the newest leader began.
fn by_walls_ms(told: &[Told], newest: Term) -> u64 {
    // A clock that has not begun is behind no wall clock.
    let of_newest = readings(told).filter(|reading| reading.term == newest);
    let ahead_ms = of_newest.map(|reading| reading.walls_ahead_ms).max().unwrap_or_default();
    let (lower_ms, _) = medians(told.iter().map(|told| told.wall_ms));
    lower_ms.checked_sub_signed(ahead_ms).unwrap_or_default()
}

/// By how much a wall clock is ahead of the group's, at most: it was told some time after it was asked for, and has moved since.
fn ahead_ms(wall_ms: u64, clock_ms: u64, since_asked_ms: u64) -> i64 {
    let since_asked_ms = if is_on(Mutation::WayNotCounted) { 0 } else { since_asked_ms };
    wall_ms.saturating_add(since_asked_ms).cast_signed().saturating_sub(clock_ms.cast_signed())
}

/// The lower and the upper median.
fn medians<N: Ord + Copy + Default>(numbers: impl Iterator<Item = N>) -> (N, N) {
    let mut numbers: Vec<N> = numbers.collect();
    numbers.sort_unstable();
    let at = |place: usize| numbers.get(place).copied().unwrap_or_default();
    (at(numbers.len().saturating_sub(1) / 2), at(numbers.len() / 2))
}

#[cfg(test)]
mod tests;
