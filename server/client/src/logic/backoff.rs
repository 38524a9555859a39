//! How long to wait before trying again: exponential, capped, and jittered from a seed.

use super::Policy;

/// SplitMix64 (Steele, Lea, Flood 2014): enough chance to keep clients out of step, and the same for the same seed.
#[derive(Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter { state: seed }
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The wait after `waits` earlier ones: between half and all of `base * 2^waits`, at least 1, at most the cap.
    pub(super) fn backoff_ms(&mut self, policy: &Policy, waits: u32) -> u64 {
        let doubled = 1_u64.checked_shl(waits).map_or(u64::MAX, |factor| policy.backoff_base_ms.saturating_mul(factor));
        let full_ms = doubled.clamp(1, policy.backoff_cap_ms.max(1));
        let half_ms = full_ms / 2;
        (half_ms + self.draw() % (full_ms - half_ms + 1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_stay_within_their_half() {
        let policy = Policy::default();
        let mut jitter = Jitter::new(7);
        for waits in 0..200 {
            let full_ms = if waits < 7 { 10 << waits } else { 1_000 };
            let drawn_ms = jitter.backoff_ms(&policy, waits);
            assert!((full_ms / 2..=full_ms).contains(&drawn_ms), "{drawn_ms} after {waits} waits");
        }
    }

    #[test]
    fn a_seed_decides_all_waits() {
        let policy = Policy::default();
        let waits_of = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..20).map(|waits| jitter.backoff_ms(&policy, waits)).collect::<Vec<_>>()
        };
        assert_eq!(waits_of(1), waits_of(1));
        assert_ne!(waits_of(1), waits_of(2));
    }

    #[test]
    fn a_policy_of_zeros_still_waits() {
        let policy = Policy { backoff_base_ms: 0, backoff_cap_ms: 0, ..Policy::default() };
        assert_eq!(Jitter::new(1).backoff_ms(&policy, 3), 1);
    }
}
