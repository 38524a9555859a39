//! A key with a time to live is there as long as it was given, never comes back, and is gone not much later. Times are those of the
//! simulated world: no node's clock counts.

use super::Violation;
use crate::timed::{Ask, LATE_MS_MAX, Seen, Timed, TimedCall};

/// A law.
pub const EARLY: &str = "nothing expires early";
/// A law.
pub const BACK: &str = "what has expired stays gone";
/// A law.
pub const LATE: &str = "what has expired goes";
const LEFT: &str = "no more time is left than was given";

/// What wall clocks that are right may differ by, twice: after a restart of all they say how much time has passed.
pub const RIGHT_WALLS_DIFFER_MS_MAX: u64 = 40;
/// A key of the time of the faults may be so late at the end: while a group has no leader its clock is carried on, but a wall clock
/// that is wrong may hide that all were down for a while.
const LATE_AFTER_FAULTS_MS_MAX: u64 = 20_000;

/// Checks each key by itself.
pub fn check(timed: &Timed) -> Result<(), Violation> {
    for (number, key) in timed.keys.iter().enumerate() {
        let (name, calls) = timed.of(number);
        let late_ms_max = if key.probe { LATE_MS_MAX } else { LATE_AFTER_FAULTS_MS_MAX };
        check_key(&calls, late_ms_max).map_err(|(law, at)| {
            let calls: String = calls.iter().map(|call| format!("\n  {call:?}")).collect();
            let seen = format!("{name}: {at:?}; all that was asked about it:{calls}");
            Violation { at_ms: Some(at.returned_ms), ..Violation::new(law, seen) }
        })?;
    }
    Ok(())
}

/// What a write means for a key: it cannot expire before `from_ms`, and must have by `until_ms`.
struct Life {
    from_ms: u64,
    until_ms: u64,
}

fn life(call: &TimedCall) -> Life {
    let ttl_ms = match call.ask {
        Ask::Put { ttl_ms, .. } => Some(ttl_ms),
        Ask::Expire { ttl_ms } => ttl_ms,
        Ask::Read => unreachable!("no write"),
    };
    let known = matches!(call.seen, Seen::There { .. });
    let after = |ms: u64| ttl_ms.map_or(u64::MAX, |ttl_ms| ms.saturating_add(ttl_ms));
    Life { from_ms: after(call.called_ms), until_ms: if known { after(call.returned_ms) } else { u64::MAX } }
}

