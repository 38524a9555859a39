//! Linearizability of one object's history: whether there is an order of its operations, each placed between its call
//! and its return, in which every answer is right.
//!
//! The search is that of Wing and Gong (1993) with Lowe's improvements (2017): depth first over a linked list of calls and
//! returns, with a memory of the (operations placed, state) pairs that were tried. An operation with an unknown outcome has
//! no return: it may be placed anywhere behind its call or nowhere. Those are tried last, since most histories need few
//! of them, and two rules keep their number from exploding. What was reached with fewer of them is at least as good. And
//! none is placed that those placed right behind it make pointless.

use std::collections::HashMap;

use crate::checker::model::{self, State, Versions};
use crate::history::{Operation, Outcome};

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none. Holds the operations that the longest attempt placed, as positions in the history, in its order.
    Broken(Vec<usize>),
    /// The search ran out of steps.
    Undecided,
}

/// Searches for an order, in at most `steps_max` steps. `operations` are those of one object, in the order of calls.
pub fn check(first: State, operations: &[&Operation], versions: &Versions, steps_max: u64) -> Verdict {
    let mut search = Search::new(first, operations, versions);
    for _ in 0..steps_max {
        if search.definite_left == 0 {
            return Verdict::Linearizable;
        }
        if !search.advance() && !search.back() {
            return Verdict::Broken(search.longest);
        }
    }
    Verdict::Undecided
}

/// A call or a return in the list.
struct Event {
    /// Position in the history.
    operation: usize,
    is_return: bool,
    before: usize,
    after: usize,
}

/// The head of the list, which is no event.
const HEAD: usize = 0;
/// Behind the last event.
const END: usize = usize::MAX;

/// A placed operation and what the search needs to take it back.
struct Placed {
    call: usize,
    state: State,
    /// Whether it was found in the second pass, over the operations with unknown outcome.
    unknown: bool,
}

