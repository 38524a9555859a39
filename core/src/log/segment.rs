//! A segment: one file of a chain, its name, and the block at its start that repeats the name.

use std::fmt;

use crate::mutation::{Mutation, is_on};
use crate::types::{ClusterId, NodeId};

use super::batch::BATCH_HEADER_BYTES;
use super::record::Reader;
use super::{BLOCK_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};

const MAGIC: [u8; 8] = *b"dreyLOGS";
const VERSION: u32 = 1;
/// Everything before the checksum.
const CHECKED_BYTES: usize = 64;
const SUFFIX: &str = ".log";

/// A segment's name. Segments of one (epoch, shard) form a chain by number; a node starts a new epoch at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// Grows at each start of the node.
    pub epoch: u32,
    /// Of the shard that wrote it.
    pub shard: u32,
    /// Counts from 0 without gaps.
    pub number: u64,
}

impl SegmentId {
    /// The segment that a file's name means, if it is one: `{epoch:08x}-{shard:04x}-{number:016x}.log`.
    pub fn parse(name: &str) -> Option<SegmentId> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('-');
        let (epoch, shard, number) = (parts.next()?, parts.next()?, parts.next()?);
        let id = SegmentId {
            epoch: u32::from_str_radix(epoch, 16).ok()?,
            shard: u32::from_str_radix(shard, 16).ok()?,
            number: u64::from_str_radix(number, 16).ok()?,
        };
        // One name for one segment: no signs, capitals, missing zeros or further parts.
        (id.to_string() == name).then_some(id)
    }
}

impl fmt::Display for SegmentId {
    /// The file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:04x}-{:016x}{SUFFIX}", self.epoch, self.shard, self.number)
    }
}

/// The first block of a segment. It is written and synced before anything else of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose.
    pub cluster: ClusterId,
    /// Whose.
    pub node: NodeId,
    /// The same as the file's name.
    pub segment: SegmentId,
    /// The file's size.
    pub segment_bytes: u64,
}

/// Why a block is not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Never written, or not completely, or damaged.
    Invalid,
    /// Intact, of another version of the format.
    Version(u32),
}

