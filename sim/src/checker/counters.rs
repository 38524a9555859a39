//! What many add together is the sum: each increment that was acknowledged is in it once, in the order of time, and what else is in
//! it are increments of which nobody knows.
//!
//! An increment that made a sum took the numbers from the sum before it up to its own. No two may have taken the same: that is a lost
//! update. And no more may be left over than those of unknown outcome can have taken: that is an increment done twice.

use std::collections::BTreeMap;

use super::Violation;
use crate::scripts::counters::{Count, Counted};

/// A law.
pub const LOST: &str = "no increment is lost";
/// A law.
pub const TWICE: &str = "no increment is done twice";
/// A law.
pub const STALE: &str = "sums never fall";

/// Checks each number by itself; `last` is what it was at the end.
pub fn check(counts: &[Count], last: &[Option<u64>]) -> Result<(), Violation> {
    last.iter().enumerate().try_for_each(|(counter, last)| {
        let counts: Vec<Count> = counts.iter().filter(|count| count.counter == counter).copied().collect();
        let Some(last) = *last else { return Ok(()) };
        check_sum(&counts, last)?;
        check_times(&counts)
    })
}

fn check_sum(counts: &[Count], last: u64) -> Result<(), Violation> {
    let mut made: Vec<(u64, Count)> = Vec::new();
    let mut unknown = 0;
    for count in counts {
        match count.counted {
            Counted::Made(sum) => made.push((sum, *count)),
            Counted::Unknown => unknown += count.by,
            Counted::Nothing | Counted::Read(_) => {}
        }
    }
    made.sort_unstable_by_key(|(sum, count)| (*sum, count.called));
    let mut before: Option<(u64, Count)> = None;
    let mut acknowledged = 0;
    for (sum, count) in made {
        let taken = before.map_or(0, |(sum, _)| sum);
        if sum < taken + count.by {
            return Err(Violation::new(LOST, format!("{before:?} and {count:?} took the same numbers")));
        }
        acknowledged += count.by;
        before = Some((sum, count));
    }
    let greatest = before.map_or(0, |(sum, _)| sum);
    if last < greatest {
        return Err(Violation::new(
            LOST,
            format!("the sum is {last} at the end; it had been {greatest} by {before:?}"),
        ));
    }
    if last - acknowledged.min(last) > unknown {
        let seen = format!("the sum is {last} at the end: {acknowledged} were acknowledged, {unknown} are unknown");
        return Err(Violation::new(TWICE, seen));
    }
    Ok(())
}

/// A sweep over time: what was seen before a call is in what it sees.
fn check_times(counts: &[Count]) -> Result<(), Violation> {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (position, count) in counts.iter().enumerate() {
        if matches!(count.counted, Counted::Made(_) | Counted::Read(_)) {
            events.push((count.called, false, position));
            events.push((count.returned, true, position));
        }
    }
    events.sort_unstable();
    let mut greatest = 0;
    let mut floors: BTreeMap<usize, u64> = BTreeMap::new();
    for (_, is_return, position) in events {
        if !is_return {
            floors.insert(position, greatest);
            continue;
        }
        let count = counts[position];
        let floor = floors.remove(&position).unwrap_or_default();
        if let Counted::Made(sum) | Counted::Read(sum) = count.counted {
            if sum < floor + count.by {
                return Err(Violation::new(STALE, format!("{count:?} began when the sum had been seen as {floor}")));
            }
            greatest = sum.max(greatest);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(by: u64, (called, returned): (u64, u64), counted: Counted) -> Count {
        Count { counter: 0, by, called, returned, counted }
    }

    fn broken(counts: &[Count], last: u64) -> Option<&'static str> {
        check(counts, &[Some(last)]).err().map(|violation| violation.law)
    }

    #[test]
    fn what_is_acknowledged_is_in_the_sum_once() {
        let first = count(2, (1, 4), Counted::Made(2));
        let second = count(3, (2, 3), Counted::Made(5));
        assert_eq!(broken(&[first, second], 5), None);
        assert_eq!(broken(&[first, second], 4), Some(LOST), "it fell");
        assert_eq!(broken(&[first, second], 6), Some(TWICE), "nobody added that");
        assert_eq!(broken(&[first, count(3, (2, 3), Counted::Made(4))], 5), Some(LOST), "both took 2");
        assert_eq!(broken(&[first, count(2, (2, 3), Counted::Made(2))], 2), Some(LOST));
        assert_eq!(broken(&[first, count(3, (5, 6), Counted::Nothing)], 2), None);
        assert_eq!(broken(&[first, count(3, (5, 6), Counted::Nothing)], 5), Some(TWICE), "it was said not to be");
    }

    #[test]
    fn what_is_unknown_may_be_in_it_or_not() {
        let known = count(2, (1, 2), Counted::Made(2));
        let unknown = count(3, (3, 4), Counted::Unknown);
        assert_eq!(broken(&[known, unknown], 2), None);
        assert_eq!(broken(&[known, unknown], 5), None);
        assert_eq!(broken(&[known, unknown], 8), Some(TWICE));
        assert_eq!(broken(&[known, unknown, count(1, (5, 6), Counted::Made(6))], 6), None);
    }

    #[test]
    fn time_counts() {
        let first = count(2, (1, 2), Counted::Made(2));
        assert_eq!(broken(&[first, count(0, (3, 4), Counted::Read(2))], 2), None);
        assert_eq!(broken(&[first, count(0, (3, 4), Counted::Read(0))], 2), Some(STALE));
        let unknown = count(5, (1, 9), Counted::Unknown);
        let behind = count(2, (5, 6), Counted::Made(4));
        assert_eq!(broken(&[unknown, first, count(0, (3, 4), Counted::Read(7)), behind], 9), Some(STALE));
    }
}
