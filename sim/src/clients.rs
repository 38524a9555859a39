//! The clients: one host for all of them. Each asks one thing at a time, of any node, waits for the answer until well behind
//! its deadline, and writes down what it saw. The protocol between clients and nodes is not what is tested here: a datagram
//! names the calls, what they are stands in a table that both ends see.

mod followers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use drey_core::name::BucketName;
use drey_core::placement::{SYSTEM_GROUP, group_of};
use drey_core::request::{Command, Operation, ReadMode, ReadOp, Reply, Write};
use drey_core::system::{Members, SystemWrite};
use drey_core::{Error, GroupId, RequestId};

use crate::checker::Violation;
use crate::driver::Net;
use crate::faults::Fault;
use crate::history::{Call, History, ObjectId, Operation as Recorded, Outcome};
use crate::lies::Liar;
use crate::network::CLIENTS;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::scripts::{self, Ask, Place, Script};
use crate::sessions::{Repeatable, Sessions, Settled};
use crate::shared::Shared;
use crate::story::{Event, Parcel, Topic, What, words};
use crate::timed::{Timed, TimedId};
use crate::workload::Workload;

pub use followers::Follower;

/// Behind its deadline a call is given up: its answer was lost.
const LOST_AFTER_MS: u64 = 400;
/// A task's deadline.
const TASK_DEADLINE_MS: u64 = 1_500;
/// Until a task that failed is tried again.
const TASK_RETRY_MS: u64 = 100;

/// A write that comes again after it was answered does so much later, at most.
const STRAY_AFTER_MS_MAX: u64 = 4_000;
/// More sessions than a group keeps.
const FLOOD: usize = drey_core::limits::SESSIONS_PER_GROUP_MAX + 50;
/// A client that opens so many waits so long.
const FLOOD_DEADLINE_MS: u64 = 1_000;

/// A call on its way, as both ends see it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What.
    pub operation: Operation,
    /// The client waits so long.
    pub deadline_in_ms: u64,
}

/// What is on the way between clients and nodes.
#[derive(Default)]
pub struct Exchange {
    /// By number.
    pub asked: BTreeMap<RequestId, Asked>,
    /// By number.
    pub answers: BTreeMap<RequestId, Result<Reply, Error>>,
    /// How often the process of each host was started: as long as that stays the same, it is the same process.
    pub starts: BTreeMap<usize, u64>,
}

impl Exchange {
    fn process(&self, host: usize) -> u64 {
        self.starts.get(&host).copied().unwrap_or_default()
    }
}

/// Something that must succeed, however often it takes.
#[derive(Clone, Debug)]
pub enum Task {
    /// Make a bucket.
    Create(BucketName),
    /// A put of a new value through this node.
    Put(ObjectId, usize),
    /// A read of all keys through this node, or through any.
    Read(ObjectId, Option<usize>),
    /// A change of who the members are.
    System(SystemWrite),
    /// A look at who they are.
    Members,
    /// Something about a key with a time to live. What follows from its answer is for [`Timed`] to say.
    Timed(TimedId),
    /// A write that was answered comes again, late: nobody waits for what becomes of it.
    Stray(Operation, u64),
    /// A step of a script's client. What follows is for the script to say.
    Script(Follower, Place, u64),
    /// A script's last look at something.
    Look(usize, usize),
    /// A session for a client. Not tried again: the client will want one again.
    OpenSession(usize, BucketName),
}

/// What a client does.
enum State {
    /// Thinks until then.
    Idle(u64),
    /// Waits for an answer until then.
    Waiting {
        id: RequestId,
        give_up_ms: u64,
        recorded: Option<usize>,
        task: Option<Task>,
        repeatable: Option<Repeatable>,
    },
    /// Makes a write again at that time.
    Repeating { at_ms: u64, recorded: Option<usize>, task: Option<Task>, repeatable: Repeatable },
}

