//! The writing end of a shard's log: gathers records while a write is under way, and makes the next batch of them.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use crate::output::Output;
use crate::types::{GroupId, Ticket};

use super::batch::{BATCH_HEADER_BYTES, BatchHeader, BatchKind};
use super::segment::{checksum_seed, data_end, payload_room};
use super::{BLOCK_BYTES, LOG_BATCH_BYTES_MAX, LogConfig, LogWrite, Ranges, Record, SegmentId};

/// So many empty ticks after a write, a batch is written that attests it. Fewer would double the writes of a shard
/// with little to do; more would leave its last write unattested for longer.
const IDLE_TICKS_BEFORE_ATTEST: u32 = 5;

/// When a burst does not fit into what is left of the segment, and less than this is left, the rest stays empty:
/// better than a small write in front of the large one.
const ABANDON_BYTES_MAX: usize = 128 << 10;

/// A completion that nothing waits for: the caller mixed something up, and the state of the disk is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnknownCompletion {
    /// Of a write.
    #[error("no log write with ticket {0} is under way")]
    Write(Ticket),
    /// Of a segment's preparation.
    #[error("log segment {0} was not asked for")]
    Segment(SegmentId),
}

/// Writes one chain of segments: one epoch of one shard.
#[derive(Debug)]
pub struct LogWriter {
    config: LogConfig,
    epoch: u32,
    shard: u32,
    /// Records that no write holds yet.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    pushed: u64,
    /// Of those, how many are in writes.
    taken: u64,
    durable: u64,
    /// Batches made so far.
    sequence: u64,
    in_flight: Option<InFlight>,
    current: Option<Current>,
    next: Next,
    /// Of segments that hold something, the oldest first; the last is the current one.
    live: VecDeque<Live>,
    /// The first segment that is still needed: said in every batch.
    oldest: u64,
    releases: VecDeque<Release>,
    earlier_epochs: EarlierEpochs,
    /// The last batch holds records, so nothing attests it.
    unattested: bool,
    idle_ticks: u32,
}

#[derive(Debug)]
struct Pending {
    record: Record,
    bytes: usize,
    /// Not the first part of a record that was cut.
    whole: bool,
}

#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    /// Durable when it is synced.
    mark: u64,
    oldest: u64,
    earlier_epochs_carried: bool,
}

#[derive(Debug)]
struct Current {
    number: u64,
    offset: u64,
}

/// The segment behind the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    NotAsked,
    Preparing(u64),
    Ready(u64),
}

#[derive(Debug)]
struct Live {
    segment: SegmentId,
    /// Where its entries were in each group's log when they were written.
    held: BTreeMap<GroupId, Ranges>,
}

/// What the oldest segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// Which it is.
    pub segment: SegmentId,
    /// The entries of each group.
    pub held: BTreeMap<GroupId, Ranges>,
    /// Of these, the ones that were not pushed again since.
    pub only: BTreeMap<GroupId, Ranges>,
}

/// A segment on its way out: first the records up to `mark` are written, then a synced batch says that it is not
/// needed, then it goes.
#[derive(Debug)]
struct Release {
    segment: SegmentId,
    mark: u64,
}

/// How far the release of earlier epochs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EarlierEpochs {
    Needed,
    /// Once the records up to here are written, batches say that all is carried.
    CarriedAt(u64),
    /// Such a batch is synced, but nothing attests it: were it the only one, and broken, all would be lost unseen.
    Said,
    /// It is attested.
    Attested,
    /// And the caller knows.
    Released,
}

impl LogWriter {
    /// An empty chain. Nothing may exist yet of this epoch: see [`super::RecoveredLog::next_epoch`].
    ///
    /// # Panics
    /// If the configuration is not sound, or has no such shard.
    pub fn new(config: LogConfig, epoch: u32, shard: u32) -> LogWriter {
        assert_eq!(config.check(), Ok(()), "the log's configuration was checked");
        assert!(shard < config.shards, "shard {shard} of {}", config.shards);
        LogWriter {
            config,
            epoch,
            shard,
            pending: VecDeque::new(),
            pending_bytes: 0,
            pushed: 0,
            taken: 0,
            durable: 0,
            sequence: 0,
            in_flight: None,
            current: None,
            next: Next::NotAsked,
            live: VecDeque::new(),
            oldest: 0,
            releases: VecDeque::new(),
            earlier_epochs: EarlierEpochs::Needed,
            unattested: false,
            idle_ticks: 0,
        }
    }

