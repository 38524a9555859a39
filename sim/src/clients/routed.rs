//! Some of the clients are threads of one program, which leaves it to drey's own client where a call goes and whether it may go
//! again: [`drey_client::logic`] decides, as it does behind gRPC, and this file is its network and its clock. To the checkers such a
//! call is one call, however often it was sent and wherever to: what the program is told of it must be true.

use std::collections::VecDeque;

use drey_client::Code;
use drey_client::logic::{Call, EndpointId, GroupView, Kind, Outcome, Policy, Router, Step, Verdict, View};
use drey_core::mutation::{Mutation, is_on};
use drey_core::request::{Operation, ReadMode, ReadOp, Reply, ShardStatus, Write};
use drey_core::system::Members;
use drey_core::{Error, NodeId, RequestId};

use super::{Asked, Clients, State, Task};
use crate::node::CLUSTER;
use crate::operator::{address_of, host_of, host_of_address};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::shared::Shared;

/// A call may take so many times as long as one that is sent once.
const DEADLINES: u64 = 3;
/// What nobody waits for any more may still be on its way for so long.
const LAPSES_AFTER_MS: u64 = 5_000;
/// How long an answer to a question about leaders and members is waited for.
const REFRESH_TIMEOUT_MS: u64 = 500;

/// What the program knows of the cluster, and its calls on their way.
pub(super) struct Program {
    router: Router,
    /// Every so many-th client is one of its threads.
    every: usize,
    /// By client.
    journeys: Vec<Option<Journey>>,
    refresh: Option<Refresh>,
    /// The hosts that it was given, and those of the newest members that it was ever told: it may find those that are still members.
    given: Vec<usize>,
    told: (u64, Vec<usize>),
    /// What was sent and is not waited for, and until when it may still arrive.
    lapsed: VecDeque<(u64, RequestId)>,
}

/// A call with its attempts.
struct Journey {
    call: Call,
    operation: Operation,
    /// The attempt under way: the host, and how often its process was started.
    sent: Option<(usize, u64)>,
}

/// A question about leaders and members.
struct Refresh {
    id: RequestId,
    endpoint: EndpointId,
    until_ms: u64,
}

impl Program {
    /// That of a plan, if it has one.
    pub(super) fn draw(plan: &Plan) -> Option<Program> {
        let every = plan.asks.routed_every;
        if every == 0 {
            return None;
        }
        let mut rng = Rng::stream(plan.seed, "program", 0);
        let policy = Policy {
            attempt_timeout_ms: rng.between(200, 700),
            backoff_cap_ms: *rng.pick(&[50, 1_000]),
            refresh_interval_ms: rng.between(500, 5_000),
            ..Policy::default()
        };
        // It is told some of the founders, and finds the others.
        let mut hosts: Vec<usize> = (1..=plan.nodes).collect();
        rng.shuffle(&mut hosts);
        hosts.truncate(rng.between(1, 3) as usize);
        let router = Router::new(policy, hosts.iter().copied().map(address_of), rng.next_u64());
        Some(Program {
            router,
            every,
            journeys: Vec::new(),
            refresh: None,
            given: hosts,
            told: (0, Vec::new()),
            lapsed: VecDeque::new(),
        })
    }
}

impl Program {
    fn journey(&self, client: usize) -> Option<&Journey> {
        self.journeys.get(client)?.as_ref()
    }

    /// Whether it was given or told one of these hosts.
    fn knows_any(&self, hosts: &[usize]) -> bool {
        hosts.iter().any(|host| self.given.contains(host) || self.told.1.contains(host))
    }

    fn end(&mut self, client: usize) -> Option<Journey> {
        self.journeys.get_mut(client)?.take()
    }
}

impl Clients {
    /// Whether this client leaves it to the program where what it has just asked goes. Some of the tasks mean one node. A program that
    /// knows nobody any more finds nobody: whoever runs it gives its threads the addresses.
    pub(super) fn is_routed(&self, client: usize) -> bool {
        let Some(program) = &self.program else { return false };
        let State::Waiting { task, .. } = &self.states[client] else { return false };
        let anywhere = match task {
            None => true,
            Some(Task::Put(..) | Task::Script(..) | Task::Look(..) | Task::Stray(..)) => false,
            Some(Task::Read(_, node)) => node.is_none(),
            Some(_) => true,
        };
        anywhere && self.is_thread(client, program) && program.knows_any(&self.hosts)
    }

