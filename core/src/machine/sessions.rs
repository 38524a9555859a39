//! Sessions: a write that comes twice under one id is applied once, and answered alike.
//!
//! A session is opened through the log, and named by the version that opened it. Its answers are kept until the client says that
//! it has them. All of it is bounded: beyond, the sessions that were used longest ago go, and whoever names one that is not
//! there is told that it has expired; nothing is ever applied as if it were new.
//!
//! What is kept lies in the store, in the same batches as the data:
//! ```text
//! session  format u8 = 1 | last used u64 | first unacknowledged u64
//! answer   as `machine::reply` has it
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes};

use crate::error::Error;
use crate::limits::{ANSWERS_BYTES_PER_GROUP_MAX, SESSION_ANSWERS_MAX, SESSIONS_PER_GROUP_MAX};
use crate::machine::keys::{Generation, KIND_SESSION, take_number};
use crate::machine::record::damaged;
use crate::machine::state::collect;
use crate::machine::{Cursor, DecodeError, reply};
use crate::mutation::{Mutation, is_on};
use crate::request::WriteId;
use crate::store::{Read, StoreError, WriteSet};
use crate::types::LogIndex;

const FORMAT: u8 = 1;
/// What an answer takes beside its bytes.
const ANSWER_OVERHEAD_BYTES: usize = 64;

/// The sessions of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    by_id: BTreeMap<u64, Session>,
    /// The order in which they are given up.
    by_use: BTreeSet<(LogIndex, u64)>,
    answers_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    last_used: LogIndex,
    first_unacked: u64,
    /// The answers that are kept, by sequence, with their sizes.
    answers: BTreeMap<u64, usize>,
}

/// What a record of kind [`KIND_SESSION`] is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SessionRecord {
    /// A session.
    Session(u64),
    /// An answer that this session keeps.
    Answer(u64),
}

impl SessionRecord {
    /// Reads a record that came from elsewhere, by its key behind the kind.
    pub(crate) fn check(key: &[u8], value: Bytes) -> Result<SessionRecord, DecodeError> {
        let (id, rest) = take_number(key).ok_or(DecodeError("a session without a number"))?;
        if rest.is_empty() {
            Session::decode(value)?;
            return Ok(SessionRecord::Session(id));
        }
        match take_number(rest) {
            Some((_, [])) => reply::decode(value).map(|_| SessionRecord::Answer(id)),
            _ => Err(DecodeError("an answer without a number")),
        }
    }
}

/// What an id means.
pub(super) enum Meaning {
    /// It is new: the write is to be applied.
    New,
    /// It was applied before, and answered with what lies under this key.
    Answered(Bytes),
    /// Neither.
    Refused(Error),
}

impl Session {
    fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(1 + 2 * 8);
        out.put_u8(FORMAT);
        out.put_u64_le(self.last_used.0);
        out.put_u64_le(self.first_unacked);
        out.into()
    }

    fn decode(bytes: Bytes) -> Result<Session, DecodeError> {
        let mut input = Cursor::new(bytes);
        if input.u8()? != FORMAT {
            return Err(DecodeError("unknown format of a session"));
        }
        let (last_used, first_unacked) = (LogIndex(input.u64()?), input.u64()?);
        input.finish()?;
        Ok(Session { last_used, first_unacked, answers: BTreeMap::new() })
    }
}

impl Sessions {
    /// Finds them in the store.
    pub(super) fn load(reader: &dyn Read, generation: Generation) -> Result<Sessions, StoreError> {
        let mut sessions = Sessions::default();
        for (key, value) in collect(reader, generation.kind_range(KIND_SESSION))? {
            sessions.add(&generation.suffix(&key)[1..], value).map_err(|error| damaged(&key, error))?;
        }
        Ok(sessions)
    }

