//! A disk: files whose writes are lost, kept or torn by sectors if the power goes before they are synced.

use std::collections::BTreeMap;

use drey_core::log::{BLOCK_BYTES, LogConfig, LogWrite, SealWrite, SegmentId};

use crate::choices::Choices;

const SECTOR_BYTES: usize = 512;

/// A file, as it is on the disk and as a process sees it.
#[derive(Clone, Default)]
pub struct File {
    synced: Vec<u8>,
    writes: Vec<Write>,
}

#[derive(Clone)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

impl File {
    /// What a process reads.
    pub fn seen(&self) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for write in &self.writes {
            bytes[write.offset..write.offset + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        bytes
    }

    pub fn write(&mut self, offset: usize, bytes: Vec<u8>) {
        assert!(offset + bytes.len() <= self.synced.len(), "a write within the file");
        self.writes.push(Write { offset, bytes });
    }

    pub fn sync(&mut self) {
        self.synced = self.seen();
        self.writes.clear();
    }

    /// Of each write that was not synced, nothing, all or some sectors are there afterwards.
    fn lose_power(&mut self, choices: &mut Choices) {
        for write in std::mem::take(&mut self.writes) {
            let how = choices.below(4);
            for (sector, bytes) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
                let kept = match how {
                    0 => false,
                    1 => true,
                    2 => choices.below(2) == 0,
                    _ => sector > 0 || choices.below(2) == 0,
                };
                if kept {
                    let at = write.offset + sector * SECTOR_BYTES;
                    self.synced[at..at + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
    }

    /// The process was killed while it wrote: the last write is there in part. Nothing is synced by that.
    fn killed(&mut self, choices: &mut Choices) {
        if let Some(write) = self.writes.last_mut()
            && choices.one_in(2)
        {
            let sectors = choices.below(write.bytes.len() / SECTOR_BYTES + 1);
            write.bytes.truncate(sectors * SECTOR_BYTES);
        }
    }
}

/// A data directory.
#[derive(Clone, Default)]
pub struct Disk {
    pub files: BTreeMap<SegmentId, File>,
    /// Released segments that still have their names: to be deleted, or to be used again.
    released: Vec<SegmentId>,
    /// Segments being made, with the name that the file had in its former life.
    preparing: Vec<(SegmentId, Option<SegmentId>)>,
    pub recycled: usize,
    pub renames_lost: usize,
}

impl Disk {
    pub fn release(&mut self, segment: SegmentId) {
        assert!(self.files.contains_key(&segment), "{segment} was released, and is not there");
        self.released.push(segment);
    }

    /// It may go, or is gone.
    pub fn is_released(&self, segment: SegmentId) -> bool {
        self.released.contains(&segment) || !self.files.contains_key(&segment)
    }

    /// Deletes one of the released files.
    pub fn delete_released(&mut self, choices: &mut Choices) {
        if let Some(segment) = choices.take(&mut self.released) {
            self.files.remove(&segment);
        }
    }

    /// Begins to make a segment: by another name for an old file, if there is one.
    pub fn prepare(&mut self, config: LogConfig, segment: SegmentId, choices: &mut Choices) {
        assert!(!self.files.contains_key(&segment), "{segment} is there already");
        let old = if choices.one_in(4) { None } else { choices.take(&mut self.released) };
        let mut file = match old.and_then(|old| self.files.remove(&old)) {
            Some(file) => {
                self.recycled += 1;
                file
            }
            None => File { synced: vec![0; config.segment_bytes as usize], writes: Vec::new() },
        };
        let mut header = vec![0; BLOCK_BYTES];
        config.header(segment).encode_into(&mut header);
        file.write(0, header);
        self.files.insert(segment, file);
        self.preparing.push((segment, old));
    }

    pub fn prepared(&mut self, segment: SegmentId) {
        self.preparing.retain(|(preparing, _)| *preparing != segment);
        self.sync(segment);
    }

    pub fn write(&mut self, write: &LogWrite) {
        // Whatever the buffer held before must not matter.
        let mut bytes = vec![0xa5; write.len()];
        write.encode_into(&mut bytes);
        self.file(write.segment).write(write.offset as usize, bytes);
    }

    pub fn seal(&mut self, seal: &SealWrite) {
        self.file(seal.segment).write(seal.offset as usize, seal.bytes.clone());
    }

    pub fn sync(&mut self, segment: SegmentId) {
        self.file(segment).sync();
    }

    /// The file is lost.
    pub fn remove(&mut self, segment: SegmentId) {
        self.files.remove(&segment);
    }

    /// The end of the file is lost.
    pub fn cut(&mut self, segment: SegmentId, length: usize) {
        self.sync(segment);
        self.file(segment).synced.truncate(length);
    }

    /// Turns a bit.
    pub fn flip(&mut self, segment: SegmentId, byte: usize, bit: usize) {
        self.sync(segment);
        self.file(segment).synced[byte] ^= 1 << bit;
    }

    /// Writes and syncs any bytes.
    pub fn overwrite(&mut self, segment: SegmentId, offset: usize, bytes: &[u8]) {
        self.sync(segment);
        self.file(segment).write(offset, bytes.to_vec());
        self.sync(segment);
    }

    fn file(&mut self, segment: SegmentId) -> &mut File {
        self.files.get_mut(&segment).unwrap_or_else(|| panic!("{segment} is not there"))
    }

    /// The power goes.
    pub fn lose_power(&mut self, choices: &mut Choices) {
        for file in self.files.values_mut() {
            file.lose_power(choices);
        }
        // A name that was not synced may be the old one again, or nothing.
        for (segment, old) in std::mem::take(&mut self.preparing) {
            if choices.one_in(3)
                && let Some(file) = self.files.remove(&segment)
                && let Some(old) = old
            {
                self.files.insert(old, file);
                self.renames_lost += 1;
            }
        }
        self.forget_released(choices);
    }

    /// The process is killed, and what it wrote stays.
    pub fn kill(&mut self, choices: &mut Choices) {
        for file in self.files.values_mut() {
            file.killed(choices);
        }
        self.preparing.clear();
        self.forget_released(choices);
    }

    /// Some deletions happened, in any order; others did not.
    fn forget_released(&mut self, choices: &mut Choices) {
        for segment in std::mem::take(&mut self.released) {
            if choices.one_in(2) {
                self.files.remove(&segment);
            }
        }
    }
}