    /// Takes a record for one of the next writes. Records without entries that should have some say nothing, and are
    /// dropped.
    ///
    /// # Panics
    /// If the record's entries do not follow each other, or one is larger than [`LogConfig::entry_bytes_max`]: the
    /// caller refuses such messages.
    pub fn push(&mut self, record: Record) {
        if let Record::Append(_, entries) | Record::Carried(_, entries) = &record {
            let entry_bytes_max = self.config.entry_bytes_max();
            let Some(first) = entries.first() else { return };
            for (index, entry) in (first.index.0..).zip(entries) {
                assert_eq!(entry.index.0, index, "the entries of a record follow each other");
                let bytes = entry.data.len() + entry.context.len();
                assert!(bytes <= entry_bytes_max, "an entry of {bytes} bytes does not fit into a log segment");
            }
        }
        let bytes = record.encoded_bytes();
        let cannot_be_cut = record.entries().is_empty();
        assert!(
            !cannot_be_cut || bytes <= self.payload_max(),
            "a record of {bytes} bytes does not fit into a log segment"
        );
        self.pending_bytes += bytes;
        self.pending.push_back(Pending { record, bytes, whole: true });
        self.pushed += 1;
    }

    /// The number of records pushed so far: what is pushed now is durable when [`LogWriter::durable_mark`] reaches it.
    pub fn mark(&self) -> u64 {
        self.pushed
    }

    /// Everything that was pushed until [`LogWriter::mark`] was this, is synced.
    pub fn durable_mark(&self) -> u64 {
        self.durable
    }

    /// Bytes of records that no write holds yet.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether a write is under way.
    pub fn writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether anything was pushed that is not on disk.
    pub fn is_waiting(&self) -> bool {
        self.in_flight.is_some() || !self.pending.is_empty()
    }

    /// A tick passed in which the shard had nothing to do. After some of them the last write gets attested.
    pub fn idle(&mut self) {
        if self.in_flight.is_none() && self.pending.is_empty() {
            self.idle_ticks = self.idle_ticks.saturating_add(1);
        }
    }

    /// All that this shard's groups had in earlier epochs has been pushed, as [`super::GroupLog::restate`] has it, and
    /// nothing was pushed for a group before. Once a batch that says so is synced, and another that attests it, `turn` emits
    /// [`Output::ReleaseEarlierEpochs`]. A shard without groups says it too.
    pub fn earlier_epochs_carried(&mut self) {
        if self.earlier_epochs == EarlierEpochs::Needed {
            self.earlier_epochs = EarlierEpochs::CarriedAt(self.pushed);
        }
    }

    /// Emits the next write, if none is under way and there is one to make; asks for the next segment; gives away
    /// what is not needed any more.
    pub fn turn(&mut self, next_ticket: &mut dyn FnMut() -> Ticket, out: &mut Vec<Output>) {
        if self.in_flight.is_none()
            && let Some(write) = self.next_write()
        {
            let ticket = next_ticket();
            self.in_flight = Some(InFlight {
                ticket,
                mark: self.taken,
                oldest: write.header.oldest,
                earlier_epochs_carried: write.header.earlier_epochs_carried,
            });
            out.push(Output::WriteLog(ticket, write));
        }
        if self.next == Next::NotAsked {
            let number = self.current.as_ref().map_or(0, |current| current.number + 1);
            self.next = Next::Preparing(number);
            out.push(Output::PrepareSegment(self.segment(number)));
        }
        while self.releases.front().is_some_and(|release| release.segment.number < self.oldest) {
            out.extend(self.releases.pop_front().map(|release| Output::ReleaseSegment(release.segment)));
        }
        if self.earlier_epochs == EarlierEpochs::Attested {
            self.earlier_epochs = EarlierEpochs::Released;
            out.push(Output::ReleaseEarlierEpochs);
        }
    }

