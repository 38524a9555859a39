//! Linearizable reads of one group: the reads of a turn share one read index round, and at most one round is under way.
//!
//! A read is served by this node's store once everything is applied that was committed when the read came in; if that takes long,
//! by the leader's. Raft may drop a question in silence (before a leader's first commit, or on a lost message), so an unanswered
//! round is asked for again, under a new context: an answer to an old one must not be taken for it.

use std::collections::BTreeMap;

use crate::mutation::{Mutation, is_on};
use crate::request::ReadOp;
use crate::types::{LogIndex, RequestId, Term};

/// A read that waits.
#[derive(Debug, PartialEq)]
pub(crate) struct Waiting {
    pub id: RequestId,
    pub op: ReadOp,
    /// It was left to the leader in vain, and waits here for as long as it takes.
    pub stays: bool,
}

/// The reads of one group that wait for something.
pub(crate) struct Reads {
    /// Not part of a round yet.
    new: Vec<Waiting>,
    round: Option<Round>,
    /// The index is known; waits until it is applied.
    confirmed: BTreeMap<LogIndex, Confirmed>,
    next_context: u128,
}

struct Confirmed {
    /// When the first of them came.
    since_ms: u64,
    reads: Vec<Waiting>,
}

struct Round {
    context: u128,
    term: Term,
    asked_ms: u64,
    reads: Vec<Waiting>,
}

impl Reads {
    /// `boot` must differ between this start of the node and all others: an answer to a question from before a crash must
    /// not match a new one.
    pub fn new(node: u64, boot: u64) -> Reads {
        // The low half counts; 2^32 rounds a second for a century do not reach the high half.
        let next_context = (u128::from(node.rotate_left(32) ^ boot) << 64) | 1;
        Reads { new: Vec::new(), round: None, confirmed: BTreeMap::new(), next_context }
    }

    pub fn push(&mut self, read: Waiting) {
        self.new.push(read);
    }

    /// The context to ask Raft about now, if any: a new round, or the present one once more.
    pub fn ask(&mut self, now_ms: u64, term: Term, retry_ms: u64) -> Option<u128> {
        match &mut self.round {
            Some(round) if round.term == term && now_ms < round.asked_ms + retry_ms => return None,
            // What is asked again from now on may as well take the new reads along.
            Some(round) => round.reads.append(&mut self.new),
            None if self.new.is_empty() => return None,
            None => {
                let reads = std::mem::take(&mut self.new);
                self.round = Some(Round { context: 0, term, asked_ms: now_ms, reads });
            }
        }
        let round = self.round.as_mut()?;
        let keeps_name = is_on(Mutation::ReadIndexKept) && round.context != 0;
        let next_context = if keeps_name { round.context } else { self.next_context };
        (round.context, round.term, round.asked_ms) = (next_context, term, now_ms);
        self.next_context += 1;
        Some(round.context)
    }

    /// Raft answered: what was committed when it was asked is at most `index`.
    pub fn confirm(&mut self, context: u128, index: LogIndex, now_ms: u64) {
        if let Some(round) = self.round.take_if(|round| round.context == context) {
            let confirmed = self.confirmed.entry(index);
            confirmed.or_insert(Confirmed { since_ms: now_ms, reads: Vec::new() }).reads.extend(round.reads);
        }
    }

    /// Nobody waits for these any more, which are sorted: a store that is asked for them all at once, when there is a leader again,
    /// has no time for others.
    pub fn forget(&mut self, late: &[RequestId]) {
        let is_waited_for = |read: &Waiting| late.binary_search(&read.id).is_err();
        self.new.retain(is_waited_for);
        if let Some(round) = &mut self.round {
            round.reads.retain(is_waited_for);
        }
        self.round.take_if(|round| round.reads.is_empty());
        self.confirmed.retain(|_, confirmed| {
            confirmed.reads.retain(is_waited_for);
            !confirmed.reads.is_empty()
        });
    }

    /// Takes those that wait for entries behind `last`.
    pub fn take_behind(&mut self, last: LogIndex) -> Vec<Waiting> {
        let behind = self.confirmed.split_off(&LogIndex(last.0 + 1));
        behind.into_values().flat_map(|confirmed| confirmed.reads).collect()
    }

    /// Takes those that have known since `since_ms` what they wait for, and need not stay.
    pub fn take_late(&mut self, since_ms: u64) -> Vec<Waiting> {
        let (mut late, mut emptied) = (Vec::new(), Vec::new());
        // Rounds end one after the other, so that higher indexes are known later.
        let known_long = self.confirmed.iter_mut().take_while(|(_, confirmed)| confirmed.since_ms <= since_ms);
        for (index, confirmed) in known_long {
            late.extend(confirmed.reads.extract_if(.., |read| !read.stays));
            if confirmed.reads.is_empty() {
                emptied.push(*index);
            }
        }
        emptied.iter().for_each(|index| drop(self.confirmed.remove(index)));
        late
    }

