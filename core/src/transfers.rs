//! Which snapshots a shard sends at a time, and how fast: one to each peer, since many would take all the longer each while the log
//! behind them grows, and beside it the beginning of another, which is all of a small one; and so slowly that those who write hardly
//! notice.

use std::collections::BTreeMap;

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
    /// Whose it got last, and when that ended, in ms.
    last: BTreeMap<NodeId, (GroupId, u64)>,
    /// When the next chunk may be read, in microseconds.
    due_us: u64,
}

impl Transfers {
    /// Whether a group's snapshot may go to a peer now. Then it does until it has ended.
    ///
    /// The group that had its turn before lets the others come first: for `wait_ms`, in which they ask for theirs.
    pub fn begin(&mut self, peer: NodeId, group: GroupId, now_ms: u64, wait_ms: u64) -> bool {
        let waits = self.last.get(&peer).is_some_and(|&(last, ended_ms)| last == group && now_ms < ended_ms + wait_ms);
        let to = self.to.entry(peer).or_default();
        let begins = to.len() < TO_ONE_PEER && !waits && !to.contains(&group);
        if begins {
            to.push(group);
        }
        begins
    }

    /// Whether a group's transfer may go on, of which the peer has so many bytes.
    pub fn goes_on(&self, peer: NodeId, group: GroupId, bytes: u64) -> bool {
        bytes < BESIDE_BYTES_MAX || self.to.get(&peer).and_then(|to| to.first()) == Some(&group)
    }

    /// A group's transfer to a peer has ended.
    pub fn end(&mut self, peer: NodeId, group: GroupId, now_ms: u64) {
        let Some(to) = self.to.get_mut(&peer) else { return };
        if let Some(at) = to.iter().position(|sent| *sent == group) {
            to.remove(at);
            self.last.insert(peer, (group, now_ms));
        }
    }

    /// Takes leave to read a chunk of `bytes`, with a limit of `bytes_per_second` (0: none). Err: not before then, in ms.
    pub fn take(&mut self, bytes: usize, bytes_per_second: u64, now_ms: u64) -> Result<(), u64> {
        if bytes_per_second == 0 {
            return Ok(());
        }
        let now_us = now_ms * 1000;
        if self.due_us > now_us {
            return Err(self.due_us.div_ceil(1000));
        }
        let cost_us = (bytes as u64).saturating_mul(1_000_000) / bytes_per_second;
        self.due_us = self.due_us.max(now_us.saturating_sub(BURST_US)) + cost_us;
        Ok(())
    }
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
    fn a_second_takes_as_many_bytes_as_it_may() {
        let mut transfers = Transfers::default();
        let (mut taken, mut now_ms) = (0, 10_000);
        while now_ms < 11_000 {
            match transfers.take(1000, 100_000, now_ms) {
                Ok(()) => taken += 1000,
                // Turns are late.
                Err(at_ms) => now_ms = at_ms + 3,
            }
        }
        assert!((99_000..=103_000).contains(&taken), "{taken}");
        // What was not used for long is not made up for.
        now_ms += 60_000;
        let at_once = (0..).take_while(|_| transfers.take(1000, 100_000, now_ms).is_ok()).count();
        assert_eq!(at_once, 3);
        assert_eq!(transfers.take(usize::MAX, 0, now_ms), Ok(()));
    }
}
