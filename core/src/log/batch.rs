//! The header of a batch: what one write holds, and what its being there says about those before it.
//!
//! The header has a checksum of its own and fits in one sector: so a batch whose records were torn still attests those
//! before it, and looking for later batches behind a broken one is cheap.

use super::record::Reader;
use super::segment::data_end;
use super::{BLOCK_BYTES, SegmentId};
use crate::mutation::{Mutation, is_on};

const MAGIC: [u8; 8] = *b"dreyLOGB";
/// The format of batches and records.
pub(super) const VERSION: u16 = 1;
/// The header's size; the records follow.
pub(super) const BATCH_HEADER_BYTES: usize = 96;
const CHECKED_BYTES: usize = BATCH_HEADER_BYTES - 4;

/// This shard's groups are restated in this chain, up to and with this batch.
const FLAG_EARLIER_EPOCHS_CARRIED: u8 = 1;

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchKind {
    /// It holds records.
    Records,
    /// It is empty, and says that those before it were synced.
    Attest,
    /// It is empty, and ends the chain for ever.
    Seal,
}

/// The first bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) kind: BatchKind,
    /// All that this shard's groups have in earlier epochs is in this chain, in this batch or before.
    pub(super) earlier_epochs_carried: bool,
    /// How many shards this epoch has.
    pub(super) shards: u32,
    pub(super) segment: SegmentId,
    /// Its own place in the segment.
    pub(super) offset: u64,
    /// Counts the chain's batches from 1, over all segments.
    pub(super) sequence: u64,
    /// The batches up to this one were synced when this one was written.
    pub(super) synced_through: u64,
    /// Segments of this chain with lower numbers are not needed once this batch is synced.
    pub(super) oldest: u64,
    /// Segments of this chain up to this number are there, or were and are not needed.
    pub(super) newest: u64,
    /// The records' bytes, without padding.
    pub(super) payload_bytes: u32,
    /// How many records.
    pub(super) records: u32,
    /// Of everything behind the header, padding included.
    pub(super) body_checksum: u32,
}

/// Why there is no header here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoBatch {
    /// Never written, or not completely, or damaged, or of another segment.
    Invalid,
    /// Intact, of another version of the format.
    Version(u16),
}

/// The size of a batch with its header and padding.
pub(super) fn padded_bytes(payload_bytes: usize) -> usize {
    (BATCH_HEADER_BYTES + payload_bytes).next_multiple_of(BLOCK_BYTES)
}

impl BatchHeader {
    /// Puts header and checksums around the records in `batch`, which is [`padded_bytes`] long. Fills in `body_checksum`.
    pub(super) fn finish(mut self, seed: u32, batch: &mut [u8]) {
        let (header, body) = batch.split_at_mut(BATCH_HEADER_BYTES);
        body[self.payload_bytes as usize..].fill(0);
        self.body_checksum = crc32c::crc32c_append(seed, body);
        header.fill(0);
        header[..8].copy_from_slice(&MAGIC);
        header[8..10].copy_from_slice(&VERSION.to_le_bytes());
        header[10] = match self.kind {
            BatchKind::Records => 1,
            BatchKind::Attest => 2,
            BatchKind::Seal => 3,
        };
        header[11] = if self.earlier_epochs_carried { FLAG_EARLIER_EPOCHS_CARRIED } else { 0 };
        header[12..16].copy_from_slice(&self.shards.to_le_bytes());
        header[16..20].copy_from_slice(&self.segment.epoch.to_le_bytes());
        header[20..24].copy_from_slice(&self.segment.shard.to_le_bytes());
        header[24..32].copy_from_slice(&self.segment.number.to_le_bytes());
        header[32..40].copy_from_slice(&self.offset.to_le_bytes());
        header[40..48].copy_from_slice(&self.sequence.to_le_bytes());
        header[48..56].copy_from_slice(&self.synced_through.to_le_bytes());
        header[56..64].copy_from_slice(&self.oldest.to_le_bytes());
        header[64..68].copy_from_slice(&self.payload_bytes.to_le_bytes());
        header[68..72].copy_from_slice(&self.records.to_le_bytes());
        header[72..76].copy_from_slice(&self.body_checksum.to_le_bytes());
        header[76..84].copy_from_slice(&self.newest.to_le_bytes());
        let checksum = crc32c::crc32c_append(seed, &header[..CHECKED_BYTES]);
        header[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    }

    /// What the batch takes in its segment.
    pub(super) fn padded_bytes(&self) -> usize {
        padded_bytes(self.payload_bytes as usize)
    }
}

/// Reads batches of one segment. Nothing in the bytes is trusted before its checksum is right.
pub(super) struct Batches<'a> {
    segment: SegmentId,
    seed: u32,
    bytes: &'a [u8],
    /// What the segment's size is, or may be at most: a file may have been cut short.
    segment_bytes: u64,
}

