//! A node that writes a log: what a shard, its runtime and its files would do, in an order that the choices decide.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use drey_core::log::retention::{self, Span};
use drey_core::log::{
    Damage, HardState, LogConfig, LogEntry, LogScan, LogWriter, Record, RecoveredLog, Restated, SegmentId,
};
use drey_core::storage::SnapshotMeta;
use drey_core::{ClusterId, GroupId, LogIndex, NodeId, Output, Term, Ticket};

use crate::choices::Choices;
use crate::disk::Disk;
use crate::model::{self, Groups, Step};

pub const CLUSTER: ClusterId = ClusterId(77);
pub const NODE: NodeId = NodeId(3);
const GROUPS: u32 = 5;
const SHARDS_MAX: usize = 3;

/// What happened, so that a test can tell that its faults really fired.
#[derive(Debug, Default)]
pub struct Fired {
    pub batches: usize,
    pub crashes: usize,
    pub tails_cut: usize,
    pub unsynced_kept: usize,
    pub seals: usize,
    pub crashes_while_sealing: usize,
    pub epochs_released: usize,
    pub segments_released: usize,
    pub carried: usize,
    pub recycled: usize,
    pub renames_lost: usize,
    pub splits: usize,
}

/// A batch that was written and synced.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub segment: SegmentId,
    pub offset: u64,
    pub bytes: usize,
}

/// How a shard's groups came to be what they are.
#[derive(Default)]
pub struct History {
    pub start: Groups,
    pub steps: Vec<Step>,
    /// How many of the steps are synced with all that was pushed beside them, with each batch. Of what follows, a
    /// part may be there.
    pub synced: Vec<usize>,
}

struct Shard {
    writer: LogWriter,
    writing: Option<(Ticket, Written)>,
    preparing: Option<SegmentId>,
    /// Steps that may be lost, with the mark at which they are not.
    unsynced: VecDeque<(u64, Step)>,
    /// How many batches were synced when earlier epochs were not needed any more.
    earlier_released: Option<usize>,
}

pub struct Node {
    segment_bytes: u64,
    pub disk: Disk,
    shards: Vec<Shard>,
    epoch: u32,
    tickets: u64,
    /// With everything that was pushed.
    pub latest: Groups,
    /// With what is synced.
    durable: Groups,
    /// Batches of the present epoch, by shard, in the order of writing.
    pub written: BTreeMap<u32, Vec<Written>>,
    /// What each shard's groups were at the start, and all that was done to them since.
    pub history: BTreeMap<u32, History>,
    pub fired: Fired,
}

/// Reads a disk as a starting node does.
pub fn recover(disk: &Disk) -> Result<RecoveredLog, Damage> {
    let mut scan = LogScan::new(CLUSTER, NODE);
    for (segment, file) in &disk.files {
        scan.segment(*segment, &file.seen())?;
    }
    scan.finish()
}

impl Node {
    pub fn new(segment_bytes: u64, choices: &mut Choices) -> Node {
        let mut node = Node {
            segment_bytes,
            disk: Disk::default(),
            shards: Vec::new(),
            epoch: 0,
            tickets: 0,
            latest: Groups::new(),
            durable: Groups::new(),
            written: BTreeMap::new(),
            history: BTreeMap::new(),
            fired: Fired::default(),
        };
        node.start(choices);
        node
    }

    /// The shard of a group at present.
    pub fn shard_of(&self, group: GroupId) -> u32 {
        group.0 % self.shards.len() as u32
    }

    /// How many batches the shard needed to carry everything over, and to attest that.
    pub fn carried_at(&self, shard: u32) -> usize {
        self.shards[shard as usize].earlier_released.unwrap_or(usize::MAX)
    }

    fn config(&self) -> LogConfig {
        LogConfig {
            cluster: CLUSTER,
            node: NODE,
            shards: self.shards.len().max(1) as u32,
            segment_bytes: self.segment_bytes,
        }
    }