struct Search<'a> {
    operations: &'a [&'a Operation],
    versions: &'a Versions,
    events: Vec<Event>,
    /// Of each operation, the event of its return; its call is elsewhere.
    returns: Vec<Option<usize>>,
    placed: Vec<Placed>,
    /// Of each operation, its bit among those of its kind: with a known outcome or without.
    bits: Vec<usize>,
    definite_set: BitSet,
    unknown_set: BitSet,
    /// For the definite operations placed and the state: the smallest sets of unknown ones that it was reached with.
    tried: HashMap<(BitSet, State), Vec<BitSet>>,
    state: State,
    definite_left: usize,
    /// Where the search for the next operation to place goes on.
    at: usize,
    unknown_pass: bool,
    longest: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(first: State, operations: &'a [&'a Operation], versions: &'a Versions) -> Search<'a> {
        let mut order: Vec<(u64, usize, bool)> = Vec::with_capacity(2 * operations.len());
        for (position, operation) in operations.iter().enumerate() {
            match operation.outcome {
                Outcome::Refused => {}
                _ if operation.call.is_local() => {}
                // An unanswered read says nothing.
                Outcome::Unknown if !operation.call.writes() => {}
                Outcome::Unknown => order.push((operation.called, position, false)),
                _ => {
                    order.push((operation.called, position, false));
                    order.push((operation.returned, position, true));
                }
            }
        }
        order.sort_unstable();
        let mut bits = vec![0; operations.len()];
        let (mut definite, mut unknown) = (0, 0);
        for (bit, operation) in bits.iter_mut().zip(operations) {
            let count = if operation.outcome == Outcome::Unknown { &mut unknown } else { &mut definite };
            *bit = *count;
            *count += 1;
        }
        let mut events = vec![Event { operation: usize::MAX, is_return: false, before: END, after: END }];
        let mut returns = vec![None; operations.len()];
        for (_, operation, is_return) in order {
            let number = events.len();
            events[number - 1].after = number;
            events.push(Event { operation, is_return, before: number - 1, after: END });
            if is_return {
                returns[operation] = Some(number);
            }
        }
        Search {
            operations,
            versions,
            at: events[HEAD].after,
            definite_left: returns.iter().flatten().count(),
            events,
            returns,
            placed: Vec::new(),
            bits,
            definite_set: BitSet::new(definite),
            unknown_set: BitSet::new(unknown),
            tried: HashMap::new(),
            state: first,
            unknown_pass: false,
            longest: Vec::new(),
        }
    }

    /// Places one more operation. False: none of those that may come next fits.
    fn advance(&mut self) -> bool {
        loop {
            // Behind the first return nothing may be placed: that operation must come before.
            if self.at == END || self.events[self.at].is_return {
                if self.unknown_pass {
                    return false;
                }
                self.unknown_pass = true;
                self.at = self.events[HEAD].after;
                continue;
            }
            let operation = self.events[self.at].operation;
            let is_unknown = self.returns[operation].is_none();
            if is_unknown == self.unknown_pass
                && let Some(next) = model::step(self.state, self.operations[operation], self.versions)
                && !(is_unknown && self.makes_pointless(operation, next))
                && self.is_new(operation, next)
            {
                self.place(operation, next);
                return true;
            }
            self.at = self.events[self.at].after;
        }
    }

    /// Whether one of the unknown operations placed last, with nothing definite behind them, could be left out without any
    /// difference to what comes after this one.
    fn makes_pointless(&self, operation: usize, next: State) -> bool {
        let run = self.placed.iter().rev().take_while(|placed| placed.unknown).count();
        let run = &self.placed[self.placed.len() - run..];
        (0..run.len()).any(|left_out| {
            let others = run.iter().enumerate().filter(|(at, _)| *at != left_out);
            let others = others.map(|(_, placed)| self.events[placed.call].operation).chain([operation]);
            let mut state = run[0].state;
            for other in others {
                match model::step(state, self.operations[other], self.versions) {
                    Some(next) => state = next,
                    None => return false,
                }
            }
            state == next
        })
    }

    /// Whether nothing as good was tried before. Marks the operation as placed if so.
    fn is_new(&mut self, operation: usize, next: State) -> bool {
        self.mark(operation, true);
        let reached = self.tried.entry((self.definite_set.clone(), next)).or_default();
        if reached.iter().any(|set| set.is_within(&self.unknown_set)) {
            self.mark(operation, false);
            return false;
        }
        reached.retain(|set| !self.unknown_set.is_within(set));
        reached.push(self.unknown_set.clone());
        true
    }

    fn mark(&mut self, operation: usize, placed: bool) {
        let set = if self.returns[operation].is_none() { &mut self.unknown_set } else { &mut self.definite_set };
        set.set(self.bits[operation], placed);
    }

    fn place(&mut self, operation: usize, next: State) {
        let call = self.at;
        self.unlink(call);
        if let Some(event) = self.returns[operation] {
            self.unlink(event);
            self.definite_left -= 1;
        }
        self.placed.push(Placed { call, state: self.state, unknown: self.unknown_pass });
        if self.placed.len() > self.longest.len() {
            self.longest = self.placed.iter().map(|placed| self.events[placed.call].operation).collect();
        }
        self.state = next;
        self.unknown_pass = false;
        self.at = self.events[HEAD].after;
    }

    /// Takes the last operation back and goes on behind it. False: there is none.
    fn back(&mut self) -> bool {
        let Some(Placed { call, state, unknown }) = self.placed.pop() else { return false };
        let operation = self.events[call].operation;
        if let Some(event) = self.returns[operation] {
            self.relink(event);
            self.definite_left += 1;
        }
        self.relink(call);
        self.mark(operation, false);
        self.state = state;
        self.unknown_pass = unknown;
        self.at = self.events[call].after;
        true
    }

    fn unlink(&mut self, event: usize) {
        let Event { before, after, .. } = self.events[event];
        self.events[before].after = after;
        if after != END {
            self.events[after].before = before;
        }
    }

    /// Undoes the latest `unlink` that was not undone.
    fn relink(&mut self, event: usize) {
        let Event { before, after, .. } = self.events[event];
        self.events[before].after = event;
        if after != END {
            self.events[after].before = event;
        }
    }
}

/// A set of small numbers below a bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BitSet(Box<[u64]>);

impl BitSet {
    fn new(bound: usize) -> BitSet {
        BitSet(vec![0; bound.div_ceil(64)].into())
    }

    fn set(&mut self, bit: usize, value: bool) {
        let mask = 1 << (bit % 64);
        let word = &mut self.0[bit / 64];
        *word = if value { *word | mask } else { *word & !mask };
    }

    fn is_within(&self, other: &BitSet) -> bool {
        self.0.iter().zip(&other.0).all(|(one, other)| one & !other == 0)
    }
}
