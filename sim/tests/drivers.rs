//! The same seeds on both drivers: what one finds the other finds, and what is good passes on both.

use drey_sim::driver::DriverKind;
use drey_sim::plan::Plan;
use drey_sim::report;
use drey_sim::run::{Report, run, run_plan};
use drey_sim::trace::Text;

const BOTH: [DriverKind; 2] = [DriverKind::Turmoil, DriverKind::Queue];

fn holds(report: &Report) {
    if let Some(failure) = report::failure(report) {
        panic!("{}\n{failure}", report::line(report));
    }
}

#[test]
fn good_code_passes_on_both() {
    for seed in 200..220 {
        let [turmoil, queue] = BOTH.map(|driver| run(seed, driver, Text::None));
        [&turmoil, &queue].into_iter().for_each(holds);
        assert_ne!(turmoil.hash, queue.hash, "seed {seed}: two drivers cannot tell the same story");
        let kinds = [&turmoil, &queue].map(|report| report.faults.kinds());
        assert!(kinds[0].abs_diff(kinds[1]) < 10, "seed {seed}: {kinds:?} kinds of faults");
    }
}

/// Disks that forget what they said was synced: no power cut without a loss, sooner or later.
#[test]
fn a_planted_fault_is_found_on_both() {
    let lie = |seed| Plan { disks_lie: true, ..Plan::draw(seed) };
    let found = BOTH.map(|driver| {
        (0..20).filter(|&seed| run_plan(&lie(seed), driver, Text::None).verdict.is_err()).collect::<Vec<_>>()
    });
    assert!(found.iter().all(|seeds| seeds.len() >= 7), "{found:?}");
    let by_both = found[0].iter().filter(|seed| found[1].contains(seed)).count();
    assert!(by_both >= 4, "{found:?}");
}
