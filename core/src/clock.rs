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
//! Where does a leader begin? A replica that has run since it saw a stamp has counted the time since on its own: it knows what the
//! clock shows, but for the time for which the stamp was under way, and no wall clock can know better. Of a quorum at least one saw
//! the stamp of whatever is committed, and the newest leader's stamps count, since what hangs on them was written last. A replica
//! that was restarted asks the others for what they have counted, so that the count is handed on when one after the other is.
//! Only when nobody in the quorum has it, as after a restart of all, do wall clocks say how much time has passed.
//!
//! Stamps are under way for a while, so what a replica has counted is behind its leader's clock by as much, and a leader that
//! begins there makes the group's clock slower for good: what was counted since an older leader's stamps is ahead of it. Those who
//! know only that much know what the clock shows at the most. Wall clocks say by how much it is less, but are not believed more
//! than [`STAMP_LATE_MS_MAX`] of it: one of them may be wrong.
//!
//! Of several wall clocks nobody knows which is right, but if most are, then the lower median of a quorum is not ahead of what is
//! right, and the upper one is not behind it. Each stamp says by how much the upper one was ahead of the group's clock when its
//! leader began. After a restart of all the clock shows the lower one less that: never more than the time that has passed,
//! and less if one was wrong then or is now. So a wall clock that is wrong, and then right again, expires nothing.

use std::collections::BTreeMap;

use crate::limits::{CLOCK_JUMP_MS_MAX, STAMP_LATE_MS_MAX};
use crate::machine::entry::Stamp;
use crate::mutation::{Mutation, is_on};
use crate::types::{NodeId, Term, Tick};

/// What a replica tells a new leader. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its wall clock.
    pub wall_ms: u64,
    /// What the group's clock shows at least, as it knows.
    pub clock_ms: u64,
    /// By how much wall clocks were ahead of it at the most, as the same stamp says.
    pub walls_ahead_ms: i64,
    /// The leader whose stamp it knows that from.
    pub term: Term,
    /// It has run since it saw that stamp, or was told by one that has: then the clock shows hardly more.
    pub ran_since: bool,
}

impl Told {
    /// Whether it knows how far the clock has moved. A clock that has not begun does not move.
    fn has_counted(&self) -> bool {
        self.ran_since && self.clock_ms > 0
    }
}

/// The clock was seen: it showed `clock_ms` when this node's monotonic clock showed `at_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sight {
    term: Term,
    clock_ms: u64,
    walls_ahead_ms: i64,
    at_ms: u64,
    /// By this process, or by another that runs and told it; not by one before it.
    live: bool,
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
    sight: Sight,
    /// The stamp at the end of the log: the next one must not be lower.
    logged_ms: u64,
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
    fn estimate_ms(&self, now: Tick) -> u64 {
        match self.clock_ms {
            0 => 0,
            clock_ms => clock_ms.saturating_add(now.mono_ms.saturating_sub(self.at_ms)),
        }
    }
}

impl GroupClock {
    /// As it was found on disk: time may have passed since, nobody here knows how much.
    pub fn recovered(term: Term, stamp: Stamp, now: Tick) -> GroupClock {
        let Stamp { clock_ms, walls_ahead_ms } = stamp;
        let sight = Sight { term, clock_ms, walls_ahead_ms, at_ms: now.mono_ms, live: false };
        GroupClock { sight, logged_ms: clock_ms, role: Role::Follows, asked_ms: None }
    }

    /// An entry with this stamp came to the end of the log, its leader's or this replica's own; or a snapshot did.
    pub fn saw(&mut self, term: Term, stamp: Stamp, now: Tick) {
        let Stamp { clock_ms, walls_ahead_ms } = stamp;
        if clock_ms == 0 {
            // A snapshot of a group in which nothing was stamped yet: nobody has seen its clock.
            return;
        }
        self.logged_ms = clock_ms;
        if term > self.sight.term || (term == self.sight.term && clock_ms >= self.estimate_ms(now)) {
            self.sight = Sight { term, clock_ms, walls_ahead_ms, at_ms: now.mono_ms, live: true };
        } else if term == self.sight.term {
            // It was under way for longer than an earlier one.
            self.sight.live = true;
        }
    }

