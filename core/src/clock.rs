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
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn at(mono_ms: u64) -> Tick {
        Tick { mono_ms, wall_ms: 50 * HOUR_MS + mono_ms }
    }

    fn stamp(clock_ms: u64) -> Stamp {
        Stamp { clock_ms, ..Stamp::default() }
    }

    fn reading(term: u64, clock_ms: u64) -> Reading {
        Reading { term: Term(term), clock_ms, ..Reading::default() }
    }

    /// It was restarted since it saw that.
    fn logged(term: u64, clock_ms: u64) -> Told {
        Told { logged: reading(term, clock_ms), ..Told::default() }
    }

    /// It was told that, and has counted since.
    fn counted(term: u64, clock_ms: u64) -> Told {
        Told { counted: Some(reading(term, clock_ms)), ..Told::default() }
    }

    /// Follows a leader who says so.
    fn follower(term: u64, clock_ms: u64, now: Tick) -> GroupClock {
        let mut clock = GroupClock::default();
        clock.take(NodeId(9), Term(term), counted(term, clock_ms), now);
        clock
    }

    fn settle(clock: &mut GroupClock, term: u64, now: Tick, others: &[Told]) -> Settled {
        clock.lead(Term(term), now);
        let own = clock.told(now);
        clock.take(NodeId(1), Term(term), own, now);
        for (at, told) in others.iter().enumerate() {
            clock.take(NodeId(2 + at as u64), Term(term), *told, now);
        }
        clock.settle(now, &[], 0, |told| told.len() == 1 + others.len()).expect("all have told")
    }

    #[test]
    fn the_first_clock_is_the_lower_median_of_the_walls() {
        let wall = |hours: u64| Told { wall_ms: hours * HOUR_MS, ..Told::default() };
        for (others, expected) in [
            (vec![], 50),
            (vec![wall(49)], 49),
            (vec![wall(51)], 50),
            (vec![wall(49), wall(99)], 50),
            (vec![wall(1), wall(2)], 2),
            (vec![wall(51), wall(52), wall(53)], 51),
        ] {
            let settled = settle(&mut GroupClock::default(), 2, at(0), &others);
            assert_eq!(settled.to_ms, expected * HOUR_MS, "{others:?}");
            assert!(!settled.is_jump(), "it only begins");
        }
    }

    #[test]
    fn nothing_is_stamped_before_a_quorum_has_told() {
        let mut clock = GroupClock::default();
        clock.lead(Term(2), at(0));
        clock.take(NodeId(1), Term(2), clock.told(at(0)), at(0));
        clock.take(NodeId(2), Term(1), Told::default(), at(0));
        assert_eq!(
            clock.settle(at(0), &[], 0, |told| told.len() == 2),
            None,
            "what was told in another round does not count"
        );
        assert_eq!(clock.stamp(at(0)), None);
        clock.take(NodeId(2), Term(2), Told { wall_ms: 60 * HOUR_MS, ..Told::default() }, at(0));
        assert!(clock.settle(at(0), &[], 0, |told| told.len() == 2).is_some());
        let begun_ms = clock.stamp(at(0)).unwrap().clock_ms;
        assert_eq!(clock.stamp(at(7)).unwrap().clock_ms, begun_ms + 7, "its own time passes");
        clock.stand_down();
        assert_eq!(clock.stamp(at(8)), None);
    }

    #[test]
    fn who_has_not_told_is_asked_again_each_tick() {
        let peers = [NodeId(2), NodeId(3)];
        let mut clock = GroupClock::default();
        clock.lead(Term(2), at(0));
        assert_eq!(clock.ask(&peers, at(0), 100), peers);
        clock.take(NodeId(2), Term(2), Told::default(), at(0));
        assert_eq!(clock.ask(&peers, at(99), 100), []);
        assert_eq!(clock.ask(&peers, at(100), 100), [NodeId(3)]);
    }

    #[test]
    fn who_was_restarted_asks_until_somebody_knows() {
        let peers = [NodeId(2), NodeId(3)];
        let mut clock = GroupClock::recovered(Term(3), stamp(1_000), at(0));
        assert!(!clock.is_known(None));
        assert_eq!(clock.ask(&peers, at(0), 100), peers);
        clock.take(NodeId(2), Term(3), logged(4, 9_000), at(10));
        let by_an_older_leader = counted(2, 9_000);
        clock.take(NodeId(2), Term(3), by_an_older_leader, at(20));
        assert_eq!(clock.told(at(20)).counted, None);
        assert_eq!(clock.ask(&peers, at(99), 100), []);
        assert_eq!(clock.ask(&peers, at(100), 100), peers);
        clock.take(NodeId(3), Term(3), counted(3, 5_000), at(120));
        assert_eq!(clock.told(at(150)).counted, Some(reading(3, 5_030)));
        assert!(clock.is_known(None) && clock.is_known(Some(Term(3))));
        assert!(!clock.is_known(Some(Term(4))), "the next leader's may be slower");
        assert!(GroupClock::default().is_known(Some(Term(4))), "a clock that has not begun is nobody's business");
    }

    #[test]
    fn who_has_counted_carries_the_clock_on_whatever_wall_clocks_say() {
        let mut clock = GroupClock::recovered(Term(2), stamp(1000), at(0));
        clock.take(NodeId(2), Term(3), counted(3, 2000), at(10));
        let far = Told { wall_ms: 99 * HOUR_MS, ..Told::default() };
        let settled = settle(&mut clock, 4, at(500), &[far, far]);
        assert_eq!(settled, Settled { from_ms: 2490, to_ms: 2490 });
    }

    #[test]
    fn a_stamp_says_only_what_the_clock_has_shown_at_the_least() {
        // It was away, and is sent what it missed: the stamps are as old as the entries.
        let mut clock = follower(2, 60_000, at(0));
        clock.saw(Term(3), stamp(1_000), at(30_000));
        assert_eq!(clock.estimate_ms(at(30_000)), 90_000);
        assert!(!clock.is_known(Some(Term(4))));
        assert_eq!(
            clock.told(at(30_000)),
            Told { wall_ms: at(30_000).wall_ms, logged: reading(3, 1_000), ..counted(2, 90_000) }
        );
        // If it was restarted as well, it does not know how old.
        let mut clock = GroupClock::recovered(Term(2), stamp(500), at(0));
        clock.saw(Term(3), stamp(1_000), at(30_000));
        assert!(!clock.is_known(None));
        assert_eq!(clock.told(at(30_000)).logged, reading(3, 1_000));
    }

    #[test]
    fn the_newest_leaders_clock_counts() {
        // An isolated former leader has its own idea, and cannot have committed by it.
        let former = counted(2, 9000);
        assert_eq!(settle(&mut follower(3, 5000, at(0)), 4, at(100), &[former]).to_ms, 5100);
    }

    #[test]
    fn what_was_counted_by_an_older_leaders_word_bounds_what_wall_clocks_say() {
        // A leader was told late, and its clock is 600 ms behind what its predecessor's would show. It is restarted after 3 s.
        let last = Stamp { clock_ms: 47 * HOUR_MS, walls_ahead_ms: 3 * HOUR_MS as i64, counted_since: Term(2) };
        let told = |wall_ms, clock_ms| Told { wall_ms, ..counted(2, clock_ms) };
        let settled = |wall_ms, clock_ms| {
            let mut clock = GroupClock::recovered(Term(3), last, at(3_000));
            settle(&mut clock, 4, at(3_000), &[told(wall_ms, clock_ms)]).to_ms - 47 * HOUR_MS
        };
        let wall_ms = 50 * HOUR_MS + 3_000;
        let (right, early) = (47 * HOUR_MS + 3_600, 47 * HOUR_MS + 2_900);
        assert_eq!(settled(wall_ms, right), 3_000, "wall clocks tell the two apart");
        assert_eq!(settled(wall_ms - 40, right), 2_960, "they differ a little");
        assert_eq!(settled(wall_ms + HOUR_MS, right), 3_000, "one that is ahead moves nothing forward");
        assert_eq!(settled(wall_ms, early), 2_900, "no more than was counted");
        assert_eq!(settled(wall_ms - HOUR_MS, right), 0, "one that is far behind is not believed: but no stamp falls");
        let after_a_minute = right + 57_000;
        assert_eq!(settled(wall_ms - HOUR_MS, after_a_minute), 60_600 - TOLD_LATE_MS_MAX);
    }

    #[test]
    fn what_was_counted_before_time_was_lost_is_only_the_most_that_the_clock_shows() {
        // One follows the leader of term 2, and is cut off. The others are down for half an hour; one of their wall clocks is behind
        // then, and the time is lost. They restart once more, a second later, and meet the one who counted.
        let down_ms = HOUR_MS / 2;
        let mut cut_off = follower(2, 40 * HOUR_MS, at(0));
        let mut lost = GroupClock::recovered(
            Term(2),
            Stamp { walls_ahead_ms: 10 * HOUR_MS as i64, ..stamp(40 * HOUR_MS) },
            at(down_ms),
        );
        let behind = Told { wall_ms: 49 * HOUR_MS, ..logged(2, 40 * HOUR_MS) };
        assert_eq!(settle(&mut lost, 3, at(down_ms), &[behind]).to_ms, 40 * HOUR_MS);
        let last = lost.stamp(at(down_ms)).unwrap();
        assert_eq!(last.counted_since, Term(3));
        let now = at(down_ms + 1_000);
        for wall_ms in [now.wall_ms, now.wall_ms + HOUR_MS, now.wall_ms - HOUR_MS] {
            let mut next = GroupClock::recovered(Term(3), last, now);
            let settled = settle(&mut next, 4, now, &[Told { wall_ms, ..cut_off.told(now) }]);
            assert!((0..=1_000).contains(&(settled.to_ms - 40 * HOUR_MS)), "{wall_ms}: {settled:?}");
            assert_eq!(next.stamp(now).unwrap().counted_since, Term(4));
        }
        // Who is carried on says so.
        cut_off.saw(Term(3), last, now);
        cut_off.take(NodeId(2), Term(3), Told { counted: Some(Reading::of(Term(3), last)), ..Told::default() }, now);
        settle(&mut cut_off, 4, now, &[]);
        assert_eq!(cut_off.stamp(now).unwrap().counted_since, Term(3));
    }

    #[test]
    fn after_a_restart_of_all_the_wall_clocks_say_how_much_time_has_passed() {
        let restarted = Told { wall_ms: 50 * HOUR_MS, ..logged(2, 47 * HOUR_MS) };
        let mut clock = GroupClock::recovered(Term(2), stamp(47 * HOUR_MS), at(0));
        let settled = settle(&mut clock, 3, at(0), &[restarted]);
        assert_eq!(settled.to_ms, 50 * HOUR_MS);
        assert!(settled.is_jump());
        // One that is wrong moves nothing forward.
        let wrong = Told { wall_ms: 999 * HOUR_MS, ..restarted };
        let mut clock = GroupClock::recovered(Term(2), stamp(50 * HOUR_MS - 7), at(0));
        assert_eq!(settle(&mut clock, 3, at(0), &[wrong]), Settled { from_ms: 50 * HOUR_MS - 7, to_ms: 50 * HOUR_MS });
        // And none moves back.
        let mut clock = GroupClock::recovered(Term(2), stamp(60 * HOUR_MS), at(0));
        assert_eq!(settle(&mut clock, 3, at(0), &[restarted]).to_ms, 60 * HOUR_MS);
    }

    #[test]
    fn a_wall_clock_that_was_wrong_and_is_right_again_expires_nothing() {
        let wall = |wall_ms| Told { wall_ms, ..Told::default() };
        // One is wrong when the group begins: far behind, then far ahead. The clock is carried on from there.
        for (wrong_ms, begins_ms) in [(7, 7), (99 * HOUR_MS, 50 * HOUR_MS)] {
            let mut leader = GroupClock::default();
            assert_eq!(settle(&mut leader, 2, at(0), &[wall(wrong_ms)]).to_ms, begins_ms);
            let last = leader.stamp(at(1_000)).unwrap();
            // All restart, and are down for a minute; all clocks are right.
            for (others, most_ms) in [(wall(50 * HOUR_MS + 61_000), 61_000), (wall(99 * HOUR_MS), 61_000)] {
                let mut restarted = GroupClock::recovered(Term(2), last, at(61_000));
                let settled = settle(&mut restarted, 3, at(61_000), &[others]);
                let passed_ms = settled.to_ms - begins_ms;
                assert!((1_000..=most_ms).contains(&passed_ms), "{wrong_ms}: {passed_ms} ms");
                if wrong_ms == 7 {
                    assert_eq!(passed_ms, 61_000, "the wrong one was behind, so the right one is known");
                }
            }
        }
    }

    #[test]
    fn when_nobody_has_counted_a_leader_waits_a_little_for_all() {
        let voters = [NodeId(1), NodeId(2), NodeId(3)];
        let quorum = |told: &[NodeId]| told.len() >= 2;
        let last = stamp(47 * HOUR_MS);
        let told = |wall_ms| Told { wall_ms, ..logged(2, 47 * HOUR_MS) };
        let waiting = || {
            let mut clock = GroupClock::recovered(Term(2), last, at(0));
            clock.lead(Term(3), at(0));
            clock.take(NodeId(1), Term(3), clock.told(at(0)), at(0));
            clock.take(NodeId(2), Term(3), told(48 * HOUR_MS), at(0));
            assert_eq!(clock.settle(at(0), &voters, 300, quorum), None);
            clock
        };
        let mut clock = waiting();
        clock.take(NodeId(3), Term(3), told(50 * HOUR_MS), at(50));
        let all = clock.settle(at(50), &voters, 300, quorum).unwrap();
        assert_eq!(all.to_ms, 50 * HOUR_MS, "the middle one");
        let mut clock = waiting();
        assert_eq!(clock.settle(at(299), &voters, 300, quorum), None);
        assert_eq!(clock.settle(at(300), &voters, 300, quorum).unwrap().to_ms, 48 * HOUR_MS, "the lower one");
        // One that has counted is enough.
        let mut clock = waiting();
        clock.take(NodeId(2), Term(3), counted(2, 47 * HOUR_MS), at(10));
        assert_eq!(clock.settle(at(10), &voters, 300, quorum).unwrap().to_ms, 47 * HOUR_MS);
        assert!(clock.stamp(at(10)).unwrap().walls_ahead_ms > 2 * HOUR_MS as i64);
        // Who tells later still says which wall clock is right, but for the 10 ms that the answer may have been under way.
        clock.take(NodeId(3), Term(3), told(48 * HOUR_MS), at(10));
        assert_eq!(clock.stamp(at(10)).unwrap().walls_ahead_ms, HOUR_MS as i64 + 10);
    }

    #[test]
    fn a_clock_that_nobody_has_stamped_begins_with_wall_clocks() {
        // A member that joined has got a snapshot without a stamp, and leads when the founder is gone.
        let mut clock = GroupClock::default();
        clock.saw(Term(2), stamp(0), at(5));
        clock.lead(Term(3), at(10));
        let voters = [1, 2, 3].map(NodeId);
        clock.take(NodeId(2), Term(3), clock.told(at(10)), at(10));
        let other = Told { wall_ms: 50 * HOUR_MS, ..counted(2, 0) };
        clock.take(NodeId(3), Term(3), other, at(10));
        let settled = clock.settle(at(10), &voters, 300, |told| told.len() >= 2).unwrap();
        assert!(settled.to_ms >= 50 * HOUR_MS, "{settled:?}");
        assert!(clock.stamp(at(20)).unwrap().clock_ms > 0);
    }

    #[test]
    fn a_stamp_that_came_late_does_not_set_the_clock_back() {
        let mut clock = follower(2, 1000, at(0));
        clock.saw(Term(2), stamp(1050), at(100));
        assert_eq!(clock.estimate_ms(at(100)), 1100);
        clock.saw(Term(2), stamp(1150), at(110));
        assert_eq!(clock.estimate_ms(at(110)), 1150);
        clock.take(NodeId(2), Term(2), counted(2, 1140), at(110));
        assert_eq!(clock.estimate_ms(at(110)), 1150);
        clock.take(NodeId(2), Term(3), counted(3, 1100), at(120));
        assert_eq!(clock.estimate_ms(at(120)), 1100, "another leader, another count");
    }

    #[test]
    fn a_leader_begins_at_what_its_log_says_at_least() {
        let mut clock = GroupClock::default();
        clock.saw(Term(2), stamp(5000), at(0));
        assert_eq!(settle(&mut clock, 4, at(0), &[counted(3, 4000)]).to_ms, 5000);
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let mut clock = GroupClock::default();
        clock.saw(Term(2), stamp(u64::MAX), at(0));
        assert_eq!(clock.estimate_ms(at(5)), u64::MAX);
        assert_eq!(settle(&mut clock, 3, at(9), &[]).to_ms, u64::MAX);
    }
}