impl SegmentHeader {
    /// Fills the first [`BLOCK_BYTES`] of a segment.
    ///
    /// # Panics
    /// If the buffer has another length.
    pub fn encode_into(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_BYTES, "a header is one block");
        block.fill(0);
        block[..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        block[12..16].copy_from_slice(&self.segment.epoch.to_le_bytes());
        block[16..20].copy_from_slice(&self.segment.shard.to_le_bytes());
        block[24..32].copy_from_slice(&self.segment.number.to_le_bytes());
        block[32..48].copy_from_slice(&self.cluster.0.to_le_bytes());
        block[48..56].copy_from_slice(&self.node.0.to_le_bytes());
        block[56..64].copy_from_slice(&self.segment_bytes.to_le_bytes());
        let checksum = crc32c::crc32c(&block[..CHECKED_BYTES]);
        block[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads what `encode_into` wrote at the start of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<SegmentHeader, NoHeader> {
        let fields = bytes.get(..CHECKED_BYTES).ok_or(NoHeader::Invalid)?;
        let mut reader = Reader(&bytes[CHECKED_BYTES..]);
        if !fields.starts_with(&MAGIC) || reader.u32() != Some(crc32c::crc32c(fields)) {
            return Err(NoHeader::Invalid);
        }
        Self::fields(&fields[MAGIC.len()..]).unwrap_or(Err(NoHeader::Invalid))
    }

    fn fields(bytes: &[u8]) -> Option<Result<SegmentHeader, NoHeader>> {
        let mut reader = Reader(bytes);
        let version = reader.u32()?;
        if version != VERSION {
            return Some(Err(NoHeader::Version(version)));
        }
        let (epoch, shard, _reserved, number) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u64()?);
        let cluster = ClusterId(reader.u128()?);
        let node = NodeId(reader.u64()?);
        let segment_bytes = reader.u64()?;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
            || !segment_bytes.is_multiple_of(BLOCK_BYTES as u64)
        {
            return None;
        }
        Some(Ok(SegmentHeader { cluster, node, segment: SegmentId { epoch, shard, number }, segment_bytes }))
    }
}

/// Where every checksum of a batch starts from, so that no bytes of another segment, node or cluster pass for its own.
pub(super) fn checksum_seed(cluster: ClusterId, node: NodeId, segment: SegmentId) -> u32 {
    let mut identity = [0; 40];
    identity[..16].copy_from_slice(&cluster.0.to_le_bytes());
    identity[16..24].copy_from_slice(&node.0.to_le_bytes());
    if is_on(Mutation::OldRecordsReadAsNew) {
        return crc32c::crc32c(&identity);
    }
    identity[24..28].copy_from_slice(&segment.epoch.to_le_bytes());
    identity[28..32].copy_from_slice(&segment.shard.to_le_bytes());
    identity[32..].copy_from_slice(&segment.number.to_le_bytes());
    crc32c::crc32c(&identity)
}

/// The end of the room for batches: behind it is the block that is kept so that a seal always fits.
pub(super) fn data_end(segment_bytes: u64) -> u64 {
    segment_bytes - BLOCK_BYTES as u64
}

/// The bytes that the records of a batch at `offset` can take at most.
pub(super) fn payload_room(segment_bytes: u64, offset: u64) -> usize {
    let room = data_end(segment_bytes).saturating_sub(offset);
    usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(BATCH_HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SegmentId {
        SegmentId { epoch: 0x1a, shard: 3, number: 0x1_0000_0000 }
    }

    #[test]
    fn a_name_is_read_back_and_only_as_it_is_written() {
        assert_eq!(id().to_string(), "0000001a-0003-0000000100000000.log");
        assert_eq!(SegmentId::parse("0000001a-0003-0000000100000000.log"), Some(id()));
        let wide = SegmentId { epoch: u32::MAX, shard: u32::MAX, number: u64::MAX };
        assert_eq!(SegmentId::parse(&wide.to_string()), Some(wide));
        for no in [
            "",
            ".log",
            "0000001a-0003-0000000100000000",
            "0000001A-0003-0000000100000000.log",
            "1a-3-100000000.log",
            "+000001a-0003-0000000100000000.log",
            "0000001a-0003-0000000100000000-1.log",
            "0000001a-0003-0000000100000000.log.tmp",
        ] {
            assert_eq!(SegmentId::parse(no), None, "{no:?}");
        }
    }

    #[test]
    fn names_sort_as_segments_do() {
        let ids = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (0x10, 0, 0)];
        let names: Vec<String> =
            ids.iter().map(|&(epoch, shard, number)| SegmentId { epoch, shard, number }.to_string()).collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn a_header_is_read_back_and_any_flipped_bit_of_it_is_seen() {
        let header = SegmentHeader {
            cluster: ClusterId(0xfeed_0000_0000_0000_0000_0000_0000_beef),
            node: NodeId(7),
            segment: id(),
            segment_bytes: 16 << 20,
        };
        let mut block = vec![0xff; BLOCK_BYTES];
        header.encode_into(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
        for bit in 0..(CHECKED_BYTES + 4) * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&block), Err(NoHeader::Invalid), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        for short in 0..CHECKED_BYTES + 4 {
            assert_eq!(SegmentHeader::decode(&block[..short]), Err(NoHeader::Invalid));
        }
    }

    #[test]
    fn another_version_is_named() {
        let header = SegmentHeader { cluster: ClusterId(1), node: NodeId(1), segment: id(), segment_bytes: 16 << 20 };
        let mut block = vec![0; BLOCK_BYTES];
        header.encode_into(&mut block);
        block[8] = 9;
        let checksum = crc32c::crc32c(&block[..CHECKED_BYTES]);
        block[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&block), Err(NoHeader::Version(9)));
    }
}
