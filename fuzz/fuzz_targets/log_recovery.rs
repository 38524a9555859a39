//! Recovery of the log: of logs that crashed, that were broken, that were forged, and of no log at all.
//!
//! The drivers and the oracle are those of the tests in `core/tests/log`: the input's bytes are the choices.
#![no_main]

use drey_core::log::{BLOCK_BYTES, LogConfig, LogScan, SegmentId};
use libfuzzer_sys::fuzz_target;

#[path = "../../core/tests/log/choices.rs"]
mod choices;
#[path = "../../core/tests/log/disk.rs"]
mod disk;
#[path = "../../core/tests/log/model.rs"]
mod model;
#[path = "../../core/tests/log/node.rs"]
mod node;
#[path = "../../core/tests/log/rot.rs"]
mod rot;

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode % 8 {
        0..=2 => drop(rot::settled(16 << 10, &mut choices::Choices::new(rest), usize::MAX)),
        3..=4 => rot::break_and_recover(rest),
        5..=6 => rot::forge_and_recover(rest),
        _ => anything(rest),
    }
});

/// Bytes that no writer had a part in, under good names, and mostly behind a good header.
fn anything(bytes: &[u8]) {
    let mut scan = LogScan::new(node::CLUSTER, node::NODE);
    for (number, bytes) in bytes.chunks(3 * BLOCK_BYTES).enumerate() {
        let segment = SegmentId { epoch: 1, shard: 0, number: number as u64 };
        let config = LogConfig { cluster: node::CLUSTER, node: node::NODE, shards: 1, segment_bytes: 16 << 10 };
        let mut file = vec![0; BLOCK_BYTES];
        config.header(segment).encode_into(&mut file);
        file.extend_from_slice(bytes);
        if scan.segment(segment, &file).is_err() {
            return;
        }
    }
    // Whatever it is, it says so.
    let _ = scan.finish();
}
