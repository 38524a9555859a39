//! The payload of a log entry: all commands that a group got in one turn, behind a small header.
//!
//! ```text
//! format u8 = 3 | epoch u64 | clock ms u64 | walls ahead ms i64 | counted since u64 | count u32 | count x (length u32 | command)
//! ```
//! The epoch is 0 until recovery after a lost quorum exists. The clock is the leader's stamp: what the group's clock shows when the
//! entry is proposed, how far the wall clocks were ahead of it when the leader began, and since which term it was counted. An entry
//! without commands is a bare stamp. Format 2 had no such term, as if it were 0; format 1 had no stamps: its clock is 0, and what
//! follows it is missing.

use bytes::Bytes;

use crate::limits::ENTRY_BYTES_MAX;
use crate::machine::{Cursor, DecodeError};
use crate::request::Command;
use crate::types::Term;

const FORMAT: u8 = 3;
const FORMAT_WITHOUT_TERM: u8 = 2;
const FORMAT_WITHOUT_STAMP: u8 = 1;
const EPOCH_AT: usize = 1;
const CLOCK_AT: usize = EPOCH_AT + 8;
const WALLS_AHEAD_AT: usize = CLOCK_AT + 8;
const COUNTED_SINCE_AT: usize = WALLS_AHEAD_AT + 8;
const COUNT_AT: usize = COUNTED_SINCE_AT + 8;
/// What an entry has before its first command.
pub const ENTRY_HEADER_BYTES: usize = COUNT_AT + 4;
/// What an entry has in front of each command.
pub const COMMAND_HEADER_BYTES: usize = 4;

/// What a leader says of the group's clock with each entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// What the clock shows, in milliseconds; 0: nothing.
    pub clock_ms: u64,
    /// By how much a wall clock that is right may be ahead of it at the most, or behind, if negative.
    pub walls_ahead_ms: i64,
    /// Each leader since the one of this term took over what another had counted: no time was lost in between but what telling takes.
    pub counted_since: Term,
}

/// Builds an entry's payload, command by command. The caller keeps [`EntryBuilder::len`] within [`ENTRY_BYTES_MAX`].
#[derive(Debug)]
pub struct EntryBuilder {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for EntryBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl EntryBuilder {
    /// An entry without commands.
    pub fn new() -> EntryBuilder {
        let mut bytes = vec![0; ENTRY_HEADER_BYTES];
        bytes[0] = FORMAT;
        EntryBuilder { bytes, count: 0 }
    }

    /// Whether the entry stays within [`ENTRY_BYTES_MAX`] with this command too. A validated command fits an empty entry.
    pub fn fits(&self, command: &Command) -> bool {
        self.len() + COMMAND_HEADER_BYTES + command.encoded_len() <= ENTRY_BYTES_MAX
    }

    /// Adds a command, which must be valid.
    pub fn push(&mut self, command: &Command) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; COMMAND_HEADER_BYTES]);
        command.encode(&mut self.bytes);
        let len = (self.bytes.len() - at - COMMAND_HEADER_BYTES) as u32;
        self.bytes[at..at + COMMAND_HEADER_BYTES].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
    }

    /// The payload's bytes so far, the header's included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no command yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The commands so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The payload, of the cluster's epoch and stamped with the group's clock.
    pub fn finish(mut self, epoch: u64, stamp: Stamp) -> Vec<u8> {
        self.bytes[EPOCH_AT..CLOCK_AT].copy_from_slice(&epoch.to_le_bytes());
        self.bytes[CLOCK_AT..WALLS_AHEAD_AT].copy_from_slice(&stamp.clock_ms.to_le_bytes());
        self.bytes[WALLS_AHEAD_AT..COUNTED_SINCE_AT].copy_from_slice(&stamp.walls_ahead_ms.to_le_bytes());
        self.bytes[COUNTED_SINCE_AT..COUNT_AT].copy_from_slice(&stamp.counted_since.0.to_le_bytes());
        self.bytes[COUNT_AT..ENTRY_HEADER_BYTES].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// The stamp of an entry's payload, without reading it further. None: it has none.
pub(crate) fn stamp_of(payload: &[u8]) -> Option<Stamp> {
    let number = |at: usize| payload.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok();
    let counted_since = match *payload.first()? {
        FORMAT => Term(number(COUNTED_SINCE_AT)?),
        FORMAT_WITHOUT_TERM => Term(0),
        _ => return None,
    };
    let (clock_ms, walls_ahead_ms) = (number(CLOCK_AT)?, number(WALLS_AHEAD_AT)?.cast_signed());
    (clock_ms > 0).then_some(Stamp { clock_ms, walls_ahead_ms, counted_since })
}

/// An entry's payload as it is read: an iterator over its commands. It yields exactly as many items as the header says, so that
/// each command has its answer; when one is damaged, those behind it still are what they are.
pub struct EntryCommands {
    /// The leader's epoch: what it applies beyond an earlier one's, see [`crate::types::Version::of_next_epoch`].
    pub epoch: u64,
    /// The leader's stamp of the group's clock.
    pub stamp: Stamp,
    input: Cursor,
    remaining: u32,
}

impl EntryCommands {
    /// Reads the header. The empty payload, of a leader's first entry, has no commands.
    pub fn new(payload: Bytes) -> Result<EntryCommands, DecodeError> {
        let mut input = Cursor::new(payload);
        if input.remaining() == 0 {
            return Ok(EntryCommands { epoch: 0, stamp: Stamp::default(), input, remaining: 0 });
        }
        let format = input.u8()?;
        if !(FORMAT_WITHOUT_STAMP..=FORMAT).contains(&format) {
            return Err(DecodeError("unknown format of an entry"));
        }
        let (epoch, clock_ms) = (input.u64()?, input.u64()?);
        let walls_ahead_ms = if format > FORMAT_WITHOUT_STAMP { input.u64()?.cast_signed() } else { 0 };
        let counted_since = Term(if format > FORMAT_WITHOUT_TERM { input.u64()? } else { 0 });
        let (stamp, remaining) = (Stamp { clock_ms, walls_ahead_ms, counted_since }, input.u32()?);
        if remaining as usize > input.remaining() / COMMAND_HEADER_BYTES {
            return Err(DecodeError("an entry with a bad count of commands"));
        }
        if remaining == 0 && input.remaining() > 0 {
            return Err(DecodeError("an entry with bytes behind its end"));
        }
        Ok(EntryCommands { epoch, stamp, input, remaining })
    }

    fn command(&mut self) -> Result<Command, DecodeError> {
        let framed = self.input.u32().and_then(|len| self.input.take(len as usize));
        if framed.is_err() {
            // Nothing behind a bad length can be told apart: let all the rest be errors, not commands found by chance.
            self.input = Cursor::new(Bytes::new());
        }
        Command::decode(framed?)
    }
}

impl Iterator for EntryCommands {
    type Item = Result<Command, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let command = self.command();
        if self.remaining == 0 && self.input.remaining() > 0 {
            return Some(Err(DecodeError("an entry with bytes behind its end")));
        }
        Some(command)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}
