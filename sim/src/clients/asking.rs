//! What a client asks next, and how it is sent off.

use drey_core::placement::SYSTEM_GROUP;
use drey_core::request::{Command, Operation, ReadMode, ReadOp, Write};
use drey_core::{GroupId, RequestId};

use super::{Asked, Clients, State, Task};
use crate::faults::Fault;
use crate::history::{Call, ObjectId, Operation as Recorded, Outcome};
use crate::network::CLIENTS;
use crate::shared::Shared;

/// Behind its deadline a call is given up: its answer was lost.
const LOST_AFTER_MS: u64 = 400;
/// A task's deadline.
const TASK_DEADLINE_MS: u64 = 1_500;
/// More sessions than a group keeps.
const FLOOD: usize = drey_core::limits::SESSIONS_PER_GROUP_MAX + 50;
/// What nothing keeps from being answered may take so long, once the program has tried all it can.
const REACH_DEADLINE_MS: u64 = 4_000;
/// A client that opens so many waits so long.
const FLOOD_DEADLINE_MS: u64 = 1_000;

impl Clients {
    pub(super) fn ask(&mut self, client: usize, shared: &mut Shared) -> Option<(usize, RequestId)> {
        let now_ms = shared.now_ms;
        let due = self.tasks.iter().position(|(at_ms, task)| now_ms >= *at_ms && self.can_do(client, task));
        if let Some((_, task)) = due.and_then(|at| self.tasks.remove(at)) {
            return Some(self.ask_task(client, task, shared));
        }
        if !self.working || now_ms < self.plan.clients.begin_ms || self.drawn >= self.plan.clients.operations_max {
            return None;
        }
        if let Some(follower) = self.follower(client) {
            let asked = self.ask_next(client, follower, shared);
            self.drawn += usize::from(asked.is_some());
            return asked;
        }
        self.drawn += 1;
        if client >= self.plan.clients.clients {
            let id = self.timed.draw(now_ms, &mut self.timed_rng);
            return Some(self.ask_task(client, Task::Timed(id), shared));
        }
        let (object, call) = self.workload.draw(now_ms, &mut self.rng);
        let node = self.any_node();
        if self.needs_session(client, object, &call) {
            let bucket = self.workload.objects[object.0].bucket.clone();
            return Some(self.ask_task(client, Task::OpenSession(client, bucket), shared));
        }
        let (shortest, longest) = self.plan.clients.deadline_ms;
        let deadline_in_ms = self.rng.between(shortest, longest);
        Some(self.call(client, node, object, call, deadline_in_ms, None, shared))
    }

    /// Opens more sessions in a group than it keeps, all at once, and waits for no answer: those of others have to go.
    pub(super) fn flood(&mut self, shared: &mut Shared) -> (usize, Vec<RequestId>) {
        let bucket = self.rng.pick(&self.workload.buckets).clone();
        shared.happened(CLIENTS, Fault::SessionsFlooded, format_args!("{bucket}"));
        let operation = Operation::Write(Command { bucket, id: None, write: Write::OpenSession });
        let ids = (0..FLOOD).map(|_| {
            self.requests += 1;
            let id = RequestId(self.requests);
            let asked = Asked { operation: operation.clone(), deadline_in_ms: FLOOD_DEADLINE_MS };
            shared.exchange.asked.insert(id, asked);
            id
        });
        let ids = ids.collect();
        (self.any_node(), ids)
    }

    pub(super) fn any_node(&mut self) -> usize {
        *self.rng.pick(&self.hosts)
    }

