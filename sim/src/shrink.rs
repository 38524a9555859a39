//! Less that still fails: of a plan that breaks a law, what can be left out, one thing after the other, so that the same law is still
//! broken. What chance decides shifts with whatever is left out, so that each attempt has a few seeds' chance.

use crate::changes::{Cause, Changes};
use crate::driver::DriverKind;
use crate::plan::Plan;
use crate::run::{Report, run_plan};
use crate::trace::Text;

/// Beside the chance that there is: so many others for each attempt.
const OTHER_CHANCES: u64 = 5;
/// Numbers become so many per cent of what they are, the fewest first.
const PER_CENT: &[u64] = &[10, 50, 75, 90];
/// The shortest time of faults worth trying, and what the tried ones are multiples of.
const FAULTS_MS_GRAIN: u64 = 500;

/// What came of it.
pub struct Shrunk {
    /// The run of the smallest plan that was found. It fails.
    pub report: Report,
    /// How many runs it took.
    pub runs: u64,
}

/// Looks for the smallest plan that breaks the same law as this one, and says each step that held. None: this one breaks none.
pub fn shrink(whole: &Plan, driver: DriverKind, mut say: impl FnMut(&str)) -> Option<Shrunk> {
    let report = run_plan(whole, driver, Text::None);
    let law = report.verdict.as_ref().err()?.law;
    let mut shrinking = Shrinking { whole, driver, law, report, runs: 1 };
    loop {
        let mut helped = false;
        for kind in Kind::ALL {
            // The same again, as long as it helps.
            while let Some(step) = shrinking.step(*kind) {
                say(&step);
                helped = true;
            }
        }
        if !helped {
            return Some(Shrunk { report: shrinking.report, runs: shrinking.runs });
        }
    }
}

/// What is made less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    FaultsMs,
    Clients,
    Causes,
    Spares,
    Nodes,
    Groups,
    Shards,
    Objects,
    Operations,
}

impl Kind {
    /// First what makes all further attempts quick.
    const ALL: &'static [Kind] = &[
        Kind::FaultsMs,
        Kind::Clients,
        Kind::Causes,
        Kind::Spares,
        Kind::Nodes,
        Kind::Groups,
        Kind::Shards,
        Kind::Objects,
        Kind::Operations,
    ];
}

struct Shrinking<'a> {
    whole: &'a Plan,
    driver: DriverKind,
    law: &'static str,
    /// Of the smallest that fails.
    report: Report,
    runs: u64,
}

impl Shrinking<'_> {
    /// Makes one thing less, if the law still breaks then. Answers what.
    fn step(&mut self, kind: Kind) -> Option<String> {
        for changes in self.less(kind) {
            let said = difference(&self.report.plan.changes, &changes);
            if let Some(report) = self.fails(&changes) {
                let at_ms = report.verdict.as_ref().err().and_then(|violation| violation.at_ms);
                let at = at_ms.map_or(String::new(), |at_ms| format!(", at {:.3} s", at_ms as f64 / 1000.0));
                self.report = report;
                return Some(format!("{said}: still fails{at}"));
            }
        }
        None
    }

    /// A run of these changes that breaks the law: with the chance as it is, or with another one.
    fn fails(&mut self, changes: &Changes) -> Option<Report> {
        let others = (1..=OTHER_CHANCES).map(|number| Some(self.whole.of_seed.wrapping_add(number)));
        let present = changes.chance_of;
        for chance_of in [present].into_iter().chain(others.filter(|other| *other != present)) {
            let plan = Changes { chance_of, ..changes.clone() }.apply(self.whole);
            let report = run_plan(&plan, self.driver, Text::None);
            self.runs += 1;
            if report.verdict.as_ref().is_err_and(|violation| violation.law == self.law) {
                return Some(report);
            }
        }
        None
    }

    /// What to try, the greatest step first.
    fn less(&self, kind: Kind) -> Vec<Changes> {
        let plan = &self.report.plan;
        let changes = &plan.changes;
        let clients = &plan.clients;
        match kind {
            Kind::Causes => self.without(),
            Kind::FaultsMs => {
                let broken_ms = self.report.verdict.as_ref().err().and_then(|violation| violation.at_ms);
                let until_broken = broken_ms.map(|at_ms| at_ms.next_multiple_of(FAULTS_MS_GRAIN));
                let times = fewer(plan.faults_ms, FAULTS_MS_GRAIN).into_iter().chain(until_broken);
                let times = times.map(|ms| ms.next_multiple_of(FAULTS_MS_GRAIN)).filter(|ms| *ms < plan.faults_ms);
                times.map(|ms| Changes { faults_ms: Some(ms), ..changes.clone() }).collect()
            }
            Kind::Spares => sizes(plan.spares, 0, |spares| Changes { spares, ..changes.clone() }),
            Kind::Nodes => sizes(plan.nodes, 1, |nodes| Changes { nodes, ..changes.clone() }),
            Kind::Groups => sizes(plan.groups as usize, 1, |groups| {
                let groups = groups.map(|groups| groups as u32);
                Changes { groups, ..changes.clone() }
            }),
            Kind::Shards => {
                let most = plan.shards.iter().copied().max().unwrap_or(1);
                sizes(most as usize, 1, |shards| {
                    let shards = shards.map(|shards| shards as u32);
                    Changes { shards, ..changes.clone() }
                })
            }
            Kind::Clients => sizes(clients.clients, 1, |clients| Changes { clients, ..changes.clone() }),
            Kind::Objects => {
                // As many as a workload of this size has, at most.
                let present = clients.objects_max.min(crate::workload::objects_in_use(clients.clients));
                sizes(present, 1, |objects| Changes { objects, ..changes.clone() })
            }
            Kind::Operations => {
                let present = clients.operations_max.min(self.report.operations);
                sizes(present, 1, |operations| Changes { operations, ..changes.clone() })
            }
        }
    }

    /// Without any of what is left, without a half of it, and without each by itself.
    fn without(&self) -> Vec<Changes> {
        let changes = &self.report.plan.changes;
        let matters = |cause: &&Cause| {
            let more = Changes { without: with(&changes.without, &[**cause]), ..changes.clone() };
            !changes.without.contains(cause) && !is_same(&more.apply(self.whole), &self.report.plan)
        };
        let left: Vec<Cause> = Cause::all().iter().filter(matters).copied().collect();
        let halves = left.chunks(left.len().div_ceil(2).max(1)).filter(|half| half.len() > 1);
        let sets = std::iter::once(&left[..]).filter(|all| all.len() > 1).chain(halves).chain(left.chunks(1));
        sets.map(|set| Changes { without: with(&changes.without, set), ..changes.clone() }).collect()
    }
}

