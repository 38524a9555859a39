//! The clients: one host for all of them. Each asks one thing at a time, of any node, waits for the answer until well behind
//! its deadline, and writes down what it saw. The protocol between clients and nodes is not what is tested here: a datagram
//! names the calls, what they are stands in a table that both ends see.

mod answers;
mod asking;
mod followers;
mod routed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use drey_core::name::BucketName;
use drey_core::request::{Operation, Reply};
use drey_core::system::{Members, SystemWrite};
use drey_core::{Error, NodeId, RequestId};

use crate::driver::Net;
use crate::history::{History, ObjectId};
use crate::lies::Liar;
use crate::network::CLIENTS;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::scripts::{self, Ask, Place, Script};
use crate::sessions::{Repeatable, Sessions};
use crate::shared::Shared;
use crate::story::{Event, Parcel, Topic, What, words};
use crate::timed::{Timed, TimedId};
use crate::workload::Workload;

pub use followers::Follower;
use routed::Program;

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
    /// The hosts whose processes run.
    pub running: BTreeSet<usize>,
    /// Those whose machines run without one: who connects is refused.
    pub refusing: BTreeSet<usize>,
    /// Which node each host's process is.
    pub nodes: BTreeMap<usize, NodeId>,
    /// The members, as each host's process knows them.
    pub members: BTreeMap<usize, Arc<Members>>,
}

impl Exchange {
    fn process(&self, host: usize) -> u64 {
        self.starts.get(&host).copied().unwrap_or_default()
    }

    /// Whether a connection to a host is refused, if that shows at once.
    pub fn refuses(&self, host: usize) -> Option<bool> {
        let (runs, refuses) = (self.running.contains(&host), self.refusing.contains(&host));
        (runs || refuses).then_some(refuses)
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
    /// A read of all keys, which the program must bring to an end by itself.
    Reach(ObjectId),
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
    /// What some of them are threads of.
    program: Option<Program>,
    /// Whether they draw calls of their own.
    pub working: bool,
    /// What else they have to do.
    tasks: VecDeque<(u64, Task)>,
    /// The hosts that may answer.
    pub hosts: Vec<usize>,
    /// The members, as they were last seen.
    pub members: Option<Arc<Members>>,
    /// The last removal of one was refused.
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
            program: Program::draw(plan),
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
                    self.got(id, datagram.from, answer, shared);
                }
            }
        }
        let mut datagrams: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for client in 0..self.states.len() {
            let asked = match self.states[client] {
                State::Waiting { give_up_ms, .. } if now_ms >= give_up_ms || self.is_lost(client, shared) => {
                    self.go_on(client, shared).unwrap_or_else(|| {
                        self.tell(client, shared, |id, call| (What::Said, format!("gave up {id}: {call}")));
                        self.give_up(client, shared);
                        None
                    })
                }
                State::Idle(until_ms) if now_ms >= until_ms => self.ask(client, shared),
                State::Repeating { at_ms, .. } if now_ms >= at_ms => self.repeat(client, shared),
                _ => None,
            };
            let asked = match asked {
                Some(_) if !self.is_on_its_way(client) && self.is_routed(client) => self.set_out(client, shared),
                asked => asked,
            };
            if let Some((node, id)) = asked {
                self.tell_asked(client, node, shared);
                datagrams.entry(node).or_default().extend_from_slice(&id.0.to_le_bytes());
            }
        }
        if let Some((node, id)) = self.refresh(shared) {
            datagrams.entry(node).or_default().extend_from_slice(&id.0.to_le_bytes());
        }
        if self.floods_ms.pop_if(|at_ms| now_ms >= *at_ms).is_some() && self.working {
            let (node, ids) = self.flood(shared);
            datagrams.entry(node).or_default().extend(ids.into_iter().flat_map(|id| id.0.to_le_bytes()));
        }
        for (node, datagram) in datagrams {
            shared.send(net, (CLIENTS, node), datagram.into());
        }
    }

    /// An answer has come.
    fn got(&mut self, id: RequestId, from: usize, answer: Result<Reply, Error>, shared: &mut Shared) {
        if self.refreshed(id, from, &answer, shared) {
            return;
        }
        // Otherwise the client has given up: too late to tell.
        if let Some(client) = self.waiting_for(id)
            && let Some(answer) = self.attempt_answered(client, from, answer, shared)
        {
            self.answered(id, answer, shared);
        }
    }

    fn waiting_for(&self, id: RequestId) -> Option<usize> {
        self.states.iter().position(|state| matches!(state, State::Waiting { id: waiting, .. } if *waiting == id))
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
        let Some(client) = self.waiting_for(id) else { return };
        let said = || format!("{id}: {}", words::answer(answer));
        self.tell(client, shared, |_, _| (What::Got(node, Parcel::Answer(id.0)), said()));
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