    pub(super) fn ask_task(&mut self, client: usize, task: Task, shared: &mut Shared) -> (usize, RequestId) {
        match &task {
            Task::Create(bucket) => {
                let write =
                    Write::CreateBucket { default_ttl_ms: None, max_bytes: None, if_not_exists: true, created_ms: 1 };
                let operation = Operation::Write(Command { bucket: bucket.clone(), id: None, write });
                let node = self.any_node();
                (node, self.send_off(client, operation, TASK_DEADLINE_MS, None, Some(task), shared))
            }
            Task::OpenSession(_, bucket) => {
                let command = Command { bucket: bucket.clone(), id: None, write: Write::OpenSession };
                let node = self.any_node();
                (node, self.send_off(client, Operation::Write(command), TASK_DEADLINE_MS, None, Some(task), shared))
            }
            Task::System(write) => {
                let operation = Operation::Write(Command::system(write.clone()));
                let node = self.any_node();
                (node, self.send_off(client, operation, TASK_DEADLINE_MS, None, Some(task), shared))
            }
            Task::Members => {
                let operation = Operation::Read(SYSTEM_GROUP, ReadMode::Linearizable, ReadOp::Members);
                let node = self.any_node();
                (node, self.send_off(client, operation, TASK_DEADLINE_MS, None, Some(task), shared))
            }
            Task::Stray(operation, deadline_in_ms) => {
                let (operation, deadline_in_ms) = (operation.clone(), *deadline_in_ms);
                let node = self.any_node();
                shared.happened(CLIENTS, Fault::Stray, format_args!("client {client}"));
                (node, self.send_off(client, operation, deadline_in_ms, None, Some(task), shared))
            }
            Task::Timed(id) => {
                let operation = self.timed.operation(*id, shared.now_ms);
                let (shortest, longest) = self.plan.clients.deadline_ms;
                let deadline_in_ms = self.timed_rng.between(shortest, longest);
                let node = *self.timed_rng.pick(&self.hosts);
                (node, self.send_off(client, operation, deadline_in_ms, None, Some(task), shared))
            }
            Task::Script(..) => unreachable!("not put off"),
            Task::Look(script, number) => {
                let operation = self.scripts[*script].look(*number);
                let node = *self.scripts_rng.pick(&self.hosts);
                (node, self.send_off(client, operation, TASK_DEADLINE_MS, None, Some(task), shared))
            }
            Task::Put(object, node) => {
                let call = Call::Put { slot: 0, value: self.workload.new_value(), guard: None };
                self.call(client, *node, *object, call, TASK_DEADLINE_MS, Some(task), shared)
            }
            Task::Reach(object) => {
                let call = Call::Read((0..self.workload.objects[object.0].keys.len()).collect());
                let node = self.any_node();
                self.call(client, node, *object, call, REACH_DEADLINE_MS, Some(task), shared)
            }
            Task::Read(object, node) => {
                let node = node.unwrap_or_else(|| self.any_node());
                let call = Call::Read((0..self.workload.objects[object.0].keys.len()).collect());
                self.call(client, node, *object, call, TASK_DEADLINE_MS, Some(task), shared)
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn call(
        &mut self,
        client: usize,
        node: usize,
        object: ObjectId,
        call: Call,
        deadline_in_ms: u64,
        task: Option<Task>,
        shared: &mut Shared,
    ) -> (usize, RequestId) {
        let mut operation = self.workload.operation(object, &call);
        let group = self.workload.group(object);
        let repeatable = self.sessions[client].identify(group, &mut operation, deadline_in_ms);
        let called = self.next_event();
        self.history.operations.push(Recorded {
            object,
            client,
            node: node as u64,
            process: Some(shared.exchange.process(node)),
            call,
            called,
            returned: u64::MAX,
            outcome: Outcome::Unknown,
            called_ms: shared.now_ms,
            returned_ms: u64::MAX,
        });
        let recorded = Some(self.history.operations.len() - 1);
        let id = self.send_off(client, operation, deadline_in_ms, recorded, task, shared);
        if let State::Waiting { repeatable: waiting, .. } = &mut self.states[client] {
            *waiting = repeatable;
        }
        (node, id)
    }

    /// Whether its writes get ids, which none has yet.
    pub(super) fn needs_session(&self, client: usize, object: ObjectId, call: &Call) -> bool {
        call.writes() && self.lacks_session(client, self.workload.group(object))
    }

    pub(super) fn lacks_session(&self, client: usize, group: GroupId) -> bool {
        let every = self.plan.asks.ids_every;
        every > 0 && client.is_multiple_of(every) && self.sessions[client].are_missing(group)
    }

    /// Makes a write again, through any node.
    pub(super) fn repeat(&mut self, client: usize, shared: &mut Shared) -> Option<(usize, RequestId)> {
        let node = self.any_node();
        let state = std::mem::replace(&mut self.states[client], State::Idle(0));
        let State::Repeating { recorded, task, repeatable, .. } = state else { return None };
        let (operation, deadline_in_ms) = (repeatable.operation.clone(), repeatable.deadline_in_ms);
        let id = self.send_off(client, operation, deadline_in_ms, recorded, task, shared);
        if let State::Waiting { repeatable: waiting, .. } = &mut self.states[client] {
            *waiting = Some(repeatable);
        }
        Some((node, id))
    }

    pub(super) fn send_off(
        &mut self,
        client: usize,
        operation: Operation,
        deadline_in_ms: u64,
        recorded: Option<usize>,
        task: Option<Task>,
        shared: &mut Shared,
    ) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let give_up_ms = shared.now_ms + deadline_in_ms + LOST_AFTER_MS;
        shared.exchange.asked.insert(id, Asked { operation, deadline_in_ms });
        self.states[client] = State::Waiting { id, give_up_ms, recorded, task, repeatable: None };
        id
    }

    pub(super) fn next_event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}
