//! From the segments that a node finds at its start to the state of each group, or to the reason why not.
//!
//! A chain's first broken batch is an unfinished tail if nothing that came later attests it: the tail is cut, by a seal
//! in its place. Anything else that is broken, of what is still needed, is damage, and nothing is guessed.

use std::collections::BTreeMap;

use crate::types::{ClusterId, GroupId, NodeId};

use super::batch::BatchHeader;
use super::merge::{GroupLog, Merged};
use super::scan::Chain;
use super::segment::checksum_seed;
use super::{Damage, DamageKind, SegmentId};

/// Reads segments, one after the other.
#[derive(Debug)]
pub struct LogScan {
    cluster: ClusterId,
    node: NodeId,
    segments: Vec<SegmentId>,
    chains: Vec<Chain>,
    groups: BTreeMap<GroupId, Merged>,
}

/// What a node's log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredLog {
    /// For the chains of this start.
    pub next_epoch: u32,
    /// Every group that the log knows.
    pub groups: BTreeMap<GroupId, GroupLog>,
    /// All segments that there are, in order: all are of earlier epochs, and go at `Output::ReleaseEarlierEpochs`.
    pub segments: Vec<SegmentId>,
    /// To be written before anything is written or sent on the strength of what was recovered.
    pub seals: Vec<SealWrite>,
}

/// Ends a chain behind its last good batch. The caller syncs the segment, writes this, and syncs it again: in this
/// order, since the seal says that all before it is on disk, and a killed process may have left unsynced batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealWrite {
    /// The file.
    pub segment: SegmentId,
    /// Where in it, in bytes; a multiple of [`super::BLOCK_BYTES`].
    pub offset: u64,
    /// One block.
    pub bytes: Vec<u8>,
}

impl SealWrite {
    fn new(cluster: ClusterId, node: NodeId, header: BatchHeader) -> SealWrite {
        let mut bytes = vec![0; header.padded_bytes()];
        header.finish(checksum_seed(cluster, node, header.segment), &mut bytes);
        SealWrite { segment: header.segment, offset: header.offset, bytes }
    }
}

impl LogScan {
    /// Of this node's files; those of others are refused.
    pub fn new(cluster: ClusterId, node: NodeId) -> LogScan {
        LogScan { cluster, node, segments: Vec::new(), chains: Vec::new(), groups: BTreeMap::new() }
    }

    /// Reads one segment, whole. Segments come in the order of their ids, as their names sort.
    ///
    /// # Panics
    /// If they do not.
    pub fn segment(&mut self, segment: SegmentId, bytes: &[u8]) -> Result<(), Damage> {
        assert!(self.segments.last().is_none_or(|last| *last < segment), "segments come in order");
        self.segments.push(segment);
        if !self.chains.last().is_some_and(|chain| chain.is_of(segment)) {
            self.chains.push(Chain::new(self.cluster, self.node, segment));
        }
        match self.chains.last_mut() {
            Some(chain) => chain.read(segment, bytes, &mut self.groups),
            None => Ok(()),
        }
    }

    /// Judges what was read.
    pub fn finish(self) -> Result<RecoveredLog, Damage> {
        let needed_from = self.needed_from();
        let needed = || self.chains.iter().filter(|chain| chain.epoch() >= needed_from);
        if let Some(damage) = needed().find_map(Chain::damage) {
            return Err(damage);
        }
        let seals =
            needed().filter_map(Chain::seal).map(|header| SealWrite::new(self.cluster, self.node, header)).collect();
        let last = self.segments.last();
        let next_epoch = last.map_or(0, |last| last.epoch).checked_add(1);
        let next_epoch = next_epoch.ok_or_else(|| Damage {
            segment: self.segments[self.segments.len() - 1],
            offset: 0,
            what: DamageKind::Contradiction("this is the last epoch that there can be"),
        })?;
        let mut groups = BTreeMap::new();
        for (group, merged) in self.groups {
            let seen = merged.seen;
            if seen.epoch >= needed_from {
                let log =
                    merged.finish().ok_or(Damage { segment: seen, offset: 0, what: DamageKind::Entries(group) })?;
                groups.insert(group, log);
            }
        }
        Ok(RecoveredLog { next_epoch, groups, segments: self.segments, seals })
    }

    /// The last epoch of which all shards have carried over everything: those before it may be there in part, or
    /// not at all.
    fn needed_from(&self) -> u32 {
        let mut carried: BTreeMap<u32, u32> = BTreeMap::new();
        let mut needed_from = 0;
        for chain in &self.chains {
            if let Some(shards) = chain.carried() {
                let count = carried.entry(chain.epoch()).or_default();
                *count += 1;
                if *count == shards {
                    needed_from = chain.epoch();
                }
            }
        }
        needed_from
    }
}

#[cfg(test)]
mod tests {
    use crate::log::batch::{BATCH_HEADER_BYTES, BatchKind, VERSION};
    use crate::log::{BLOCK_BYTES, LogConfig, Record};
    use crate::types::{LogIndex, Term};

    use super::*;

    const CLUSTER: ClusterId = ClusterId(5);
    const NODE: NodeId = NodeId(6);