    /// The segment can be written.
    pub fn segment_ready(&mut self, segment: SegmentId) -> Result<(), UnknownCompletion> {
        match self.next {
            Next::Preparing(number) if self.segment(number) == segment => {
                self.next = Next::Ready(number);
                Ok(())
            }
            _ => Err(UnknownCompletion::Segment(segment)),
        }
    }

    /// The write is on disk. Returns the new [`LogWriter::durable_mark`].
    pub fn synced(&mut self, ticket: Ticket) -> Result<u64, UnknownCompletion> {
        let done = self.in_flight.take_if(|write| write.ticket == ticket).ok_or(UnknownCompletion::Write(ticket))?;
        self.durable = done.mark;
        self.oldest = done.oldest;
        if done.earlier_epochs_carried {
            self.earlier_epochs = match self.earlier_epochs {
                EarlierEpochs::Needed | EarlierEpochs::CarriedAt(_) => EarlierEpochs::Said,
                EarlierEpochs::Said => EarlierEpochs::Attested,
                done => done,
            };
        }
        Ok(self.durable)
    }

    /// The oldest segment and what it holds; none while there is only the one that is being written.
    pub fn oldest(&self) -> Option<Oldest> {
        let oldest = self.live.front().filter(|_| self.live.len() > 1)?;
        let mut only = oldest.held.clone();
        let newer = self.live.iter().skip(1).flat_map(|live| &live.held);
        for (group, held) in newer {
            if let Some(only) = only.get_mut(group) {
                only.remove(held);
            }
        }
        for record in self.pending.iter().map(|pending| &pending.record) {
            if let Some(only) = only.get_mut(&record.group()) {
                only.remove(&Ranges::of_entries(record.entries()));
            }
        }
        Some(Oldest { segment: oldest.segment, held: oldest.held.clone(), only })
    }

    /// How many segments hold something that was not given up yet.
    pub fn live_segments(&self) -> usize {
        self.live.len()
    }

    /// Gives up the oldest segment: what only it holds has been pushed again, as [`super::retention`] has it. Once
    /// that is synced, and a batch that says so, `turn` emits [`Output::ReleaseSegment`]. Returns the segment, or none
    /// if there is only the one that is being written.
    pub fn release_oldest(&mut self) -> Option<SegmentId> {
        if self.live.len() < 2 {
            return None;
        }
        let segment = self.live.pop_front()?.segment;
        self.releases.push_back(Release { segment, mark: self.pushed });
        Some(segment)
    }

    /// Whether a segment was given up that is still needed until what was pushed for it is written.
    pub fn is_releasing(&self) -> bool {
        self.releases.back().is_some_and(|release| release.segment.number >= self.oldest)
    }

    fn segment(&self, number: u64) -> SegmentId {
        SegmentId { epoch: self.epoch, shard: self.shard, number }
    }

    /// What a batch with all records up to `mark` can say of the segments before it.
    fn oldest_after(&self, mark: u64) -> u64 {
        let released = self.releases.iter().take_while(|release| release.mark <= mark).last();
        released.map_or(self.oldest, |release| self.oldest.max(release.segment.number + 1))
    }

    /// There is something to say that needs no record.
    fn announcement_due(&self) -> bool {
        let attest = self.unattested && self.idle_ticks >= IDLE_TICKS_BEFORE_ATTEST;
        attest
            || matches!(self.earlier_epochs, EarlierEpochs::CarriedAt(_) | EarlierEpochs::Said)
            || self.oldest_after(self.taken) > self.oldest
    }

