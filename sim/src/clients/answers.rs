//! What an answer means to the client that waits for it, and what it does when none comes.

use std::sync::Arc;

use drey_core::placement::group_of;
use drey_core::request::Reply;
use drey_core::system::SystemWrite;
use drey_core::{Error, RequestId};

use super::{Asked, Clients, State, Task};
use crate::checker::Violation;
use crate::history::Outcome;
use crate::sessions::{Repeatable, Settled};
use crate::shared::Shared;
use crate::timed::TimedId;

/// Until a task that failed is tried again.
const TASK_RETRY_MS: u64 = 100;
/// A write that comes again after it was answered does so much later, at most.
const STRAY_AFTER_MS_MAX: u64 = 4_000;

impl Clients {
    pub(super) fn answered(&mut self, id: RequestId, mut answer: Result<Reply, Error>, shared: &mut Shared) {
        let Some(client) = self.waiting_for(id) else { return };
        let rng = if self.follower(client).is_some() { &mut self.scripts_rng } else { &mut self.rng };
        let idle = State::Idle(shared.now_ms + rng.between(0, self.plan.clients.think_ms_max));
        let State::Waiting { recorded, task, repeatable, .. } = std::mem::replace(&mut self.states[client], idle)
        else {
            return;
        };
        let asked = shared.exchange.asked.remove(&id);
        if let (Some(liar), Some(Asked { operation, .. })) = (&mut self.liar, &asked) {
            liar.tell(operation, &mut answer, self.at_the_end);
        }
        if answer == Err(Error::SessionExpired)
            && let (Some(Asked { operation, .. }), true) = (asked, repeatable.is_some())
            && let Some(group) = operation.group(self.plan.groups)
        {
            self.sessions[client].forget(group);
        }
        if let Some(mut repeatable) = repeatable {
            match repeatable.settle(Some(&answer)) {
                // What was refused, and comes again, is not the same write.
                Settled::Known if answer.is_ok() => self.may_stray(repeatable, shared.now_ms),
                Settled::Known => {}
                Settled::Again => return self.make_again(client, recorded, task, repeatable, shared.now_ms),
                Settled::Unknown => return self.unanswered(recorded, task, shared),
            }
        }
        let Some(recorded) = recorded else { return self.answered_unrecorded(task, &answer, shared) };
        let (object, call) = {
            let operation = &self.history.operations[recorded];
            (operation.object, operation.call.clone())
        };
        match self.workload.outcome(object, &call, answer) {
            Ok(outcome) => self.record(recorded, outcome, task, shared),
            Err(seen) => shared.violated(Violation::new("answers fit their questions", seen)),
        }
    }

    pub(super) fn give_up(&mut self, client: usize, shared: &mut Shared) {
        let idle = State::Idle(shared.now_ms);
        let State::Waiting { id, recorded, task, repeatable, .. } = std::mem::replace(&mut self.states[client], idle)
        else {
            return;
        };
        shared.exchange.asked.remove(&id);
        shared.exchange.answers.remove(&id);
        if let Some(mut repeatable) = repeatable
            && repeatable.settle(None) == Settled::Again
        {
            return self.make_again(client, recorded, task, repeatable, shared.now_ms);
        }
        self.unanswered(recorded, task, shared);
    }

    /// Nobody knows what became of it.
    pub(super) fn unanswered(&mut self, recorded: Option<usize>, task: Option<Task>, shared: &mut Shared) {
        match (recorded, task) {
            (Some(recorded), task) => self.record(recorded, Outcome::Unknown, task, shared),
            (None, Some(Task::Timed(id))) => self.timed_answered(id, None, shared),
            (None, Some(Task::Script(follower, place, process))) => {
                self.script_answered((follower, place, process), None, shared);
            }
            (None, task) => self.again(task, shared.now_ms),
        }
    }

    pub(super) fn make_again(
        &mut self,
        client: usize,
        recorded: Option<usize>,
        task: Option<Task>,
        repeatable: Repeatable,
        now_ms: u64,
    ) {
        let rng = if recorded.is_none() { &mut self.scripts_rng } else { &mut self.rng };
        let at_ms = now_ms + rng.between(0, TASK_RETRY_MS);
        self.states[client] = State::Repeating { at_ms, recorded, task, repeatable };
    }