    fn is_thread(&self, client: usize, program: &Program) -> bool {
        self.follower(client).is_none() && client % program.every == program.every - 1
    }

    /// Whether it may take such a task.
    pub(super) fn can_do(&self, client: usize, task: &Task) -> bool {
        !matches!(task, Task::Reach(_)) || self.program.as_ref().is_some_and(|program| self.is_thread(client, program))
    }

    /// What a client was about to send begins its journey.
    pub(super) fn set_out(&mut self, client: usize, shared: &mut Shared) -> Option<(usize, RequestId)> {
        let State::Waiting { id, .. } = self.states[client] else { return None };
        let Asked { operation, deadline_in_ms } = shared.exchange.asked.remove(&id)?;
        let program = self.program.as_mut()?;
        let timeout_ms = deadline_in_ms * DEADLINES;
        let call = program.router.begin(shared.now_ms, kind(&operation), bucket(&operation), timeout_ms);
        program.journeys.resize_with(program.journeys.len().max(client + 1), || None);
        program.journeys[client] = Some(Journey { call, operation, sent: None });
        self.travel(client, shared)
    }

    /// Whether this client's call is a journey.
    pub(super) fn is_on_its_way(&self, client: usize) -> bool {
        self.program.as_ref().is_some_and(|program| program.journey(client).is_some())
    }

    /// The call's next step. What is to be sent now, and where to, if anything is.
    pub(super) fn travel(&mut self, client: usize, shared: &mut Shared) -> Option<(usize, RequestId)> {
        let now_ms = shared.now_ms;
        loop {
            let program = self.program.as_mut()?;
            let journey = program.journeys.get_mut(client).and_then(Option::as_mut)?;
            match program.router.next(now_ms, &mut journey.call) {
                Step::Wait { until_ms } => {
                    self.waits_until(client, until_ms);
                    return None;
                }
                Step::GiveUp(code) => {
                    self.arrived(client, Err(error_of(code)), shared);
                    return None;
                }
                Step::Send { endpoint, timeout_ms } => {
                    let host = host_of_address(program.router.address(endpoint));
                    if shared.exchange.refuses(host) == Some(true) {
                        let verdict = program.router.finished(now_ms, &mut journey.call, Outcome::NotSent);
                        if let Verdict::Fail(code) = verdict {
                            self.arrived(client, Err(error_of(code)), shared);
                            return None;
                        }
                        continue;
                    }
                    let process = shared.exchange.process(host);
                    journey.sent = Some((host, process));
                    let operation = journey.operation.clone();
                    self.requests += 1;
                    let id = RequestId(self.requests);
                    shared.exchange.asked.insert(id, Asked { operation, deadline_in_ms: timeout_ms });
                    self.goes_to(client, id, (host, process));
                    self.waits_until(client, now_ms + timeout_ms);
                    return Some((host, id));
                }
            }
        }
    }

    /// Whether the connection that an attempt went over is gone with the process at its end.
    pub(super) fn is_lost(&self, client: usize, shared: &Shared) -> bool {
        let journey = self.program.as_ref().and_then(|program| program.journey(client));
        let sent = journey.and_then(|journey| journey.sent);
        sent.is_some_and(|(host, process)| shared.exchange.process(host) != process)
    }

    /// The time of an attempt, or of a wait between two, is over; or its connection broke. None: this call is no journey.
    pub(super) fn go_on(&mut self, client: usize, shared: &mut Shared) -> Option<Option<(usize, RequestId)>> {
        let is_lost = self.is_lost(client, shared);
        let State::Waiting { id, .. } = self.states[client] else { return None };
        let program = self.program.as_mut()?;
        let journey = program.journeys.get_mut(client).and_then(Option::as_mut)?;
        if journey.sent.take().is_some() {
            program.lapsed.push_back((shared.now_ms + LAPSES_AFTER_MS, id));
            let outcome = match is_lost {
                _ if is_on(Mutation::LateMeansNotSent) => Outcome::NotSent,
                true => Outcome::Lost,
                false => Outcome::TimedOut,
            };
            if let Verdict::Fail(code) = program.router.finished(shared.now_ms, &mut journey.call, outcome) {
                self.arrived(client, Err(error_of(code)), shared);
                return Some(None);
            }
        }
        Some(self.travel(client, shared))
    }

