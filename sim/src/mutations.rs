//! The proof that the simulator finds what is there: each fault of [`Mutation`] is put in, and seeds are run until a law is broken.
//!
//! Which seed finds it does not depend on how many threads look: it is the first of all that do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use drey_core::mutation::{self, Mutation};

use crate::checker::{UNDECIDED, Violation};
use crate::driver::DriverKind;
use crate::pool;
use crate::run::run;
use crate::trace::Text;

/// So many seeds must find nothing while nothing is put in.
const SOUND_SEEDS: u64 = 10;
/// So many are looked through for one that sees what the seed that is named does not see any more.
const MOVED_SEEDS: u64 = 1_000;
/// How much of what was seen is shown.
const SEEN_CHARS_MAX: usize = 200;

/// What is found soonest, by the figures of `docs/mutations.md`.
const SOONEST: &[u8] = &[7, 14, 15, 21, 23, 24, 30, 34, 36, 37];

/// What was wrong with drey once (`docs/bugs-found.md` tells it at greater length), what puts it back, and a seed that sees it then.
const REGRESSIONS: &[(&str, Mutation, u64, DriverKind)] = &[
    ("a member was forgotten too early", Mutation::HardStateNotWithEntries, 101, DriverKind::Queue),
    ("a new voter counted before it was sure", Mutation::ChangeNotConfirmed, 496, DriverKind::Queue),
    ("a clock stayed at 0", Mutation::ClockNeverStamped, 0, DriverKind::Queue),
    ("a leader led on without being a member", Mutation::RemovedLeaderLeads, 190, DriverKind::Queue),
    ("a node was locked out for ever", Mutation::NewcomersAreStrangers, 3, DriverKind::Queue),
    ("a lone voter led before its vote for itself was on disk", Mutation::LoneVoterLeadsEarly, 220, DriverKind::Queue),
    ("a learner was not promoted in an idle group", Mutation::IdleLearnerWaits, 59, DriverKind::Queue),
];

/// Puts back what was wrong once, one after the other: the seed that is named must see it, and see nothing without it. Plans that are
/// drawn in another way make other stories of the same seeds: then another is looked for, and named. False if none sees it.
pub fn none_returns(threads: usize) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let run = |number| {
        let (_, mutation, seed, driver) = REGRESSIONS[number as usize];
        (verdict((seed, driver), Some(mutation)), verdict((seed, driver), None))
    };
    let mut all = true;
    let mut moved = Vec::new();
    pool::each(0..REGRESSIONS.len() as u64, threads, run, |number, verdicts| {
        let (name, mutation, seed, driver) = REGRESSIONS[number as usize];
        let seen = match verdicts {
            (Err(violation), Ok(())) if is_proof(&violation) => violation.law.to_owned(),
            (_, Err(violation)) => {
                all = false;
                format!("also without it: {}", shown(&violation))
            }
            _ => {
                moved.push((name, mutation));
                "not seen any more".to_owned()
            }
        };
        println!("{name}: mutation {}, seed {seed} on {driver}: {seen}", mutation.number());
        true
    });
    for (name, mutation) in moved {
        let looked = look(Some(mutation), MOVED_SEEDS, threads);
        match (&looked.first, &looked.unsound) {
            (Some((seed, violation)), None) => {
                println!(
                    "{name}: mutation {}, seed {seed} sees it now, name that one: {}",
                    mutation.number(),
                    violation.law
                );
            }
            (_, Some((seed, violation))) => {
                println!("{name}: seed {seed} breaks a law without it, too: {}", shown(violation));
                all = false;
            }
            (None, None) => {
                println!("{name}: mutation {}: NOT SEEN by {MOVED_SEEDS} seeds", mutation.number());
                all = false;
            }
        }
    }
    all
}

