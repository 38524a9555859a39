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