/// All clients.
pub struct Clients {
    rng: Rng,
    timed_rng: Rng,
    scripts_rng: Rng,
    plan: Plan,
    /// What they ask.
    pub workload: Workload,
    /// What some of them ask about keys with times to live, and saw.
    pub timed: Timed,
    /// What others follow, and saw.
    pub scripts: Vec<Box<dyn Script>>,
    /// Those behind the clients with keys with times to live.
    followers: Vec<Follower>,
    /// What they asked for before they had a session for it.
    held: BTreeMap<usize, Ask>,
    /// What they saw.
    pub history: History,
    states: Vec<State>,
    sessions: Vec<Sessions>,
    /// Whether they draw calls of their own.
    pub working: bool,
    /// What else they have to do.
    tasks: VecDeque<(u64, Task)>,
    /// The hosts that may answer.
    pub hosts: Vec<usize>,
    /// The members, as they were last seen.
    pub members: Option<Arc<Members>>,
    /// The last change of them was refused.
    pub refused: bool,
    /// When somebody floods a group with sessions.
    floods_ms: Vec<u64>,
    requests: u64,
    /// Operations of their own choice so far.
    drawn: usize,
    events: u64,
    liar: Option<Liar>,
    /// Everything is read a last time.
    at_the_end: bool,
    /// Calls of the scripts' clients, answered or not.
    pub asked_by_scripts: usize,
    /// Calls that had an answer, refusals left aside.
    pub completed: usize,
}

impl Clients {
    /// The clients of a plan.
    pub fn new(plan: &Plan) -> Clients {
        let workload = Workload::new(plan);
        let (counts, scripts): (Vec<usize>, Vec<_>) = scripts::of(plan, &workload).into_iter().unzip();
        let followers = counts.iter().enumerate();
        let followers: Vec<Follower> =
            followers.flat_map(|(script, &count)| (0..count).map(move |number| Follower { script, number })).collect();
        let clients = plan.clients.clients + plan.clients.timed + followers.len();
        let creates =
            workload.buckets.iter().skip(1).map(|bucket| (plan.clients.begin_ms, Task::Create(bucket.clone())));
        Clients {
            rng: Rng::stream(plan.seed, "clients", 0),
            timed_rng: Rng::stream(plan.seed, "timed", 0),
            scripts_rng: Rng::stream(plan.seed, "scripts", 0),
            tasks: creates.collect(),
            timed: Timed::new(workload.buckets.clone(), plan.groups),
            workload,
            scripts,
            followers,
            held: BTreeMap::new(),
            history: History::default(),
            states: (0..clients).map(|_| State::Idle(0)).collect(),
            sessions: (0..clients).map(|_| Sessions::default()).collect(),
            working: true,
            hosts: (1..=plan.nodes).collect(),
            members: None,
            refused: false,
            floods_ms: floods_ms(plan),
            requests: 0,
            drawn: 0,
            events: 0,
            liar: plan.lie.map(|lie| Liar::new(lie, Rng::stream(plan.seed, "lies", 0))),
            at_the_end: false,
            asked_by_scripts: 0,
            completed: 0,
            plan: plan.clone(),
        }
    }

    /// Adds something that must succeed.
    pub fn add_task(&mut self, task: Task) {
        self.add_task_at(0, task);
    }

    /// Adds one that waits until then.
    pub fn add_task_at(&mut self, at_ms: u64, task: Task) {
        self.tasks.push_back((at_ms, task));
    }

    /// Whether such a look is to be made already.
    pub fn will_look(&self) -> bool {
        let looks = |task: &Task| matches!(task, Task::Members | Task::System(_));
        let under_way = |state: &State| matches!(state, State::Waiting { task: Some(task), .. } if looks(task));
        self.tasks.iter().any(|(_, task)| looks(task)) || self.states.iter().any(under_way)
    }

