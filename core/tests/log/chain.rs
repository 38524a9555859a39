//! One chain on a disk that does everything at once: for tests that say step by step what happens.

use bytes::Bytes;
use drey_core::log::{Damage, LogConfig, LogEntry, LogWrite, LogWriter, Record, RecoveredLog, SegmentId};
use drey_core::{GroupId, LogIndex, Output, Term, Ticket};

use crate::choices::Choices;
use crate::disk::Disk;
use crate::node::{CLUSTER, NODE, recover};

pub const GROUP: GroupId = GroupId(4);

pub fn config(segment_bytes: u64) -> LogConfig {
    LogConfig { cluster: CLUSTER, node: NODE, shards: 1, segment_bytes }
}

pub fn entry(index: u64, data: impl Into<Bytes>) -> LogEntry {
    LogEntry { index: LogIndex(index), term: Term(1), kind: 0, data: data.into(), context: Bytes::new() }
}

pub fn append(index: u64, bytes: usize) -> Record {
    Record::Append(GROUP, vec![entry(index, vec![index as u8; bytes])])
}

pub struct Chain {
    pub writer: LogWriter,
    pub disk: Disk,
    tickets: u64,
    pub released: Vec<SegmentId>,
    pub earlier_released: usize,
}

impl Chain {
    pub fn new(segment_bytes: u64) -> Chain {
        Chain::with(config(segment_bytes), 1, Disk::default())
    }

    pub fn with(config: LogConfig, epoch: u32, disk: Disk) -> Chain {
        let writer = LogWriter::new(config, epoch, 0);
        let mut chain = Chain { writer, disk, tickets: 0, released: Vec::new(), earlier_released: 0 };
        assert!(chain.turn(config).is_none(), "nothing to write yet");
        chain
    }

    /// One turn; segments are ready at once. The write that it begins, if any, is in the file, but not synced.
    fn turn(&mut self, config: LogConfig) -> Option<(Ticket, LogWrite)> {
        let mut out = Vec::new();
        let mut next = || {
            self.tickets += 1;
            Ticket(self.tickets)
        };
        self.writer.turn(&mut next, &mut out);
        let mut begun = None;
        for output in out {
            match output {
                Output::WriteLog(ticket, write) => {
                    self.disk.write(&write);
                    begun = Some((ticket, write));
                }
                Output::PrepareSegment(segment) => {
                    self.disk.prepare(config, segment, &mut Choices::new(&[]));
                    self.disk.prepared(segment);
                    self.writer.segment_ready(segment).expect("it was asked for");
                }
                Output::ReleaseSegment(segment) => self.released.push(segment),
                Output::ReleaseEarlierEpochs => self.earlier_released += 1,
                other => panic!("a log does not ask for {other:?}"),
            }
        }
        begun
    }

    /// Begins the next write.
    pub fn begin(&mut self) -> Option<(Ticket, LogWrite)> {
        self.turn(config(self.segment_bytes()))
    }

    /// The next write, synced.
    pub fn write(&mut self) -> Option<LogWrite> {
        let (ticket, write) = self.begin()?;
        self.disk.sync(write.segment);
        self.writer.synced(ticket).expect("it is under way");
        Some(write)
    }

    pub fn push_and_write(&mut self, record: Record) -> LogWrite {
        self.writer.push(record);
        self.write().expect("there is something to write")
    }

    fn segment_bytes(&self) -> u64 {
        self.disk.files.values().next().map_or(16 << 10, |file| file.seen().len() as u64)
    }

    pub fn recover(&self) -> Result<RecoveredLog, Damage> {
        recover(&self.disk)
    }

    /// The indexes of the entries that recovery finds.
    pub fn entries(&self) -> Vec<u64> {
        let recovered = self.recover().expect("nothing is broken");
        recovered.groups.get(&GROUP).map_or(vec![], |log| log.entries.iter().map(|entry| entry.index.0).collect())
    }
}
