//! The one source of chance: a small generator whose streams are all derived from a seed. Every part of the world draws
//! from a stream of its own, so that one more draw in one place does not change what all others see.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A stream of draws (xoshiro256++, Blackman and Vigna 2019, seeded through splitmix64).
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Rng {
        let mut mixed = seed;
        let mut next = || {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = mixed;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        };
        Rng { state: [next(), next(), next(), next()] }
    }

    /// The stream of a purpose within a seed: `stream(seed, "disk", 3)` is node 3's disk.
    pub fn stream(seed: u64, purpose: &str, number: u64) -> Rng {
        Rng::new(xxh3_64_with_seed(purpose.as_bytes(), seed) ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// 64 drawn bits.
    pub fn next_u64(&mut self) -> u64 {
        let state = &mut self.state;
        let drawn = state[0].wrapping_add(state[3]).rotate_left(23).wrapping_add(state[0]);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        drawn
    }

    /// A number in `0..bound`; `bound` is at least 1. The bias of the multiplication is below 2^-32 for the bounds in use.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing to draw from");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `per_mille` of 1000 cases.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        // No draw for what never happens: a rate of zero costs nothing.
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// One of the items, of which there is at least one.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Puts the items in a drawn order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_and_differs_from_its_neighbours() {
        let draw = |mut rng: Rng| (0..100).map(|_| rng.next_u64()).collect::<Vec<_>>();
        assert_eq!(draw(Rng::stream(7, "disk", 1)), draw(Rng::stream(7, "disk", 1)));
        assert_ne!(draw(Rng::stream(7, "disk", 1)), draw(Rng::stream(7, "disk", 2)));
        assert_ne!(draw(Rng::stream(7, "disk", 1)), draw(Rng::stream(7, "network", 1)));
        assert_ne!(draw(Rng::stream(7, "disk", 1)), draw(Rng::stream(8, "disk", 1)));
    }

    #[test]
    fn draws_cover_their_range_and_nothing_else() {
        let mut rng = Rng::new(1);
        let mut seen = [0u32; 6];
        for _ in 0..6000 {
            seen[rng.between(10, 15) as usize - 10] += 1;
        }
        assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
        let hits = (0..10_000).filter(|_| rng.chance(100)).count();
        assert!((850..1150).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| !rng.chance(0)));
    }

    #[test]
    fn shuffling_loses_nothing() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::new(3).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
