//! Linearizable reads of one group: the reads of a turn share one read index round, and at most one round is under way.
//!
//! A read is served by this node's store once everything is applied that was committed when the read came in. Raft may
//! drop a question in silence (before a leader's first commit, or on a lost message), so an unanswered round is asked for
//! again, under a new context: an answer to an old one must not be taken for it.

use std::collections::BTreeMap;

use crate::mutation::{Mutation, is_on};
use crate::request::ReadOp;
use crate::types::{LogIndex, RequestId, Term};

type Waiting = (RequestId, ReadOp);

/// The reads of one group that wait for something.
pub(crate) struct Reads {
    /// Not part of a round yet.
    new: Vec<Waiting>,
    round: Option<Round>,
    /// The index is known; waits until it is applied.
    confirmed: BTreeMap<LogIndex, Vec<Waiting>>,
    next_context: u128,
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

    pub fn push(&mut self, id: RequestId, op: ReadOp) {
        self.new.push((id, op));
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
    pub fn confirm(&mut self, context: u128, index: LogIndex) {
        if let Some(round) = self.round.take_if(|round| round.context == context) {
            self.confirmed.entry(index).or_default().extend(round.reads);
        }
    }

    /// Nobody waits for these any more, which are sorted: a store that is asked for them all at once, when there is a leader again,
    /// has no time for others.
    pub fn forget(&mut self, late: &[RequestId]) {
        let is_waited_for = |(id, _): &Waiting| late.binary_search(id).is_err();
        self.new.retain(is_waited_for);
        if let Some(round) = &mut self.round {
            round.reads.retain(is_waited_for);
        }
        self.round.take_if(|round| round.reads.is_empty());
        self.confirmed.retain(|_, reads| {
            reads.retain(is_waited_for);
            !reads.is_empty()
        });
    }

    /// Those that wait for entries behind `last`, which are not to come.
    pub fn give_up_behind(&mut self, last: LogIndex) -> Vec<RequestId> {
        let behind = self.confirmed.split_off(&LogIndex(last.0 + 1));
        behind.into_values().flatten().map(|(id, _)| id).collect()
    }

    /// The reads that can be served now.
    pub fn ready(&mut self, applied: LogIndex) -> Vec<Waiting> {
        let mut ready = Vec::new();
        while let Some(first) = self.confirmed.first_entry()
            && (*first.key() <= applied || (is_on(Mutation::ServedOneEarly) && first.key().0 == applied.0 + 1))
        {
            ready.append(&mut first.remove());
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> ReadOp {
        ReadOp::ListBuckets { prefix: String::new() }
    }

    #[test]
    fn one_round_at_a_time_and_reads_wait_for_apply() {
        let mut reads = Reads::new(1, 2);
        reads.push(RequestId(1), read());
        let first = reads.ask(0, Term(1), 100).expect("a round");
        reads.push(RequestId(2), read());
        assert_eq!(reads.ask(1, Term(1), 100), None, "a round is under way");
        reads.confirm(first, LogIndex(5));
        assert!(reads.ready(LogIndex(4)).is_empty());
        assert_eq!(reads.ready(LogIndex(5)).len(), 1);
        assert!(reads.ask(2, Term(1), 100).is_some());
    }

    #[test]
    fn late_reads_are_forgotten_wherever_they_wait() {
        let mut reads = Reads::new(1, 2);
        reads.push(RequestId(1), read());
        reads.push(RequestId(2), read());
        let first = reads.ask(0, Term(1), 100).expect("a round");
        reads.confirm(first, LogIndex(5));
        reads.push(RequestId(3), read());
        let second = reads.ask(1, Term(1), 100).expect("a round");
        reads.push(RequestId(4), read());
        reads.forget(&[1, 3, 4].map(RequestId));
        reads.confirm(second, LogIndex(5));
        assert_eq!(reads.ask(2, Term(1), 100), None, "nothing is asked for");
        assert_eq!(reads.ready(LogIndex(5)), [(RequestId(2), read())]);
        assert!(reads.confirmed.is_empty());
    }

    #[test]
    fn what_waits_for_entries_that_do_not_come_is_given_up() {
        let mut reads = Reads::new(1, 2);
        for (id, index) in [(1, 5), (2, 6), (3, 7)] {
            reads.push(RequestId(id), read());
            let context = reads.ask(id, Term(1), 100).expect("a round");
            reads.confirm(context, LogIndex(index));
        }
        assert_eq!(reads.give_up_behind(LogIndex(5)), [RequestId(2), RequestId(3)]);
        assert_eq!(reads.ready(LogIndex(9)), [(RequestId(1), read())]);
    }

    #[test]
    fn an_old_answer_does_not_serve_a_question_that_was_asked_again() {
        let mut reads = Reads::new(1, 2);
        reads.push(RequestId(1), read());
        let old = reads.ask(0, Term(1), 100).expect("a round");
        let again = reads.ask(0, Term(2), 100).expect("another term asks again");
        let late = reads.ask(100, Term(2), 100).expect("time asks again");
        for context in [old, again] {
            reads.confirm(context, LogIndex(1));
            assert!(reads.ready(LogIndex(9)).is_empty());
        }
        reads.confirm(late, LogIndex(1));
        assert_eq!(reads.ready(LogIndex(9)).len(), 1);
    }
}
