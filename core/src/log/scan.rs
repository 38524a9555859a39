//! Reads one chain of segments: which batches there are, which are missing, and where the chain ends.
//!
//! What is wrong is only noted at first: whether it matters depends on what later batches say is still needed.

use std::collections::BTreeMap;

use crate::mutation::{Mutation, is_on};
use crate::types::{ClusterId, GroupId, NodeId};

use super::batch::{BatchHeader, BatchKind, Batches, NoBatch};
use super::merge::Merged;
use super::record::BadRecord;
use super::segment::{NoHeader, SegmentHeader, checksum_seed};
use super::{BLOCK_BYTES, Damage, DamageKind, Record, SEGMENT_BYTES_MAX, SegmentId};

/// One (epoch, shard), as far as it was read.
#[derive(Debug)]
pub(super) struct Chain {
    cluster: ClusterId,
    node: NodeId,
    first: SegmentId,
    last: Reading,
    /// The sequence number of the next batch; none if it may be any, since something is missing before it.
    expected: Option<u64>,
    /// How many shards the epoch has, if a batch said so.
    shards: Option<u32>,
    earlier_epochs_carried: bool,
    /// The first segment that is still needed.
    oldest: u64,
    /// The last segment that must be there.
    newest: u64,
    end: Option<End>,
    sealed: bool,
    /// Where the batch with the expected number is, or should be, if it is not whole.
    suspect: Option<(SegmentId, u64)>,
    problems: Vec<Problem>,
}

/// The segment that is read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    segment: SegmentId,
    /// Its header is as it should be.
    prepared: bool,
    batches: u64,
}

/// Behind the last good batch: where a seal goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) segment: SegmentId,
    pub(super) offset: u64,
}

#[derive(Debug)]
struct Problem {
    /// It does not matter if segments up to this number are not needed.
    number: u64,
    damage: Damage,
}

impl Chain {
    /// A chain that begins with this segment, of which nothing was read yet.
    pub(super) fn new(cluster: ClusterId, node: NodeId, first: SegmentId) -> Chain {
        Chain {
            cluster,
            node,
            first,
            last: Reading { segment: first, prepared: true, batches: 0 },
            expected: (first.number == 0).then_some(1),
            shards: None,
            earlier_epochs_carried: false,
            oldest: 0,
            newest: first.number,
            end: None,
            sealed: false,
            suspect: None,
            problems: Vec::new(),
        }
    }

    /// Whether the segment is one of this chain.
    pub(super) fn is_of(&self, segment: SegmentId) -> bool {
        (self.first.epoch, self.first.shard) == (segment.epoch, segment.shard)
    }

    pub(super) fn epoch(&self) -> u32 {
        self.first.epoch
    }

    /// The number of shards of its epoch, if this one has carried over all that it needs of earlier epochs.
    pub(super) fn carried(&self) -> Option<u32> {
        self.shards.filter(|_| self.earlier_epochs_carried)
    }

    /// Reads the next segment, and adds what it says to the groups.
    pub(super) fn read(
        &mut self,
        segment: SegmentId,
        bytes: &[u8],
        groups: &mut BTreeMap<GroupId, Merged>,
    ) -> Result<(), Damage> {
        let size = match SegmentHeader::decode(bytes) {
            Ok(header) if (header.cluster, header.node) != (self.cluster, self.node) => {
                let whose = format!("cluster {}, node {}", header.cluster, header.node);
                return Err(Damage { segment, offset: 0, what: DamageKind::Foreign(whose) });
            }
            // A file that is too short, or that has the header of its former life: its preparation did not end.
            Ok(header) if header.segment == segment => Some(header.segment_bytes),
            Ok(_) | Err(NoHeader::Invalid) => None,
            Err(NoHeader::Version(version)) => {
                return Err(Damage { segment, offset: 0, what: DamageKind::Version(version) });
            }
        };
        let prepared = size.is_some_and(|size| size <= bytes.len() as u64);
        let before = std::mem::replace(&mut self.last, Reading { segment, prepared, batches: 0 });
        if self.sealed {
            return Ok(());
        }
        if segment != self.first {
            self.follow(before, segment);
        } else if prepared && segment.number == 0 {
            self.end = Some(End { segment, offset: BLOCK_BYTES as u64 });
        }
        let seed = checksum_seed(self.cluster, self.node, segment);
        let batches = Batches::new(seed, segment, bytes, size.unwrap_or(SEGMENT_BYTES_MAX));
        self.read_batches(&batches, groups)?;
        if self.last.batches > 0 && before.batches == 0 && segment != self.first {
            // The writer leaves no segment empty.
            self.problem(before.segment.number, before.segment, BLOCK_BYTES as u64, DamageKind::Batch(0));
        }
        Ok(())
    }

    /// Judges what is between a segment and the one read before it.
    fn follow(&mut self, before: Reading, segment: SegmentId) {
        let next = SegmentId { number: before.segment.number + 1, ..segment };
        if !before.prepared {
            // The next segment is only asked for once this one can be written.
            self.problem(before.segment.number, before.segment, 0, DamageKind::Header);
        }
        if next != segment {
            self.problem(segment.number - 1, next, 0, DamageKind::Missing);
            self.expected = None;
            self.suspect = None;
        }
    }