fn check_key(calls: &[&TimedCall], late_ms_max: u64) -> Result<(), (&'static str, TimedCall)> {
    let may_write = |call: &&&TimedCall| call.ask != Ask::Read && !matches!(call.seen, Seen::Refused | Seen::Gone);
    for call in calls {
        // In the order of time there is one write after the other.
        let before = |write: &&&TimedCall| write.returned_ms <= call.called_ms;
        let writes: Vec<&TimedCall> = calls.iter().filter(may_write).copied().collect();
        let last_known = writes.iter().rev().find(|write| before(write) && matches!(write.seen, Seen::There { .. }));
        // What may have come behind it until the answer came.
        let later = writes.iter().filter(|write| {
            write.called_ms < call.returned_ms
                && last_known.is_none_or(|known| write.called_ms >= known.returned_ms)
                && !std::ptr::eq(**write, *call)
        });
        let possible: Vec<Life> = last_known.into_iter().chain(later).map(|write| life(write)).collect();
        match call.seen {
            Seen::Gone => {
                let earliest_ms = possible.iter().map(|life| life.from_ms).min().unwrap_or_default();
                if last_known.is_some() && call.returned_ms.saturating_add(RIGHT_WALLS_DIFFER_MS_MAX) < earliest_ms {
                    return Err((EARLY, (*call).clone()));
                }
            }
            Seen::There { ttl_ms } if !matches!(call.ask, Ask::Put { .. }) => {
                // A put of unknown outcome may come late, but only once.
                let there_before = |earlier: &&&TimedCall| {
                    matches!(earlier.seen, Seen::There { .. }) && earlier.returned_ms <= call.called_ms
                };
                let gone_between = calls.iter().filter(there_before).any(|there| {
                    let gone = |gone: &&TimedCall| {
                        gone.seen == Seen::Gone
                            && gone.called_ms >= there.returned_ms
                            && gone.returned_ms <= call.called_ms
                    };
                    calls.iter().copied().any(|call| gone(&call))
                });
                if gone_between {
                    return Err((BACK, (*call).clone()));
                }
                let latest_ms = possible.iter().map(|life| life.until_ms).max().unwrap_or(u64::MAX);
                if call.called_ms > latest_ms.saturating_add(late_ms_max) {
                    return Err((LATE, (*call).clone()));
                }
                let given = writes.iter().map(|write| match write.ask {
                    Ask::Put { ttl_ms, .. } => Some(ttl_ms),
                    Ask::Expire { ttl_ms } => ttl_ms,
                    Ask::Read => None,
                });
                let most_ms = given.flatten().max().unwrap_or_default();
                if ttl_ms.is_some_and(|left_ms| left_ms > most_ms) {
                    return Err((LEFT, (*call).clone()));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(ask: Ask, called_ms: u64, returned_ms: u64, seen: Seen) -> TimedCall {
        TimedCall::made((ask, seen), called_ms, returned_ms)
    }

    const THERE: Seen = Seen::There { ttl_ms: None };
    const PUT: Ask = Ask::Put { ttl_ms: 1_000, batch: false };

    fn broken(calls: &[TimedCall]) -> Option<&'static str> {
        check_key(&calls.iter().collect::<Vec<_>>(), 500).err().map(|(law, _)| law)
    }

    #[test]
    fn a_key_is_there_for_its_time_and_gone_soon_after() {
        let read = |at, seen| call(Ask::Read, at, at + 10, seen);
        let put = || call(PUT, 0, 100, THERE);
        assert_eq!(broken(&[put(), read(900, THERE), read(1_000, Seen::Gone), read(2_000, Seen::Gone)]), None);
        assert_eq!(broken(&[put(), read(800, Seen::Gone)]), Some(EARLY));
        assert_eq!(broken(&[put(), read(1_600, THERE)]), None, "not too late yet");
        assert_eq!(broken(&[put(), read(1_601, THERE)]), Some(LATE));
        assert_eq!(broken(&[put(), read(1_200, Seen::Gone), read(1_300, THERE)]), Some(BACK));
        assert_eq!(broken(&[put(), read(500, Seen::There { ttl_ms: Some(1_001) })]), Some(LEFT));
    }

    #[test]
    fn an_unknown_put_may_come_late_and_a_refused_one_never() {
        let read = |at, seen| call(Ask::Read, at, at + 10, seen);
        let put = |seen| call(PUT, 0, 100, seen);
        assert_eq!(broken(&[put(Seen::Unknown), read(200, Seen::Gone), read(300, THERE)]), None);
        let again = [put(Seen::Unknown), read(200, THERE), read(300, Seen::Gone), read(400, THERE)];
        assert_eq!(broken(&again), Some(BACK));
    }

    #[test]
    fn another_time_to_live_counts_from_its_own_call() {
        let read = |at, seen| call(Ask::Read, at, at + 10, seen);
        let expire = |ttl_ms, seen| call(Ask::Expire { ttl_ms }, 500, 600, seen);
        let put = || call(PUT, 0, 100, THERE);
        assert_eq!(broken(&[put(), expire(Some(2_000), THERE), read(1_500, Seen::Gone)]), Some(EARLY));
        assert_eq!(broken(&[put(), expire(Some(2_000), THERE), read(2_500, Seen::Gone)]), None);
        assert_eq!(broken(&[put(), expire(None, THERE), read(99_000, THERE)]), None);
        assert_eq!(broken(&[put(), expire(None, THERE), read(99_000, Seen::Gone)]), Some(EARLY));
        assert_eq!(broken(&[put(), expire(Some(2_000), Seen::Unknown), read(1_100, Seen::Gone)]), None);
        assert_eq!(broken(&[put(), expire(Some(2_000), Seen::Unknown), read(900, Seen::Gone)]), Some(EARLY));
        assert_eq!(broken(&[put(), expire(Some(2_000), Seen::Gone)]), Some(EARLY), "it found nothing");
        let late = call(Ask::Expire { ttl_ms: Some(9) }, 1_300, 1_400, THERE);
        assert_eq!(broken(&[put(), read(1_200, Seen::Gone), late]), Some(BACK));
    }
}
