//! A run that fails on purpose becomes a smaller one that fails alike, and the flags that are printed for it say the same run.

use std::process::Command;

use drey_sim::changes::Changes;
use drey_sim::driver::DriverKind;
use drey_sim::plan::Plan;
use drey_sim::report;
use drey_sim::run::{Report, run_plan};
use drey_sim::shrink::{differences, shrink};
use drey_sim::trace::Text;

/// Disks that forget what they said was synced.
fn lying(seed: u64) -> Plan {
    Changes { disks_lie: true, ..Changes::default() }.plan(seed)
}

fn law(report: &Report) -> Option<&'static str> {
    report.verdict.as_ref().err().map(|violation| violation.law)
}

#[test]
fn a_plan_that_fails_becomes_smaller_and_fails_alike() {
    let whole = lying(0);
    let failed = run_plan(&whole, DriverKind::Queue, Text::None);
    let mut steps = Vec::new();
    let shrunk = shrink(&whole, DriverKind::Queue, |step| steps.push(step.to_owned())).expect("it fails");
    let plan = &shrunk.report.plan;
    assert!(law(&failed).is_some());
    assert_eq!(law(&shrunk.report), law(&failed));
    assert!(steps.len() > 5, "{steps:#?}");
    assert!(plan.changes.without.len() > 8, "{:?}", plan.changes);
    assert!(plan.nodes <= whole.nodes && plan.clients.clients < whole.clients.clients, "{:?}", plan.changes);
    assert!(plan.faults_ms < whole.faults_ms / 2, "{:?}", plan.changes);
    assert!(shrunk.report.operations < failed.operations, "{:?}", plan.changes);
    assert!(differences(&whole, plan).len() > 3);

    // The same plan, from the words on a command line, is the same run.
    let line = report::command(&shrunk.report, "run");
    let arguments: Vec<&str> = line.split(" -- ").nth(1).expect("what cargo hands on").split(' ').collect();
    let output = Command::new(env!("CARGO_BIN_EXE_drey-sim")).args(&arguments).output().expect("the simulator starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(&format!("trace {:016x}", shrunk.report.hash)), "{line}\n{said}");
    assert!(said.contains(&format!("breaks a law: {}", law(&failed).unwrap_or_default())), "{said}");
    assert!(said.contains(&line), "{said}");
}

#[test]
fn what_breaks_no_law_is_not_shrunk() {
    assert!(shrink(&Plan::draw(1), DriverKind::Queue, |step| panic!("{step}")).is_none());
}