    /// Whether nothing is under way and nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.tasks.is_empty() && self.states.iter().all(|state| matches!(state, State::Idle(_)))
    }

    /// What is left to do, for people.
    pub fn describe(&self) -> String {
        let waiting = self.states.iter().filter_map(|state| match state {
            State::Waiting { id, task, .. } => Some(format!("{id} {task:?}")),
            State::Repeating { repeatable, .. } => Some(format!("again {repeatable:?}")),
            State::Idle(_) => None,
        });
        format!("under way {:?}, to do {:?}", waiting.collect::<Vec<_>>(), self.tasks)
    }

    /// The history with the names of what it is about.
    pub fn finish(&mut self) -> History {
        let mut history = std::mem::take(&mut self.history);
        for (number, object) in self.workload.objects.iter().enumerate() {
            history.groups.push(self.workload.group(ObjectId(number)));
            let name =
                |key: &drey_core::name::Key| format!("{}/{}", object.bucket, String::from_utf8_lossy(key.as_bytes()));
            history.names.push(object.keys.iter().map(name).collect());
            history.own_buckets.push(object.own_bucket);
        }
        history
    }

    /// One tick: takes answers, gives up, asks.
    pub fn tick(&mut self, shared: &mut Shared, net: &mut dyn Net) {
        let now_ms = shared.now_ms;
        for datagram in shared.receive(net, CLIENTS) {
            for id in request_ids(&datagram.body) {
                if let Some(answer) = shared.exchange.answers.remove(&id) {
                    self.tell_answered(id, datagram.from, &answer, shared);
                    self.answered(id, answer, shared);
                }
            }
        }
        let mut datagrams: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for client in 0..self.states.len() {
            match self.states[client] {
                State::Waiting { give_up_ms, .. } if now_ms >= give_up_ms => {
                    self.tell(client, shared, |id, call| (What::Said, format!("gave up {id}: {call}")));
                    self.give_up(client, shared);
                }
                State::Idle(until_ms) if now_ms >= until_ms => {
                    if let Some((node, id)) = self.ask(client, shared) {
                        self.tell_asked(client, node, shared);
                        datagrams.entry(node).or_default().extend_from_slice(&id.0.to_le_bytes());
                    }
                }
                State::Repeating { at_ms, .. } if now_ms >= at_ms => {
                    if let Some((node, id)) = self.repeat(client, shared) {
                        self.tell_asked(client, node, shared);
                        datagrams.entry(node).or_default().extend_from_slice(&id.0.to_le_bytes());
                    }
                }
                _ => {}
            }
        }
        if self.floods_ms.pop_if(|at_ms| now_ms >= *at_ms).is_some() && self.working {
            let (node, ids) = self.flood(shared);
            datagrams.entry(node).or_default().extend(ids.into_iter().flat_map(|id| id.0.to_le_bytes()));
        }
        for (node, datagram) in datagrams {
            shared.send(net, (CLIENTS, node), datagram.into());
        }
    }

    /// Tells of what a client waits for.
    fn tell(&self, client: usize, shared: &mut Shared, words: impl FnOnce(RequestId, String) -> (What, String)) {
        let State::Waiting { id, .. } = self.states[client] else { return };
        if !shared.trace.tells() {
            return;
        }
        let Some(asked) = shared.exchange.asked.get(&id) else { return };
        let groups = self.plan.groups;
        shared.trace.tell(|| {
            let (what, text) = words(id, words::operation(&asked.operation));
            let event = Event::new(CLIENTS, Topic::Client, format!("c{client} {text}"));
            Some(event.of(asked.operation.group(groups)).did(what))
        });
    }

    fn tell_asked(&self, client: usize, node: usize, shared: &mut Shared) {
        self.tell(client, shared, |id, call| (What::Sent(node, Parcel::Request(id.0)), format!("{id}: {call}")));
    }

    fn tell_answered(&self, id: RequestId, node: usize, answer: &Result<Reply, Error>, shared: &mut Shared) {
        if !shared.trace.tells() {
            return;
        }
        let waits = |state: &State| matches!(state, State::Waiting { id: waiting, .. } if *waiting == id);
        let Some(client) = self.states.iter().position(waits) else { return };
        let said = || format!("{id}: {}", words::answer(answer));
        self.tell(client, shared, |_, _| (What::Got(node, Parcel::Answer(id.0)), said()));
    }

    fn ask(&mut self, client: usize, shared: &mut Shared) -> Option<(usize, RequestId)> {
        let now_ms = shared.now_ms;
        let due = self.tasks.iter().position(|(at_ms, _)| now_ms >= *at_ms);
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
    fn flood(&mut self, shared: &mut Shared) -> (usize, Vec<RequestId>) {
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

    fn any_node(&mut self) -> usize {
        *self.rng.pick(&self.hosts)
    }

    fn ask_task(&mut self, client: usize, task: Task, shared: &mut Shared) -> (usize, RequestId) {
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
            Task::Read(object, node) => {
                let node = node.unwrap_or_else(|| self.any_node());
                let call = Call::Read((0..self.workload.objects[object.0].keys.len()).collect());
                self.call(client, node, *object, call, TASK_DEADLINE_MS, Some(task), shared)
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn call(
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
    fn needs_session(&self, client: usize, object: ObjectId, call: &Call) -> bool {
        call.writes() && self.lacks_session(client, self.workload.group(object))
    }

    fn lacks_session(&self, client: usize, group: GroupId) -> bool {
        let every = self.plan.asks.ids_every;
        every > 0 && client.is_multiple_of(every) && self.sessions[client].are_missing(group)
    }

    /// Makes a write again, through any node.
    fn repeat(&mut self, client: usize, shared: &mut Shared) -> Option<(usize, RequestId)> {
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

    fn send_off(
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

    fn next_event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn answered(&mut self, id: RequestId, mut answer: Result<Reply, Error>, shared: &mut Shared) {
        let waits = |state: &State| matches!(state, State::Waiting { id: waiting, .. } if *waiting == id);
        // Otherwise the client has given up: too late to tell.
        let Some(client) = self.states.iter().position(waits) else { return };
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

    fn give_up(&mut self, client: usize, shared: &mut Shared) {
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
    fn unanswered(&mut self, recorded: Option<usize>, task: Option<Task>, shared: &mut Shared) {
        match (recorded, task) {
            (Some(recorded), task) => self.record(recorded, Outcome::Unknown, task, shared),
            (None, Some(Task::Timed(id))) => self.timed_answered(id, None, shared),
            (None, Some(Task::Script(follower, place, process))) => {
                self.script_answered((follower, place, process), None, shared);
            }
            (None, task) => self.again(task, shared.now_ms),
        }
    }

    fn make_again(
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
    fn may_stray(&mut self, repeatable: Repeatable, now_ms: u64) {
        if self.working && self.rng.chance(self.plan.clients.strays) {
            let Repeatable { operation, deadline_in_ms, .. } = repeatable;
            let at_ms = now_ms + self.rng.between(0, STRAY_AFTER_MS_MAX);
            self.tasks.push_back((at_ms, Task::Stray(operation, deadline_in_ms)));
        }
    }

    /// What the checkers do not look at.
    fn answered_unrecorded(&mut self, task: Option<Task>, answer: &Result<Reply, Error>, shared: &mut Shared) {
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
            (Some(Task::System(_)), Err(Error::Refused(_) | Error::InvalidArgument(_))) => self.refused = true,
            (task, _) => self.again(task, shared.now_ms),
        }
    }

    fn timed_answered(&mut self, id: TimedId, answer: Option<&Result<Reply, Error>>, shared: &mut Shared) {
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

    fn record(&mut self, recorded: usize, outcome: Outcome, task: Option<Task>, shared: &Shared) {
        let (returned, now_ms) = (self.next_event(), shared.now_ms);
        let operation = &mut self.history.operations[recorded];
        (operation.outcome, operation.returned, operation.returned_ms) = (outcome, returned, now_ms);
        let process = shared.exchange.process(operation.node as usize);
        operation.process = operation.process.filter(|before| *before == process);
        if operation.is_completed() {
            self.completed += 1;
        } else {
            self.again(task, now_ms);
        }
    }

    fn again(&mut self, task: Option<Task>, now_ms: u64) {
        let task = task.filter(|task| !matches!(task, Task::OpenSession(..) | Task::Stray(..)));
        self.tasks.extend(task.map(|task| (now_ms + TASK_RETRY_MS, task)));
    }
}

/// The last first.
fn floods_ms(plan: &Plan) -> Vec<u64> {
    let rng = &mut Rng::stream(plan.seed, "floods", 1);
    let mut floods_ms: Vec<u64> = (0..plan.clients.floods).map(|_| rng.between(3_000, plan.faults_ms)).collect();
    floods_ms.sort_unstable_by(|one, other| other.cmp(one));
    floods_ms
}

/// The numbers in a datagram between clients and nodes.
pub fn request_ids(body: &[u8]) -> impl Iterator<Item = RequestId> {
    body.chunks_exact(8).filter_map(|chunk| chunk.first_chunk().map(|id| RequestId(u64::from_le_bytes(*id))))
}
