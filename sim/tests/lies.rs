//! A checker that lets everything pass is noticed: for each law there is a lie that breaks it, told in whole runs, and that law is the one
//! that is said to be broken.

use drey_sim::driver::DriverKind;
use drey_sim::lies::Lie;
use drey_sim::plan::{AskPlan, Plan};
use drey_sim::pool;
use drey_sim::run::run_plan;
use drey_sim::trace::Text;

/// Seeds are lied to until so many of them have broken the law that is meant: twice is no chance.
const BROKEN: usize = 2;
/// At most so many.
const SEEDS_MAX: u64 = 40;

/// A plan in which everything is asked.
fn plan(seed: u64, lie: Option<Lie>) -> Plan {
    let asks = AskPlan {
        ids_every: 2,
        txns: 400,
        drops: 150,
        local: 500,
        counters: 3,
        lockers: 3,
        tables: 2,
        misusers: 1,
        hoarders: 1,
        ..AskPlan::default()
    };
    Plan { asks, lie, ..Plan::draw(seed) }
}

/// How many seeds break the law that is meant, and which laws others break.
fn laws_broken(lie: Lie) -> (usize, Vec<&'static str>) {
    let seeds = (0..SEEDS_MAX).filter(|&seed| !Plan::draw(seed).is_dense());
    let (mut meant, mut others) = (0, Vec::new());
    for seed in seeds {
        match run_plan(&plan(seed, Some(lie)), DriverKind::Queue, Text::None).verdict {
            Err(violation) if violation.law == lie.law() => meant += 1,
            Err(violation) => others.push(violation.law),
            Ok(()) => {}
        }
        if meant == BROKEN {
            break;
        }
    }
    (meant, others)
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
    pool::each(0..Lie::ALL.len() as u64, pool::cores(), broken, |number, (meant, others)| {
        let lie = Lie::ALL[number as usize];
        if meant < BROKEN {
            wrong.push(format!("{lie:?} should break {:?}, did so {meant} times, and broke {others:?}", lie.law()));
        }
        true
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}