    /// The reads that can be served now.
    pub fn ready(&mut self, applied: LogIndex) -> Vec<Waiting> {
        let mut ready = Vec::new();
        while let Some(first) = self.confirmed.first_entry()
            && (*first.key() <= applied || (is_on(Mutation::ServedOneEarly) && first.key().0 == applied.0 + 1))
        {
            ready.append(&mut first.remove().reads);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: u64) -> Waiting {
        Waiting { id: RequestId(id), op: ReadOp::ListBuckets { prefix: String::new() }, stays: false }
    }

    #[test]
    fn one_round_at_a_time_and_reads_wait_for_apply() {
        let mut reads = Reads::new(1, 2);
        reads.push(read(1));
        let first = reads.ask(0, Term(1), 100).expect("a round");
        reads.push(read(2));
        assert_eq!(reads.ask(1, Term(1), 100), None, "a round is under way");
        reads.confirm(first, LogIndex(5), 0);
        assert!(reads.ready(LogIndex(4)).is_empty());
        assert_eq!(reads.ready(LogIndex(5)).len(), 1);
        assert!(reads.ask(2, Term(1), 100).is_some());
    }

    #[test]
    fn late_reads_are_forgotten_wherever_they_wait() {
        let mut reads = Reads::new(1, 2);
        reads.push(read(1));
        reads.push(read(2));
        let first = reads.ask(0, Term(1), 100).expect("a round");
        reads.confirm(first, LogIndex(5), 0);
        reads.push(read(3));
        let second = reads.ask(1, Term(1), 100).expect("a round");
        reads.push(read(4));
        reads.forget(&[1, 3, 4].map(RequestId));
        reads.confirm(second, LogIndex(5), 0);
        assert_eq!(reads.ask(2, Term(1), 100), None, "nothing is asked for");
        assert_eq!(reads.ready(LogIndex(5)), [read(2)]);
        assert!(reads.confirmed.is_empty());
    }

    #[test]
    fn what_waits_for_entries_that_do_not_come_is_taken_out() {
        let mut reads = Reads::new(1, 2);
        for (id, index) in [(1, 5), (2, 6), (3, 7)] {
            reads.push(read(id));
            let context = reads.ask(id, Term(1), 100).expect("a round");
            reads.confirm(context, LogIndex(index), 0);
        }
        assert_eq!(reads.take_behind(LogIndex(5)), [read(2), read(3)]);
        assert_eq!(reads.ready(LogIndex(9)), [read(1)]);
    }

    #[test]
    fn what_waits_for_long_is_taken_out() {
        let mut reads = Reads::new(1, 2);
        for (id, index, now_ms) in [(1, 5, 100), (2, 6, 200), (3, 6, 300), (4, 7, 300)] {
            reads.push(read(id));
            let context = reads.ask(now_ms, Term(1), 100).expect("a round");
            reads.confirm(context, LogIndex(index), now_ms);
        }
        assert_eq!(reads.take_late(99), []);
        assert_eq!(reads.take_late(200), [1, 2, 3].map(read), "3 waits for the same as 2");
        assert_eq!(reads.ready(LogIndex(9)), [read(4)]);

        reads.push(Waiting { stays: true, ..read(5) });
        reads.push(read(6));
        let context = reads.ask(400, Term(1), 100).expect("a round");
        reads.confirm(context, LogIndex(10), 400);
        assert_eq!(reads.take_late(400), [read(6)]);
        reads.push(read(7));
        let context = reads.ask(500, Term(1), 100).expect("a round");
        reads.confirm(context, LogIndex(11), 500);
        assert_eq!(reads.take_late(499), []);
        assert_eq!(reads.take_late(500), [read(7)]);
        assert_eq!(reads.confirmed.len(), 1, "what is empty is gone: the next that waits there has just begun");
        assert_eq!(reads.ready(LogIndex(10)), [Waiting { stays: true, ..read(5) }]);
    }

    #[test]
    fn an_old_answer_does_not_serve_a_question_that_was_asked_again() {
        let mut reads = Reads::new(1, 2);
        reads.push(read(1));
        let old = reads.ask(0, Term(1), 100).expect("a round");
        let again = reads.ask(0, Term(2), 100).expect("another term asks again");
        let late = reads.ask(100, Term(2), 100).expect("time asks again");
        for context in [old, again] {
            reads.confirm(context, LogIndex(1), 0);
            assert!(reads.ready(LogIndex(9)).is_empty());
        }
        reads.confirm(late, LogIndex(1), 0);
        assert_eq!(reads.ready(LogIndex(9)).len(), 1);
    }
}
