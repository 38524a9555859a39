//! Those of the clients that follow a script: the way between them and [`crate::scripts`].

use drey_core::request::{Operation, Reply};
use drey_core::{Error, RequestId};

use super::{Clients, State, Task};
use crate::scripts::{Answer, Place, Scene};
use crate::shared::Shared;

/// A client that follows a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    pub(super) script: usize,
    /// Its number among those that do.
    pub(super) number: usize,
}

impl Clients {
    pub(super) fn follower(&self, client: usize) -> Option<Follower> {
        self.followers.get(client.checked_sub(self.plan.clients.clients + self.plan.clients.timed)?).copied()
    }

    /// The next step of a script.
    pub(super) fn ask_next(
        &mut self,
        client: usize,
        follower: Follower,
        shared: &mut Shared,
    ) -> Option<(usize, RequestId)> {
        let ask = match self.held.remove(&client) {
            Some(ask) => ask,
            None => {
                let event = self.next_event();
                let scene = Scene { ms: shared.now_ms, event, workload: &self.workload };
                self.scripts[follower.script].next(follower.number, &scene)?
            }
        };
        if let Operation::Write(command) = &ask.operation
            && self.lacks_session(client, command.group(self.plan.groups))
        {
            let bucket = command.bucket.clone();
            self.held.insert(client, ask);
            return Some(self.ask_task(client, Task::OpenSession(client, bucket), shared));
        }
        let host = ask.host.unwrap_or_else(|| *self.scripts_rng.pick(&self.hosts));
        let (shortest, longest) = self.plan.clients.deadline_ms;
        let deadline_in_ms = self.scripts_rng.between(shortest, longest);
        let mut operation = ask.operation;
        let repeatable = match &operation {
            // What has an id already means it.
            Operation::Write(command) if command.id.is_none() => {
                let group = command.group(self.plan.groups);
                self.sessions[client].identify(group, &mut operation, deadline_in_ms)
            }
            _ => None,
        };
        let place = Place { host, same_process: true };
        let task = Task::Script(follower, place, shared.exchange.process(host));
        let id = self.send_off(client, operation, deadline_in_ms, None, Some(task), shared);
        if let State::Waiting { repeatable: waiting, .. } = &mut self.states[client] {
            *waiting = repeatable;
        }
        Some((host, id))
    }

    pub(super) fn script_answered(
        &mut self,
        (follower, mut place, process): (Follower, Place, u64),
        answer: Option<&Result<Reply, Error>>,
        shared: &mut Shared,
    ) {
        place.same_process = shared.exchange.process(place.host) == process;
        let event = self.next_event();
        let scene = Scene { ms: shared.now_ms, event, workload: &self.workload };
        let script = &mut self.scripts[follower.script];
        let judged = script.answered(follower.number, Answer::of(answer), place, &scene);
        self.asked_by_scripts += 1;
        self.completed += usize::from(matches!(answer, Some(Ok(_))));
        shared.judge(judged);
    }

    /// The scripts' last looks.
    pub fn add_last_looks(&mut self) {
        self.at_the_end = true;
        for (script, looks) in self.scripts.iter().map(|script| script.looks()).enumerate() {
            self.tasks.extend((0..looks).map(|number| (0, Task::Look(script, number))));
        }
    }
}
