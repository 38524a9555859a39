//! Whatever is written and whenever the node dies: what was synced is there, and of the rest a beginning.

use proptest::prelude::*;

use crate::choices::Choices;
use crate::node::{Fired, Node};

fn run(segment_bytes: u64, bytes: &[u8]) -> Fired {
    let mut choices = Choices::new(bytes);
    let mut node = Node::new(segment_bytes, &mut choices);
    while !choices.used_up() {
        node.act(&mut choices);
    }
    node.settle(&mut choices);
    node.fired
}

/// Bytes that look random (splitmix64).
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    (0..count.div_ceil(8)).flat_map(|_| next()).collect()
}

#[test]
fn what_is_synced_survives_everything_and_every_fault_fires() {
    let mut total = Fired::default();
    for seed in 0..150 {
        let segment_bytes = [16 << 10, 64 << 10, 256 << 10][seed as usize % 3];
        let fired = run(segment_bytes, &noise(seed, 4000));
        total.batches += fired.batches;
        total.crashes += fired.crashes;
        total.tails_cut += fired.tails_cut;
        total.unsynced_kept += fired.unsynced_kept;
        total.seals += fired.seals;
        total.crashes_while_sealing += fired.crashes_while_sealing;
        total.epochs_released += fired.epochs_released;
        total.segments_released += fired.segments_released;
        total.carried += fired.carried;
        total.recycled += fired.recycled;
        total.renames_lost += fired.renames_lost;
        total.splits += fired.splits;
    }
    let Fired { batches, crashes, tails_cut, unsynced_kept, seals, crashes_while_sealing, .. } = total;
    assert!(batches > 1000 && crashes > 300 && tails_cut > 50 && unsynced_kept > 50, "{total:?}");
    assert!(seals > 300 && crashes_while_sealing > 20, "{total:?}");
    let Fired { epochs_released, segments_released, carried, recycled, renames_lost, splits, .. } = total;
    assert!(epochs_released > 50 && segments_released > 50 && carried > 50, "{total:?}");
    assert!(recycled > 100 && renames_lost > 5 && splits > 20, "{total:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_synced_survives(bytes in prop::collection::vec(any::<u8>(), 0..3000), size in 0..3usize) {
        run([16 << 10, 64 << 10, 256 << 10][size], &bytes);
    }
}
