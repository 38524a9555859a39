//! Writes on their way through one leader: those of a turn become one entry, and each is followed until it is applied or
//! its fate is unknown.

use std::collections::VecDeque;

use crate::error::Error;
use crate::machine::entry::{COMMAND_HEADER_BYTES, ENTRY_HEADER_BYTES, EntryBuilder, Stamp};
use crate::mutation::{Mutation, is_on};
use crate::request::{Command, Reply};
use crate::types::{GroupId, LogIndex, NodeId, RequestId, Term};

/// Who waits for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A request of this node.
    Local(RequestId),
    /// A peer that forwarded it to this group, and its number for it.
    Peer(GroupId, NodeId, u64),
}

/// An answer and who gets it.
pub(crate) type Answer = (Waiter, Result<Reply, Error>);

/// The writes of one group that this node took as leader.
pub(crate) struct Proposals {
    /// The largest entry that the log can hold.
    entry_bytes_max: usize,
    /// Entries that are full, then the one being filled.
    gathered: VecDeque<Gathered>,
    /// Waiting to be committed.
    proposed: VecDeque<Proposed>,
    /// Committed, waiting to be applied.
    applying: VecDeque<Proposed>,
}

#[derive(Default)]
struct Gathered {
    entry: EntryBuilder,
    waiters: Vec<Waiter>,
}

struct Proposed {
    index: LogIndex,
    term: Term,
    waiters: Vec<Waiter>,
}

impl Proposals {
    /// Makes no entry larger than `entry_bytes_max`.
    pub fn new(entry_bytes_max: usize) -> Proposals {
        Proposals { entry_bytes_max, gathered: VecDeque::new(), proposed: VecDeque::new(), applying: VecDeque::new() }
    }

    /// Whether an entry can hold the write at all.
    pub fn fits(&self, command: &Command) -> bool {
        ENTRY_HEADER_BYTES + COMMAND_HEADER_BYTES + command.encoded_len() <= self.entry_bytes_max
    }

    /// Takes a write that fits into this turn's entry, or into that of the turn in which the clock is settled.
    pub fn push(&mut self, command: &Command, waiter: Waiter) {
        let bytes = COMMAND_HEADER_BYTES + command.encoded_len();
        if self.gathered.back().is_none_or(|gathered| gathered.entry.len() + bytes > self.entry_bytes_max) {
            self.gathered.push_back(Gathered::default());
        }
        let last = self.gathered.back_mut().expect("just made");
        last.entry.push(command);
        last.waiters.push(waiter);
    }

    /// Bytes gathered and not proposed yet.
    pub fn gathered_bytes(&self) -> usize {
        self.gathered.iter().map(|gathered| gathered.entry.len()).sum()
    }

    /// Hands each gathered entry to `propose`, stamped with the group's clock. What it refuses was not proposed: the reason is the answer.
    pub fn flush(
        &mut self,
        (epoch, stamp): (u64, Stamp),
        mut propose: impl FnMut(Vec<u8>) -> Result<(Term, LogIndex), Error>,
        answers: &mut Vec<Answer>,
    ) {
        for gathered in self.gathered.drain(..) {
            let waiters = gathered.waiters;
            match propose(gathered.entry.finish(epoch, stamp)) {
                Ok((term, index)) => self.proposed.push_back(Proposed { index, term, waiters }),
                Err(error) => answers.extend(waiters.into_iter().map(|waiter| (waiter, Err(error.clone())))),
            }
        }
    }

    /// Whether somebody here waits for the entry that was committed there. If another entry took the place, those who
    /// waited for it are told that the outcome is unknown.
    pub fn committed(&mut self, index: LogIndex, term: Term, answers: &mut Vec<Answer>) -> bool {
        while let Some(first) = self.proposed.pop_front_if(|first| first.index <= index) {
            if (first.index, first.term) == (index, term) {
                self.applying.push_back(first);
                return true;
            }
            answers.extend(first.waiters.into_iter().map(|waiter| (waiter, Err(Error::OutcomeUnknown))));
        }
        false
    }

    /// A committed entry was applied: its waiters, in the order of its commands.
    pub fn applied(&mut self, index: LogIndex) -> Vec<Waiter> {
        self.applying.pop_front_if(|first| first.index == index).map_or(Vec::new(), |entry| entry.waiters)
    }

    /// This node leads no more: what was gathered was not proposed, what was proposed may or may not survive. What is
    /// committed already is answered when it is applied.
    pub fn lose_leadership(&mut self, answers: &mut Vec<Answer>) {
        let gathered = self.gathered.drain(..).flat_map(|gathered| gathered.waiters);
        answers.extend(gathered.map(|waiter| (waiter, Err(Error::NoLeader))));
        let proposed = self.proposed.drain(..).flat_map(|proposed| proposed.waiters);
        let fate = if is_on(Mutation::NoLeaderForProposed) { Error::NoLeader } else { Error::OutcomeUnknown };
        answers.extend(proposed.map(|waiter| (waiter, Err(fate.clone()))));
    }
}
