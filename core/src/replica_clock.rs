//! The steps by which a group's clock is kept: a leader asks before it stamps, tells the others as soon as it knows, and stamps when
//! something is due. Who was not told asks.

use crate::clock::Told;
use crate::log::LogEntry;
use crate::machine::entry::{EntryBuilder, Stamp, stamp_of};
use crate::output::{Event, Output};
use crate::replica::{Replica, Turn};
use crate::types::{LogIndex, NodeId, Term, Tick};
use crate::wire::Body;

/// So long a leader waits for the wall clocks of all when nobody has counted the time: see [`crate::clock::GroupClock::settle`].
const PATIENCE_TICKS: u64 = 3;

/// What has expired for so long, in milliseconds, is not read any more: see [`Replica::is_stamp_overdue`].
const OVERDUE_MS: u64 = 1_000;

/// The last stamp of these entries and its term.
pub(crate) fn last_stamp(entries: &[LogEntry]) -> Option<(Term, Stamp)> {
    entries.iter().rev().find_map(|entry| stamp_of(&entry.data).map(|stamp| (entry.term, stamp)))
}

impl Replica {
    /// Asks for what is not told yet. A leader begins to stamp when a quorum has told, and tells all.
    pub(crate) fn settle_clock(&mut self, turn: &mut Turn) {
        if self.knows_clock() {
            return;
        }
        let (own, now, round) = (turn.config.node, turn.now, self.raft.term());
        let voters = self.raft.voters();
        let peers: Vec<NodeId> = voters.iter().copied().filter(|&voter| voter != own).collect();
        // Who has a leader need not ask the others.
        let leader = self.raft.leader().filter(|&leader| leader != own);
        let to_ask = leader.map_or_else(|| peers.clone(), |leader| vec![leader]);
        for peer in self.clock.ask(&to_ask, now, turn.config.timing.tick_ms) {
            self.post(peer, Body::ClockAsk { round }, turn);
        }
        self.clock.take(own, round, self.clock.told(now), now);
        let patience_ms = PATIENCE_TICKS * turn.config.timing.tick_ms;
        let settled = self.clock.settle(now, &voters, patience_ms, |told| self.raft.is_quorum(told));
        let Some(settled) = settled else { return };
        for peer in peers.into_iter().chain(self.raft.learners()) {
            self.tell_clock(peer, round, turn);
        }
        if settled.is_jump() {
            let event = Event::ClockJumped { group: self.group, from_ms: settled.from_ms, to_ms: settled.to_ms };
            turn.out.push(Output::Report(event));
        }
    }

    /// Whether something has expired long ago that is still there, since no stamp has said so yet: the leader's next will. What is
    /// due now may be read for the moment that a stamp needs; but after an hour without a leader nobody should see what went then.
    pub(crate) fn is_stamp_overdue(&self, now: Tick) -> bool {
        let due_ms = self.applied_clock.next_due_ms.filter(|&due_ms| due_ms > self.applied_clock.stamp.clock_ms);
        due_ms.is_some_and(|due_ms| self.clock.estimate_ms(now) >= due_ms.saturating_add(OVERDUE_MS))
    }

    /// Whether this replica knows the clock as its leader does: then what it says of the time that is left is neither too much nor too little.
    pub(crate) fn knows_clock(&self) -> bool {
        self.clock.is_known(self.raft.leader().map(|_| self.raft.term()))
    }

    /// A replica asks, or is told anyway. Any other answers, and at once.
    pub(crate) fn tell_clock(&self, peer: NodeId, round: Term, turn: &mut Turn) {
        self.post(peer, Body::ClockTell { round, told: self.clock.told(turn.now) }, turn);
    }

    /// A replica answers.
    pub(crate) fn clock_told(&mut self, from: NodeId, round: Term, told: Told, now: Tick) {
        self.clock.take(from, round, told, now);
    }

    /// These entries come to the end of the log.
    pub(crate) fn see_stamps(&mut self, entries: &[LogEntry], now: Tick) {
        if let Some((term, stamp)) = last_stamp(entries) {
            self.clock.saw(term, stamp, now);
        }
    }

    /// Moves the clock when something is due and nothing that is written moves it; and again while a step left something over.
    pub(crate) fn stamp_when_due(&mut self, turn: &Turn) {
        let Some(stamp) = self.clock.stamp(turn.now) else { return };
        let Some(due_ms) = self.applied_clock.next_due_ms else { return };
        let applied = self.applied_index();
        let left_over = due_ms <= self.applied_clock.stamp.clock_ms;
        let under_way = self.last_bare_stamp > applied || (self.last_stamped > applied && !left_over);
        if due_ms > stamp.clock_ms || under_way {
            return;
        }
        // What is refused now is due in the next turn, too.
        if let Ok((_, index)) = self.raft.propose(EntryBuilder::new().finish(turn.config.epoch, stamp)) {
            (self.last_bare_stamp, self.last_stamped) = (index, index);
        }
    }

    /// What was under way in an earlier leadership is no longer waited for.
    pub(crate) fn lead_clock(&mut self, term: Term, now: Tick) {
        self.clock.lead(term, now);
        (self.last_bare_stamp, self.last_stamped) = (LogIndex(0), LogIndex(0));
    }
}
