//! Which key an operation touches. Keys are numbered; a distribution draws a rank, and a permutation spreads the ranks over
//! the numbers, so that the hot keys of a skewed run are not neighbours in the store.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand_distr::{Distribution as _, Zipf};

/// A prime above every key count allowed, so that multiplying by it permutes the numbers below any of them.
const SPREAD_PRIME: u64 = 1_000_000_007;

/// The most keys a run may have.
pub(crate) const KEY_COUNT_MAX: u64 = 1_000_000_000;

/// The length of every key, in bytes.
pub(crate) const KEY_LENGTH: usize = 16;

/// How often each key is touched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// All keys alike.
    Uniform,
    /// The key of rank `k` in proportion to `1 / k^theta` (YCSB's default theta is 0.99).
    Zipf(f64),
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(theta) => write!(f, "zipf:{theta}"),
        }
    }
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "uniform" {
            return Ok(Self::Uniform);
        }
        let theta = text.strip_prefix("zipf:").ok_or("give `uniform` or `zipf:THETA`, as in zipf:0.99")?;
        match theta.parse::<f64>() {
            Ok(theta) if theta > 0.0 && theta <= 10.0 => Ok(Self::Zipf(theta)),
            _ => Err(format!("theta is above 0 and at most 10, not `{theta}`")),
        }
    }
}

/// Draws the numbers of keys.
#[derive(Clone, Debug)]
pub(crate) struct KeyChooser {
    count: u64,
    zipf: Option<Zipf<f64>>,
}

impl KeyChooser {
    /// A chooser among `count` keys, or what is wrong with the arguments.
    pub(crate) fn new(count: u64, distribution: Distribution) -> Result<Self, String> {
        if !(1..=KEY_COUNT_MAX).contains(&count) {
            return Err(format!("the key count is from 1 to {KEY_COUNT_MAX}, not {count}"));
        }
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipf(theta) => Some(Zipf::new(count as f64, theta).map_err(|error| error.to_string())?),
        };
        Ok(Self { count, zipf })
    }

    /// The number of the next key.
    pub(crate) fn choose(&self, random: &mut impl Rng) -> u64 {
        match &self.zipf {
            None => random.random_range(0..self.count),
            // Ranks start at 1. The clamp keeps a rounding error in the sampler's floats from leaving the key space.
            Some(zipf) => self.spread((zipf.sample(random) as u64).clamp(1, self.count) - 1),
        }
    }

    fn spread(&self, rank: u64) -> u64 {
        (u128::from(rank) * u128::from(SPREAD_PRIME) % u128::from(self.count)) as u64
    }
}

/// Writes key number `number` over `key`: `key-` and twelve digits.
pub(crate) fn write_key(number: u64, key: &mut Vec<u8>) {
    const DIGITS: usize = KEY_LENGTH - 4;
    let mut text = *b"key-000000000000";
    let mut rest = number;
    for digit in text[KEY_LENGTH - DIGITS..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key.clear();
    key.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn draw(seed: u64, distribution: Distribution, count: u64, draws: usize) -> Vec<u64> {
        let chooser = KeyChooser::new(count, distribution).unwrap();
        let mut random = SmallRng::seed_from_u64(seed);
        (0..draws).map(|_| chooser.choose(&mut random)).collect()
    }

    #[test]
    fn keys_have_one_length_and_sort_by_number() {
        let texts: Vec<Vec<u8>> = [0, 9, 10, 123_456_789, KEY_COUNT_MAX - 1]
            .into_iter()
            .map(|number| {
                let mut key = b"something before".to_vec();
                write_key(number, &mut key);
                key
            })
            .collect();
        assert_eq!(texts[3], b"key-000123456789");
        assert!(texts.iter().all(|text| text.len() == KEY_LENGTH));
        assert!(texts.is_sorted());
    }

    #[test]
    fn a_seed_gives_the_same_keys_again_and_another_seed_others() {
        for distribution in [Distribution::Uniform, Distribution::Zipf(0.99)] {
            let first = draw(7, distribution, 100_000, 1_000);
            assert_eq!(first, draw(7, distribution, 100_000, 1_000));
            assert_ne!(first, draw(8, distribution, 100_000, 1_000));
            assert!(first.iter().all(|&number| number < 100_000));
        }
    }

    #[test]
    fn the_spread_is_a_permutation() {
        for count in [1, 2, 1_000, 65_536, 99_991] {
            let chooser = KeyChooser::new(count, Distribution::Zipf(0.99)).unwrap();
            let numbers: BTreeSet<u64> = (0..count).map(|rank| chooser.spread(rank)).collect();
            assert_eq!(numbers.len() as u64, count);
            assert_eq!(numbers.last(), Some(&(count - 1)));
        }
    }

    #[test]
    fn zipf_ranks_are_as_frequent_as_the_law_says() {
        const DRAWS: usize = 200_000;
        let (count, theta) = (1_000, 0.99);
        let chooser = KeyChooser::new(count, Distribution::Zipf(theta)).unwrap();
        let mut hits = vec![0usize; count as usize];
        for number in draw(1, Distribution::Zipf(theta), count, DRAWS) {
            hits[number as usize] += 1;
        }
        let total: f64 = (1..=count).map(|rank| (rank as f64).powf(-theta)).sum();
        for rank in [1u64, 2, 10, 100] {
            let expected = DRAWS as f64 * (rank as f64).powf(-theta) / total;
            let found = hits[chooser.spread(rank - 1) as usize] as f64;
            assert!((found - expected).abs() < 5.0 * expected.sqrt() + 1.0, "rank {rank}: {found}, not {expected}");
        }
    }

    #[test]
    fn uniform_reaches_every_key_about_equally() {
        let mut hits = [0usize; 100];
        for number in draw(3, Distribution::Uniform, 100, 100_000) {
            hits[number as usize] += 1;
        }
        assert!(hits.iter().all(|&found| (850..=1_150).contains(&found)), "{hits:?}");
    }

    #[test]
    fn distributions_are_read_as_they_are_written() {
        for text in ["uniform", "zipf:0.99", "zipf:1.2"] {
            assert_eq!(text.parse::<Distribution>().unwrap().to_string(), text);
        }
        for text in ["", "zipf", "zipf:", "zipf:0", "zipf:-1", "zipf:nan", "zipf:11", "normal"] {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
        assert!(KeyChooser::new(0, Distribution::Uniform).is_err());
        assert!(KeyChooser::new(KEY_COUNT_MAX + 1, Distribution::Uniform).is_err());
    }
}