impl<'a> Batches<'a> {
    /// `bytes` is what there is of the segment.
    pub(super) fn new(seed: u32, segment: SegmentId, bytes: &'a [u8], segment_bytes: u64) -> Batches<'a> {
        Batches { segment, seed, bytes, segment_bytes }
    }

    /// How much there is of the segment.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The header at `offset`, if an intact one is there. Its batch fits in the segment.
    pub(super) fn header(&self, offset: u64) -> Result<BatchHeader, NoBatch> {
        let start = usize::try_from(offset).map_err(|_| NoBatch::Invalid)?;
        let header = self.bytes.get(start..).and_then(|rest| rest.get(..BATCH_HEADER_BYTES)).ok_or(NoBatch::Invalid)?;
        if !header.starts_with(&MAGIC) {
            return Err(NoBatch::Invalid);
        }
        let (fields, mut checksum) = (&header[MAGIC.len()..CHECKED_BYTES], Reader(&header[CHECKED_BYTES..]));
        if checksum.u32() != Some(crc32c::crc32c_append(self.seed, &header[..CHECKED_BYTES])) {
            return Err(NoBatch::Invalid);
        }
        self.fields(offset, fields).unwrap_or(Err(NoBatch::Invalid))
    }

    fn fields(&self, at: u64, bytes: &[u8]) -> Option<Result<BatchHeader, NoBatch>> {
        let mut reader = Reader(bytes);
        let version = reader.u16()?;
        if version != VERSION {
            return Some(Err(NoBatch::Version(version)));
        }
        let kind = match reader.u8()? {
            1 => BatchKind::Records,
            2 => BatchKind::Attest,
            3 => BatchKind::Seal,
            // A new kind comes with a new version.
            _ => return None,
        };
        let flags = reader.u8()?;
        let shards = reader.u32()?;
        let segment = SegmentId { epoch: reader.u32()?, shard: reader.u32()?, number: reader.u64()? };
        let offset = reader.u64()?;
        let sequence = reader.u64()?;
        let synced_through = reader.u64()?;
        let oldest = reader.u64()?;
        let payload_bytes = reader.u32()?;
        let records = reader.u32()?;
        let body_checksum = reader.u32()?;
        let newest = reader.u64()?;
        let end = offset.checked_add(padded_bytes(payload_bytes as usize) as u64)?;
        let end_max = if kind == BatchKind::Seal { self.segment_bytes } else { data_end(self.segment_bytes) };
        let sensible = (segment == self.segment || is_on(Mutation::OldRecordsReadAsNew))
            && offset == at
            && end <= end_max
            && synced_through < sequence
            && sequence < u64::MAX
            && oldest <= segment.number
            && segment.number <= newest
            && segment.shard < shards
            && (kind == BatchKind::Records) == (records > 0);
        sensible.then_some(Ok(BatchHeader {
            kind,
            earlier_epochs_carried: flags & FLAG_EARLIER_EPOCHS_CARRIED != 0,
            shards,
            segment: self.segment,
            offset,
            sequence,
            synced_through,
            oldest,
            newest,
            payload_bytes,
            records,
            body_checksum,
        }))
    }

    /// The records' bytes of a header that was read here, if they and the padding are as they were written.
    pub(super) fn payload(&self, header: &BatchHeader) -> Option<&'a [u8]> {
        let start = header.offset as usize + BATCH_HEADER_BYTES;
        let body = self.bytes.get(start..header.offset as usize + header.padded_bytes())?;
        let intact = crc32c::crc32c_append(self.seed, body) == header.body_checksum;
        intact.then(|| &body[..header.payload_bytes as usize])
    }
}
