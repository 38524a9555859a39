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