    /// Does one thing.
    pub fn act(&mut self, choices: &mut Choices) {
        let shard = choices.below(self.shards.len());
        match choices.below(20) {
            0..=5 => self.write(choices),
            6..=9 => self.turn(shard, choices),
            10..=12 => self.sync(shard),
            13..=15 => self.prepare(shard),
            16 => self.shards[shard].writer.idle(),
            17 => self.release(shard, choices),
            18 => self.disk.delete_released(choices),
            _ if choices.one_in(4) => self.crash(choices),
            _ => self.turn(shard, choices),
        }
    }

    /// Lets all that is under way come to its end.
    pub fn settle(&mut self, choices: &mut Choices) {
        for shard in 0..self.shards.len() {
            for _ in 0..100_000 {
                self.turn(shard, choices);
                if self.shards[shard].writing.is_none() && self.shards[shard].preparing.is_none() {
                    break;
                }
                self.sync(shard);
                self.prepare(shard);
            }
            assert!(self.shards[shard].unsynced.is_empty(), "everything gets synced");
        }
    }

    fn push(&mut self, record: Record) {
        let shard = self.shard_of(record.group()) as usize;
        let steps = model::steps(&record);
        self.history.entry(shard as u32).or_default().steps.extend(steps.clone());
        self.shards[shard].writer.push(record);
        let mark = self.shards[shard].writer.mark();
        for step in steps {
            model::apply(&mut self.latest, &step);
            self.shards[shard].unsynced.push_back((mark, step));
        }
    }

    fn write(&mut self, choices: &mut Choices) {
        let group = GroupId(choices.below(GROUPS as usize) as u32);
        let log = self.latest.get(&group).cloned().unwrap_or_default();
        let (first, last) = (log.truncated.0.0 + 1, log.last().0);
        let term = Term(model::last_term(&log).0 + choices.below(2) as u64);
        let record = match choices.below(10) {
            0 => Record::HardState(
                group,
                HardState {
                    term,
                    vote: [None, Some(NodeId(1)), Some(NodeId(u64::MAX))][choices.below(3)],
                    commit: log.truncated.0,
                },
            ),
            1 if last >= first => {
                let index = LogIndex(first + choices.below((last - first + 1) as usize) as u64);
                Record::Truncated(group, index, model::term_at(&log, index))
            }
            2 => {
                let meta = SnapshotMeta {
                    index: LogIndex(last + choices.below(4) as u64),
                    term,
                    configuration: Bytes::from(vec![7; choices.below(40)]),
                };
                // What is installed is what was said to be, if something was.
                if let Some(meta) = log.intent {
                    Record::SnapshotDone(group, meta)
                } else {
                    Record::SnapshotIntent(group, meta)
                }
            }
            3 if last >= first => {
                // A new leader's entries replace some.
                let from = first + choices.below((last - first + 1) as usize) as u64;
                Record::Append(group, self.entries(from, Term(term.0 + 1), choices))
            }
            _ => Record::Append(group, self.entries(last + 1, term, choices)),
        };
        self.push(record);
    }

    fn entries(&mut self, from: u64, term: Term, choices: &mut Choices) -> Vec<LogEntry> {
        let bytes_max = [10, 1000, 6000, self.config().entry_bytes_max()][choices.below(4)];
        let count = 1 + choices.below(6) as u64;
        let mut total = 0;
        let mut entry = |index| {
            let context = Bytes::from(vec![index as u8; choices.below(3)]);
            let data = vec![(index + term.0) as u8; choices.below(bytes_max.min(65_000) - 2)];
            total += data.len();
            LogEntry { index: LogIndex(index), term, kind: choices.below(3) as u8, data: data.into(), context }
        };
        let entries = (from..from + count).map(&mut entry).collect();
        self.fired.splits += usize::from(total as u64 > self.segment_bytes);
        entries
    }

