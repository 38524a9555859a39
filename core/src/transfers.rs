//! Which snapshots a shard sends at a time, and how fast: one to each peer, since many would take all the longer each while the log
//! behind them grows, and beside it the beginning of another, which is all of a small one; and so slowly that those who write hardly
//! notice.

use std::collections::{BTreeMap, VecDeque};

use crate::types::{GroupId, NodeId};

/// So much of what was not used is made up for, in microseconds: turns do not come at the very moment that they were asked for.
const BURST_US: u64 = 20_000;

/// So many snapshots are open for one peer at a time.
const TO_ONE_PEER: usize = 2;
/// So much of it goes to the peer while another does, in bytes.
const BESIDE_BYTES_MAX: u64 = 4 << 20;

/// What all groups of a shard share when they send snapshots.
#[derive(Default)]
pub(crate) struct Transfers {
    /// Whose snapshots each peer gets, in the order in which they began.
    to: BTreeMap<NodeId, Vec<GroupId>>,
    /// Whose it wants, and when it was asked for last, in ms.
    wanted: BTreeMap<(NodeId, GroupId), u64>,
    /// When a transfer ended last, in ms.
    ended: BTreeMap<(NodeId, GroupId), u64>,
    /// Whose chunk is read next, and after that.
    waiting: VecDeque<(NodeId, GroupId)>,
    /// When the next chunk may be read, in microseconds.
    due_us: u64,
}

impl Transfers {
    /// Whether a group's snapshot, which a peer wants, may go to it now. Then it does until it has ended.
    ///
    /// Whoever had its turn longest ago comes first. Others ask for theirs within `wait_ms`.
    pub fn begin(&mut self, peer: NodeId, group: GroupId, now_ms: u64, wait_ms: u64) -> bool {
        self.wanted.insert((peer, group), now_ms);
        self.wanted.retain(|_, asked_ms| *asked_ms + wait_ms > now_ms);
        let ended = |group| self.ended.get(&(peer, group)).copied();
        let waits = ended(group).is_some_and(|ended_ms| now_ms < ended_ms + wait_ms);
        let of_peer = (peer, GroupId(0))..=(peer, GroupId(u32::MAX));
        let comes_later = self.wanted.range(of_peer).any(|(&(_, other), _)| ended(other) < ended(group));
        let to = self.to.entry(peer).or_default();
        let begins = to.len() < TO_ONE_PEER && !waits && !comes_later && !to.contains(&group);
        if begins {
            to.push(group);
            self.wanted.remove(&(peer, group));
        }
        begins
    }

    /// Whether a group's transfer may go on, of which the peer has so many bytes.
    pub fn goes_on(&mut self, peer: NodeId, group: GroupId, bytes: u64) -> bool {
        let goes_on = bytes < BESIDE_BYTES_MAX || self.to.get(&peer).and_then(|to| to.first()) == Some(&group);
        if !goes_on {
            self.step_back(peer, group);
        }
        goes_on
    }

    /// A transfer does not wait for its next chunk any more.
    pub fn step_back(&mut self, peer: NodeId, group: GroupId) {
        self.waiting.retain(|waiting| *waiting != (peer, group));
    }

    /// A group's transfer to a peer has ended.
    pub fn end(&mut self, peer: NodeId, group: GroupId, now_ms: u64) {
        self.step_back(peer, group);
        let Some(to) = self.to.get_mut(&peer) else { return };
        if let Some(at) = to.iter().position(|sent| *sent == group) {
            to.remove(at);
            self.ended.insert((peer, group), now_ms);
        }
    }

    /// Takes leave to read a chunk of `bytes`, with a limit of `bytes_per_second` (0: none), when all that asked before have had
    /// theirs. Err: not before then, in ms.
    pub fn take(
        &mut self,
        (peer, group): (NodeId, GroupId),
        bytes: usize,
        bytes_per_second: u64,
        now_ms: u64,
    ) -> Result<(), u64> {
        if bytes_per_second == 0 {
            return Ok(());
        }
        let now_us = now_ms * 1000;
        let is_next = self.waiting.front().is_none_or(|first| *first == (peer, group));
        if self.due_us > now_us || !is_next {
            if !self.waiting.contains(&(peer, group)) {
                self.waiting.push_back((peer, group));
            }
            return Err(self.due_us.div_ceil(1000).max(now_ms + 1));
        }
        self.waiting.pop_front();
        self.due_us = self.due_us.max(now_us.saturating_sub(BURST_US)) + cost_us(bytes, bytes_per_second);
        Ok(())
    }

    /// A chunk turned out to have other bytes than were taken for it.
    pub fn correct(&mut self, taken: usize, bytes: usize, bytes_per_second: u64) {
        if bytes_per_second > 0 {
            self.due_us += cost_us(bytes, bytes_per_second);
            self.due_us = self.due_us.saturating_sub(cost_us(taken, bytes_per_second));
        }
    }
}

