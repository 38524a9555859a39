//! A disk that breaks bytes of a log, and what recovery may say then. For a property test, and for the fuzzer.

use drey_core::GroupId;
use drey_core::log::{BLOCK_BYTES, SegmentId};

use crate::choices::Choices;
use crate::model::{self, Groups};
use crate::node::{CLUSTER, NODE, Node, Written, recover};

/// The bytes of a segment's header that mean something.
const HEADER_BYTES: usize = 68;
/// The bytes of a batch before its records, and where its checksums are: as `docs/log-format.md` has it.
const BATCH_HEADER_BYTES: usize = 96;
const PAYLOAD_BYTES_AT: usize = 64;
const BODY_CHECKSUM_AT: usize = 72;
const HEADER_CHECKSUM_AT: usize = 92;

/// A log that ran, and of which everything is synced.
pub fn settled(segment_bytes: u64, choices: &mut Choices, acts: usize) -> Node {
    let mut node = Node::new(segment_bytes, choices);
    for _ in 0..acts {
        if choices.used_up() {
            break;
        }
        node.act(choices);
    }
    node.settle(choices);
    node
}

/// Breaks a log here and there, and compares what recovery says with what it may say.
pub fn break_and_recover(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let acts = choices.below(2000);
    let node = settled([16 << 10, 64 << 10][choices.below(2)], &mut choices, acts);
    let mut broken = node.disk.clone();
    for _ in 0..1 + choices.below(4) {
        let files: Vec<(SegmentId, usize)> =
            broken.files.iter().map(|(segment, file)| (*segment, file.seen().len())).collect();
        if files.is_empty() {
            break;
        }
        let (segment, length) = files[choices.below(files.len())];
        let block = choices.below(length / BLOCK_BYTES + 1).min((length / BLOCK_BYTES).saturating_sub(1));
        match choices.below(6) {
            _ if length < 2 * BLOCK_BYTES => broken.remove(segment),
            0 => broken.remove(segment),
            1 => broken.cut(segment, block * BLOCK_BYTES + choices.below(2) * 100),
            2 => broken.overwrite(segment, block * BLOCK_BYTES, &[0; BLOCK_BYTES]),
            3 => {
                // A block that was written to the wrong place, perhaps in the wrong file.
                let (other, other_length) = files[choices.below(files.len())];
                // Down to nothing, perhaps, by a cut before this.
                let other_block = choices.below((other_length / BLOCK_BYTES).max(1));
                let bytes = broken.files[&segment].seen()[block * BLOCK_BYTES..][..BLOCK_BYTES].to_vec();
                if broken.files.contains_key(&other) && (other_block + 1) * BLOCK_BYTES <= other_length {
                    broken.overwrite(other, other_block * BLOCK_BYTES, &bytes);
                }
            }
            _ => broken.flip(segment, block * BLOCK_BYTES + choices.below(BLOCK_BYTES), choices.below(8)),
        }
    }
    judge(&node, &broken);
}

/// What is still as it was.
struct Intact<'a> {
    node: &'a Node,
    broken: &'a crate::disk::Disk,
}

impl Intact<'_> {
    fn range(&self, segment: SegmentId, from: usize, bytes: usize) -> bool {
        let Some(file) = self.broken.files.get(&segment) else { return false };
        let (now, before) = (file.seen(), self.node.disk.files[&segment].seen());
        now.get(from..from + bytes) == Some(&before[from..from + bytes])
    }

    fn header(&self, segment: SegmentId) -> bool {
        self.range(segment, 0, HEADER_BYTES)
    }

    fn batch(&self, written: &Written) -> bool {
        self.header(written.segment) && self.range(written.segment, written.offset as usize, written.bytes)
    }

    /// Nothing of the file is broken that matters, whether there are batches in it or not.
    fn file(&self, segment: SegmentId) -> bool {
        let whole = |file: &crate::disk::File| file.seen().len() == self.node.disk.files[&segment].seen().len();
        self.header(segment) && self.broken.files.get(&segment).is_some_and(whole)
    }
}

