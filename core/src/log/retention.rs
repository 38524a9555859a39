//! When a segment can go: what must be truncated and what must be written again before. A rule, without state.
//!
//! The oldest segment goes like this, in one step of the shard, after the store was persisted:
//! 1. [`plan`] with the segment's contents ([`super::LogWriter::oldest`]) and each replica's [`Span`];
//! 2. for every replica: truncate to [`Plan::truncate`] if there is such an index, then push [`super::Record::Restated`]
//!    with its state, then [`super::Record::Carried`] with the entries of [`Plan::carry`];
//! 3. [`super::LogWriter::release_oldest`], which waits for the sync by itself.
//!
//! Every replica of the shard is restated, whatever the segment holds of it: an older file that is still lying about
//! must never add anything to what the newer ones say.

use std::collections::BTreeMap;

use super::{Oldest, Ranges};
use crate::mutation::{Mutation, is_on};
use crate::types::{GroupId, LogIndex};

/// Where a replica's entries begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The last entry that is gone already.
    pub truncated: LogIndex,
    /// The last entry.
    pub last: LogIndex,
    /// The store holds what the entries up to this one did, and did so after a power loss.
    pub durable: LogIndex,
}

/// What to do with a replica before a segment goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose.
    pub group: GroupId,
    /// Entries up to this one go; none if they are gone already.
    pub truncate: Option<LogIndex>,
    /// The entries that must be written again.
    pub carry: Ranges,
}

/// What to do with each replica before this segment goes. Only what it holds is truncated: entries that cost nothing stay for
/// followers that are behind. Only what nothing newer holds is written again. (If anything newer holds an entry of that place, it
/// holds the one that counts: what comes later in the log counts, and what removed that would have removed this one, too.)
pub fn plan(oldest: &Oldest, replicas: &BTreeMap<GroupId, Span>) -> Vec<Plan> {
    let plan = |(&group, span): (&GroupId, &Span)| {
        // What it held beyond the last entry has been overwritten since.
        let held = oldest.held.get(&group).and_then(Ranges::last).unwrap_or_default().min(span.last);
        let truncate = Some(held.min(span.durable)).filter(|index| *index > span.truncated);
        let first = LogIndex(truncate.unwrap_or(span.truncated).0 + 1);
        let only = oldest.only.get(&group).filter(|_| !is_on(Mutation::RetentionForgets));
        let carry = only.map(|only| only.within(first, held)).unwrap_or_default();
        Plan { group, truncate, carry }
    };
    replicas.iter().map(plan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::log::SegmentId;

    const GROUP: GroupId = GroupId(3);

    fn oldest(group: GroupId, held: Ranges, newer: &Ranges) -> Oldest {
        let mut only = held.clone();
        only.remove(newer);
        let segment = SegmentId { epoch: 1, shard: 0, number: 0 };
        Oldest { segment, held: [(group, held)].into(), only: [(group, only)].into() }
    }

    /// Of a segment that holds all up to `highest`, behind which newer ones hold `newer`.
    fn plan_with(highest: Option<u64>, newer: Ranges, span: (u64, u64, u64)) -> (Option<u64>, Vec<(u64, u64)>) {
        let held = highest.map_or(Ranges::default(), |highest| Ranges::of(LogIndex(1), LogIndex(highest)));
        let (truncated, last, durable) = span;
        let span = Span { truncated: LogIndex(truncated), last: LogIndex(last), durable: LogIndex(durable) };
        let plans = plan(&oldest(GROUP, held, &newer), &BTreeMap::from([(GROUP, span)]));
        assert_eq!(plans.len(), 1);
        assert_eq!(plans[0].group, GROUP);
        let carry = plans[0].carry.iter().map(|(first, last)| (first.0, last.0)).collect();
        (plans[0].truncate.map(|index| index.0), carry)
    }

    fn plan_of(highest: Option<u64>, truncated: u64, last: u64, durable: u64) -> (Option<u64>, Option<(u64, u64)>) {
        let (truncate, carry) = plan_with(highest, Ranges::default(), (truncated, last, durable));
        assert!(carry.len() < 2);
        (truncate, carry.first().copied())
    }

    #[test]
    fn what_newer_segments_hold_is_not_carried_again() {
        let newer = Ranges::of(LogIndex(12), LogIndex(14));
        assert_eq!(plan_with(Some(20), newer.clone(), (5, 50, 9)), (Some(9), vec![(10, 11), (15, 20)]));
        assert_eq!(plan_with(Some(20), newer, (5, 50, 13)), (Some(13), vec![(15, 20)]));
        assert_eq!(plan_with(Some(20), Ranges::of(LogIndex(6), LogIndex(30)), (5, 50, 5)), (None, vec![]));
    }

    #[test]
    fn what_is_durable_is_truncated_and_nothing_is_carried() {
        assert_eq!(plan_of(Some(20), 5, 50, 40), (Some(20), None));
        assert_eq!(plan_of(Some(20), 5, 20, 20), (Some(20), None));
    }

    #[test]
    fn what_the_store_may_lose_is_carried() {
        assert_eq!(plan_of(Some(20), 5, 50, 12), (Some(12), Some((13, 20))));
        assert_eq!(plan_of(Some(20), 5, 50, 5), (None, Some((6, 20))));
        assert_eq!(plan_of(Some(20), 5, 50, 0), (None, Some((6, 20))), "a store that lost what was truncated");
    }

    #[test]
    fn what_is_gone_or_was_never_here_is_left_alone() {
        assert_eq!(plan_of(Some(20), 20, 50, 40), (None, None));
        assert_eq!(plan_of(Some(20), 30, 50, 40), (None, None));
        assert_eq!(plan_of(None, 5, 50, 40), (None, None));
        assert_eq!(plan_of(None, 0, 0, 0), (None, None));
    }

    #[test]
    fn what_was_overwritten_by_a_shorter_log_is_not_carried() {
        assert_eq!(plan_of(Some(20), 5, 15, 5), (None, Some((6, 15))));
        assert_eq!(plan_of(Some(20), 5, 15, 30), (Some(15), None));
        assert_eq!(plan_of(Some(20), 5, 5, 5), (None, None));
    }

    #[test]
    fn groups_that_are_only_in_the_segment_are_not_ours_to_restate() {
        let oldest = oldest(GroupId(9), Ranges::of(LogIndex(1), LogIndex(7)), &Ranges::default());
        assert_eq!(plan(&oldest, &BTreeMap::new()), vec![]);
    }
}