    fn turn(&mut self, shard: usize, choices: &mut Choices) {
        let mut out = Vec::new();
        let tickets = &mut self.tickets;
        let mut next_ticket = || {
            *tickets += 1;
            Ticket(*tickets)
        };
        self.shards[shard].writer.turn(&mut next_ticket, &mut out);
        for output in out {
            match output {
                Output::WriteLog(ticket, write) => {
                    assert!(self.shards[shard].writing.is_none(), "one write at a time");
                    self.disk.write(&write);
                    let written = Written { segment: write.segment, offset: write.offset, bytes: write.len() };
                    self.shards[shard].writing = Some((ticket, written));
                }
                Output::PrepareSegment(segment) => {
                    assert!(self.shards[shard].preparing.is_none(), "one segment ahead");
                    self.disk.prepare(self.config(), segment, choices);
                    self.shards[shard].preparing = Some(segment);
                }
                Output::ReleaseSegment(segment) => {
                    self.fired.segments_released += 1;
                    self.disk.release(segment);
                }
                Output::ReleaseEarlierEpochs => self.earlier_epochs_released(shard),
                other => panic!("a log does not ask for {other:?}"),
            }
        }
    }

    fn earlier_epochs_released(&mut self, shard: usize) {
        assert_eq!(self.shards[shard].earlier_released, None, "said once");
        self.shards[shard].earlier_released = Some(self.written[&(shard as u32)].len());
        if self.shards.iter().all(|shard| shard.earlier_released.is_some()) {
            self.fired.epochs_released += 1;
            let earlier: Vec<SegmentId> =
                self.disk.files.keys().copied().filter(|segment| segment.epoch < self.epoch).collect();
            for segment in earlier {
                self.disk.release(segment);
            }
        }
    }

    fn sync(&mut self, shard: usize) {
        let state = &mut self.shards[shard];
        let Some((ticket, written)) = state.writing.take() else { return };
        self.disk.sync(written.segment);
        let durable = state.writer.synced(ticket).expect("it is under way");
        assert_eq!(durable, state.writer.durable_mark());
        assert!(durable <= state.writer.mark());
        while state.unsynced.front().is_some_and(|(mark, _)| *mark <= durable) {
            if let Some((_, step)) = state.unsynced.pop_front() {
                model::apply(&mut self.durable, &step);
            }
        }
        self.written.entry(shard as u32).or_default().push(written);
        self.fired.batches += 1;
        let history = self.history.entry(shard as u32).or_default();
        history.synced.push(history.steps.len() - self.shards[shard].unsynced.len());
    }

    fn prepare(&mut self, shard: usize) {
        if let Some(segment) = self.shards[shard].preparing.take() {
            self.disk.prepared(segment);
            self.shards[shard].writer.segment_ready(segment).expect("it was asked for");
        }
    }

    /// Gives up the oldest segment of a shard, as [`retention`] says.
    fn release(&mut self, shard: usize, choices: &mut Choices) {
        let Some(oldest) = self.shards[shard].writer.oldest() else { return };
        let mut spans = BTreeMap::new();
        for (group, log) in &self.latest {
            if self.shard_of(*group) as usize == shard {
                let (truncated, last) = (log.truncated.0, log.last());
                let durable = LogIndex(truncated.0 + choices.below((last.0 - truncated.0) as usize + 1) as u64);
                spans.insert(*group, Span { truncated, last, durable });
            }
        }
        for plan in retention::plan(&oldest, &spans) {
            let log = &self.latest[&plan.group];
            let truncated = plan.truncate.map_or(log.truncated, |index| (index, model::term_at(log, index)));
            let restated =
                Restated { hard_state: log.hard_state, truncated, last: log.last(), intent: log.intent.clone() };
            let carried = |(first, last)| {
                log.entries.iter().filter(|entry| (first..=last).contains(&entry.index)).cloned().collect::<Vec<_>>()
            };
            let carried: Vec<_> = plan.carry.iter().map(carried).collect();
            self.push(Record::Restated(plan.group, restated));
            for entries in carried {
                self.fired.carried += entries.len();
                self.push(Record::Carried(plan.group, entries));
            }
        }
        assert_eq!(self.shards[shard].writer.release_oldest(), Some(oldest.segment));
    }

    fn crash(&mut self, choices: &mut Choices) {
        self.fired.crashes += 1;
        if choices.one_in(3) {
            self.disk.kill(choices);
        } else {
            self.disk.lose_power(choices);
        }
        self.start(choices);
    }