fn with(without: &[Cause], more: &[Cause]) -> Vec<Cause> {
    let mut causes = [without, more].concat();
    causes.sort_unstable();
    causes
}

/// Whether two plans are the same but for what was said to be changed.
fn is_same(one: &Plan, other: &Plan) -> bool {
    let said = |plan: &Plan| format!("{:?}", Plan { changes: Changes::default(), ..plan.clone() });
    said(one) == said(other)
}

/// Less of a number, down to `least`.
fn fewer(number: u64, least: u64) -> Vec<u64> {
    let mut fewer: Vec<u64> = PER_CENT.iter().map(|per_cent| (number * per_cent / 100).max(least)).collect();
    fewer.insert(0, least);
    fewer.push(number.saturating_sub(1).max(least));
    fewer.retain(|less| *less < number);
    fewer.dedup();
    fewer
}

fn sizes(number: usize, least: u64, change: impl Fn(Option<usize>) -> Changes) -> Vec<Changes> {
    fewer(number as u64, least).into_iter().map(|less| change(Some(less as usize))).collect()
}

/// What the second leaves out beside the first, as the command line says it.
fn difference(one: &Changes, other: &Changes) -> String {
    let new = |cause: &&Cause| !one.without.contains(cause);
    let words = |changes: &Changes| {
        let only_numbers = Changes { without: Vec::new(), ..changes.clone() };
        only_numbers.to_string().split(" --").skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let had = words(one);
    let without: Vec<_> = other.without.iter().filter(new).map(Cause::to_string).collect();
    let mut said: Vec<_> = words(other).into_iter().filter(|word| !had.contains(word)).collect();
    if !without.is_empty() {
        said.insert(0, format!("without {}", without.join(", ")));
    }
    said.join(", ")
}

/// How a plan differs from the whole one, for people.
pub fn differences(whole: &Plan, plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if !plan.changes.without.is_empty() {
        let causes: Vec<_> = plan.changes.without.iter().map(Cause::to_string).collect();
        lines.push(format!("without {}", causes.join(", ")));
    }
    let shards = |plan: &Plan| u64::from(plan.shards.iter().copied().max().unwrap_or(1));
    let numbers = [
        ("nodes", whole.nodes as u64, plan.nodes as u64),
        ("spares", whole.spares as u64, plan.spares as u64),
        ("groups", whole.groups.into(), plan.groups.into()),
        ("shards at most", shards(whole), shards(plan)),
        ("clients", whole.clients.clients as u64, plan.clients.clients as u64),
        ("ms of faults", whole.faults_ms, plan.faults_ms),
    ];
    let changed = numbers.into_iter().filter(|(_, before, now)| before != now);
    lines.extend(changed.map(|(name, before, now)| format!("{now} {name} instead of {before}")));
    let limits = [
        ("objects in use", whole.clients.objects_max, plan.clients.objects_max),
        ("operations of the clients' own choice", whole.clients.operations_max, plan.clients.operations_max),
    ];
    let limited = limits.into_iter().filter(|(_, before, now)| before != now);
    lines.extend(limited.map(|(name, _, now)| format!("at most {now} {name}")));
    lines.extend(plan.changes.chance_of.map(|seed| format!("what chance decides beside the plan is seed {seed}'s")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_less_the_least_first() {
        assert_eq!(fewer(100, 1), [1, 10, 50, 75, 90, 99]);
        assert_eq!(fewer(5, 1), [1, 2, 3, 4]);
        assert_eq!(fewer(2, 1), [1]);
        assert_eq!(fewer(1, 1), []);
        assert_eq!(fewer(0, 0), []);
    }

    #[test]
    fn a_step_is_said_as_what_is_new_in_it() {
        let one = Changes { without: vec![Cause::Kills], nodes: Some(3), ..Changes::default() };
        let other = Changes { without: vec![Cause::Partitions, Cause::Kills], nodes: Some(1), ..one.clone() };
        assert_eq!(difference(&one, &other), "without partitions, nodes 1");
        assert_eq!(difference(&one, &one), "");
    }

    #[test]
    fn what_is_not_in_a_plan_is_not_left_out_of_it() {
        let plan = Plan::draw(1);
        let without_it = Plan { reshard: 0, ..plan.clone() };
        assert!(is_same(&plan, &Plan { changes: Changes { nodes: Some(9), ..Changes::default() }, ..plan.clone() }));
        assert!(!is_same(&plan, &without_it));
    }
}
