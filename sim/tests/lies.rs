//! A checker that lets everything pass is noticed: for each law there is a lie that breaks it, told in whole runs, and that law is the one
//! that is said to be broken.

use drey_sim::driver::DriverKind;
use drey_sim::lies::Lie;
use drey_sim::plan::{AskPlan, Plan};
use drey_sim::pool;
use drey_sim::run::run_plan;
use drey_sim::trace::Text;

/// Seeds are lied to until so many of them have broken a law.
const BROKEN: usize = 4;
/// At most so many.
const SEEDS_MAX: u64 = 16;

/// A plan in which everything is asked.
fn plan(seed: u64, lie: Option<Lie>) -> Plan {
    let asks =
        AskPlan { ids_every: 2, txns: 400, drops: 150, local: 500, counters: 3, lockers: 3, tables: 2, misusers: 1 };
    Plan { asks, lie, ..Plan::draw(seed) }
}

/// The laws that the first seeds break, if they break one.
fn laws_broken(lie: Lie) -> Vec<&'static str> {
    let seeds = (0..SEEDS_MAX).filter(|&seed| !Plan::draw(seed).is_dense());
    let verdicts = seeds.map(|seed| run_plan(&plan(seed, Some(lie)), DriverKind::Queue, Text::None).verdict);
    verdicts.filter_map(|verdict| Some(verdict.err()?.law)).take(BROKEN).collect()
}

#[test]
fn without_a_lie_nothing_is_broken() {
    for seed in 0..8 {
        let report = run_plan(&plan(seed, None), DriverKind::Queue, Text::None);
        assert_eq!(report.verdict, Ok(()), "seed {seed}");
    }
}

/// Some lies break another law, too: what was said to have expired too early is there again, when somebody looks once more.
#[test]
fn each_lie_breaks_its_law() {
    let mut wrong = Vec::new();
    let broken = |number: u64| laws_broken(Lie::ALL[number as usize]);
    pool::each(0..Lie::ALL.len() as u64, pool::cores(), broken, |number, laws| {
        let lie = Lie::ALL[number as usize];
        let meant = laws.iter().filter(|law| **law == lie.law()).count();
        if meant + 1 < BROKEN {
            wrong.push(format!("{lie:?} should break {:?} and broke {laws:?}", lie.law()));
        }
        true
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}
