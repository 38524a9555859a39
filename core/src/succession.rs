//! Who campaigns, and when, once a group's leader is known to be gone: one after the other, so that votes are not split, and in
//! another order in each group, so that its work is spread. Pre-votes keep a member with wrong news from disturbing the others.

use crate::types::{GroupId, NodeId};

/// So often it is a member's turn before it waits for its election timeout as always.
const TURNS_MAX: usize = 3;
/// When it campaigns in its turn, in tenths of a tick: the others may have the news a moment later, and refuse until then.
const TRIES: [u64; 3] = [0, 1, 3];

/// One member's part in it.
#[derive(Debug)]
pub(crate) struct Succession {
    since_ms: u64,
    /// Ticks to wait for those before this one.
    rank: u64,
    /// Members that campaign.
    heirs: u64,
    /// Tries so far, in all turns.
    tried: usize,
}

impl Succession {
    /// Begins when the news comes. None: this member has no vote.
    pub fn new(group: GroupId, own: NodeId, gone: NodeId, voters: &[NodeId], now_ms: u64) -> Option<Succession> {
        let heirs: Vec<NodeId> = voters.iter().copied().filter(|voter| *voter != gone).collect();
        let place = heirs.iter().position(|heir| *heir == own)?;
        let rank = (place + group.0 as usize) % heirs.len();
        Some(Succession { since_ms: now_ms, rank: rank as u64, heirs: heirs.len() as u64, tried: 0 })
    }

    /// Whether to campaign now.
    pub fn is_due(&mut self, now_ms: u64, tick_ms: u64) -> bool {
        let before = self.tried;
        // Tries that were missed are not made up for.
        while self.next_ms(tick_ms).is_some_and(|at_ms| now_ms >= at_ms) {
            self.tried += 1;
        }
        self.tried > before
    }

    /// When to campaign next, if at all.
    pub fn next_ms(&self, tick_ms: u64) -> Option<u64> {
        let (turn, within) = (self.tried / TRIES.len(), self.tried % TRIES.len());
        let ticks = self.rank + turn as u64 * self.heirs;
        (turn < TURNS_MAX).then_some(self.since_ms + ticks * tick_ms + TRIES[within] * tick_ms / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_time_and_each_group_its_own_order() {
        let voters = [1, 2, 3, 4, 5].map(NodeId);
        for group in (0..8).map(GroupId) {
            let mut first = Vec::new();
            for own in [1, 2, 4, 5].map(NodeId) {
                let mut succession = Succession::new(group, own, NodeId(3), &voters, 1_000).expect("it votes");
                let due: Vec<u64> = (1_000..3_000).filter(|&now_ms| succession.is_due(now_ms, 100)).collect();
                let begun = 1_000 + (due[0] - 1_000) / 100 * 100;
                let turns = [0, 0, 0, 4, 4, 4, 8, 8, 8].map(|ticks| begun + ticks * 100);
                let tries = [0, 10, 30].into_iter().cycle();
                assert_eq!(due, turns.iter().zip(tries).map(|(turn, within)| turn + within).collect::<Vec<_>>());
                first.push(due[0]);
            }
            let expected: Vec<u64> = (0..4).map(|place| 1_000 + (place + u64::from(group.0)) % 4 * 100).collect();
            assert_eq!(first, expected);
        }
        assert!(Succession::new(GroupId(1), NodeId(9), NodeId(3), &voters, 0).is_none(), "a learner does not campaign");
    }
}
