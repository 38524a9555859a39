//! A node's log disk: the real bytes of real segments, and what becomes of them when power fails.
//!
//! Invariants worth naming:
//! - only what a completed sync covered survives a power cut for certain. What was written and not synced is there, or not,
//!   or in part, sector by sector and in no order;
//! - a process that is killed leaves what it had written in the page cache, to be seen by the next start and lost by the
//!   next power cut;
//! - a deleted segment may be there again after a power cut, and a new one made of an old one keeps the old bytes until
//!   they are overwritten.

use std::collections::BTreeMap;
use std::rc::Rc;

use drey_core::log::{BLOCK_BYTES, LogConfig, SegmentId};
use drey_core::mutation::{Mutation, is_on};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::faults::{Fault, Faults};
use crate::rng::Rng;

/// What a disk writes at once: within it nothing tears.
pub const SECTOR_BYTES: usize = 512;

/// The most old segments that are kept to be recycled.
const RECYCLED_MAX: usize = 2;

type Sector = [u8; SECTOR_BYTES];

/// A file.
#[derive(Clone, Debug, Default)]
struct Segment {
    /// Its length; what was never written reads as zeros.
    bytes: usize,
    /// What is certain, from the file's beginning.
    durable: Rc<Vec<u8>>,
    /// Written and not synced.
    cached: BTreeMap<usize, Sector>,
    /// Up to here its blocks hold bytes whose sync was reported: they must not be written again.
    synced_end: u64,
    /// What the last of these begins with says that all before it was synced.
    attested_end: u64,
    /// Its entry in the directory is not certain.
    unlisted: bool,
}

/// What a process has asked for and was not told the end of.
#[derive(Debug)]
enum InFlight {
    Write { segment: SegmentId, offset: u64, bytes: Vec<u8>, hash: u64 },
    Prepare { segment: SegmentId, header: Vec<u8>, bytes: usize, recycled: Option<Segment> },
}

/// Names an effect that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskOp(u64);

/// The disk. It outlives its node's processes.
pub struct Disk {
    rng: Rng,
    /// It takes a sync for done without doing it.
    lies: bool,
    segments: BTreeMap<SegmentId, Segment>,
    in_flight: BTreeMap<DiskOp, InFlight>,
    /// Deleted, but not for certain yet.
    deleted: BTreeMap<SegmentId, Segment>,
    recycled: Vec<Segment>,
    ops: u64,
    synced_hash: u64,
    synced_bytes: u64,
}

impl Disk {
    /// An empty one.
    pub fn new(rng: Rng, lies: bool) -> Disk {
        Disk {
            rng,
            lies,
            segments: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            deleted: BTreeMap::new(),
            recycled: Vec::new(),
            ops: 0,
            synced_hash: 0,
            synced_bytes: 0,
        }
    }

    /// Begins to write bytes with this hash. An error when the caller breaks the log's rules.
    pub fn write(&mut self, segment: SegmentId, offset: u64, bytes: Vec<u8>, hash: u64) -> Result<DiskOp, String> {
        let chain = (segment.epoch, segment.shard);
        let under_way = self.in_flight.values().any(|op| match op {
            InFlight::Write { segment, .. } => (segment.epoch, segment.shard) == chain,
            InFlight::Prepare { .. } => false,
        });
        if under_way {
            return Err(format!("a second write to the chain of {segment} while one is under way"));
        }
        let Some(file) = self.segments.get(&segment) else {
            return Err(format!("a write to {segment}, which is not there"));
        };
        let whole = offset.is_multiple_of(BLOCK_BYTES as u64) && bytes.len().is_multiple_of(BLOCK_BYTES);
        if !whole || bytes.is_empty() || offset as usize + bytes.len() > file.bytes {
            return Err(format!("a write of {} bytes at {offset} to {segment} of {}", bytes.len(), file.bytes));
        }
        if offset < file.synced_end {
            return Err(format!("{segment}: synced bytes at {offset} are written again, up to {}", file.synced_end));
        }
        Ok(self.begin(InFlight::Write { segment, offset, bytes, hash }))
    }