    /// Takes a record, by its key behind the kind. A session comes before its answers.
    fn add(&mut self, key: &[u8], value: Bytes) -> Result<(), DecodeError> {
        let (id, rest) = take_number(key).ok_or(DecodeError("a session without a number"))?;
        if rest.is_empty() {
            let session = Session::decode(value)?;
            self.by_use.insert((session.last_used, id));
            self.by_id.insert(id, session);
            return Ok(());
        }
        let session = self.by_id.get_mut(&id).ok_or(DecodeError("an answer without its session"))?;
        match take_number(rest) {
            Some((sequence, [])) => session.answers.insert(sequence, value.len()),
            _ => return Err(DecodeError("an answer without a number")),
        };
        self.answers_bytes += value.len() + ANSWER_OVERHEAD_BYTES;
        Ok(())
    }

    /// Opens a session, named `id`. Another may have to go for it.
    pub(super) fn open(&mut self, id: u64, now: LogIndex, generation: Generation, writes: &mut WriteSet) {
        let session = Session { last_used: now, first_unacked: 1, answers: BTreeMap::new() };
        writes.changes.insert(generation.session(id), Some(session.encode()));
        self.by_use.insert((now, id));
        self.by_id.insert(id, session);
        while self.by_id.len() > SESSIONS_PER_GROUP_MAX {
            self.give_up_oldest(generation, writes);
        }
    }

    /// Looks an id up, and forgets the answers that its client has.
    pub(super) fn look_up(
        &mut self,
        id: WriteId,
        now: LogIndex,
        generation: Generation,
        writes: &mut WriteSet,
    ) -> Meaning {
        let Some(session) = self.by_id.get_mut(&id.session) else { return Meaning::Refused(Error::SessionExpired) };
        self.by_use.remove(&(session.last_used, id.session));
        self.by_use.insert((now, id.session));
        session.last_used = now;
        session.first_unacked = session.first_unacked.max(id.first_unacked);
        let forgotten = session.first_unacked + u64::from(is_on(Mutation::AnswerForgottenEarly));
        while let Some(first) = session.answers.first_entry().filter(|first| *first.key() < forgotten) {
            writes.changes.insert(generation.answer(id.session, *first.key()), None);
            self.answers_bytes -= first.remove() + ANSWER_OVERHEAD_BYTES;
        }
        writes.changes.insert(generation.session(id.session), Some(session.encode()));
        if id.sequence < session.first_unacked {
            let message = format!("write {} of session {} was acknowledged before", id.sequence, id.session);
            return Meaning::Refused(Error::invalid(message));
        }
        if session.answers.contains_key(&id.sequence) {
            return Meaning::Answered(generation.answer(id.session, id.sequence));
        }
        if id.sequence - session.first_unacked >= SESSION_ANSWERS_MAX {
            let message = format!("session {} has {SESSION_ANSWERS_MAX} writes that are not acknowledged", id.session);
            return Meaning::Refused(Error::Overloaded(message));
        }
        if self.answers_bytes > ANSWERS_BYTES_PER_GROUP_MAX {
            // They are all its own: no other session is left to go for them.
            let message = format!("session {} has too much that is not acknowledged", id.session);
            return Meaning::Refused(Error::Overloaded(message));
        }
        Meaning::New
    }

    /// Keeps the answer to a write that was new.
    pub(super) fn answered(&mut self, id: WriteId, answer: Bytes, generation: Generation, writes: &mut WriteSet) {
        let Some(session) = self.by_id.get_mut(&id.session) else { return };
        session.answers.insert(id.sequence, answer.len());
        self.answers_bytes += answer.len() + ANSWER_OVERHEAD_BYTES;
        writes.changes.insert(generation.answer(id.session, id.sequence), Some(answer));
        while self.answers_bytes > ANSWERS_BYTES_PER_GROUP_MAX && self.by_id.len() > 1 {
            self.give_up_oldest(generation, writes);
        }
    }

    fn give_up_oldest(&mut self, generation: Generation, writes: &mut WriteSet) {
        let Some((_, id)) = self.by_use.pop_first() else { return };
        let Some(session) = self.by_id.remove(&id) else { return };
        writes.changes.insert(generation.session(id), None);
        for (sequence, bytes) in session.answers {
            writes.changes.insert(generation.answer(id, sequence), None);
            self.answers_bytes -= bytes + ANSWER_OVERHEAD_BYTES;
        }
    }
}