    /// Starts, with any number of shards; the power may go again and again while it does.
    fn start(&mut self, choices: &mut Choices) {
        let recovered = loop {
            let recovered = recover(&self.disk).unwrap_or_else(|damage| panic!("no damage was done: {damage}"));
            let agreed = self.agree(&recovered.groups);
            if self.seal(&recovered, &agreed, choices) {
                break recovered;
            }
            self.fired.crashes_while_sealing += 1;
            self.disk.lose_power(choices);
        };
        assert!(recover(&self.disk).expect("it was read before").seals.is_empty(), "a sealed chain gets no other seal");
        assert_eq!(recovered.segments, self.disk.files.keys().copied().collect::<Vec<_>>());
        assert!(recovered.segments.iter().all(|segment| segment.epoch < recovered.next_epoch));
        self.fired.recycled += std::mem::take(&mut self.disk.recycled);
        self.fired.renames_lost += std::mem::take(&mut self.disk.renames_lost);
        self.durable = recovered.groups.clone();
        self.latest = recovered.groups.clone();
        self.epoch = recovered.next_epoch;
        self.written.clear();
        self.history.clear();
        let shards = 1 + choices.below(SHARDS_MAX) as u32;
        let config = LogConfig { shards, ..self.config() };
        self.shards = (0..shards)
            .map(|shard| Shard {
                writer: LogWriter::new(config, self.epoch, shard),
                writing: None,
                preparing: None,
                unsynced: VecDeque::new(),
                earlier_released: None,
            })
            .collect();
        for (group, log) in &recovered.groups {
            self.history.entry(self.shard_of(*group)).or_default().start.insert(*group, log.clone());
            for record in log.restate(*group) {
                self.push(record);
            }
        }
        for shard in &mut self.shards {
            shard.writer.earlier_epochs_carried();
        }
    }

    /// Compares what was recovered with what may be there: all that was synced, and of the rest the first steps.
    /// Returns for each shard how many.
    fn agree(&mut self, recovered: &Groups) -> Vec<usize> {
        let count = self.shards.len().max(1) as u32;
        let part = |groups: &Groups, shard: u32| -> Groups {
            groups.iter().filter(|(group, _)| group.0 % count == shard).map(|(g, log)| (*g, log.clone())).collect()
        };
        let mut agreed = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let wanted = part(recovered, number as u32);
            let mut groups = part(&self.durable, number as u32);
            let mut steps = shard.unsynced.iter();
            let mut taken = 0;
            while groups != wanted {
                let Some((_, step)) = steps.next() else {
                    panic!("shard {number}: no beginning of what was written is {wanted:#?}");
                };
                model::apply(&mut groups, step);
                taken += 1;
            }
            agreed.push(taken);
        }
        assert!(recovered.keys().all(|group| self.durable.contains_key(group) || self.latest.contains_key(group)));
        agreed
    }

    /// Writes the seals. False: the power goes before all are synced.
    fn seal(&mut self, recovered: &RecoveredLog, agreed: &[usize], choices: &mut Choices) -> bool {
        for (shard, taken) in agreed.iter().enumerate() {
            let lost = self.shards[shard].unsynced.len() - taken;
            self.fired.tails_cut += usize::from(lost > 0);
            self.fired.unsynced_kept += usize::from(*taken > 0);
        }
        for seal in &recovered.seals {
            self.disk.sync(seal.segment);
            self.disk.seal(seal);
            if choices.one_in(8) {
                return false;
            }
            self.disk.sync(seal.segment);
            self.fired.seals += 1;
            if seal.segment.epoch == self.epoch {
                // From now on what was read of this chain stays, and what was not does not come back.
                let shard = seal.segment.shard as usize;
                for (_, step) in self.shards[shard].unsynced.drain(..).take(agreed[shard]) {
                    model::apply(&mut self.durable, &step);
                }
                if choices.one_in(8) {
                    return false;
                }
            }
        }
        true
    }
}
