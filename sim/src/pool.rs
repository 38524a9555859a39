//! Many seeds on several threads: each run is on one, and they share nothing.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

/// Runs each seed and takes what comes of it, as it comes, until there is no more or `take` says that it is enough (false).
pub fn each<T: Send>(
    seeds: Range<u64>,
    threads: usize,
    run: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(u64, T) -> bool,
) {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (sender, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (next, stop, run, sender, end) = (&next, &stop, &run, sender.clone(), seeds.end);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || sender.send((seed, run(seed))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (seed, result) in results {
            if !take(seed, result) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// As many threads as there are cores.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_runs_once() {
        let mut seen = Vec::new();
        each(
            3..40,
            4,
            |seed| seed * 2,
            |seed, double| {
                assert_eq!(double, 2 * seed);
                seen.push(seed);
                true
            },
        );
        seen.sort_unstable();
        assert_eq!(seen, (3..40).collect::<Vec<_>>());
    }

    #[test]
    fn enough_is_enough() {
        let mut taken = 0;
        each(
            0..1_000_000,
            2,
            |seed| seed,
            |_, _| {
                taken += 1;
                taken < 10
            },
        );
        assert!((10..1_000_000).contains(&taken), "{taken}");
    }
}
