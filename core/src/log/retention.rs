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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whose.
    pub group: GroupId,
    /// Entries up to this one go; none if they are gone already.
    pub truncate: Option<LogIndex>,
    /// The first and the last entry that must be written again, if there are any.
    pub carry: Option<(LogIndex, LogIndex)>,
}

/// What to do with each replica before the segment goes that holds `highest` of each group. Only what it holds is
/// truncated: entries that cost nothing stay for followers that are behind.
pub fn plan(highest: &BTreeMap<GroupId, LogIndex>, replicas: &BTreeMap<GroupId, Span>) -> Vec<Plan> {
    let plan = |(&group, span): (&GroupId, &Span)| {
        // What it held beyond the last entry has been overwritten since.
        let held = highest.get(&group).copied().unwrap_or_default().min(span.last);
        let truncate = Some(held.min(span.durable)).filter(|index| *index > span.truncated);
        let first = LogIndex(truncate.unwrap_or(span.truncated).0 + 1);
        Plan { group, truncate, carry: (first <= held && !is_on(Mutation::RetentionForgets)).then_some((first, held)) }
    };
    replicas.iter().map(plan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(3);

    fn plan_of(highest: Option<u64>, truncated: u64, last: u64, durable: u64) -> (Option<u64>, Option<(u64, u64)>) {
        let highest = highest.map(|index| (GROUP, LogIndex(index))).into_iter().collect();
        let span = Span { truncated: LogIndex(truncated), last: LogIndex(last), durable: LogIndex(durable) };
        let plans = plan(&highest, &BTreeMap::from([(GROUP, span)]));
        assert_eq!(plans.len(), 1);
        assert_eq!(plans[0].group, GROUP);
        (plans[0].truncate.map(|index| index.0), plans[0].carry.map(|(first, last)| (first.0, last.0)))
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
        let highest = BTreeMap::from([(GroupId(9), LogIndex(7))]);
        assert_eq!(plan(&highest, &BTreeMap::new()), vec![]);
    }
}
