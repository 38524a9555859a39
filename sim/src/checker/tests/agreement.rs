//! The search for an order against two others: one that tries every order, and that of another library, written by others.

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History as TheirHistory};
use todc_utils::specifications::etcd::{EtcdOperation, EtcdSpecification, EtcdStatus};

use super::*;
use crate::history::ValueId;
use crate::rng::Rng;

/// Searches as the checkers do, with nothing known of versions.
fn found_by_us(operations: &[&Operation]) -> bool {
    let first = model::State::first(false);
    linearizable::check(first, operations, &model::Versions::default(), 1_000_000) == Verdict::Linearizable
}

/// Random histories of a register that does what it should pass, and so does a slow search without any cleverness; with one
/// answer changed, the two agree whether it is broken.
#[test]
fn the_search_agrees_with_trying_all_orders() {
    let (mut broken, mut fine) = (0, 0);
    for seed in 0..3000 {
        let made = random_history(seed);
        let operations: Vec<&Operation> = made.history.operations.iter().collect();
        let expected = all_orders(&operations, &mut vec![false; operations.len()], model::State::first(false));
        assert_eq!(found_by_us(&operations), expected, "seed {seed}: {operations:#?}");
        if expected { fine += 1 } else { broken += 1 }
    }
    assert!(broken > 300 && fine > 300, "{broken} broken, {fine} fine");
}

fn random_history(seed: u64) -> Made {
    let mut rng = Rng::new(seed);
    let mut made = Made::new();
    let mut called = 0;
    for number in 1..=7u32 {
        called += rng.between(0, 2);
        let at = (called, called + rng.between(0, 5));
        let written = rng.between(1, u64::from(number)) as u32;
        made = match rng.below(6) {
            0 => made.get(at, None),
            1 | 2 => made.get(at, Some((written, u64::from(written)))),
            3 => made.put_unknown(at, number),
            4 => made.delete(at, rng.chance(500), 0),
            _ => made.put(at, number, u64::from(number)),
        };
    }
    made
}

/// Tries every order that respects the times.
fn all_orders(operations: &[&Operation], placed: &mut Vec<bool>, state: model::State) -> bool {
    let definite = |at: usize| operations[at].outcome != Outcome::Unknown;
    if (0..operations.len()).all(|at| placed[at] || !definite(at)) {
        return true;
    }
    let deadline =
        (0..operations.len()).filter(|&at| !placed[at] && definite(at)).map(|at| operations[at].returned).min();
    for at in 0..operations.len() {
        if placed[at] || Some(operations[at].called) > deadline {
            continue;
        }
        if let Some(next) = model::step(state, operations[at], &model::Versions::default()) {
            placed[at] = true;
            let found = all_orders(operations, placed, next);
            placed[at] = false;
            if found {
                return true;
            }
        }
    }
    false
}

/// What one process of a register does: reads, writes, and writes of which one compares.
#[derive(Clone, Copy, Debug)]
enum Did {
    Read(Option<ValueId>),
    Write(ValueId),
    Swap { expected: ValueId, value: ValueId, swapped: bool },
}

/// One operation under way.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    did: Did,
    called: u64,
    happened: bool,
}

/// An operation of a process, from its call to its return; none: nobody knows what became of it.
#[derive(Clone, Copy, Debug)]
struct Finished {
    did: Did,
    called: u64,
    returned: Option<u64>,
}

/// Some processes use a register that does what it should, one step of one of them at a time: a call, the moment in which it happens, a
/// return. Few values, so that wrong answers are often possible ones.
fn use_register(rng: &mut Rng) -> Vec<Finished> {
    let processes = rng.between(2, 5) as usize;
    let (mut under_way, mut finished) = (vec![None::<UnderWay>; processes], Vec::new());
    let mut register = None;
    for now in 1..rng.between(20, 60) {
        let process = rng.below(processes as u64) as usize;
        let value = |rng: &mut Rng| rng.between(1, 4) as ValueId;
        under_way[process] = match under_way[process] {
            None => {
                let did = match rng.below(5) {
                    0 | 1 => Did::Read(None),
                    2 => Did::Write(value(rng)),
                    _ => Did::Swap { expected: value(rng), value: value(rng), swapped: false },
                };
                Some(UnderWay { did, called: now, happened: false })
            }
            // Given up before anybody knows: it may have happened, and never will otherwise.
            Some(UnderWay { did, called, .. }) if !matches!(did, Did::Read(_)) && rng.chance(80) => {
                finished.push(Finished { did, called, returned: None });
                None
            }
            Some(UnderWay { did, called, happened: false }) => {
                Some(UnderWay { did: happen(did, &mut register), called, happened: true })
            }
            Some(UnderWay { did, called, happened: true }) => {
                finished.push(Finished { did, called, returned: Some(now) });
                None
            }
        };
    }
    for left in under_way {
        let left = left.filter(|left| !matches!(left.did, Did::Read(_)));
        finished.extend(left.map(|UnderWay { did, called, .. }| Finished { did, called, returned: None }));
    }
    finished.sort_unstable_by_key(|finished| finished.called);
    finished
}

