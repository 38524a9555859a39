//! The same seed, the same trace: every input, every output, every synced byte. Twice in this process, and once in another,
//! where addresses, seeded hashes and the environment differ. `.ci/acceptance/same-traces` compares two builds.

use std::process::Command;

use drey_sim::digest;
use drey_sim::driver::DriverKind;

fn in_another_process(seeds: u64, driver: DriverKind) -> Vec<String> {
    let (seeds, driver) = (seeds.to_string(), driver.to_string());
    let arguments = ["digest", "--seeds", &seeds, "--driver", &driver];
    let output = Command::new(env!("CARGO_BIN_EXE_drey-sim")).args(arguments).env("A_VARIABLE", "more").output();
    let output = output.expect("the simulator starts");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn tells_the_same(seeds: u64, driver: DriverKind) {
    let one = digest::of_all(0..seeds, driver, 2);
    assert_eq!(one.len() as u64, seeds);
    let hashes: std::collections::BTreeSet<_> = one.iter().map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(hashes.len() as u64, seeds, "each seed has a story of its own");
    assert_eq!(one, digest::of_all(0..seeds, driver, 1));
    assert_eq!(one, in_another_process(seeds, driver));
}

#[test]
fn a_hundred_seeds_on_the_queue() {
    tells_the_same(100, DriverKind::Queue);
}

#[test]
fn some_on_turmoil() {
    tells_the_same(10, DriverKind::Turmoil);
}