    /// Begins to make a segment of a shard's log.
    pub fn prepare_for(&mut self, log: &LogConfig, segment: SegmentId, faults: &mut Faults) -> Result<DiskOp, String> {
        let mut header = vec![0; BLOCK_BYTES];
        log.header(segment).encode_into(&mut header);
        self.prepare(segment, header, log.segment_bytes as usize, faults)
    }

    /// Begins to make a segment of `bytes` bytes with this header.
    pub fn prepare(
        &mut self,
        segment: SegmentId,
        header: Vec<u8>,
        bytes: usize,
        faults: &mut Faults,
    ) -> Result<DiskOp, String> {
        if self.segments.contains_key(&segment) {
            return Err(format!("{segment} is prepared twice"));
        }
        let recycled = if self.rng.chance(700) { self.recycled.pop() } else { None };
        if recycled.is_some() {
            faults.happened(Fault::SegmentRecycled);
        }
        Ok(self.begin(InFlight::Prepare { segment, header, bytes, recycled }))
    }

    fn begin(&mut self, op: InFlight) -> DiskOp {
        self.ops += 1;
        self.in_flight.insert(DiskOp(self.ops), op);
        DiskOp(self.ops)
    }

    /// The effect is done and synced.
    pub fn finish(&mut self, op: DiskOp) {
        match self.in_flight.remove(&op) {
            Some(InFlight::Write { segment, offset, bytes, hash }) => {
                // Unless it was deleted meanwhile.
                if let Some(file) = self.segments.get_mut(&segment) {
                    file.write(offset, &bytes, self.lies);
                    file.synced_end = offset + bytes.len() as u64;
                    file.attested_end = offset;
                }
                self.synced_hash = xxh3_64_with_seed(&hash.to_le_bytes(), self.synced_hash ^ offset ^ segment.number);
                self.synced_bytes += bytes.len() as u64;
            }
            Some(InFlight::Prepare { segment, header, bytes, recycled }) => {
                // The directory is synced with it.
                self.deleted.clear();
                let unlisted = is_on(Mutation::DirectoryEntryNotSynced);
                let mut file = Segment { bytes, unlisted, ..recycled.unwrap_or_default() };
                file.write(0, &header, self.lies);
                file.synced_end = header.len() as u64;
                self.synced_hash = xxh3_64_with_seed(&header, self.synced_hash);
                self.segments.insert(segment, file);
            }
            None => {}
        }
    }

    /// The effect failed: some of it was written, or nothing. No later sync brings the rest.
    pub fn fail(&mut self, op: DiskOp, faults: &mut Faults) {
        if let Some(op) = self.in_flight.remove(&op) {
            self.cut_off(op, faults);
        }
    }

    /// Writes at a start of the node, before anything else runs; to be followed by [`Disk::sync`].
    pub fn write_now(&mut self, segment: SegmentId, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let file = self.segments.get_mut(&segment).ok_or_else(|| format!("{segment} is to be sealed and not there"))?;
        if offset < file.synced_end {
            return Err(format!("{segment}: the seal at {offset} is on top of bytes synced up to {}", file.synced_end));
        }
        file.cache(offset, bytes, |_| true);
        Ok(())
    }

    /// Makes durable what was written to a segment.
    pub fn sync(&mut self, segment: SegmentId) {
        if let Some(file) = self.segments.get_mut(&segment)
            && !self.lies
        {
            file.sync();
        }
    }

    /// Deletes a segment, sooner or later.
    pub fn delete(&mut self, segment: SegmentId) {
        let Some(file) = self.segments.remove(&segment) else { return };
        if self.recycled.len() < RECYCLED_MAX && self.rng.chance(700) {
            self.recycled.push(Segment { synced_end: 0, attested_end: 0, ..file.clone() });
        }
        self.deleted.insert(segment, file);
    }

    /// The process is gone: of what was under way some was written, none is synced.
    pub fn kill(&mut self, faults: &mut Faults) {
        for (_, op) in std::mem::take(&mut self.in_flight) {
            self.cut_off(op, faults);
        }
    }

