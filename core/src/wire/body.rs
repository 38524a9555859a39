//! The bytes of an envelope's body.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::Body;
use super::format::FORMAT_OLDEST;
use super::read;
use crate::clock::{Reading, Told};
use crate::limits::SCRUB_PART_BYTES_MAX;
use crate::machine::keys::SUFFIX_BYTES_MAX;
use crate::machine::{DecodeError, reply};
use crate::raft::{Message, NUMBER_MAX};
use crate::room::RoomLevel;
use crate::storage::SnapshotMeta;
use crate::system::Members;
use crate::types::{LogIndex, NodeId, Term};

const RAFT: u8 = 1;
const FORWARD: u8 = 2;
const FORWARD_REPLY: u8 = 3;
const SNAPSHOT_CHUNK: u8 = 4;
const SNAPSHOT_ACK: u8 = 5;
const CLOCK_ASK: u8 = 6;
const CLOCK_TELL: u8 = 7;
const ROOM: u8 = 8;
const SCRUB: u8 = 9;
const SCRUBBED: u8 = 10;
const DIFFERS: u8 = 11;
const READ: u8 = 12;
const TRANSFER: u8 = 16;
const MEMBERS: u8 = 17;

/// The longest configuration in a snapshot's description, in bytes.
const CONFIGURATION_BYTES_MAX: usize = 64 << 10;

pub(super) fn kind(body: &Body) -> u8 {
    match body {
        Body::Raft(_) => RAFT,
        Body::Forward { .. } => FORWARD,
        Body::Read { .. } => READ,
        Body::ForwardReply { .. } => FORWARD_REPLY,
        Body::SnapshotChunk { .. } => SNAPSHOT_CHUNK,
        Body::SnapshotAck { .. } => SNAPSHOT_ACK,
        Body::ClockAsk { .. } => CLOCK_ASK,
        Body::ClockTell { .. } => CLOCK_TELL,
        Body::Room(_) => ROOM,
        Body::Scrub { .. } => SCRUB,
        Body::Scrubbed { .. } => SCRUBBED,
        Body::Differs { .. } => DIFFERS,
        Body::Transfer { .. } => TRANSFER,
        Body::Members(_) => MEMBERS,
    }
}

/// The format that brought a kind.
pub(super) fn since(kind: u8) -> u16 {
    match kind {
        ROOM => 3,
        SCRUB | SCRUBBED | DIFFERS => 4,
        READ => 5,
        _ => FORMAT_OLDEST,
    }
}

pub(super) fn encode(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::Raft(message) => message.encode(out),
        Body::Forward { id, deadline_in_ms, command } => {
            out.put_u64_le(*id);
            out.put_u64_le(*deadline_in_ms);
            command.encode(out);
        }
        Body::Read { id, deadline_in_ms, op } => {
            out.put_u64_le(*id);
            out.put_u64_le(*deadline_in_ms);
            read::encode(op, out);
        }
        Body::ForwardReply { id, reply } => {
            out.put_u64_le(*id);
            reply::encode(reply, out);
        }
        Body::Transfer { to } => out.put_u64_le(to.0),
        Body::Scrub { index, term, position, bytes_max } => {
            out.put_u64_le(index.0);
            out.put_u64_le(term.0);
            out.put_u64_le(*bytes_max);
            out.put_slice(position);
        }
        Body::Scrubbed { index, term, hash } => {
            out.put_u64_le(index.0);
            out.put_u64_le(term.0);
            out.put_u64_le(*hash);
        }
        Body::Differs { term } => out.put_u64_le(term.0),
        Body::Members(members) => out.put_slice(&members.encode()),
        Body::SnapshotChunk { transfer, meta, chunk, last, data } => {
            out.put_u64_le(*transfer);
            out.put_u64_le(meta.index.0);
            out.put_u64_le(meta.term.0);
            out.put_u32_le(meta.configuration.len() as u32);
            out.put_slice(&meta.configuration);
            out.put_u64_le(*chunk);
            out.put_u8(u8::from(*last));
            out.put_slice(data);
        }
        Body::SnapshotAck { transfer, chunk, accepted } => {
            out.put_u64_le(*transfer);
            out.put_u64_le(*chunk);
            out.put_u8(u8::from(*accepted));
        }
        Body::Room(level) => out.put_u8(level.number()),
        Body::ClockAsk { round } => out.put_u64_le(round.0),
        Body::ClockTell { round, told } => {
            out.put_u64_le(round.0);
            out.put_u64_le(told.wall_ms);
            put_reading(out, told.logged);
            out.put_u8(u8::from(told.counted.is_some()));
            if let Some(counted) = told.counted {
                put_reading(out, counted);
            }
        }
    }
}

fn put_reading(out: &mut Vec<u8>, Reading { term, clock_ms, walls_ahead_ms, counted_since }: Reading) {
    out.put_u64_le(term.0);
    out.put_u64_le(clock_ms);
    out.put_i64_le(walls_ahead_ms);
    out.put_u64_le(counted_since.0);
}