    /// Now and then what was asked comes a last time, from wherever it was.
    pub(super) fn may_stray(&mut self, repeatable: Repeatable, now_ms: u64) {
        if self.working && self.rng.chance(self.plan.clients.strays) {
            let Repeatable { operation, deadline_in_ms, .. } = repeatable;
            let at_ms = now_ms + self.rng.between(0, STRAY_AFTER_MS_MAX);
            self.tasks.push_back((at_ms, Task::Stray(operation, deadline_in_ms)));
        }
    }

    /// What the checkers do not look at.
    pub(super) fn answered_unrecorded(
        &mut self,
        task: Option<Task>,
        answer: &Result<Reply, Error>,
        shared: &mut Shared,
    ) {
        match (task, answer) {
            (Some(Task::Timed(id)), answer) => self.timed_answered(id, Some(answer), shared),
            (Some(Task::Script(follower, place, process)), answer) => {
                self.script_answered((follower, place, process), Some(answer), shared);
            }
            (Some(Task::Look(script, number)), Ok(reply)) => {
                let judged = self.scripts[script].looked(number, reply);
                shared.judge(judged);
            }
            (Some(Task::OpenSession(client, bucket)), Ok(Reply::SessionOpened { session })) => {
                let group = group_of(&bucket, self.plan.groups);
                self.sessions[client].opened(group, *session);
            }
            (_, Ok(Reply::Created { .. })) | (Some(Task::Stray(..)), _) => {}
            (_, Ok(Reply::Members { members, .. })) => {
                if self.members.as_ref().is_none_or(|known| known.changes() < members.changes()) {
                    self.members = Some(Arc::clone(members));
                }
            }
            (Some(Task::System(write)), Err(Error::Refused(_) | Error::InvalidArgument(_))) => {
                self.refused |= matches!(write, SystemWrite::Leave { .. });
            }
            (task, _) => self.again(task, shared.now_ms),
        }
    }

    pub(super) fn timed_answered(&mut self, id: TimedId, answer: Option<&Result<Reply, Error>>, shared: &mut Shared) {
        match self.timed.answered(id, answer, shared.now_ms) {
            Ok(next) => self.tasks.extend(next.into_iter().map(|(at_ms, id)| (at_ms, Task::Timed(id)))),
            Err(seen) => shared.violated(Violation::new("answers fit their questions", seen)),
        }
    }

    /// Puts keys with times to live, now that nothing goes wrong any more, and looks whether they go.
    pub fn add_timed_probes(&mut self) {
        let probes = self.timed.probes(&mut self.timed_rng);
        self.tasks.extend(probes.into_iter().map(|id| (0, Task::Timed(id))));
    }

    /// Reads all keys with times to live once more.
    pub fn add_last_timed_reads(&mut self) {
        let reads = self.timed.last_reads();
        self.tasks.extend(reads.into_iter().map(|id| (0, Task::Timed(id))));
    }

    pub(super) fn record(&mut self, recorded: usize, outcome: Outcome, task: Option<Task>, shared: &mut Shared) {
        let (returned, now_ms) = (self.next_event(), shared.now_ms);
        let operation = &mut self.history.operations[recorded];
        (operation.outcome, operation.returned, operation.returned_ms) = (outcome, returned, now_ms);
        let process = shared.exchange.process(operation.node as usize);
        operation.process = operation.process.filter(|before| *before == process);
        if operation.is_completed() {
            self.completed += 1;
        } else if let Some(Task::Reach(_)) = task {
            let seen = format!("{:?}, long after the last fault", operation.outcome);
            shared.violated(Violation::new("a client finds its way", seen));
        } else {
            self.again(task, now_ms);
        }
    }

    pub(super) fn again(&mut self, task: Option<Task>, now_ms: u64) {
        let task = task.filter(|task| !matches!(task, Task::OpenSession(..) | Task::Stray(..)));
        self.tasks.extend(task.map(|task| (now_ms + TASK_RETRY_MS, task)));
    }
}