    /// The power is gone.
    pub fn cut_power(&mut self, faults: &mut Faults) {
        self.kill(faults);
        let rng = &mut self.rng;
        for file in self.segments.values_mut() {
            let cached = std::mem::take(&mut file.cached);
            let (all, kept) = (cached.len(), lose_some(rng, cached, file));
            faults.happened_times(Fault::WriteLost, u64::from(all > 0 && kept == 0));
            faults.happened_times(Fault::WriteTorn, u64::from(kept > 0 && kept < all));
            faults.happened_times(Fault::WriteKept, u64::from(all > 0 && kept == all));
        }
        self.segments.retain(|_, file| !file.unlisted || rng.chance(500));
        for (segment, file) in std::mem::take(&mut self.deleted) {
            if self.rng.chance(300) && !self.segments.contains_key(&segment) {
                faults.happened(Fault::SegmentCameBack);
                self.segments.insert(segment, file);
            }
        }
    }

    /// What a process leaves of an effect that it did not see the end of: all, nothing, or some sectors, in the page cache.
    fn cut_off(&mut self, op: InFlight, faults: &mut Faults) {
        let kept_per_mille = *self.rng.pick(&[0, 1000, 500, 900]);
        match op {
            InFlight::Write { segment, offset, bytes, .. } => {
                if let Some(file) = self.segments.get_mut(&segment) {
                    let rng = &mut self.rng;
                    file.cache(offset, &bytes, |_| rng.chance(kept_per_mille));
                    faults.happened_times(Fault::WriteLost, u64::from(kept_per_mille == 0));
                }
            }
            InFlight::Prepare { segment, header, bytes, recycled } => {
                faults.happened(Fault::PreparationCutOff);
                if self.rng.chance(300) {
                    return;
                }
                // A file that may be too short, that may still be what it was, and that may have its header.
                let bytes = if recycled.is_none() && self.rng.chance(300) { 0 } else { bytes };
                let mut file = Segment { bytes, ..recycled.unwrap_or_default() };
                let rng = &mut self.rng;
                if bytes > 0 {
                    file.cache(0, &header, |_| rng.chance(kept_per_mille));
                }
                self.segments.insert(segment, file);
            }
        }
    }

    /// Changes one bit that was synced and is attested by what was synced later: only of such a one a start can know. False: there is
    /// none. Every other time it is one of the last.
    pub fn rot(&mut self, number: u64) -> bool {
        let sound: Vec<SegmentId> =
            self.segments.iter().filter(|(_, file)| file.attested_end > 0).map(|(segment, _)| *segment).collect();
        let (which, number) = (number % 64, number / 64);
        let Some(segment) = sound.get(which as usize % sound.len().max(1)) else { return false };
        let Some(file) = self.segments.get_mut(segment) else { return false };
        let among = if number.is_multiple_of(2) { file.attested_end } else { BLOCK_BYTES as u64 };
        let bit = 8 * (file.attested_end - among) + number / 2 % (8 * among);
        // A disk that lies has nothing there.
        let Some(byte) = Rc::make_mut(&mut file.durable).get_mut((bit / 8) as usize) else { return false };
        *byte ^= 1 << (bit % 8);
        true
    }

    /// Changes one bit in the beginning of the last block of a shard's newest chain that is attested by what was synced later. False:
    /// there is none.
    pub fn rot_end(&mut self, shard: u32, number: u64) -> bool {
        let attested = self
            .segments
            .iter_mut()
            .rev()
            .find(|(segment, file)| segment.shard == shard && file.attested_end > BLOCK_BYTES as u64);
        let Some((_, file)) = attested else { return false };
        let bit = 8 * (file.attested_end - BLOCK_BYTES as u64) + number % (8 * SECTOR_BYTES as u64 / 4);
        // A disk that lies has nothing there.
        let Some(byte) = Rc::make_mut(&mut file.durable).get_mut((bit / 8) as usize) else { return false };
        *byte ^= 1 << (bit % 8);
        true
    }

    /// The segments that a start finds, in order.
    pub fn segments(&self) -> Vec<SegmentId> {
        self.segments.keys().copied().collect()
    }

