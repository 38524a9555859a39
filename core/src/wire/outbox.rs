//! What waits to go out on a link to a peer: a turn's envelopes in frames. It is bounded; what comes beyond, or while there is no
//! link, is lost, as Raft expects. What waits when a link breaks is lost with it.

use super::read::READ_BYTES_MAX;
use super::{Body, Envelope, body, frame};
use crate::limits::{ENTRY_BYTES_MAX, FRAME_BYTES_MAX, REPLY_BYTES_MAX};
use crate::mutation::{Mutation, is_on};

/// What may wait for a link, in bytes.
pub const OUTBOX_BYTES_MAX: usize = 32 << 20;
/// A frame that is longer takes no more envelopes.
const FRAME_BYTES_FULL: usize = 4 << 20;

// Such a frame may still get the largest envelope: a read, an entry, or the answer to a forwarded request.
const _: () = assert!(FRAME_BYTES_FULL + READ_BYTES_MAX + ENTRY_BYTES_MAX + REPLY_BYTES_MAX < FRAME_BYTES_MAX);

/// Why an envelope is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No link stands.
    NoLink,
    /// As much as may wait does.
    Full,
    /// The other end could not read it: its program is too old.
    Unreadable,
}

/// The sending side of a link.
#[derive(Debug)]
pub struct Outbox {
    bytes_max: usize,
    /// Its number and its format.
    link: Option<(u64, u16)>,
    sequence: u64,
    /// Frames, the last of which may still be open.
    bytes: Vec<u8>,
    open: Option<frame::Open>,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::bounded(OUTBOX_BYTES_MAX)
    }
}

impl Outbox {
    /// One in which so many bytes may wait, and an envelope more.
    pub fn bounded(bytes_max: usize) -> Outbox {
        Outbox { bytes_max, link: None, sequence: 0, bytes: Vec::new(), open: None }
    }

    /// A link stands, with this number and this format. Its frames are counted from 1.
    pub fn up(&mut self, link: u64, format: u16) {
        self.down();
        self.link = Some((link, format));
    }

    /// It broke.
    pub fn down(&mut self) {
        (self.link, self.sequence, self.open) = (None, 0, None);
        self.bytes = Vec::new();
    }

    /// Whether a link stands.
    pub fn is_up(&self) -> bool {
        self.link.is_some()
    }

    /// How much waits, in bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Takes an envelope into the last frame, or a new one. Answers the frame's number on its link, and the envelope's bytes.
    pub fn push(&mut self, envelope: &Envelope) -> Result<(u64, &[u8]), Lost> {
        let (link, format) = self.link.ok_or(Lost::NoLink)?;
        if body::since(body::kind(&envelope.body)) > format && !is_on(Mutation::UnreadableIsSent) {
            return Err(Lost::Unreadable);
        }
        if self.bytes.len() > self.bytes_max {
            return Err(Lost::Full);
        }
        // The other end keeps entries for long, and with each the bytes of its whole frame.
        let is_alone = matches!(envelope.body, Body::SnapshotChunk { .. });
        let is_full = |open: &frame::Open| self.bytes.len() - open.start() > FRAME_BYTES_FULL;
        if is_alone || self.open.as_ref().is_none_or(is_full) {
            self.close();
            self.sequence += 1;
            self.open = Some(frame::begin(link, self.sequence, &mut self.bytes));
        }
        let start = self.bytes.len();
        frame::encode_envelope(envelope, &mut self.bytes);
        if is_alone {
            self.close();
        }
        Ok((self.sequence, &self.bytes[start..]))
    }

    /// Moves the frames that wait into `out`, whose room goes to those that come next.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        self.close();
        out.clear();
        // A burst's room is given back.
        out.shrink_to(FRAME_BYTES_FULL);
        std::mem::swap(&mut self.bytes, out);
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            frame::finish(open, &mut self.bytes);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::room::RoomLevel;
    use crate::storage::SnapshotMeta;
    use crate::types::{GroupId, NodeId};
    use crate::wire::format::{FORMAT, FORMAT_OLDEST};
    use crate::wire::frame::FrameReader;

    fn envelope(number: u32) -> Envelope {
        Envelope { group: GroupId(number), body: Body::Transfer { to: NodeId(7) } }
    }

    fn frames(mut bytes: Bytes) -> Vec<Bytes> {
        let mut frames = Vec::new();
        while let Some(header) = bytes.first_chunk::<{ frame::HEADER_BYTES }>() {
            frames.push(bytes.split_to(frame::HEADER_BYTES + frame::length(header).unwrap()));
        }
        frames
    }

