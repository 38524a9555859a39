//! Sets of log positions, as the ranges that they are made of.

use crate::log::LogEntry;
use crate::types::LogIndex;

/// Ranges that neither touch nor overlap, in order; both ends are in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// One range; none if it ends before it begins.
    pub fn of(first: LogIndex, last: LogIndex) -> Ranges {
        Ranges(if first <= last { vec![(first.0, last.0)] } else { Vec::new() })
    }

    /// The places of a record's entries.
    pub(super) fn of_entries(entries: &[LogEntry]) -> Ranges {
        entries
            .first()
            .zip(entries.last())
            .map_or(Ranges::default(), |(first, last)| Ranges::of(first.index, last.index))
    }

    /// Puts in what is in the other one.
    pub fn add(&mut self, other: &Ranges) {
        for &(first, last) in &other.0 {
            // Mostly it follows the last one.
            let begin = self.0.partition_point(|range| range.1 + 1 < first);
            let end = self.0.partition_point(|range| range.0 <= last + 1);
            let united = match self.0[begin..end] {
                [] => (first, last),
                [low, .., high] => (first.min(low.0), last.max(high.1)),
                [only] => (first.min(only.0), last.max(only.1)),
            };
            self.0.splice(begin..end, [united]);
        }
    }

    /// Takes out what is in the other one.
    pub fn remove(&mut self, other: &Ranges) {
        for &(first, last) in &other.0 {
            let begin = self.0.partition_point(|range| range.1 < first);
            let end = self.0.partition_point(|range| range.0 <= last);
            let cut: Vec<(u64, u64)> = self.0.drain(begin..end).collect();
            let below = cut.first().filter(|range| range.0 < first).map(|range| (range.0, first - 1));
            let above = cut.last().filter(|range| range.1 > last).map(|range| (last + 1, range.1));
            self.0.splice(begin..begin, below.into_iter().chain(above));
        }
    }

    /// What is both here and within `first..=last`.
    pub fn within(&self, first: LogIndex, last: LogIndex) -> Ranges {
        let clipped = self.0.iter().map(|range| (range.0.max(first.0), range.1.min(last.0)));
        Ranges(clipped.filter(|range| range.0 <= range.1).collect())
    }

    /// The highest place.
    pub fn last(&self) -> Option<LogIndex> {
        self.0.last().map(|range| LogIndex(range.1))
    }

    /// Each range, its ends included.
    pub fn iter(&self) -> impl Iterator<Item = (LogIndex, LogIndex)> {
        self.0.iter().map(|range| (LogIndex(range.0), LogIndex(range.1)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn places(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.iter().flat_map(|(first, last)| first.0..=last.0).collect()
    }

    proptest! {
        #[test]
        fn ranges_are_the_sets_that_they_stand_for(
            changes in prop::collection::vec((any::<bool>(), 1u64..40, 0u64..8), 0..20),
            (low, high) in (1u64..40, 1u64..40),
        ) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (adds, first, more) in changes {
                let other = Ranges::of(LogIndex(first), LogIndex(first + more));
                if adds {
                    ranges.add(&other);
                    set.extend(first..=first + more);
                } else {
                    ranges.remove(&other);
                    set.retain(|place| !(first..=first + more).contains(place));
                }
                prop_assert_eq!(places(&ranges), set.clone());
                prop_assert!(ranges.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", ranges);
                prop_assert_eq!(ranges.last().map(|last| last.0), set.last().copied());
            }
            let within = ranges.within(LogIndex(low), LogIndex(high));
            set.retain(|place| (low..=high).contains(place));
            prop_assert_eq!(places(&within), set);
        }
    }
}
