//! Two hundred whole clusters with their faults, each run twice. In four parts, so that they use more than one core.

use std::ops::Range;

use drey_sim::driver::DriverKind;
use drey_sim::plan::Plan;
use drey_sim::report;
use drey_sim::run::{run_plan, run_twice};
use drey_sim::trace::Text;

fn all_hold(seeds: Range<u64>) {
    let mut totals = drey_sim::totals::Totals::default();
    for seed in seeds {
        let report = run_twice(seed, DriverKind::Turmoil);
        if let Some(failure) = report::failure(&report) {
            panic!("{}\n{failure}", report::line(&report));
        }
        totals.add(&report);
    }
    println!("{totals}");
}

#[test]
fn seeds_0_to_49() {
    all_hold(0..50);
}

#[test]
fn seeds_50_to_99() {
    all_hold(50..100);
}

#[test]
fn seeds_100_to_149() {
    all_hold(100..150);
}

#[test]
fn seeds_150_to_199() {
    all_hold(150..200);
}

/// The whole chain from a disk to a checker: disks that forget what they said was synced are found out.
#[test]
fn disks_that_lie_are_found_out() {
    let lie = |seed| Plan { disks_lie: true, ..Plan::draw(seed) };
    let found = (0..12).filter(|&seed| run_plan(&lie(seed), DriverKind::Turmoil, Text::None).verdict.is_err()).count();
    assert!(found >= 4, "only {found} of 12 seeds noticed");
}