    /// A segment's bytes as a start reads them.
    pub fn read(&self, segment: SegmentId) -> Vec<u8> {
        let Some(file) = self.segments.get(&segment) else { return Vec::new() };
        let mut bytes = vec![0; file.bytes];
        let durable = file.durable.len().min(bytes.len());
        bytes[..durable].copy_from_slice(&file.durable[..durable]);
        for (sector, data) in &file.cached {
            let start = sector * SECTOR_BYTES;
            if let Some(place) = bytes.get_mut(start..start + SECTOR_BYTES) {
                place.copy_from_slice(data);
            }
        }
        bytes
    }

    /// A hash of all that was ever synced.
    pub fn synced_hash(&self) -> u64 {
        self.synced_hash
    }

    /// How many bytes were synced.
    pub fn synced_bytes(&self) -> u64 {
        self.synced_bytes
    }

    /// A hash of what is on the disk now.
    pub fn hash(&self) -> u64 {
        self.segments.iter().fold(self.synced_hash, |hash, (segment, _)| {
            hash.rotate_left(7) ^ xxh3_64_with_seed(&self.read(*segment), xxh3_64(segment.to_string().as_bytes()))
        })
    }
}

impl Segment {
    /// Writes and syncs, unless the disk lies.
    fn write(&mut self, offset: u64, bytes: &[u8], lies: bool) {
        if lies {
            return self.cache(offset, bytes, |_| true);
        }
        self.sync();
        self.make_durable(offset as usize, bytes);
    }

    fn sync(&mut self) {
        for (sector, data) in std::mem::take(&mut self.cached) {
            self.make_durable(sector * SECTOR_BYTES, &data);
        }
    }

    fn make_durable(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        let durable = Rc::make_mut(&mut self.durable);
        if durable.len() < end {
            durable.reserve_exact(self.bytes.saturating_sub(durable.len()));
        }
        if durable.len() == start {
            return durable.extend_from_slice(bytes);
        }
        durable.resize(end.max(durable.len()), 0);
        durable[start..end].copy_from_slice(bytes);
    }

    fn cache(&mut self, offset: u64, bytes: &[u8], mut keeps: impl FnMut(usize) -> bool) {
        let first = offset as usize / SECTOR_BYTES;
        for (number, chunk) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if keeps(number) {
                let mut sector = [0; SECTOR_BYTES];
                sector[..chunk.len()].copy_from_slice(chunk);
                self.cached.insert(first + number, sector);
            }
        }
    }
}

