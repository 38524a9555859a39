//! What was synced and is broken is never taken for an unfinished tail.

use drey_core::log::{BLOCK_BYTES, Damage, DamageKind, SegmentId};
use proptest::prelude::*;

use crate::choices::Choices;
use crate::disk::Disk;
use crate::node::{Node, Written, recover};
use crate::rot;

fn settled(segment_bytes: u64, bytes: &[u8]) -> Node {
    rot::settled(segment_bytes, &mut Choices::new(bytes), usize::MAX)
}

fn flipped(disk: &Disk, segment: SegmentId, byte: usize, bit: usize) -> Disk {
    let mut disk = disk.clone();
    disk.flip(segment, byte, bit);
    disk
}

/// The batches of each shard that are needed, and that a later one attests; and the last one, which none does.
fn attested(node: &Node) -> Vec<(Vec<Written>, Written)> {
    let needed =
        |written: &&Written| node.disk.files.contains_key(&written.segment) && !node.disk.is_released(written.segment);
    let split = |chain: &Vec<Written>| {
        let mut needed: Vec<Written> = chain.iter().filter(needed).copied().collect();
        needed.pop().map(|last| (needed, last))
    };
    node.written.values().filter_map(split).collect()
}

fn is_loss(damage: &Damage) -> bool {
    matches!(damage.what, DamageKind::Batch(_) | DamageKind::Header | DamageKind::Missing)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_bit_in_a_needed_batch_is_damage_if_a_later_batch_attests_it(
        bytes in prop::collection::vec(any::<u8>(), 200..1500),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8usize), 20),
    ) {
        let node = settled(64 << 10, &bytes);
        for (batches, last) in attested(&node) {
            for (batch, byte, bit) in &places {
                if !batches.is_empty() {
                    let batch = batches[batch.index(batches.len())];
                    let byte = batch.offset as usize + byte.index(batch.bytes);
                    // Twelve reserved bytes, which are under the header's checksum too: no bit of a batch is free.
                    let damage = recover(&flipped(&node.disk, batch.segment, byte, *bit)).expect_err("it is broken");
                    prop_assert!(is_loss(&damage), "{damage}");
                    prop_assert_eq!(damage.segment, batch.segment);
                    prop_assert_eq!(damage.offset, batch.offset);
                }
                // The last one may as well not have been finished; unless files went because it says that they may.
                let byte = last.offset as usize + byte.index(last.bytes);
                let cut = recover(&flipped(&node.disk, last.segment, byte, *bit));
                prop_assert!(matches!(&cut, Ok(_) | Err(Damage { what: DamageKind::Missing, .. })), "{cut:?}");
            }
        }
    }

    #[test]
    fn whatever_breaks_nothing_attested_is_cut(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        rot::break_and_recover(&bytes);
    }

    #[test]
    fn whatever_a_log_says_recovery_comes_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        rot::forge_and_recover(&bytes);
    }

    #[test]
    fn a_broken_header_or_a_missing_file_is_damage_while_it_is_needed(
        bytes in prop::collection::vec(any::<u8>(), 200..1500),
        place in 0..68 * 8usize,
    ) {
        let node = settled(16 << 10, &bytes);
        for (batches, last) in attested(&node) {
            let mut segments: Vec<SegmentId> = batches.iter().map(|batch| batch.segment).collect();
            segments.dedup();
            for segment in segments {
                let damage = recover(&flipped(&node.disk, segment, place / 8, place % 8)).expect_err("it is broken");
                prop_assert_eq!(damage, Damage { segment, offset: 0, what: DamageKind::Header });
                if segment != last.segment {
                    let mut disk = node.disk.clone();
                    disk.files.remove(&segment);
                    let damage = recover(&disk).expect_err("it is missing");
                    prop_assert_eq!(damage, Damage { segment, offset: 0, what: DamageKind::Missing });
                }
            }
        }
    }

    #[test]
    fn what_is_not_needed_can_be_broken_in_any_way(
        bytes in prop::collection::vec(any::<u8>(), 500..2500),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8usize), 40),
        gone in prop::collection::vec(any::<bool>(), 64),
    ) {
        let mut node = settled(16 << 10, &bytes);
        let released: Vec<SegmentId> =
            node.disk.files.keys().copied().filter(|segment| node.disk.is_released(*segment)).collect();
        for (segment, byte, bit) in flips {
            if !released.is_empty() {
                // Not its header: another version or another node is told from there, needed or not.
                let byte = BLOCK_BYTES + byte.index((16 << 10) - BLOCK_BYTES);
                node.disk.flip(*segment.get(&released), byte, bit);
            }
        }
        for (segment, _) in released.iter().zip(gone).filter(|(_, gone)| *gone) {
            node.disk.files.remove(segment);
        }
        let recovered = recover(&node.disk).expect("what is needed is there");
        prop_assert_eq!(recovered.groups, node.latest);
    }
}

/// Every byte of a small log, one after the other.
#[test]
fn no_flipped_bit_ever_changes_what_was_attested() {
    let bytes: Vec<u8> = (0..300u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut node = settled(16 << 10, &bytes);
    let good = recover(&node.disk).expect("nothing is broken");
    let last: Vec<Written> = attested(&node).into_iter().map(|(_, last)| last).collect();
    let (mut refused, mut harmless) = (0, 0);
    let segments: Vec<(SegmentId, usize)> =
        node.disk.files.iter().map(|(segment, file)| (*segment, file.seen().len())).collect();
    for (segment, bytes) in segments {
        for byte in 0..bytes {
            node.disk.flip(segment, byte, byte % 8);
            match recover(&node.disk) {
                Err(damage) => {
                    assert!(is_loss(&damage), "{damage}");
                    refused += 1;
                }
                Ok(recovered) => {
                    let in_last = last.iter().any(|last| {
                        let range = last.offset as usize..last.offset as usize + last.bytes;
                        last.segment == segment && range.contains(&byte)
                    });
                    assert!(in_last || recovered == good, "{segment} at {byte}");
                    harmless += 1;
                }
            }
            node.disk.flip(segment, byte, byte % 8);
        }
    }
    assert!(refused > 10_000 && harmless > 10_000, "{refused} {harmless}");
}

/// Found by the fuzzer: entries pushed at once fill five batches, of which two are left.
#[test]
fn the_first_parts_of_what_was_split_are_there_before_the_last() {
    let input = b"\x00\x01\x00\x00\x00\x00\xfe\x1b\x1f\x17\x17\x0b\x17\x17\x17\x17\xff\xff\xff\xff\xff\xff\xff\xff\xff\x17\x17\x17\x17\x17\x17\x17\xfe\xff\xfe\x8e\x66\x97\x92\x4c\x4f\x47\x00\x00\x66\x00\xf6\xff\xfe\x72\x65\x79\x00\x35\x00\x00\x07\xf9\x6a";
    rot::break_and_recover(input);
}