    /// An attempt is answered. Gives it back if that is how the call ends.
    pub(super) fn attempt_answered(
        &mut self,
        client: usize,
        from: usize,
        answer: Result<Reply, Error>,
        shared: &mut Shared,
    ) -> Option<Result<Reply, Error>> {
        let Some(program) = &mut self.program else { return Some(answer) };
        let Some(journey) = program.journeys.get_mut(client).and_then(Option::as_mut) else { return Some(answer) };
        // Between two attempts nobody listens: this one is answered too late.
        journey.sent.take()?;
        let outcome = match &answer {
            Ok(_) => Outcome::Answered,
            Err(error) => Outcome::Refused { code: code_of(error), named: true },
        };
        let verdict = program.router.finished(shared.now_ms, &mut journey.call, outcome);
        let endpoint = program.router.endpoints().find(|&at| program.router.address(at) == address_of(from));
        if let (Some(endpoint), Some(members)) = (endpoint, shared.exchange.members.get(&from)) {
            program.router.heard_of_members(endpoint, members.changes());
        }
        let ends = match (verdict, answer) {
            (Verdict::Again, _) => {
                self.waits_until(client, shared.now_ms);
                return None;
            }
            (Verdict::Done, answer) => answer,
            (Verdict::Fail(code), Err(error)) if code == code_of(&error) => Err(error),
            (Verdict::Fail(code), _) => Err(error_of(code)),
        };
        program.end(client);
        Some(ends)
    }

    /// The call ends with what the program is told.
    fn arrived(&mut self, client: usize, answer: Result<Reply, Error>, shared: &mut Shared) {
        let State::Waiting { id, .. } = self.states[client] else { return };
        let journey = self.program.as_mut().and_then(|program| program.end(client));
        // An attempt that was the last may have left nothing of the question.
        if let Some(Journey { operation, .. }) = journey {
            shared.exchange.asked.entry(id).or_insert(Asked { operation, deadline_in_ms: 0 });
        }
        self.answered(id, answer, shared);
    }

    fn waits_until(&mut self, client: usize, until_ms: u64) {
        if let State::Waiting { give_up_ms, .. } = &mut self.states[client] {
            *give_up_ms = until_ms;
        }
    }

    /// An attempt goes to a host under a number of its own: what is answered to an earlier one is too late.
    fn goes_to(&mut self, client: usize, attempt: RequestId, (host, process): (usize, u64)) {
        let State::Waiting { id, recorded, .. } = &mut self.states[client] else { return };
        *id = attempt;
        if let Some(recorded) = *recorded {
            let operation = &mut self.history.operations[recorded];
            (operation.node, operation.process) = (host as u64, Some(process));
        }
    }

    /// The program asks who leads and who is a member, when the router says that it is time.
    pub(super) fn refresh(&mut self, shared: &mut Shared) -> Option<(usize, RequestId)> {
        let program = self.program.as_mut()?;
        let now_ms = shared.now_ms;
        while program.lapsed.front().is_some_and(|(until_ms, _)| now_ms >= *until_ms) {
            let (_, id) = program.lapsed.pop_front()?;
            shared.exchange.asked.remove(&id);
            shared.exchange.answers.remove(&id);
        }
        if let Some(Refresh { endpoint, .. }) = program.refresh.take_if(|refresh| now_ms >= refresh.until_ms) {
            program.router.refresh_failed(now_ms, endpoint);
        }
        // As behind gRPC: only while calls are made.
        if program.journeys.iter().flatten().all(|journey| journey.sent.is_none()) {
            return None;
        }
        let endpoint = program.router.poll_refresh(now_ms)?;
        self.requests += 1;
        let id = RequestId(self.requests);
        let until_ms = now_ms + REFRESH_TIMEOUT_MS;
        program.refresh = Some(Refresh { id, endpoint, until_ms });
        program.lapsed.push_back((now_ms + LAPSES_AFTER_MS, id));
        let asked = Asked { operation: Operation::Status, deadline_in_ms: REFRESH_TIMEOUT_MS };
        shared.exchange.asked.insert(id, asked);
        Some((host_of_address(program.router.address(endpoint)), id))
    }