pub(super) fn decode(kind: u8, mut bytes: Bytes) -> Result<Body, &'static str> {
    match kind {
        RAFT => Message::decode(bytes).map(Body::Raft),
        FORWARD => {
            let id = number(&mut bytes)?;
            let deadline_in_ms = number(&mut bytes)?;
            let command = crate::request::Command::decode(bytes).map_err(|_| "a forwarded write that is none")?;
            Ok(Body::Forward { id, deadline_in_ms, command })
        }
        READ => {
            let id = number(&mut bytes)?;
            let deadline_in_ms = number(&mut bytes)?;
            let op = read::decode(bytes).map_err(|DecodeError(why)| why)?;
            Ok(Body::Read { id, deadline_in_ms, op })
        }
        FORWARD_REPLY => {
            let id = number(&mut bytes)?;
            let reply = reply::decode(bytes).map_err(|_| "an answer that is none")?;
            Ok(Body::ForwardReply { id, reply })
        }
        MEMBERS => match Members::decode(bytes) {
            Ok(members) => Ok(Body::Members(Arc::new(members))),
            Err(DecodeError(why)) => Err(why),
        },
        TRANSFER => {
            let to = NodeId(number(&mut bytes)?);
            if bytes.has_remaining() { Err("bytes behind a transfer") } else { Ok(Body::Transfer { to }) }
        }
        SNAPSHOT_CHUNK => {
            let transfer = number(&mut bytes)?;
            let (index, term) = (LogIndex(number(&mut bytes)?), Term(number(&mut bytes)?));
            let length = if bytes.len() < 4 { usize::MAX } else { bytes.get_u32_le() as usize };
            if length > CONFIGURATION_BYTES_MAX || length > bytes.len() {
                return Err("a snapshot's description is cut short");
            }
            let configuration = bytes.split_to(length);
            let chunk = number(&mut bytes)?;
            let last = flag(&mut bytes)?;
            Ok(Body::SnapshotChunk {
                transfer,
                meta: SnapshotMeta { index, term, configuration },
                chunk,
                last,
                data: bytes,
            })
        }
        SNAPSHOT_ACK => {
            let (transfer, chunk) = (number(&mut bytes)?, number(&mut bytes)?);
            let accepted = flag(&mut bytes)?;
            ended(&bytes)?;
            Ok(Body::SnapshotAck { transfer, chunk, accepted })
        }
        SCRUB => {
            let (index, term) = (LogIndex(number(&mut bytes)?), Term(number(&mut bytes)?));
            let bytes_max = number(&mut bytes)?;
            if bytes_max > SCRUB_PART_BYTES_MAX || bytes.len() > SUFFIX_BYTES_MAX {
                return Err("a part to be compared that is too large");
            }
            Ok(Body::Scrub { index, term, position: bytes, bytes_max })
        }
        SCRUBBED => {
            let (index, term) = (LogIndex(number(&mut bytes)?), Term(number(&mut bytes)?));
            let hash = number(&mut bytes)?;
            ended(&bytes)?;
            Ok(Body::Scrubbed { index, term, hash })
        }
        DIFFERS => {
            let term = Term(number(&mut bytes)?);
            ended(&bytes)?;
            Ok(Body::Differs { term })
        }
        ROOM => {
            let level = bytes.has_remaining().then(|| bytes.get_u8()).and_then(RoomLevel::of_number);
            ended(&bytes)?;
            level.map(Body::Room).ok_or("room of an unknown kind")
        }
        CLOCK_ASK => {
            let round = Term(number(&mut bytes)?);
            ended(&bytes)?;
            Ok(Body::ClockAsk { round })
        }
        CLOCK_TELL => {
            let (round, wall_ms) = (Term(number(&mut bytes)?), number(&mut bytes)?);
            let logged = reading(&mut bytes)?;
            let counted = if flag(&mut bytes)? { Some(reading(&mut bytes)?) } else { None };
            ended(&bytes)?;
            Ok(Body::ClockTell { round, told: Told { wall_ms, logged, counted } })
        }
        _ => Err("an envelope of an unknown kind"),
    }
}

fn number(bytes: &mut Bytes) -> Result<u64, &'static str> {
    if bytes.len() < 8 { Err("a number is cut short") } else { Ok(bytes.get_u64_le()) }
}

fn reading(bytes: &mut Bytes) -> Result<Reading, &'static str> {
    let (term, clock_ms) = (Term(number(bytes)?), number(bytes)?);
    let (walls_ahead_ms, counted_since) = (number(bytes)?.cast_signed(), Term(number(bytes)?));
    // A clock that was told is never set back: one that shows what no clock ever will must not be believed.
    if [term, counted_since].iter().any(|term| term.0 >= NUMBER_MAX) || clock_ms >= NUMBER_MAX {
        return Err("a clock that no group has");
    }
    Ok(Reading { term, clock_ms, walls_ahead_ms, counted_since })
}

fn ended(bytes: &Bytes) -> Result<(), &'static str> {
    if bytes.has_remaining() { Err("bytes behind the end of a message") } else { Ok(()) }
}

fn flag(bytes: &mut Bytes) -> Result<bool, &'static str> {
    match (bytes.has_remaining()).then(|| bytes.get_u8()) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err("a flag is missing"),
    }
}