    /// What the clock shows, as far as this replica can know: hardly ever too much. 0: it has not begun.
    pub fn estimate_ms(&self, now: Tick) -> u64 {
        self.sight.estimate_ms(now)
    }

    /// What this replica tells a leader.
    pub fn told(&self, now: Tick) -> Told {
        let Sight { term, walls_ahead_ms, live, .. } = self.sight;
        Told { wall_ms: now.wall_ms, clock_ms: self.estimate_ms(now), walls_ahead_ms, term, ran_since: live }
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

    /// Whether nobody is to be asked.
    pub fn is_known(&self) -> bool {
        match self.role {
            Role::Stamps(..) => true,
            Role::Follows => self.sight.live,
            Role::Asks(..) => false,
        }
    }

    /// Who of `peers` is to be asked now. A new leader asks those who have not told; a replica that was restarted and has not seen a
    /// stamp since asks all. A question that was not answered for a tick is asked again.
    pub fn ask(&mut self, peers: &[NodeId], now: Tick, tick_ms: u64) -> Vec<NodeId> {
        let wanted = |peer: &NodeId| match &self.role {
            Role::Asks(_, _, told) => !told.contains_key(peer),
            Role::Follows => !self.sight.live && self.sight.clock_ms > 0,
            Role::Stamps(..) => false,
        };
        let wanted: Vec<NodeId> = peers.iter().copied().filter(wanted).collect();
        if self.asked_ms.is_some_and(|asked_ms| now.mono_ms.saturating_sub(asked_ms) < tick_ms) {
            return Vec::new();
        }
        self.asked_ms = (!wanted.is_empty()).then_some(now.mono_ms);
        wanted
    }

    /// A replica answers.
    pub fn take(&mut self, from: NodeId, round: Term, told: Told, now: Tick) {
        match &mut self.role {
            Role::Asks(term, _, all) if *term == round => drop(all.insert(from, told)),
            Role::Stamps(term, since_ms, walls) if *term == round => {
                // It came behind a quorum's, and makes it clearer whose wall clock is wrong.
                walls.insert(from, ahead_ms(told.wall_ms, self.sight.estimate_ms(now), now.mono_ms - *since_ms));
                self.sight.walls_ahead_ms = medians(walls.values().copied()).1;
            }
            Role::Follows if !self.sight.live && told.has_counted() && told.term >= self.sight.term => {
                let clock_ms = match told.term == self.sight.term {
                    true => told.clock_ms.max(self.sight.estimate_ms(now)),
                    false => told.clock_ms,
                };
                let Told { term, walls_ahead_ms, .. } = told;
                self.sight = Sight { term, clock_ms, walls_ahead_ms, at_ms: now.mono_ms, live: true };
            }
            _ => {}
        }
    }

    /// Begins to stamp, once those who told are a quorum. If nobody of them has counted the time since the newest leader's stamps,
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
        let has_begun = all.iter().any(|told| told.clock_ms > 0);
        let is_lost = has_begun && newest_counted_term(&all) != Some(newest_term(&all));
        let waits = is_lost && now.mono_ms.saturating_sub(*since_ms) < patience_ms;
        let all_told = voters.iter().all(|voter| told.contains_key(voter));
        if (waits && !all_told) || !is_quorum(&told.keys().copied().collect::<Vec<_>>()) {
            return None;
        }
        let from_ms = self.estimate_ms(now);
        let floor_ms = if is_on(Mutation::ClockGoesBack) { 0 } else { self.logged_ms };
        let to_ms = begin_ms(&all).max(floor_ms);
        let walls: BTreeMap<_, _> =
            told.iter().map(|(&id, told)| (id, ahead_ms(told.wall_ms, to_ms, now.mono_ms - since_ms))).collect();
        let (_, walls_ahead_ms) = medians(walls.values().copied());
        self.sight = Sight { term: *term, clock_ms: to_ms, walls_ahead_ms, at_ms: now.mono_ms, live: true };
        self.role = Role::Stamps(*term, *since_ms, walls);
        Some(Settled { from_ms, to_ms })
    }