    /// Takes the answer to such a question. Whether it was one.
    pub(super) fn refreshed(
        &mut self,
        id: RequestId,
        from: usize,
        answer: &Result<Reply, Error>,
        shared: &Shared,
    ) -> bool {
        let Some(program) = &mut self.program else { return false };
        let Some(Refresh { endpoint, .. }) = program.refresh.take_if(|refresh| refresh.id == id) else { return false };
        let members = shared.exchange.members.get(&from);
        match (answer, members) {
            (Ok(Reply::Status(status)), Some(members)) => {
                let view = view(status, shared.exchange.nodes.get(&from).copied(), members);
                drop(program.router.learn(shared.now_ms, endpoint, &view));
                if members.changes() >= program.told.0 {
                    program.told = (members.changes(), members.iter().map(host_of).collect());
                }
            }
            _ => program.router.refresh_failed(shared.now_ms, endpoint),
        }
        true
    }

    /// A read of each group, which the program must bring to an end by itself now that nothing is wrong any more: if one of these
    /// hosts is one that it was given or told.
    pub fn add_reaches(&mut self, hosts: &[usize]) {
        let Some(program) = &self.program else { return };
        let has_threads = (0..self.states.len()).any(|client| self.is_thread(client, program));
        if !has_threads || !program.knows_any(hosts) {
            return;
        }
        for bucket in self.workload.buckets.clone() {
            let object = self.workload.add_object(bucket, &["reached".to_owned()]);
            self.add_task(Task::Reach(object));
        }
    }
}

fn kind(operation: &Operation) -> Kind {
    match operation {
        Operation::Read(_, ReadMode::Linearizable, _) => Kind::Read,
        Operation::Read(_, ReadMode::Local, _) | Operation::Transfer(..) | Operation::Status => Kind::LocalRead,
        Operation::Write(command) => match (&command.write, command.id) {
            // A session that was opened twice is one that nobody uses, and to join or to leave twice is to do so once.
            (Write::OpenSession | Write::System(_), _) | (_, Some(_)) => Kind::RepeatableWrite,
            (_, None) if is_on(Mutation::RepeatsWithoutId) => Kind::RepeatableWrite,
            (_, None) => Kind::Write,
        },
    }
}

fn bucket(operation: &Operation) -> Option<&str> {
    match operation {
        Operation::Write(command) if matches!(command.write, Write::System(_)) => None,
        Operation::Write(command) => Some(command.bucket.as_str()),
        Operation::Read(_, _, read) => match read {
            ReadOp::Get { bucket, .. } | ReadOp::GetMany { bucket, .. } => Some(bucket.as_str()),
            ReadOp::Scan { bucket, .. } | ReadOp::DescribeBucket { bucket } => Some(bucket.as_str()),
            ReadOp::ScanNext { .. } | ReadOp::ScanEnd { .. } | ReadOp::ListBuckets { .. } | ReadOp::Members => None,
        },
        Operation::Transfer(..) | Operation::Status => None,
    }
}

/// What a node says of the cluster.
fn view(status: &ShardStatus, node: Option<NodeId>, members: &Members) -> View {
    View {
        cluster: CLUSTER.to_string(),
        node: node.unwrap_or_default().0,
        members: members.iter().map(|member| (member.id.0, member.address.clone())).collect(),
        member_changes: if is_on(Mutation::OldMembersCount) { 0 } else { members.changes() },
        groups: (status.groups.iter())
            .map(|group| GroupView {
                id: group.group.0,
                leader: group.leader.unwrap_or_default().0,
                term: group.term.0,
            })
            .collect(),
    }
}

fn code_of(error: &Error) -> Code {
    Code::from_name(error.code()).expect("the client knows all codes of the server")
}

/// What a program makes of a code that no node has sent.
fn error_of(code: Code) -> Error {
    match code {
        Code::DeadlineExceeded => Error::DeadlineExceeded,
        code if code.nothing_was_proposed() => Error::NoLeader,
        _ => Error::OutcomeUnknown,
    }
}