fn happen(did: Did, register: &mut Option<ValueId>) -> Did {
    match did {
        Did::Read(_) => Did::Read(*register),
        Did::Write(value) => {
            *register = Some(value);
            did
        }
        Did::Swap { expected, value, .. } => {
            let swapped = *register == Some(expected);
            if swapped {
                *register = Some(value);
            }
            Did::Swap { expected, value, swapped }
        }
    }
}

/// Changes one answer.
fn lie(finished: &mut [Finished], rng: &mut Rng) {
    let answered: Vec<usize> = (0..finished.len()).filter(|&at| finished[at].returned.is_some()).collect();
    if answered.is_empty() {
        return;
    }
    let liar = &mut finished[*rng.pick(&answered)];
    liar.did = match liar.did {
        Did::Read(_) => Did::Read(Some(rng.between(1, 4) as ValueId)),
        Did::Write(_) => Did::Write(rng.between(1, 4) as ValueId),
        Did::Swap { expected, value, swapped } => Did::Swap { expected, value, swapped: !swapped },
    };
}

fn ours(finished: &[Finished]) -> Made {
    finished.iter().fold(Made::new(), |made, Finished { did, called, returned }| {
        let (call, outcome) = match *did {
            Did::Read(value) => (Call::Read(vec![0]), Outcome::Read(vec![value.map(|value| (value, 1))])),
            Did::Write(value) => {
                let outcome = Outcome::Put { applied: true, version: 1, previous: None };
                (Call::Put { slot: 0, value, guard: None }, outcome)
            }
            Did::Swap { expected, value, swapped } => {
                let (compare, success) = (vec![(0, Guard::ValueIs(expected))], vec![Step::Put(0, value)]);
                let results = if swapped { vec![(1, None)] } else { Vec::new() };
                let outcome = Outcome::Txn { succeeded: swapped, version: 1, results };
                (Call::Txn { compare, success, failure: Vec::new() }, outcome)
            }
        };
        let outcome = if returned.is_some() { outcome } else { Outcome::Unknown };
        made.operation((*called, returned.unwrap_or(1_000)), call, outcome)
    })
}

/// Their histories have a return for each call: at the end for those of which nobody knows, so that they may happen when it matters
/// no more. Each has a process of its own.
fn theirs(finished: &[Finished]) -> TheirHistory<EtcdOperation> {
    let mut actions = Vec::new();
    for (process, Finished { did, called, returned }) in finished.iter().enumerate() {
        let operation = |status| match *did {
            Did::Read(value) => EtcdOperation::Read(status, value),
            Did::Write(value) => EtcdOperation::Write(status, value),
            Did::Swap { expected, value, .. } => EtcdOperation::CompareAndSwap(status, (expected, value)),
        };
        let status = match (returned, did) {
            (None, _) => EtcdStatus::Unknown,
            (_, Did::Swap { swapped: false, .. }) => EtcdStatus::Fail,
            _ => EtcdStatus::Okay,
        };
        actions.push((*called, (process, Action::Call(operation(EtcdStatus::Invoke)))));
        actions.push((returned.unwrap_or(1_000), (process, Action::Response(operation(status)))));
    }
    actions.sort_by_key(|(at, _)| *at);
    TheirHistory::from_actions(actions.into_iter().map(|(_, action)| action).collect())
}

#[test]
fn the_search_agrees_with_another_library() {
    let (mut broken, mut fine, mut unknown) = (0, 0, 0);
    for seed in 0..6_000 {
        let rng = &mut Rng::stream(seed, "register", 0);
        let mut finished = use_register(rng);
        if finished.is_empty() {
            continue;
        }
        let lies = rng.chance(700);
        if lies {
            lie(&mut finished, rng);
        }
        let made = ours(&finished);
        let operations: Vec<&Operation> = made.history.operations.iter().collect();
        let expected = WGLChecker::<EtcdSpecification>::is_linearizable(theirs(&finished));
        assert!(expected || lies, "seed {seed}: the register does what it should: {finished:#?}");
        assert_eq!(found_by_us(&operations), expected, "seed {seed}: {finished:#?}");
        unknown += usize::from(finished.iter().any(|finished| finished.returned.is_none()));
        if expected { fine += 1 } else { broken += 1 }
    }
    assert!(
        broken > 1_500 && fine > 1_500 && unknown > 1_500,
        "{broken} broken, {fine} fine, {unknown} with unknown outcomes"
    );
}
