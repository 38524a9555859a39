//! A node's log on a simulated disk: the real bytes, in files that keep what was synced and lose the rest in a crash.

use std::collections::{BTreeMap, VecDeque};

use drey_core::Ticket;
use drey_core::log::{BLOCK_BYTES, Damage, LogConfig, LogScan, LogWrite, RecoveredLog, SegmentId};

/// Something that the disk was asked for and has not done.
enum Job {
    Write { shard: u32, ticket: Ticket, segment: SegmentId, offset: usize, bytes: Vec<u8> },
    Prepare { shard: u32, config: LogConfig, segment: SegmentId },
}

/// What became of it.
pub enum Done {
    Synced { shard: u32, ticket: Ticket },
    Prepared { shard: u32, segment: SegmentId },
    Failed { shard: u32, ticket: Ticket },
}

/// What a crash leaves of the write that was under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Torn {
    /// Nothing.
    Lost,
    /// Its first block.
    FirstBlock,
    /// All of it, though nobody was told.
    Whole,
}

/// One node's disk.
#[derive(Default)]
pub struct Disk {
    files: BTreeMap<SegmentId, Vec<u8>>,
    jobs: VecDeque<Job>,
    /// Nothing gets done.
    pub held: bool,
    /// The next write fails.
    pub failing: bool,
}

impl Disk {
    pub fn write(&mut self, shard: u32, ticket: Ticket, write: &LogWrite) {
        let mut bytes = vec![0; write.len()];
        write.encode_into(&mut bytes);
        let (segment, offset) = (write.segment, write.offset as usize);
        self.jobs.push_back(Job::Write { shard, ticket, segment, offset, bytes });
    }

    pub fn prepare(&mut self, shard: u32, config: LogConfig, segment: SegmentId) {
        self.jobs.push_back(Job::Prepare { shard, config, segment });
    }

    pub fn remove(&mut self, segment: SegmentId) {
        let removed = self.files.remove(&segment);
        assert!(removed.is_some(), "segment {segment} is released once");
    }

    /// Does what it was asked for, unless it is held.
    pub fn work(&mut self) -> Vec<Done> {
        let mut done = Vec::new();
        while !self.held
            && let Some(job) = self.jobs.pop_front()
        {
            done.push(match job {
                Job::Write { shard, ticket, .. } if self.failing => Done::Failed { shard, ticket },
                Job::Write { shard, ticket, segment, offset, bytes } => {
                    self.put(segment, offset, &bytes);
                    Done::Synced { shard, ticket }
                }
                Job::Prepare { shard, config, segment } => {
                    let mut file = vec![0; config.segment_bytes as usize];
                    config.header(segment).encode_into(&mut file[..BLOCK_BYTES]);
                    let before = self.files.insert(segment, file);
                    assert!(before.is_none(), "segment {segment} is prepared once");
                    Done::Prepared { shard, segment }
                }
            });
        }
        done
    }

    /// Whether `work` would do something.
    pub fn has_work(&self) -> bool {
        !self.held && !self.jobs.is_empty()
    }

    /// The power goes: what is not synced is gone, or there in part.
    pub fn crash(&mut self, torn: Torn) {
        for job in std::mem::take(&mut self.jobs) {
            if let Job::Write { segment, offset, bytes, .. } = job {
                match torn {
                    Torn::Lost => {}
                    Torn::FirstBlock => self.put(segment, offset, &bytes[..BLOCK_BYTES]),
                    Torn::Whole => self.put(segment, offset, &bytes),
                }
            }
        }
    }

    /// What a start finds; a torn tail is sealed.
    pub fn recover(&mut self, config: &LogConfig) -> Result<RecoveredLog, Damage> {
        let found = self.scan(config)?;
        for seal in &found.seals {
            self.put(seal.segment, seal.offset as usize, &seal.bytes);
        }
        Ok(found)
    }

    /// What a start would find.
    pub fn scan(&self, config: &LogConfig) -> Result<RecoveredLog, Damage> {
        let mut scan = LogScan::new(config.cluster, config.node);
        for (&segment, bytes) in &self.files {
            scan.segment(segment, bytes)?;
        }
        scan.finish()
    }

    /// The segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = SegmentId> {
        self.files.keys().copied()
    }

    /// Flips one bit.
    pub fn damage(&mut self, segment: SegmentId, offset: usize) {
        self.files.get_mut(&segment).expect("the segment is there")[offset] ^= 1;
    }

    /// The present files, to be put back later by `restore`.
    pub fn copy(&self) -> BTreeMap<SegmentId, Vec<u8>> {
        self.files.clone()
    }

    /// Rolls the disk back.
    pub fn restore(&mut self, files: BTreeMap<SegmentId, Vec<u8>>) {
        self.files = files;
    }

    fn put(&mut self, segment: SegmentId, offset: usize, bytes: &[u8]) {
        let file = self.files.get_mut(&segment).expect("written segments were prepared");
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}