/// The faults to be put in.
pub fn chosen(only: &[u8], quickest: Option<usize>) -> Vec<Mutation> {
    let soonest = &SOONEST[..quickest.map_or(0, |count| count.min(SOONEST.len()))];
    let wanted = |number: u8| match quickest {
        Some(_) => soonest.contains(&number),
        None => only.is_empty() || only.contains(&number),
    };
    Mutation::ALL.iter().copied().filter(|mutation| wanted(mutation.number())).collect()
}

/// Puts each in and prints what found it. False if one was not found, or something was found with none of them in.
pub fn all_found(mutations: &[Mutation], seeds: u64, threads: usize) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let sound = look(None, SOUND_SEEDS, threads);
    if let Some((seed, violation)) = sound.first {
        println!("seed {seed} breaks a law with no mutation in: {}", shown(&violation));
        return false;
    }
    println!("no mutation: {SOUND_SEEDS} seeds found nothing\n");
    println!("| # | mutation | found by | seeds | seconds |\n| --- | --- | --- | --- | --- |");
    let mut all = true;
    for &mutation in mutations {
        let looked = look(Some(mutation), seeds, threads);
        let (law, count) = match &looked.first {
            Some((seed, violation)) => (violation.law, seed + 1),
            None => ("**not found**", seeds),
        };
        let seconds = looked.elapsed.as_secs_f64();
        println!("| {} | {} | {law} | {count} | {seconds:.1} |", mutation.number(), mutation.text());
        match &looked.first {
            Some((seed, violation)) => eprintln!("    seed {seed}: {}", shown(violation)),
            None => all = false,
        }
        if let Some((seed, violation)) = &looked.unsound {
            println!("seed {seed} breaks a law with no mutation in, too: {}", shown(violation));
            all = false;
        }
        if !looked.passed_over.is_empty() {
            eprintln!("    not counted: {:?}", looked.passed_over);
        }
    }
    all
}

/// What came of looking for one.
struct Looked {
    /// The first seed that broke a law, and which.
    first: Option<(u64, Violation)>,
    /// What is no proof, and how often it happened.
    passed_over: BTreeMap<&'static str, u64>,
    /// A seed that breaks a law without the mutation, too.
    unsound: Option<(u64, Violation)>,
    elapsed: Duration,
}

/// What comes of a seed with this fault in, or with none.
fn verdict((seed, driver): (u64, DriverKind), mutation: Option<Mutation>) -> Result<(), Violation> {
    mutation::set(mutation);
    let report = run(seed, driver, Text::None);
    mutation::set(None);
    report.verdict
}

fn look(mutation: Option<Mutation>, seeds: u64, threads: usize) -> Looked {
    let started = Instant::now();
    let mut looked = Looked { first: None, passed_over: BTreeMap::new(), unsound: None, elapsed: Duration::ZERO };
    let run = |seed| {
        let on_queue = (seed, DriverKind::Queue);
        match verdict(on_queue, mutation) {
            // What is found without the mutation, too, was found by nobody's fault but drey's own, or the simulator's.
            Err(violation) if mutation.is_some() => Err((violation, verdict(on_queue, None).is_err())),
            found => found.map_err(|violation| (violation, false)),
        }
    };
    pool::each(0..seeds, threads, run, |seed, verdict| {
        match verdict {
            Err((violation, true)) => looked.unsound = Some((seed, violation)),
            Err((violation, _)) if mutation.is_some() && !is_proof(&violation) => {
                *looked.passed_over.entry(violation.law).or_default() += 1;
            }
            // Others that were begun may end behind a later one.
            Err((violation, _)) if looked.first.as_ref().is_none_or(|(first, _)| seed < *first) => {
                looked.first = Some((seed, violation));
            }
            _ => {}
        }
        looked.first.is_none()
    });
    Looked { elapsed: started.elapsed(), ..looked }
}

/// Whether it says that something is wrong, and not that nobody knows.
fn is_proof(violation: &Violation) -> bool {
    violation.law != UNDECIDED
}

fn shown(violation: &Violation) -> String {
    violation.to_string().replace('\n', " ").chars().take(SEEN_CHARS_MAX).collect()
}
