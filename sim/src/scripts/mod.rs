//! Clients that follow a script: each asks what the answers before make it ask, as programs do. They are beside those of
//! [`crate::workload`], in some of the seeds, and look at what a search for an order cannot take in: long histories of few keys.

pub mod counters;
pub mod hoard;
pub mod journal;
pub mod locks;
pub mod misuse;
pub mod movers;
pub mod table;

use drey_core::Error;
use drey_core::request::{Operation, Reply};

use crate::checker::Violation;
use crate::plan::Plan;
use crate::sessions::was_not_proposed;
use crate::workload::Workload;

/// What a client sees of the world when it asks or is answered.
pub struct Scene<'a> {
    /// Simulated time.
    pub ms: u64,
    /// The position in the one sequence of all calls and returns.
    pub event: u64,
    /// What the other clients ask about.
    pub workload: &'a Workload,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What.
    pub operation: Operation,
    /// Of this host; any will do if none.
    pub host: Option<usize>,
}

impl Ask {
    /// Of any host.
    pub fn any(operation: Operation) -> Ask {
        Ask { operation, host: None }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// It was done.
    Reply(&'a Reply),
    /// It never will be, as things stand.
    Error(&'a Error),
    /// It was not, and never will be, by no fault of the one who asked.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl<'a> Answer<'a> {
    /// What an answer says, or that there was none.
    pub fn of(answer: Option<&'a Result<Reply, Error>>) -> Answer<'a> {
        match answer {
            Some(Ok(reply)) => Answer::Reply(reply),
            None | Some(Err(Error::OutcomeUnknown | Error::DeadlineExceeded)) => Answer::Unknown,
            Some(Err(error)) if was_not_proposed(error) => Answer::Refused,
            Some(Err(error)) => Answer::Error(error),
        }
    }

    /// The same to one who knows that the bucket is only about to be made.
    pub fn before_buckets(self) -> Answer<'a> {
        match self {
            Answer::Error(Error::BucketNotFound(_)) => Answer::Refused,
            answer => answer,
        }
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The host that was asked, if it was not more than one.
    pub host: usize,
    /// Its process did not end meanwhile.
    pub same_process: bool,
}

/// What some clients do.
pub trait Script {
    /// What one of its clients asks now, if anything.
    fn next(&mut self, client: usize, scene: &Scene<'_>) -> Option<Ask>;

    /// What came of it. An error when a law is broken.
    fn answered(&mut self, client: usize, answer: Answer<'_>, place: Place, scene: &Scene<'_>)
    -> Result<(), Violation>;

    /// So many last looks are to be made at the end.
    fn looks(&self) -> usize;

    /// One of them.
    fn look(&self, number: usize) -> Operation;

    /// What it showed.
    fn looked(&mut self, number: usize, reply: &Reply) -> Result<(), Violation>;

    /// Checks all that was seen.
    fn check(&self) -> Result<(), Violation>;
}

/// The scripts of a plan, each with how many clients it has.
pub fn of(plan: &Plan, workload: &Workload) -> Vec<(usize, Box<dyn Script>)> {
    let mut scripts: Vec<(usize, Box<dyn Script>)> = Vec::new();
    let asks = plan.asks;
    if asks.counters > 0 {
        scripts.push((asks.counters, Box::new(counters::Counters::new(plan, &workload.buckets))));
    }
    if asks.lockers > 0 {
        scripts.push((asks.lockers, Box::new(locks::Locks::new(plan, &workload.buckets))));
    }
    if asks.tables > 0 {
        scripts.push((asks.tables, Box::new(table::Table::new(plan, &workload.buckets))));
    }
    if asks.writers > 0 {
        scripts.push((asks.writers, Box::new(journal::Journal::new(plan, &workload.buckets))));
    }
    if asks.movers > 0 {
        scripts.push((asks.movers, Box::new(movers::Movers::new(plan))));
    }
    if asks.hoarders > 0 {
        scripts.push((asks.hoarders, Box::new(hoard::Hoard::new(plan))));
    }
    if asks.misusers > 0 {
        scripts.push((asks.misusers, Box::new(misuse::Misuse::new(plan))));
    }
    scripts
}

/// An answer that this question cannot have.
pub fn misfit(what: impl std::fmt::Debug, answer: Answer<'_>) -> Violation {
    Violation::new("answers fit their questions", format!("{what:?} was answered with {answer:?}"))
}
