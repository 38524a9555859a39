//! All that one turn sends to one peer, with a checksum over the whole.
//!
//! ```text
//! magic "DRYF" | length u32 | link u64 | sequence u64 | crc32c u32 | envelopes               (little endian)
//! envelope: group u32 | kind u8 | length u32 | body
//! ```
//! `length` counts the envelopes, `crc32c` covers everything else. `sequence` counts a link's frames from 1: a frame that
//! comes twice or late is dropped, so that a forwarded write is never proposed twice.

use bytes::{Buf, Bytes};
use thiserror::Error;

use super::body;
use super::format::FORMAT;
use super::{Body, Envelope};
use crate::limits::FRAME_BYTES_MAX;
use crate::types::GroupId;

/// What a frame begins with.
pub const MAGIC: &[u8; 4] = b"DRYF";
/// The length of a frame's header, in bytes.
pub const HEADER_BYTES: usize = 28;
const CHECKSUM_AT: usize = 24;
const ENVELOPE_HEADER_BYTES: usize = 9;

/// Why bytes are no frame. The link must be closed: what follows cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a bad frame from a peer: {0}")]
pub struct FrameError(pub &'static str);

/// Appends a frame with these envelopes.
pub fn encode(link: u64, sequence: u64, envelopes: &[Envelope], out: &mut Vec<u8>) {
    let open = begin(link, sequence, out);
    envelopes.iter().for_each(|envelope| encode_envelope(envelope, out));
    finish(open, out);
}

/// A frame that takes more envelopes: where it starts.
#[derive(Debug)]
pub(super) struct Open(usize);

impl Open {
    pub fn start(&self) -> usize {
        self.0
    }
}

/// Begins a frame at the end of `out`. [`encode_envelope`] adds to it, [`finish`] ends it.
pub(super) fn begin(link: u64, sequence: u64, out: &mut Vec<u8>) -> Open {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&link.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    Open(start)
}

/// Appends an envelope as it stands in a frame.
pub fn encode_envelope(envelope: &Envelope, out: &mut Vec<u8>) {
    out.extend_from_slice(&envelope.group.0.to_le_bytes());
    out.push(body::kind(&envelope.body));
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    body::encode(&envelope.body, out);
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

pub(super) fn finish(open: Open, out: &mut [u8]) {
    let frame = &mut out[open.0..];
    let length = (frame.len() - HEADER_BYTES) as u32;
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(frame);
    frame[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM_AT]), &frame[HEADER_BYTES..])
}

/// How many bytes follow a header.
pub fn length(header: &[u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    if !header.starts_with(MAGIC) {
        return Err(FrameError("wrong magic"));
    }
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError("longer than the limit"));
    }
    Ok(length)
}

/// The frame's name, as its header has it.
pub fn link_and_sequence(header: &[u8; HEADER_BYTES]) -> (u64, u64) {
    ((&header[8..]).get_u64_le(), (&header[16..]).get_u64_le())
}

/// The frames of one peer's shard, in order, each once.
#[derive(Clone, Debug)]
pub struct FrameReader {
    format: u16,
    link: u64,
    sequence: u64,
}

impl Default for FrameReader {
    fn default() -> FrameReader {
        FrameReader::of(FORMAT)
    }
}

impl FrameReader {
    /// Of a link of this format: it has no message that came with a later one.
    pub fn of(format: u16) -> FrameReader {
        FrameReader { format, link: 0, sequence: 0 }
    }

    /// Reads a whole frame, header included. None: it came twice or late and is to be ignored.
    pub fn read(&mut self, frame: Bytes) -> Result<Option<Vec<Envelope>>, FrameError> {
        let header = frame.first_chunk::<HEADER_BYTES>().ok_or(FrameError("cut short"))?;
        if frame.len() != HEADER_BYTES + length(header)? {
            return Err(FrameError("wrong length"));
        }
        if checksum(&frame) != (&frame[CHECKSUM_AT..]).get_u32_le() {
            return Err(FrameError("wrong checksum"));
        }
        let (link, sequence) = link_and_sequence(header);
        if (link, sequence) <= (self.link, self.sequence) {
            return Ok(None);
        }
        let envelopes = envelopes(frame.slice(HEADER_BYTES..), self.format)?;
        (self.link, self.sequence) = (link, sequence);
        Ok(Some(envelopes))
    }
}

fn envelopes(mut rest: Bytes, format: u16) -> Result<Vec<Envelope>, FrameError> {
    let mut envelopes = Vec::new();
    while rest.has_remaining() {
        if rest.len() < ENVELOPE_HEADER_BYTES {
            return Err(FrameError("an envelope is cut short"));
        }
        let group = GroupId(rest.get_u32_le());
        let kind = rest.get_u8();
        let length = rest.get_u32_le() as usize;
        if length > rest.len() {
            return Err(FrameError("an envelope is cut short"));
        }
        if body::since(kind) > format {
            return Err(FrameError("an envelope of a later format than the link's"));
        }
        let body: Body = body::decode(kind, rest.split_to(length)).map_err(FrameError)?;
        envelopes.push(Envelope { group, body });
    }
    Ok(envelopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(transfer: u64) -> Envelope {
        Envelope { group: GroupId(3), body: Body::SnapshotAck { transfer, chunk: 1, accepted: true } }
    }

    fn frame(link: u64, sequence: u64, envelopes: &[Envelope]) -> Bytes {
        let mut out = Vec::new();
        encode(link, sequence, envelopes, &mut out);
        out.into()
    }

    #[test]
    fn a_frame_is_read_once_and_in_order() {
        let mut reader = FrameReader::default();
        let sent = vec![ack(1), ack(2)];
        assert_eq!(reader.read(frame(1, 1, &sent)), Ok(Some(sent.clone())));
        assert_eq!(reader.read(frame(1, 1, &sent)), Ok(None));
        assert_eq!(reader.read(frame(1, 3, &sent)), Ok(Some(sent.clone())));
        assert_eq!(reader.read(frame(1, 2, &sent)), Ok(None), "late");
        assert_eq!(reader.read(frame(2, 1, &sent)), Ok(Some(sent.clone())), "a new link counts anew");
        assert_eq!(reader.read(frame(1, 9, &sent)), Ok(None), "of an older link");
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed() {
        let whole = frame(1, 1, &[ack(1)]);
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameReader::default().read(damaged.into()).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(FrameReader::default().read(whole.slice(..length)).is_err());
        }
    }
}