    fn next_write(&mut self) -> Option<LogWrite> {
        if self.pending.is_empty() && !self.announcement_due() {
            return None;
        }
        let (number, offset, records) = self.place()?;
        let segment = self.segment(number);
        let payload_bytes: usize = records.iter().map(Record::encoded_bytes).sum();
        let mark = self.taken;
        self.sequence += 1;
        let header = BatchHeader {
            kind: if records.is_empty() { BatchKind::Attest } else { BatchKind::Records },
            earlier_epochs_carried: match self.earlier_epochs {
                EarlierEpochs::Needed => false,
                EarlierEpochs::CarriedAt(carried) => carried <= mark,
                EarlierEpochs::Said | EarlierEpochs::Attested | EarlierEpochs::Released => true,
            },
            shards: self.config.shards,
            segment,
            offset,
            sequence: self.sequence,
            // The one before, since no two are under way together.
            synced_through: self.sequence - 1,
            oldest: self.oldest_after(mark),
            newest: if let Next::Ready(number) = self.next { number } else { segment.number },
            payload_bytes: payload_bytes as u32,
            records: records.len() as u32,
            body_checksum: 0,
        };
        if let Some(current) = &mut self.current {
            current.offset += header.padded_bytes() as u64;
        }
        self.unattested = header.kind == BatchKind::Records;
        self.idle_ticks = 0;
        self.hold(segment, &records);
        let seed = checksum_seed(self.config.cluster, self.config.node, segment);
        Some(LogWrite { segment, offset, header, records, seed })
    }

    /// Where the next batch goes, and what is in it. Moves to the next segment if it must and can.
    fn place(&mut self) -> Option<(u64, u64, Vec<Record>)> {
        if let Some(current) = &self.current
            && current.offset < data_end(self.config.segment_bytes)
        {
            let (number, offset) = (current.number, current.offset);
            let room = payload_room(self.config.segment_bytes, offset);
            let abandon = self.pending_bytes.min(LOG_BATCH_BYTES_MAX) > room && room < self.abandon_bytes_max();
            if !abandon && let Some(records) = self.take(room) {
                return Some((number, offset, records));
            }
        }
        let Next::Ready(number) = self.next else { return None };
        self.next = Next::NotAsked;
        let offset = BLOCK_BYTES as u64;
        self.current = Some(Current { number, offset });
        self.take(self.payload_max()).map(|records| (number, offset, records))
    }

    /// What fits into a batch that has a segment for itself.
    fn payload_max(&self) -> usize {
        payload_room(self.config.segment_bytes, BLOCK_BYTES as u64)
    }

    fn abandon_bytes_max(&self) -> usize {
        ABANDON_BYTES_MAX.min(self.config.segment_bytes as usize / 8)
    }

    /// The next records, as many as fit. None if there are some and not even a part of the first one fits.
    fn take(&mut self, room: usize) -> Option<Vec<Record>> {
        let batch_max = LOG_BATCH_BYTES_MAX - BATCH_HEADER_BYTES;
        let mut left = room.min(batch_max);
        if let Some(mut first) = self.next_pending_if(|first| first.bytes > left) {
            if let Some(rest) = first.record.split(left) {
                self.pending_bytes -= first.bytes;
                first.bytes = first.record.encoded_bytes();
                let rest = Pending { bytes: rest.encoded_bytes(), record: rest, whole: first.whole };
                first.whole = false;
                self.pending_bytes += first.bytes + rest.bytes;
                self.pending.push_front(rest);
            }
            // A record that cannot be cut further may be larger than a batch should be: it goes alone.
            left = first.bytes;
            self.pending.push_front(first);
            if left > room {
                return None;
            }
        }
        let mut records = Vec::new();
        while let Some(next) = self.next_pending_if(|next| next.bytes <= left) {
            left -= next.bytes;
            self.pending_bytes -= next.bytes;
            self.taken += u64::from(next.whole);
            records.push(next.record);
        }
        Some(records)
    }

    fn next_pending_if(&mut self, condition: impl FnOnce(&Pending) -> bool) -> Option<Pending> {
        self.pending.front().is_some_and(condition).then(|| self.pending.pop_front()).flatten()
    }

    fn hold(&mut self, segment: SegmentId, records: &[Record]) {
        if self.live.back().is_none_or(|live| live.segment != segment) {
            self.live.push_back(Live { segment, held: BTreeMap::new() });
        }
        let Some(live) = self.live.back_mut() else { return };
        for record in records.iter().filter(|record| !record.entries().is_empty()) {
            live.held.entry(record.group()).or_default().add(&Ranges::of_entries(record.entries()));
        }
    }
}