/// Moves some of the cached sectors to the durable ones: all, none, or each by the toss of a coin. How many.
fn lose_some(rng: &mut Rng, cached: BTreeMap<usize, Sector>, file: &mut Segment) -> usize {
    let kept_per_mille = *rng.pick(&[0, 1000, 300, 900]);
    let before = cached.len();
    let mut lost = 0;
    for (sector, data) in cached {
        match rng.chance(kept_per_mille) {
            true => file.make_durable(sector * SECTOR_BYTES, &data),
            false => lost += 1,
        }
    }
    before - lost
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 8 * BLOCK_BYTES;

    fn id(number: u64) -> SegmentId {
        SegmentId { epoch: 1, shard: 0, number }
    }

    fn prepared(seed: u64) -> (Disk, Faults) {
        let (mut disk, mut faults) = (Disk::new(Rng::new(seed), false), Faults::default());
        let op = disk.prepare(id(0), vec![9; BLOCK_BYTES], BYTES, &mut faults).expect("a new segment");
        disk.finish(op);
        (disk, faults)
    }

    fn write(disk: &mut Disk, block: u64, byte: u8) -> DiskOp {
        disk.write(id(0), block * BLOCK_BYTES as u64, vec![byte; 2 * BLOCK_BYTES], 0).expect("a good write")
    }

    #[test]
    fn what_was_synced_survives_every_power_cut() {
        for seed in 0..50 {
            let (mut disk, mut faults) = prepared(seed);
            let op = write(&mut disk, 1, 7);
            disk.finish(op);
            write(&mut disk, 3, 8);
            disk.cut_power(&mut faults);
            let bytes = disk.read(id(0));
            assert!(bytes[..BLOCK_BYTES].iter().all(|&byte| byte == 9), "seed {seed}");
            assert!(bytes[BLOCK_BYTES..3 * BLOCK_BYTES].iter().all(|&byte| byte == 7), "seed {seed}");
        }
    }

    #[test]
    fn what_was_not_synced_is_kept_lost_or_torn_at_sectors() {
        let mut seen = [0; 3];
        for seed in 0..200 {
            let (mut disk, mut faults) = prepared(seed);
            write(&mut disk, 1, 7);
            disk.cut_power(&mut faults);
            let bytes = disk.read(id(0));
            let sectors = || bytes[BLOCK_BYTES..3 * BLOCK_BYTES].chunks(SECTOR_BYTES);
            assert!(sectors().all(|sector| sector.iter().all(|byte| *byte == sector[0])), "torn within a sector");
            match sectors().filter(|sector| sector[0] == 7).count() {
                0 => seen[0] += 1,
                16 => seen[1] += 1,
                _ => seen[2] += 1,
            }
        }
        assert!(seen.iter().all(|&count| count > 8), "{seen:?}");
    }

    #[test]
    fn a_kill_leaves_writes_that_a_later_power_cut_can_still_lose() {
        let (mut seen, mut lost) = (0, 0);
        for seed in 0..200 {
            let (mut disk, mut faults) = prepared(seed);
            write(&mut disk, 1, 7);
            disk.kill(&mut faults);
            if disk.read(id(0))[BLOCK_BYTES] != 7 {
                continue;
            }
            seen += 1;
            let mut synced =
                Disk { rng: Rng::new(seed), segments: disk.segments.clone(), ..Disk::new(Rng::new(0), false) };
            synced.sync(id(0));
            synced.cut_power(&mut faults);
            assert_eq!(synced.read(id(0))[BLOCK_BYTES], 7, "synced by the next start");
            disk.cut_power(&mut faults);
            lost += usize::from(disk.read(id(0))[BLOCK_BYTES] != 7);
        }
        assert!(seen > 50 && lost > 20, "{seen} seen, {lost} lost");
    }

    #[test]
    fn broken_rules_are_noticed() {
        let (mut disk, mut faults) = prepared(1);
        let op = write(&mut disk, 1, 7);
        assert!(disk.write(id(0), 5 * BLOCK_BYTES as u64, vec![1; BLOCK_BYTES], 0).is_err(), "two writes under way");
        disk.finish(op);
        assert!(disk.write(id(0), BLOCK_BYTES as u64, vec![1; BLOCK_BYTES], 0).is_err(), "synced bytes written again");
        assert!(disk.write(id(0), 3 * BLOCK_BYTES as u64 + 1, vec![1; BLOCK_BYTES], 0).is_err(), "not aligned");
        assert!(disk.write(id(0), 7 * BLOCK_BYTES as u64, vec![1; 2 * BLOCK_BYTES], 0).is_err(), "past the end");
        assert!(disk.write(id(1), BLOCK_BYTES as u64, vec![1; BLOCK_BYTES], 0).is_err(), "no such segment");
        assert!(disk.prepare(id(0), vec![0; BLOCK_BYTES], BYTES, &mut faults).is_err(), "prepared twice");
    }

    #[test]
    fn a_recycled_segment_has_its_old_bytes_and_a_deleted_one_may_come_back() {
        let (mut recycled, mut came_back) = (0, 0);
        for seed in 0..100 {
            let (mut disk, mut faults) = prepared(seed);
            let op = write(&mut disk, 1, 7);
            disk.finish(op);
            disk.delete(id(0));
            assert!(disk.segments().is_empty());
            let op = disk.prepare(id(1), vec![5; BLOCK_BYTES], BYTES, &mut faults).expect("a new segment");
            if disk.rng.chance(500) {
                disk.finish(op);
                assert_eq!(disk.read(id(1))[0], 5);
                assert_eq!(disk.read(id(1))[BLOCK_BYTES] == 7, faults.count(Fault::SegmentRecycled) == 1);
                recycled += faults.count(Fault::SegmentRecycled);
            } else {
                disk.cut_power(&mut faults);
                came_back += u64::from(disk.segments().contains(&id(0)));
            }
        }
        assert!(recycled > 10 && came_back > 5, "{recycled} recycled, {came_back} came back");
    }
}
