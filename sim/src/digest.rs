//! A seed's whole trace as a line: what two processes, or two builds, compare.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::driver::DriverKind;
use crate::pool;
use crate::run::run;
use crate::trace::Text;

/// Of one seed: how many events, and the hash of all that was taken down.
pub fn of(seed: u64, driver: DriverKind) -> String {
    let report = run(seed, driver, Text::None);
    format!("{seed} {driver} {} {:016x}", report.events, report.hash)
}

/// Of many, in their order.
pub fn of_all(seeds: Range<u64>, driver: DriverKind, threads: usize) -> Vec<String> {
    let mut digests = BTreeMap::new();
    pool::each(
        seeds,
        threads,
        |seed| of(seed, driver),
        |seed, digest| {
            digests.insert(seed, digest);
            true
        },
    );
    digests.into_values().collect()
}