    /// The stamp for what is proposed now. None: this replica must not propose.
    pub fn stamp(&self, now: Tick) -> Option<Stamp> {
        let walls_ahead_ms = self.sight.walls_ahead_ms;
        let stamps = matches!(self.role, Role::Stamps(..));
        stamps.then(|| Stamp { clock_ms: self.estimate_ms(now), walls_ahead_ms })
    }
}

/// What the clock shows at least, by what a quorum told.
fn begin_ms(told: &[Told]) -> u64 {
    let begun = || told.iter().filter(|told| told.clock_ms > 0);
    let shown_ms = |term| begun().filter(|told| told.term == term).map(|told| told.clock_ms).max().unwrap_or_default();
    if is_on(Mutation::ClockGoesBack) {
        return begun().map(|told| told.clock_ms).min().unwrap_or_default();
    }
    let (newest, counted) = (newest_term(told), newest_counted_term(told));
    if counted == Some(newest) {
        return shown_ms(newest);
    }
    let walls_ms = by_walls_ms(told, newest);
    let passed_ms = match counted {
        Some(term) => walls_ms.clamp(shown_ms(term).saturating_sub(STAMP_LATE_MS_MAX), shown_ms(term)),
        None if is_on(Mutation::ClockNeverStamped) => 0,
        None => walls_ms,
    };
    passed_ms.max(shown_ms(newest))
}

/// The last leader whose stamps one of them knows. 0: the clock has not begun.
fn newest_term(told: &[Told]) -> Term {
    told.iter().filter(|told| told.clock_ms > 0).map(|told| told.term).max().unwrap_or_default()
}

/// The last leader since whose stamps one of them has counted the time.
fn newest_counted_term(told: &[Told]) -> Option<Term> {
    told.iter().filter(|told| told.has_counted()).map(|told| told.term).max()
}