    fn read_batches(&mut self, batches: &Batches<'_>, groups: &mut BTreeMap<GroupId, Merged>) -> Result<(), Damage> {
        let segment = self.last.segment;
        let mut offset = BLOCK_BYTES as u64;
        loop {
            let header = self.header(batches, offset)?;
            let expected = self.expected.or(header.map(|header| header.sequence));
            let here = header.filter(|header| Some(header.sequence) == expected);
            if let Some(header) = here
                && let Some(payload) = batches.payload(&header)
            {
                self.accept(&header, payload, groups)?;
                if self.sealed {
                    return Ok(());
                }
                offset += header.padded_bytes() as u64;
                continue;
            }
            // Its own records may hold anything: what looks like a batch within them is none.
            let search_from = here.map_or(offset, |header| offset + header.padded_bytes() as u64);
            let attested = match is_on(Mutation::MidLogDamageCut) {
                true => None,
                false => self.attesting(batches, search_from, expected)?,
            };
            let Some(later) = attested else {
                if here.is_some() || self.last.batches == 0 {
                    self.suspect.get_or_insert((segment, offset));
                }
                return Ok(());
            };
            let lost = expected.unwrap_or(later.sequence.saturating_sub(1));
            // A segment that begins with a later one is whole: then it was the last of the segment before.
            let begins_later = later.offset == BLOCK_BYTES as u64;
            let before = self.end.filter(|_| begins_later).map(|end| (end.segment, end.offset));
            let (at, at_offset) = self.suspect.take().or(before).unwrap_or((segment, offset));
            self.problem(at.number, at, at_offset, DamageKind::Batch(lost));
            self.expected = None;
            offset = later.offset;
        }
    }

    /// The first batch at or behind the offset that says that the expected one was synced.
    fn attesting(
        &mut self,
        batches: &Batches<'_>,
        from: u64,
        expected: Option<u64>,
    ) -> Result<Option<BatchHeader>, Damage> {
        for offset in (from..batches.bytes()).step_by(BLOCK_BYTES) {
            if let Some(header) = self.header(batches, offset)?
                && expected.is_none_or(|expected| expected <= header.synced_through)
            {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn header(&mut self, batches: &Batches<'_>, offset: u64) -> Result<Option<BatchHeader>, Damage> {
        match batches.header(offset) {
            Ok(header) => {
                if !self.last.prepared {
                    // No batch is written before the header is synced.
                    let segment = self.last.segment;
                    self.problem(segment.number, segment, 0, DamageKind::Header);
                    self.last.prepared = true;
                }
                Ok(Some(header))
            }
            Err(NoBatch::Invalid) => Ok(None),
            Err(NoBatch::Version(version)) => {
                let what = DamageKind::Version(u32::from(version));
                Err(Damage { segment: self.last.segment, offset, what })
            }
        }
    }

    fn accept(
        &mut self,
        header: &BatchHeader,
        payload: &[u8],
        groups: &mut BTreeMap<GroupId, Merged>,
    ) -> Result<(), Damage> {
        let damage = |what| Damage { segment: header.segment, offset: header.offset, what };
        if self.shards.is_some_and(|shards| shards != header.shards) {
            return Err(damage(DamageKind::Contradiction("two numbers of shards in one epoch")));
        }
        let records = Record::decode_all(payload, header.records).map_err(|bad| {
            damage(match bad {
                BadRecord::UnknownKind(kind) => DamageKind::RecordKind(kind),
                BadRecord::Malformed => DamageKind::Contradiction("a malformed record under a good checksum"),
            })
        })?;
        for record in records {
            let merged = groups.entry(record.group()).or_insert_with(|| Merged::new(header.segment));
            if merged.seen.epoch == header.segment.epoch && merged.seen.shard != header.segment.shard {
                return Err(damage(DamageKind::Contradiction("one group on two shards in one epoch")));
            }
            merged.seen = header.segment;
            merged.apply(record);
        }
        self.shards = Some(header.shards);
        self.earlier_epochs_carried |= header.earlier_epochs_carried;
        self.oldest = self.oldest.max(header.oldest);
        self.newest = self.newest.max(header.newest);
        self.expected = Some(header.sequence + 1);
        self.end = Some(End { segment: header.segment, offset: header.offset + header.padded_bytes() as u64 });
        self.sealed = header.kind == BatchKind::Seal;
        self.suspect = None;
        self.last.batches += 1;
        Ok(())
    }

    fn problem(&mut self, number: u64, segment: SegmentId, offset: u64, what: DamageKind) {
        self.problems.push(Problem { number, damage: Damage { segment, offset, what } });
    }

    /// What is wrong with it and matters.
    pub(super) fn damage(&self) -> Option<Damage> {
        let missing =
            |number| Damage { segment: SegmentId { number, ..self.first }, offset: 0, what: DamageKind::Missing };
        if self.first.number > self.oldest {
            return Some(missing(self.oldest));
        }
        let Some(problem) = self.problems.iter().find(|problem| problem.number >= self.oldest) else {
            let last = self.last.segment.number;
            return (last < self.newest).then(|| missing(last + 1));
        };
        Some(match problem.damage.what {
            DamageKind::Missing => missing(problem.damage.segment.number.max(self.oldest)),
            _ => problem.damage.clone(),
        })
    }

    /// The header of the seal that must be written before this chain is left behind, if it has none.
    pub(super) fn seal(&self) -> Option<BatchHeader> {
        let (end, sequence) = (self.end?, self.expected?);
        (!self.sealed).then_some(BatchHeader {
            kind: BatchKind::Seal,
            earlier_epochs_carried: self.earlier_epochs_carried,
            // None is known if there is no batch; then it does not matter, but must be possible.
            shards: self.shards.unwrap_or(end.segment.shard.saturating_add(1)),
            segment: end.segment,
            offset: end.offset,
            sequence,
            synced_through: sequence - 1,
            oldest: self.oldest,
            newest: self.newest,
            payload_bytes: 0,
            records: 0,
            body_checksum: 0,
        })
    }
}
