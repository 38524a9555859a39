//! The sessions of the simulated clients: in most seeds some or all of them give their writes ids, and make one again, with its id and through
//! any node, until they know what became of it. To the checkers such a write is one call, however often it was sent: were it
//! applied twice, an old value would come back over a newer one.

use std::collections::BTreeMap;

use drey_core::request::{Operation, Reply, WriteId};
use drey_core::{Error, GroupId};

/// So often a write is made, in all. Then nobody knows.
const ATTEMPTS_MAX: u32 = 6;

/// One client's sessions, by group.
#[derive(Default)]
pub struct Sessions(BTreeMap<GroupId, Session>);

struct Session {
    id: u64,
    next: u64,
}

/// A write with an id, which is made again as long as nobody knows what became of it.
#[derive(Clone, Debug)]
pub struct Repeatable {
    /// With its id.
    pub operation: Operation,
    /// The client waits so long for each answer.
    pub deadline_in_ms: u64,
    attempts: u32,
}

/// What an answer to a write with an id means.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is what became of the write.
    Known,
    /// It says nothing, and the write is made again.
    Again,
    /// It says nothing, and it was the last.
    Unknown,
}

/// Whether an error says of this attempt that it was not proposed, and never will be.
pub fn was_not_proposed(error: &Error) -> bool {
    matches!(
        error,
        Error::NoLeader | Error::NotReady(_) | Error::Overloaded(_) | Error::QuotaExceeded(_) | Error::SessionExpired
    )
}

impl Sessions {
    /// Gives a write its id. None: there is no session in its group.
    pub fn identify(&mut self, group: GroupId, operation: &mut Operation, deadline_in_ms: u64) -> Option<Repeatable> {
        let Operation::Write(command) = operation else { return None };
        let session = self.0.get_mut(&group)?;
        // One call at a time: all before were answered, or given up.
        command.id = Some(WriteId { session: session.id, sequence: session.next, first_unacked: session.next });
        session.next += 1;
        Some(Repeatable { operation: operation.clone(), deadline_in_ms, attempts: 1 })
    }

    /// Whether a write to this group needs a session first.
    pub fn are_missing(&self, group: GroupId) -> bool {
        !self.0.contains_key(&group)
    }

    /// A session was opened.
    pub fn opened(&mut self, group: GroupId, id: u64) {
        self.0.insert(group, Session { id, next: 1 });
    }

    /// The session in this group has expired.
    pub fn forget(&mut self, group: GroupId) {
        self.0.remove(&group);
    }
}

impl Repeatable {
    /// Judges an answer, or that none came.
    pub fn settle(&mut self, answer: Option<&Result<Reply, Error>>) -> Settled {
        let known = match answer {
            Some(Ok(_)) => true,
            None | Some(Err(Error::OutcomeUnknown | Error::DeadlineExceeded)) => false,
            // It says that this attempt was not applied. What of those before?
            Some(Err(error)) if was_not_proposed(error) => self.attempts == 1,
            // The state machine said so, and would have said so each time.
            Some(Err(_)) => true,
        };
        if known {
            return Settled::Known;
        }
        if self.attempts == ATTEMPTS_MAX || matches!(answer, Some(Err(Error::SessionExpired))) {
            return Settled::Unknown;
        }
        self.attempts += 1;
        Settled::Again
    }
}
