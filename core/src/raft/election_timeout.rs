//! Election timeouts without a random generator: a hash of what distinguishes this wait from every other.
//!
//! raft-rs draws its own from the operating system. The node overwrites that after every call, so that the same inputs give
//! the same elections.

use raft::StateRole;
use xxhash_rust::xxh3::xxh3_64;

use crate::types::{GroupId, NodeId};

/// The wait, in ticks, in `[ticks, 2 * ticks)`.
///
/// `retry` counts the campaigns without a change of term: a pre-vote that fails raises no term, and two nodes that had
/// drawn the same wait would draw it again for ever.
pub(super) fn election_timeout(
    seed: u64,
    group: GroupId,
    node: NodeId,
    term: u64,
    role: StateRole,
    retry: u64,
    ticks: usize,
) -> usize {
    let mut bytes = [0; 48];
    let words = [seed, u64::from(group.0), node.0, term, role as u64, retry];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    ticks + (xxh3_64(&bytes) % ticks as u64) as usize
}