    #[test]
    fn what_is_pushed_comes_out_in_order() {
        let (mut outbox, mut reader, mut bytes) = (Outbox::default(), FrameReader::default(), Vec::new());
        assert_eq!(outbox.push(&envelope(1)), Err(Lost::NoLink));
        outbox.up(5, FORMAT);
        for number in 1..=3 {
            outbox.push(&envelope(2 * number)).unwrap();
            outbox.push(&envelope(2 * number + 1)).unwrap();
            outbox.take(&mut bytes);
            let read: Vec<_> = frames(bytes.clone().into()).into_iter().map(|frame| reader.read(frame)).collect();
            assert_eq!(read, [Ok(Some(vec![envelope(2 * number), envelope(2 * number + 1)]))]);
        }
        outbox.take(&mut bytes);
        assert_eq!(bytes, [], "nothing is sent twice");
    }

    #[test]
    fn a_chunk_of_a_snapshot_shares_its_frame_with_nothing() {
        let chunk = Envelope {
            group: GroupId(2),
            body: Body::SnapshotChunk {
                transfer: 1,
                meta: SnapshotMeta::default(),
                chunk: 0,
                last: false,
                data: Bytes::from_static(b"data"),
            },
        };
        let (mut outbox, mut reader, mut bytes) = (Outbox::default(), FrameReader::default(), Vec::new());
        outbox.up(5, FORMAT);
        let sent = [envelope(1), envelope(2), chunk.clone(), envelope(3), envelope(4)];
        for envelope in &sent {
            outbox.push(envelope).unwrap();
        }
        outbox.take(&mut bytes);
        let read: Vec<_> = frames(bytes.into()).into_iter().map(|frame| reader.read(frame).unwrap().unwrap()).collect();
        assert_eq!(read, [vec![envelope(1), envelope(2)], vec![chunk], vec![envelope(3), envelope(4)]]);
    }

    #[test]
    fn a_broken_link_loses_what_waits_and_the_next_one_counts_anew() {
        let (mut outbox, mut bytes) = (Outbox::default(), Vec::new());
        outbox.up(5, FORMAT);
        outbox.push(&envelope(1)).unwrap();
        outbox.down();
        assert_eq!((outbox.is_up(), outbox.waiting_bytes()), (false, 0));
        outbox.up(6, FORMAT);
        outbox.push(&envelope(2)).unwrap();
        outbox.take(&mut bytes);
        let mut alone = Vec::new();
        frame::encode(6, 1, &[envelope(2)], &mut alone);
        assert_eq!(bytes, alone);
    }

    #[test]
    fn an_older_peer_is_not_sent_what_it_could_not_read() {
        let (mut outbox, mut bytes) = (Outbox::default(), Vec::new());
        let room = Envelope { group: GroupId(1), body: Body::Room(RoomLevel::Low) };
        outbox.up(1, FORMAT_OLDEST);
        assert_eq!(outbox.push(&room), Err(Lost::Unreadable));
        outbox.push(&envelope(1)).unwrap();
        outbox.take(&mut bytes);
        assert_eq!(FrameReader::of(FORMAT_OLDEST).read(bytes.clone().into()).unwrap(), Some(vec![envelope(1)]));
        outbox.up(2, FORMAT);
        outbox.push(&room).unwrap();
        outbox.take(&mut bytes);
        assert!(FrameReader::of(FORMAT_OLDEST).read(bytes.clone().into()).is_err());
        assert_eq!(FrameReader::default().read(bytes.clone().into()).unwrap(), Some(vec![room]));
    }

    #[test]
    fn it_is_bounded_and_frames_have_an_end() {
        let mut outbox = Outbox::bounded(100);
        outbox.up(1, FORMAT);
        let taken = (0..1_000).filter(|&number| outbox.push(&envelope(number)).is_ok()).count();
        assert!((1..100).contains(&taken), "{taken}");
        assert_eq!(outbox.push(&envelope(0)), Err(Lost::Full));
        outbox.take(&mut Vec::new());
        assert!(outbox.push(&envelope(0)).is_ok());

        let (mut outbox, mut bytes) = (Outbox::default(), Vec::new());
        outbox.up(1, FORMAT);
        while outbox.push(&envelope(0)).is_ok() {}
        outbox.take(&mut bytes);
        let frames = frames(bytes.into());
        assert_eq!(frames.len(), OUTBOX_BYTES_MAX.div_ceil(FRAME_BYTES_FULL));
        assert!(frames.iter().all(|frame| frame.len() < FRAME_BYTES_MAX));
    }
}
