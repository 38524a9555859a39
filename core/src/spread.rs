//! Spreads leaders evenly: who leads more than another by two hands one group over. Each shard looks at its own groups.
//!
//! Only a leader that has led for a while does, so that an election is not followed by another at once, and only one group at
//! a time, so that the writes of the others go on.

use std::collections::BTreeMap;

use crate::request::GroupStatus;
use crate::types::{GroupId, NodeId};

/// How long a leader leads before it may be asked to hand over for evenness' sake.
pub(crate) const SPREAD_AFTER_MS: u64 = 10_000;
/// Between two hand-overs of a shard.
pub(crate) const SPREAD_EVERY_MS: u64 = 1_000;
/// So long a member that did not take a group is not offered another: its disk may hang.
const REFUSED_MS: u64 = 30_000;

/// The last offer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub group: GroupId,
    pub to: NodeId,
    pub at_ms: u64,
}

impl Offer {
    /// Whether it was made to this member, which did not take it, not long ago.
    pub fn was_refused_by(&self, id: NodeId, groups: &[GroupStatus], own: NodeId, now_ms: u64) -> bool {
        let still_led = groups.iter().any(|group| group.group == self.group && group.leader == Some(own));
        self.to == id && still_led && now_ms < self.at_ms + REFUSED_MS
    }
}

/// A group and the member that should lead it instead of `own`. `may_lead` says whether a member is here to stay and reachable.
/// None while any group has no leader: things are not settled.
pub(crate) fn next(
    groups: &[GroupStatus],
    own: NodeId,
    may_lead: impl Fn(NodeId) -> bool,
    may_go: impl Fn(GroupId) -> bool,
) -> Option<(GroupId, NodeId)> {
    let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
    for group in groups {
        *leads.entry(group.leader?).or_default() += 1;
    }
    let count = |id: NodeId| leads.get(&id).copied().unwrap_or_default();
    let mine = groups.iter().filter(|group| group.leader == Some(own) && may_go(group.group));
    let heirs = mine.flat_map(|group| group.voters.iter().map(move |voter| (group.group, *voter)));
    let heirs = heirs.filter(|(_, heir)| *heir != own && may_lead(*heir) && count(*heir) + 2 <= count(own));
    heirs.min_by_key(|(group, heir)| (count(*heir), *heir, *group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogIndex, Term};

    fn group(id: u32, leader: u64) -> GroupStatus {
        GroupStatus {
            group: GroupId(id),
            leader: (leader != 0).then_some(NodeId(leader)),
            term: Term(1),
            committed: LogIndex(1),
            applied: LogIndex(1),
            voters: [1, 2, 3].map(NodeId).to_vec(),
            learners: Vec::new(),
            matched: Vec::new(),
            scrub: None,
        }
    }

    #[test]
    fn who_did_not_take_a_group_is_not_asked_again_soon() {
        let offer = Offer { group: GroupId(1), to: NodeId(2), at_ms: 5_000 };
        let refused = |leader, id, now_ms| offer.was_refused_by(NodeId(id), &[group(1, leader)], NodeId(1), now_ms);
        assert!(refused(1, 2, 6_000));
        assert!(!refused(1, 3, 6_000), "another was not asked");
        assert!(!refused(2, 2, 6_000), "it leads now");
        assert!(!refused(1, 2, 35_000), "it is long ago");
    }

    #[test]
    fn it_ends_even_whoever_begins() {
        let mut groups: Vec<_> = (0..17).map(|id| group(id, 1)).collect();
        let mut moves = 0;
        while let Some((id, heir)) = (1..=3).find_map(|own| next(&groups, NodeId(own), |_| true, |_| true)) {
            groups[id.0 as usize].leader = Some(heir);
            moves += 1;
        }
        let count = |id| groups.iter().filter(|group| group.leader == Some(NodeId(id))).count();
        assert_eq!((moves, [1, 2, 3].map(count)), (11, [6, 6, 5]));
    }

    #[test]
    fn nothing_moves_to_who_cannot_lead_or_while_a_group_has_no_leader() {
        let groups: Vec<_> = (0..4).map(|id| group(id, 1)).collect();
        assert_eq!(next(&groups, NodeId(1), |_| false, |_| true), None);
        assert_eq!(next(&groups, NodeId(1), |id| id == NodeId(3), |_| true), Some((GroupId(0), NodeId(3))));
        assert_eq!(next(&groups, NodeId(1), |_| true, |_| false), None);
        let leaderless: Vec<_> = (0..4).map(|id| group(id, u64::from(id > 0))).collect();
        assert_eq!(next(&leaderless, NodeId(1), |_| true, |_| true), None);
    }
}