    /// A segment with one batch, which `change` makes odd, with the records `payload`.
    fn segment(segment: SegmentId, payload: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
        let config = LogConfig { cluster: CLUSTER, node: NODE, shards: 4, segment_bytes: 4 * BLOCK_BYTES as u64 };
        let mut bytes = vec![0; 4 * BLOCK_BYTES];
        config.header(segment).encode_into(&mut bytes[..BLOCK_BYTES]);
        let mut header = BatchHeader {
            kind: BatchKind::Records,
            earlier_epochs_carried: false,
            shards: 4,
            segment,
            offset: BLOCK_BYTES as u64,
            sequence: segment.number + 1,
            synced_through: segment.number,
            oldest: 0,
            newest: segment.number,
            payload_bytes: payload.len() as u32,
            records: 1,
            body_checksum: 0,
        };
        change(&mut header);
        let batch = &mut bytes[BLOCK_BYTES..2 * BLOCK_BYTES];
        batch[BATCH_HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        header.finish(checksum_seed(CLUSTER, NODE, segment), batch);
        bytes
    }

    fn id(epoch: u32, shard: u32, number: u64) -> SegmentId {
        SegmentId { epoch, shard, number }
    }

    fn truncated(index: u64) -> Vec<u8> {
        let record = Record::Truncated(GroupId(1), LogIndex(index), Term(1));
        let mut bytes = vec![0; record.encoded_bytes()];
        record.encode(&mut bytes.as_mut_slice());
        bytes
    }

    fn scan(segments: &[(SegmentId, Vec<u8>)]) -> Result<RecoveredLog, Damage> {
        let mut scan = LogScan::new(CLUSTER, NODE);
        for (segment, bytes) in segments {
            scan.segment(*segment, bytes)?;
        }
        scan.finish()
    }

    #[test]
    fn the_highest_epoch_wins_on_whichever_shard() {
        let file = |id, index| (id, segment(id, &truncated(index), |_| {}));
        let recovered = scan(&[file(id(1, 3, 0), 9), file(id(2, 1, 0), 7)]).expect("nothing is odd");
        assert_eq!(recovered.groups[&GroupId(1)].truncated.0, LogIndex(7));
        assert_eq!(recovered.next_epoch, 3);
        assert_eq!(recovered.seals.len(), 2);
    }

    #[test]
    fn a_group_on_two_shards_of_one_epoch_is_refused() {
        let file = |id| (id, segment(id, &truncated(1), |_| {}));
        let damage = scan(&[file(id(1, 0, 0)), file(id(1, 1, 0))]).expect_err("which one is right?");
        assert_eq!(damage.segment, id(1, 1, 0));
        assert!(matches!(damage.what, DamageKind::Contradiction(_)), "{damage}");
    }

    #[test]
    fn two_numbers_of_shards_in_one_chain_are_refused() {
        let first = (id(1, 0, 0), segment(id(1, 0, 0), &truncated(1), |_| {}));
        let second = (id(1, 0, 1), segment(id(1, 0, 1), &truncated(1), |header| header.shards = 3));
        let damage = scan(&[first, second]).expect_err("which one is right?");
        assert!(matches!(damage.what, DamageKind::Contradiction(_)), "{damage}");
    }

    #[test]
    fn newer_records_and_newer_batches_are_named() {
        let odd = id(1, 0, 0);
        let damage = scan(&[(odd, segment(odd, &[200, 0, 0, 0, 0], |_| {}))]).expect_err("unknown");
        assert_eq!(damage, Damage { segment: odd, offset: BLOCK_BYTES as u64, what: DamageKind::RecordKind(200) });
        assert!(damage.to_string().ends_with("start the newer drey that wrote it"), "{damage}");
        let mut bytes = segment(odd, &truncated(1), |_| {});
        let header = &mut bytes[BLOCK_BYTES..][..BATCH_HEADER_BYTES];
        header[8..10].copy_from_slice(&(VERSION + 1).to_le_bytes());
        let (fields, checksum) = header.split_at_mut(BATCH_HEADER_BYTES - 4);
        checksum.copy_from_slice(&crc32c::crc32c_append(checksum_seed(CLUSTER, NODE, odd), fields).to_le_bytes());
        let damage = scan(&[(odd, bytes)]).expect_err("unknown");
        assert_eq!(damage.what, DamageKind::Version(u32::from(VERSION) + 1));
    }

    #[test]
    fn malformed_records_under_a_good_checksum_are_refused() {
        let odd = id(1, 0, 0);
        for payload in [&[][..], &[1, 0, 0, 0, 0], &[4, 0xff, 0xff, 0xff, 0xff], &[0; 4]] {
            let damage = scan(&[(odd, segment(odd, payload, |_| {}))]).expect_err("no records");
            assert!(matches!(damage.what, DamageKind::Contradiction(_) | DamageKind::RecordKind(0)), "{damage}");
        }
        let many = segment(odd, &truncated(1), |header| header.records = u32::MAX);
        assert!(scan(&[(odd, many)]).is_err());
    }

    #[test]
    fn the_last_epoch_is_an_error_not_a_panic() {
        let last = id(u32::MAX, 0, 0);
        assert!(scan(&[(last, segment(last, &truncated(1), |_| {}))]).is_err());
    }
}