fn cost_us(bytes: usize, bytes_per_second: u64) -> u64 {
    (bytes as u64).saturating_mul(1_000_000) / bytes_per_second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_groups_at_a_time_and_in_turns() {
        let (peer, other) = (NodeId(2), NodeId(3));
        let mut transfers = Transfers::default();
        assert!(transfers.begin(peer, GroupId(1), 1000, 200) && transfers.begin(peer, GroupId(2), 1000, 200));
        assert!(!transfers.begin(peer, GroupId(3), 1000, 200));
        assert!(transfers.begin(other, GroupId(3), 1000, 200), "peers do not wait for each other");
        assert!(transfers.goes_on(peer, GroupId(1), u64::MAX) && transfers.goes_on(other, GroupId(3), u64::MAX));
        assert!(transfers.goes_on(peer, GroupId(2), 1000) && !transfers.goes_on(peer, GroupId(2), BESIDE_BYTES_MAX));
        transfers.end(peer, GroupId(3), 1500);
        assert!(!transfers.begin(peer, GroupId(3), 1500, 200), "that was not under way");
        transfers.end(peer, GroupId(1), 2000);
        assert!(transfers.goes_on(peer, GroupId(2), BESIDE_BYTES_MAX), "it is the first now");
        assert!(!transfers.begin(peer, GroupId(1), 2100, 200), "it had its turn");
        assert!(transfers.begin(peer, GroupId(3), 2100, 200));
        transfers.end(peer, GroupId(3), 2200);
        assert!(transfers.begin(peer, GroupId(1), 2200, 200));
    }

    #[test]
    fn whoever_had_its_turn_longest_ago_comes_first() {
        let peer = NodeId(2);
        let mut transfers = Transfers::default();
        let mut now_ms = 1000;
        let mut turns = Vec::new();
        // Three groups that want one again and again, asking in the order of their numbers.
        for _ in 0..40 {
            for group in (1..=5).map(GroupId) {
                if transfers.begin(peer, group, now_ms, 200) {
                    turns.push(group.0);
                    transfers.end(peer, group, now_ms);
                }
            }
            now_ms += 100;
        }
        for group in 1..=5 {
            let count = turns.iter().filter(|turn| **turn == group).count();
            assert!(count >= turns.len() / 6, "{group}: {turns:?}");
        }
    }

    fn seconds_bytes(transfers: &mut Transfers, peers: &[u64], from_ms: u64) -> Vec<usize> {
        let mut taken = vec![0; peers.len()];
        let mut now_ms = from_ms;
        while now_ms < from_ms + 1000 {
            let mut next_ms = u64::MAX;
            for (at, &peer) in peers.iter().enumerate() {
                match transfers.take((NodeId(peer), GroupId(1)), 1000, 100_000, now_ms) {
                    Ok(()) => taken[at] += 1000,
                    Err(at_ms) => next_ms = next_ms.min(at_ms),
                }
            }
            // Turns are late.
            now_ms = if next_ms == u64::MAX { now_ms } else { next_ms + 3 };
        }
        taken
    }

    #[test]
    fn a_second_takes_as_many_bytes_as_it_may() {
        let mut transfers = Transfers::default();
        let taken = seconds_bytes(&mut transfers, &[2], 10_000)[0];
        assert!((99_000..=103_000).contains(&taken), "{taken}");
        // What was not used for long is not made up for.
        let one = (NodeId(2), GroupId(1));
        let at_once = (0..).take_while(|_| transfers.take(one, 1000, 100_000, 80_000).is_ok()).count();
        assert_eq!(at_once, 3);
        assert_eq!(transfers.take(one, usize::MAX, 0, 80_000), Ok(()));
        transfers.correct(1000, 100_000, 100_000);
        assert!(transfers.take(one, 1000, 100_000, 80_900).is_err(), "it was a hundred times as much");
        assert!(transfers.take(one, 1000, 100_000, 81_100).is_ok());
    }

    #[test]
    fn those_who_wait_take_turns() {
        let mut transfers = Transfers::default();
        let taken = seconds_bytes(&mut transfers, &[2, 3, 4], 10_000);
        assert!(taken.iter().all(|taken| (30_000..=37_000).contains(taken)), "{taken:?}");
        // One that goes away while it is next is not waited for.
        let (first, second) = ((NodeId(2), GroupId(1)), (NodeId(3), GroupId(1)));
        let mut transfers = Transfers::default();
        while transfers.take(first, 1000, 100_000, 1000).is_ok() {}
        assert!(transfers.take(second, 1000, 100_000, 2000).is_err(), "the other is next");
        transfers.step_back(first.0, first.1);
        assert!(transfers.take(second, 1000, 100_000, 2000).is_ok());
    }
}