/// What the clock shows by wall clocks, told now, and when the newest leader began.
fn by_walls_ms(told: &[Told], newest: Term) -> u64 {
    // A clock that has not begun is behind no wall clock.
    let of_newest = told.iter().filter(|told| told.term == newest && told.clock_ms > 0);
    let ahead_ms = of_newest.map(|told| told.walls_ahead_ms).max().unwrap_or_default();
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
        Stamp { clock_ms, walls_ahead_ms: 0 }
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
        assert_eq!(clock.ask(&peers, at(0), 100), [], "a follower asks nobody");
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
        assert_eq!(clock.ask(&peers, at(0), 100), peers);
        let knows_not = Told { clock_ms: 9_000, term: Term(4), ran_since: false, ..Told::default() };
        clock.take(NodeId(2), Term(3), knows_not, at(10));
        let knows_an_older_leaders = Told { clock_ms: 9_000, term: Term(2), ran_since: true, ..Told::default() };
        clock.take(NodeId(2), Term(3), knows_an_older_leaders, at(20));
        assert!(!clock.told(at(20)).ran_since);
        assert_eq!(clock.ask(&peers, at(100), 100), peers);
        let knows = Told { clock_ms: 5_000, term: Term(3), ran_since: true, ..Told::default() };
        clock.take(NodeId(3), Term(3), knows, at(120));
        let told = clock.told(at(150));
        assert_eq!((told.clock_ms, told.term, told.ran_since), (5_030, Term(3), true));
        assert_eq!(clock.ask(&peers, at(900), 100), [], "it knows");
        assert_eq!(
            GroupClock::default().ask(&peers, at(0), 100),
            [],
            "a clock that has not begun is nobody's business"
        );
    }

    #[test]
    fn who_ran_since_a_stamp_carries_the_clock_on_whatever_wall_clocks_say() {
        let mut clock = GroupClock::recovered(Term(2), stamp(1000), at(0));
        clock.saw(Term(3), stamp(2000), at(10));
        let far = Told { wall_ms: 99 * HOUR_MS, ..Told::default() };
        let settled = settle(&mut clock, 4, at(500), &[far, far]);
        assert_eq!(settled, Settled { from_ms: 2490, to_ms: 2490 });
    }

    #[test]
    fn the_newest_leaders_stamps_count() {
        // An isolated former leader has its own idea, and cannot have committed by it.
        let former = Told { clock_ms: 9000, term: Term(2), ran_since: true, ..Told::default() };
        let mut clock = GroupClock::default();
        clock.saw(Term(3), stamp(5000), at(0));
        assert_eq!(settle(&mut clock, 4, at(100), &[former]).to_ms, 5100);
    }

    #[test]
    fn what_was_counted_since_an_older_stamp_bounds_what_wall_clocks_say() {
        // A leader has seen stamps late, and its clock is 600 ms behind what its predecessor's would show. It is restarted after 3 s.
        let last = Stamp { clock_ms: 47 * HOUR_MS, walls_ahead_ms: 3 * HOUR_MS as i64 };
        let told = |wall_ms, clock_ms| Told { wall_ms, clock_ms, walls_ahead_ms: 0, term: Term(2), ran_since: true };
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
        assert_eq!(settled(wall_ms - HOUR_MS, after_a_minute), 60_600 - STAMP_LATE_MS_MAX);
    }

    #[test]
    fn after_a_restart_of_all_the_wall_clocks_say_how_much_time_has_passed() {
        let restarted = Told { wall_ms: 50 * HOUR_MS, clock_ms: 47 * HOUR_MS, term: Term(2), ..Told::default() };
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
        let last = Stamp { clock_ms: 47 * HOUR_MS, walls_ahead_ms: 0 };
        let told = |wall_ms| Told { wall_ms, clock_ms: 47 * HOUR_MS, term: Term(2), ..Told::default() };
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
        clock.take(NodeId(2), Term(3), Told { ran_since: true, ..told(0) }, at(10));
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
        let other = Told { wall_ms: 50 * HOUR_MS, term: Term(2), ran_since: true, ..Told::default() };
        clock.take(NodeId(3), Term(3), other, at(10));
        let settled = clock.settle(at(10), &voters, 300, |told| told.len() >= 2).unwrap();
        assert!(settled.to_ms >= 50 * HOUR_MS, "{settled:?}");
        assert!(clock.stamp(at(20)).unwrap().clock_ms > 0);
    }

    #[test]
    fn a_stamp_that_came_late_does_not_set_the_clock_back() {
        let mut clock = GroupClock::default();
        clock.saw(Term(2), stamp(1000), at(0));
        clock.saw(Term(2), stamp(1050), at(100));
        assert_eq!(clock.estimate_ms(at(100)), 1100);
        clock.saw(Term(2), stamp(1150), at(110));
        assert_eq!(clock.estimate_ms(at(110)), 1150);
        clock.saw(Term(3), stamp(1100), at(120));
        assert_eq!(clock.estimate_ms(at(120)), 1100, "another leader, another count");
    }

    #[test]
    fn a_leader_begins_at_what_its_log_says_at_least() {
        let mut clock = GroupClock::default();
        clock.saw(Term(2), stamp(5000), at(0));
        let newer = Told { clock_ms: 4000, term: Term(3), ran_since: true, ..Told::default() };
        assert_eq!(settle(&mut clock, 4, at(0), &[newer]).to_ms, 5000);
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let mut clock = GroupClock::default();
        clock.saw(Term(2), stamp(u64::MAX), at(0));
        assert_eq!(clock.estimate_ms(at(5)), u64::MAX);
        assert_eq!(settle(&mut clock, 3, at(9), &[]).to_ms, u64::MAX);
    }
}
