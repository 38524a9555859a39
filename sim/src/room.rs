//! Disks that fill up, and have room again: of one node, of some, of all at once.

use drey_core::Room;

use crate::plan::Plan;
use crate::rng::Rng;

/// What every node keeps free.
const RESERVE_BYTES: u64 = 100 << 20;
/// A disk with room.
pub const ROOMY: Room = Room { free_bytes: 100 * RESERVE_BYTES, reserve_bytes: RESERVE_BYTES };
/// One that is being filled.
pub const LOW: Room = Room { free_bytes: RESERVE_BYTES / 2, reserve_bytes: RESERVE_BYTES };
/// One on which no more segments can be made.
pub const FULL: Room = Room { free_bytes: 1 << 20, reserve_bytes: RESERVE_BYTES };

/// So long after a disk had room again, others may still be told that it has none, or believe so.
pub const BELIEVED_MS: u64 = 8_000;

/// Draws when disks fill up. Of its own stream, so that nothing else is drawn in another way.
pub struct Rooms {
    rng: Rng,
    hosts: usize,
    every_ms: u64,
    next_ms: u64,
}

impl Rooms {
    /// Those of a plan.
    pub fn new(plan: &Plan) -> Rooms {
        let mut rng = Rng::stream(plan.seed, "rooms", 0);
        let next_ms = if plan.room_every_ms == 0 { u64::MAX } else { rng.between(0, 2 * plan.room_every_ms) };
        Rooms { rng, hosts: plan.hosts(), every_ms: plan.room_every_ms, next_ms }
    }

    /// Whose disks fill up now, how far, and until when.
    pub fn due(&mut self, now_ms: u64) -> Option<(Vec<usize>, Room, u64)> {
        if now_ms < self.next_ms {
            return None;
        }
        self.next_ms = now_ms + self.rng.between(100, 2 * self.every_ms);
        let mut hosts: Vec<usize> = (1..=self.hosts).collect();
        self.rng.shuffle(&mut hosts);
        hosts.truncate(match self.rng.below(10) {
            0..5 => 1,
            5..8 => 2,
            _ => self.hosts,
        });
        let room = *self.rng.pick(&[LOW, FULL]);
        Some((hosts, room, now_ms + self.rng.between(200, 6_000)))
    }

    /// No more of that.
    pub fn stop(&mut self) {
        self.next_ms = u64::MAX;
    }
}

/// Whether no segment can be made there.
pub fn is_full(room: Room) -> bool {
    room.free_bytes <= FULL.free_bytes
}