fn judge(node: &Node, broken: &crate::disk::Disk) {
    let intact = Intact { node, broken };
    let result = recover(broken);
    let needed = |segment: SegmentId| !node.disk.is_released(segment);
    let files_are_whole = node.disk.files.keys().all(|segment| !needed(*segment) || intact.file(*segment));
    let mut all_whole = files_are_whole;
    // How many batches of each shard are there before the first broken one.
    let mut good = Vec::new();
    for (shard, chain) in &node.written {
        let first_needed = chain.iter().position(|written| needed(written.segment)).unwrap_or(chain.len());
        let state: Vec<bool> = chain[first_needed..].iter().map(|written| intact.batch(written)).collect();
        let whole = state.iter().take_while(|intact| **intact).count();
        all_whole &= whole == state.len();
        if state[whole..].iter().any(|intact| *intact) {
            assert!(result.is_err(), "shard {shard}: batch {} is attested, and was cut", first_needed + whole + 1);
        }
        good.push((*shard, first_needed, whole));
    }
    if all_whole {
        let recovered = result.unwrap_or_else(|damage| panic!("what is needed is whole: {damage}"));
        assert_eq!(recovered.groups, node.latest);
        return;
    }
    let Ok(recovered) = result else { return };
    // Too much is gone to know that earlier files are missing.
    if good.iter().any(|(shard, released, whole)| released + whole < node.carried_at(*shard) || *whole == 0) {
        return;
    }
    for (shard, released, whole) in good {
        let mine = |group: &GroupId| node.shard_of(*group) == shard;
        let recovered: Groups =
            recovered.groups.iter().filter(|(group, _)| mine(group)).map(|(g, log)| (*g, log.clone())).collect();
        let history = &node.history[&shard];
        let batches = released + whole;
        let least = history.synced[batches - 1];
        // What is split over several batches counts with the last of them, but its first parts are there before that.
        let most = history.synced[batches..].iter().copied().find(|steps| *steps > least).unwrap_or(least);
        let mut wanted = history.start.clone();
        history.steps[..least].iter().for_each(|step| model::apply(&mut wanted, step));
        let mut more = history.steps[least..most].iter();
        while recovered != wanted {
            let step = more.next().unwrap_or_else(|| panic!("shard {shard}: not what its {batches} batches say"));
            model::apply(&mut wanted, step);
        }
    }
}

/// Changes a log in any way, with checksums that fit: recovery must come to some end.
pub fn forge_and_recover(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let acts = choices.below(300);
    let node = settled(16 << 10, &mut choices, acts);
    let mut disk = node.disk.clone();
    let places: Vec<Written> =
        node.written.values().flatten().filter(|written| disk.files.contains_key(&written.segment)).copied().collect();
    if places.is_empty() {
        return;
    }
    for _ in 0..1 + choices.below(8) {
        let written = places[choices.below(places.len())];
        let start = written.offset as usize;
        let mut batch = disk.files[&written.segment].seen()[start..start + written.bytes].to_vec();
        // Most changes go to the headers: of the batch, and of its first records.
        let at = if choices.one_in(4) { choices.below(batch.len()) } else { 8 + choices.below(240) };
        let value = [choices.below(256) as u8, 0, 0xff][choices.below(3)];
        let bytes = [1, 4, 8][choices.below(3)].min(batch.len() - at);
        batch[at..at + bytes].fill(value);
        fix_checksums(written.segment, &mut batch);
        disk.overwrite(written.segment, start, &batch);
    }
    if let Ok(recovered) = recover(&disk) {
        for log in recovered.groups.values() {
            let indexes: Vec<u64> = log.entries.iter().map(|entry| entry.index.0).collect();
            assert!(indexes.iter().zip(log.truncated.0.0 + 1..).all(|(index, wanted)| *index == wanted));
        }
    }
}

fn fix_checksums(segment: SegmentId, batch: &mut [u8]) {
    let identity = [
        &CLUSTER.0.to_le_bytes()[..],
        &NODE.0.to_le_bytes(),
        &segment.epoch.to_le_bytes(),
        &segment.shard.to_le_bytes(),
        &segment.number.to_le_bytes(),
    ];
    let seed = crc32c::crc32c(&identity.concat());
    let payload = u32::from_le_bytes(batch[PAYLOAD_BYTES_AT..][..4].try_into().expect("four bytes")) as usize;
    let end = (BATCH_HEADER_BYTES + payload).next_multiple_of(BLOCK_BYTES).min(batch.len());
    let body = crc32c::crc32c_append(seed, &batch[BATCH_HEADER_BYTES..end]);
    batch[BODY_CHECKSUM_AT..][..4].copy_from_slice(&body.to_le_bytes());
    let header = crc32c::crc32c_append(seed, &batch[..HEADER_CHECKSUM_AT]);
    batch[HEADER_CHECKSUM_AT..][..4].copy_from_slice(&header.to_le_bytes());
}
