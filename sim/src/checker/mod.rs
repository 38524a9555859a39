//! What must be true of every run, whatever happened in it. Each file is one law; each is tried on histories made by hand,
//! good and broken, so that a checker that lets everything pass is noticed.

pub mod counters;
pub mod durable;
pub mod expiry;
pub mod journals;
pub mod leaders;
pub mod linearizable;
pub mod local;
pub mod locks;
pub mod model;
pub mod scans;
pub mod states;
pub mod versions;

#[cfg(test)]
mod tests;

use std::fmt;

use drey_core::{GroupId, NodeId};

use crate::history::{History, ObjectId, Operation};
use linearizable::Verdict;

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub law: &'static str,
    /// What was seen.
    pub seen: String,
    /// When it could be seen, in simulated milliseconds, if not at the end of the run.
    pub at_ms: Option<u64>,
    /// In which group, if in one.
    pub group: Option<GroupId>,
}

impl Violation {
    /// A broken law and what was seen.
    pub fn new(law: &'static str, seen: impl Into<String>) -> Violation {
        Violation { law, seen: seen.into(), at_ms: None, group: None }
    }

    /// Seen in this operation's answer.
    pub fn seen_in(self, operation: &Operation, group: GroupId) -> Violation {
        let answered_ms = Some(operation.returned_ms).filter(|returned_ms| *returned_ms < u64::MAX);
        Violation { at_ms: answered_ms.or(Some(operation.called_ms)), group: Some(group), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.seen)
    }
}

/// A law.
pub const ONE_VERSION: &str = "one version for each value";
/// Nothing is known to be broken, but nobody knows.
pub const UNDECIDED: &str = "linearizability can be decided";
/// The steps that the search may take for one object. Histories here need some thousands.
const STEPS_MAX: u64 = 3_000_000;

/// Checks all that can be told from what the clients saw.
pub fn check_history(history: &History) -> Result<(), Violation> {
    let objects = history.by_object();
    let check = |(object, operations): (usize, &Vec<&Operation>)| check_object(history, ObjectId(object), operations);
    let told = versions::check(history).and_then(|()| durable::check(history));
    let told = told.and_then(|()| scans::check(history)).and_then(|()| local::check(history));
    told.map_err(|violation| {
        // Where it began is best known by the search.
        let broken = objects.iter().enumerate().filter_map(|broken| check(broken).err());
        let first = broken.filter(|broken| broken.at_ms.is_some()).min_by_key(|broken| broken.at_ms);
        first.map_or(violation.clone(), |Violation { at_ms, group, .. }| Violation { at_ms, group, ..violation })
    })?;
    objects.iter().enumerate().try_for_each(check)
}

fn check_object(history: &History, object: ObjectId, operations: &[&Operation]) -> Result<(), Violation> {
    let gather = |operations: &[&Operation]| model::Versions::gather(operations.iter().copied());
    let known = gather(operations).map_err(|seen| {
        let violation = Violation::new(ONE_VERSION, describe(history, object, operations, &[], &seen));
        let at = (1..=operations.len()).find(|&count| gather(&operations[..count]).is_err()).unwrap_or(1) - 1;
        violation.seen_in(operations[at], history.groups[object.0])
    })?;
    let first = model::State::first(history.own_buckets[object.0]);
    match linearizable::check(first, operations, &known, STEPS_MAX) {
        Verdict::Linearizable => Ok(()),
        Verdict::Broken(longest) => {
            let seen =
                describe(history, object, operations, &longest, "no order of the operations explains the answers");
            let at = &operations[stuck(operations, &longest)];
            Err(Violation::new("linearizability", seen).seen_in(at, history.groups[object.0]))
        }
        Verdict::Undecided => Err(Violation::new(
            UNDECIDED,
            describe(history, object, operations, &[], "undecided: the search ran out of steps"),
        )),
    }
}

/// How many operations around the place where the search got stuck are shown.
const SHOWN_MAX: usize = 40;

/// The first operation that the search could not place.
fn stuck(operations: &[&Operation], longest: &[usize]) -> usize {
    let is_left = |position: &usize| operations[*position].is_completed() && !longest.contains(position);
    (0..operations.len()).find(is_left).unwrap_or(0)
}

fn describe(history: &History, object: ObjectId, operations: &[&Operation], longest: &[usize], what: &str) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{what}; keys {:?} of group {}", history.names[object.0], history.groups[object.0]);
    let first = stuck(operations, longest).saturating_sub(SHOWN_MAX / 2);
    for (position, operation) in operations.iter().enumerate().skip(first).take(SHOWN_MAX) {
        let Operation { client, node, call, called, returned, outcome, called_ms, returned_ms, .. } = operation;
        let place = longest.iter().position(|&placed| placed == position);
        let place = place.map_or_else(|| "-".to_owned(), |place| place.to_string());
        let _ = write!(
            text,
            "\n  {place:>4} [{called}..{returned}] {called_ms}..{returned_ms} ms client {client} node {node}: {call:?} -> {outcome:?}"
        );
    }
    text
}

/// Checks what the nodes themselves report while they run.
#[derive(Default)]
pub struct Watch {
    leaders: leaders::Leaders,
    states: states::States,
}

impl Watch {
    /// A node says that it leads.
    pub fn leads(&mut self, group: GroupId, term: u64, node: NodeId) -> Result<(), Violation> {
        self.leaders.leads(group, term, node)
    }

    /// A node's replica has this state at this index.
    pub fn state(&mut self, group: GroupId, applied: u64, node: NodeId, hash: u64) -> Result<(), Violation> {
        self.states.state(group, applied, node, hash)
    }

    /// How many states were compared with one of another node.
    pub fn states_compared(&self) -> u64 {
        self.states.compared()
    }

    /// How many elections were won.
    pub fn elections(&self) -> usize {
        self.leaders.elections()
    }
}
