//! What a replica asks of its store: to apply what is committed, to read, and to remove what was dropped.

use std::sync::Arc;

use crate::machine::FullBuckets;
use crate::mutation::{Mutation, is_on};
use crate::output::Output;
use crate::proposals::Waiter;
use crate::replica::{Replica, Turn};
use crate::shard_reads::LeftToLeader;
use crate::storage::{AppliedClock, StorageJob};
use crate::types::{LogIndex, Ticket};

impl Replica {
    /// The store has applied everything up to `index`.
    pub fn applied(&mut self, index: LogIndex, clock: AppliedClock) {
        while let Some((_, bytes)) = self.applying.pop_front_if(|(applying, _)| *applying <= index) {
            self.unapplied_bytes -= bytes;
        }
        self.applied = index;
        self.applied_clock = clock;
        self.raft.applied(index);
    }

    /// The last entry that the store has.
    pub fn applied_index(&self) -> LogIndex {
        self.applied
    }

    /// The last entry that the store has or was given.
    pub fn handed_to_store(&self) -> LogIndex {
        self.applying.back().map_or(self.applied, |(index, _)| *index)
    }

    pub(crate) fn apply(&mut self, turn: &mut Turn) {
        if self.to_apply.is_empty() {
            return;
        }
        let entries = std::mem::take(&mut self.to_apply);
        self.store(entries, turn);
    }

    pub(crate) fn serve_reads(&mut self, turn: &mut Turn) {
        self.leave_to_leader(turn);
        if let Some(error) = self.refuses_reads() {
            let refused = std::mem::take(&mut self.reads_now);
            return turn.answers.extend(refused.into_iter().map(|(id, _)| (Waiter::Local(id), Err(error.clone()))));
        }
        let mut reads = std::mem::take(&mut self.reads_now);
        if self.knows_clock() && !self.is_stamp_overdue(turn.now) {
            reads.extend(self.reads.ready(self.applied).into_iter().map(|read| (read.id, read.op)));
        }
        if reads.is_empty() {
            return;
        }
        let reads = reads.into_iter().map(|(id, op)| (Ticket(id.0), op)).collect();
        let (now_ms, mut clock_ms) = (turn.now.mono_ms, self.clock.estimate_ms(turn.now));
        if is_on(Mutation::ExpiryByOwnClock) {
            clock_ms = turn.now.wall_ms;
        }
        turn.out.push(Output::Storage(StorageJob::Read { group: self.group, reads, now_ms, clock_ms }));
    }

    /// Reads that would wait for long here, or must not be answered.
    fn leave_to_leader(&mut self, turn: &mut Turn) {
        if self.raft.is_leader() {
            return;
        }
        let left = if self.refuses_reads().is_some() || turn.disk_hangs() {
            // A store may hang with its log.
            self.reads.take_behind(LogIndex(0))
        } else {
            let patience_ms = turn.config.timing.election_ms();
            let mut left = self.reads.take_late(turn.now.mono_ms.saturating_sub(patience_ms));
            if turn.rooms.is_exhausted() {
                left.append(&mut self.reads.take_behind(self.raft.last_index()));
            }
            left
        };
        let group = self.group;
        turn.left_to_leaders.extend(left.into_iter().map(|read| LeftToLeader { group, read }));
    }

    pub(crate) fn purge(&mut self, turn: &mut Turn) {
        /// The most keys removed by one job: other jobs wait meanwhile.
        const KEYS_AT_ONCE: usize = 512;
        if self.purge && !self.purging && self.install.is_none() {
            self.purging = true;
            turn.out.push(Output::Storage(StorageJob::Purge { group: self.group, limit: KEYS_AT_ONCE }));
        }
    }

    /// A purge is done.
    pub fn purged(&mut self, more: bool) {
        self.purging = false;
        self.purge = more;
    }

    /// Other buckets have reached their bounds than before.
    pub fn filled(&mut self, full: Option<Arc<FullBuckets>>) {
        if let Some(full) = full {
            self.full = full;
        }
    }

    /// Committed bytes that wait to be applied.
    pub fn unapplied_bytes(&self) -> usize {
        self.unapplied_bytes
    }
}
