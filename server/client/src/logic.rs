//! Where a call goes, and whether it may go again: the client without its sockets.
//!
//! [`Router`] holds what all calls share: the endpoints, which of them failed lately, who leads which group. [`Call`]
//! holds what one call needs. The caller owns clock and network, and moves a call like this:
//!
//! 1. [`Router::begin`] makes the call. Times are milliseconds on any clock that never goes back.
//! 2. [`Router::next`] says what to do: send to an endpoint, wait, or give up.
//! 3. [`Router::finished`] takes what became of an attempt and says whether the call is done, failed, or goes on with 2.
//!
//! Beside the calls, [`Router::poll_refresh`] says when a `Cluster.Status` is worth asking for, and
//! [`Router::learn`] takes its answer.
//!
//! Invariants worth naming:
//! - A write without an id is sent a second time only after an outcome that says that nothing was proposed or nothing was sent.
//! - A write that may have been applied never ends with an error that says that it was not.
//! - The same calls, outcomes and times give the same steps: the one source of chance is the seed of [`Router::new`].
//! - All that grows is bounded: [`ENDPOINTS_MAX`] endpoints, [`GROUPS_MAX`] groups.

mod backoff;
mod call;
mod endpoints;
mod refresh;
mod routes;
#[cfg(test)]
mod tests;

pub use call::{Call, Kind, Outcome, Step, Verdict};
pub use endpoints::{ENDPOINTS_MAX, EndpointId};
pub use routes::{GROUPS_MAX, GroupView, View, bucket_hash, group_of_bucket};

use crate::Code;
use backoff::Jitter;
use endpoints::Endpoints;
use refresh::Refresh;
use routes::Routes;

/// The numbers behind the router's decisions, all in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long one attempt of a read, or of a write with an id, may take while there is time for another. Any other write gets all the time that is
    /// left, because it cannot be tried again once it timed out.
    pub attempt_timeout_ms: u64,
    /// The first wait before trying again; each further one is twice as long.
    pub backoff_base_ms: u64,
    /// The longest wait before trying again.
    pub backoff_cap_ms: u64,
    /// How long an endpoint is passed over after it failed once; doubled with each failure, up to eight times this.
    pub suspect_ms: u64,
    /// How old the knowledge of leaders may get while calls are made.
    pub refresh_interval_ms: u64,
    /// The least time between two refreshes.
    pub refresh_pause_ms: u64,
    /// After how many rounds in which no endpoint at all took a connection a call gives up before its deadline.
    pub unreachable_rounds_max: Option<u32>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            attempt_timeout_ms: 2_000,
            backoff_base_ms: 10,
            backoff_cap_ms: 1_000,
            suspect_ms: 500,
            refresh_interval_ms: 5_000,
            refresh_pause_ms: 100,
            unreachable_rounds_max: None,
        }
    }
}

/// An endpoint answered for another cluster than the one this router began with. It is not asked again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("belongs to cluster `{found}`, not to `{pinned}`")]
pub struct ForeignCluster {
    /// The cluster that the first answer named.
    pub pinned: String,
    /// The cluster that this endpoint belongs to.
    pub found: String,
}

/// What all calls of one client share: endpoints, leaders, and the state of their discovery.
#[derive(Debug)]
pub struct Router {
    policy: Policy,
    endpoints: Endpoints,
    routes: Routes,
    refresh: Refresh,
    jitter: Jitter,
    cluster: Option<String>,
    /// The most changes of the members that any node knew of.
    member_changes: u64,
    /// As many led to the members that are known here.
    learned_changes: u64,
}

impl Router {
    /// A router that knows these addresses and nothing else yet. Addresses past [`ENDPOINTS_MAX`] are left out.
    pub fn new<A: Into<String>>(policy: Policy, addresses: impl IntoIterator<Item = A>, seed: u64) -> Router {
        Router {
            policy,
            endpoints: Endpoints::new(addresses.into_iter().map(Into::into)),
            routes: Routes::default(),
            refresh: Refresh::default(),
            jitter: Jitter::new(seed),
            cluster: None,
            member_changes: 0,
            learned_changes: 0,
        }
    }

    /// Begins a call that may take `timeout_ms` in all. `bucket` is the bucket whose leader should get it, if any.
    pub fn begin(&self, now_ms: u64, kind: Kind, bucket: Option<&str>, timeout_ms: u64) -> Call {
        Call::new(kind, bucket.map(bucket_hash), now_ms.saturating_add(timeout_ms))
    }

    /// What to do next for `call`. After [`Step::Send`] the outcome is owed to [`Router::finished`].
    pub fn next(&mut self, now_ms: u64, call: &mut Call) -> Step {
        if now_ms >= call.deadline_ms {
            return Step::GiveUp(call.settled(call.last.unwrap_or(Code::DeadlineExceeded)));
        }
        if call.resume_ms > now_ms {
            return Step::Wait { until_ms: call.resume_ms };
        }
        let leader = match call.kind {
            Kind::LocalRead => None,
            Kind::Read | Kind::Write | Kind::RepeatableWrite => {
                call.bucket_hash.and_then(|hash| self.routes.leader(hash))
            }
        };
        let chosen = leader
            .filter(|&leader| self.endpoints.is_usable(leader, now_ms) && !call.tried(leader))
            .or_else(|| self.endpoints.choose(now_ms, call.tried));
        let Some(endpoint) = chosen else {
            return Step::GiveUp(call.settled(Code::Unreachable));
        };
        self.endpoints.probing(endpoint, now_ms, &self.policy);
        call.endpoint = Some(endpoint);
        let left_ms = call.deadline_ms - now_ms;
        let timeout_ms = match call.kind {
            Kind::Write => left_ms,
            Kind::Read | Kind::LocalRead | Kind::RepeatableWrite => left_ms.min(self.policy.attempt_timeout_ms),
        };
        Step::Send { endpoint, timeout_ms }
    }

    /// Takes what became of the attempt that the last [`Step::Send`] asked for.
    pub fn finished(&mut self, now_ms: u64, call: &mut Call, outcome: Outcome) -> Verdict {
        let Some(endpoint) = call.endpoint.take() else {
            debug_assert!(false, "an outcome without an attempt");
            return Verdict::Fail(Code::Internal);
        };
        self.note(now_ms, call, endpoint, outcome);
        call.unsure |= call.kind == Kind::RepeatableWrite && leaves_unsure(outcome);
        let code = match (outcome, call.kind) {
            (Outcome::Answered, _) => return Verdict::Done,
            (Outcome::NotSent, _) => Code::Unreachable,
            (Outcome::Lost, Kind::Write) => return Verdict::Fail(Code::OutcomeUnknown),
            (Outcome::Lost, _) => Code::Unavailable,
            (Outcome::TimedOut, Kind::Write) => return Verdict::Fail(Code::DeadlineExceeded),
            (Outcome::TimedOut, _) => Code::DeadlineExceeded,
            (Outcome::Refused { code, named }, Kind::Write) if !(named && code.nothing_was_proposed()) => {
                // Without a name from the server nothing says that the write was not proposed.
                let unsure = matches!(code, Code::Unavailable) || (!named && code.nothing_was_proposed());
                return Verdict::Fail(if unsure { Code::OutcomeUnknown } else { code });
            }
            (Outcome::Refused { code, .. }, _) if !worth_another_attempt(code) => {
                return Verdict::Fail(call.settled(code));
            }
            (Outcome::Refused { code, .. }, _) => code,
        };
        self.schedule(now_ms, call, endpoint, code)
    }

    /// Decides when the next attempt is due, and whether there is one.
    fn schedule(&mut self, now_ms: u64, call: &mut Call, endpoint: EndpointId, code: Code) -> Verdict {
        call.last = Some(code);
        call.reached_somebody |= code != Code::Unreachable;
        // An overloaded leader stays the place to go: any other node would only forward to it.
        let leads = call.bucket_hash.and_then(|hash| self.routes.leader(hash)) == Some(endpoint);
        if !(code == Code::Overloaded && leads) {
            call.mark_tried(endpoint);
        }
        let round_is_over = !self.endpoints.has_untried(call.tried);
        if round_is_over {
            call.tried = 0;
            if !call.reached_somebody {
                call.rounds_unreachable += 1;
            }
            call.reached_somebody = false;
        }
        if self.policy.unreachable_rounds_max.is_some_and(|rounds_max| call.rounds_unreachable >= rounds_max) {
            return Verdict::Fail(call.settled(code));
        }
        // A node that is down or starting says nothing about the next one. The others are reasons to wait.
        if round_is_over || matches!(code, Code::NoLeader | Code::Overloaded) {
            call.resume_ms = now_ms.saturating_add(self.jitter.backoff_ms(&self.policy, call.waits));
            call.waits = call.waits.saturating_add(1);
        }
        if call.resume_ms.max(now_ms) >= call.deadline_ms { Verdict::Fail(call.settled(code)) } else { Verdict::Again }
    }

    /// Draws from an outcome what it says about the endpoint and about the leaders known.
    fn note(&mut self, now_ms: u64, call: &Call, endpoint: EndpointId, outcome: Outcome) {
        match outcome {
            Outcome::Answered => self.endpoints.succeeded(endpoint),
            Outcome::NotSent | Outcome::Lost | Outcome::TimedOut => {
                self.endpoints.failed(endpoint, now_ms, &self.policy);
                self.refresh.want();
            }
            Outcome::Refused { code: Code::NoLeader, .. } => {
                if let Some(hash) = call.bucket_hash {
                    self.routes.forget(hash, endpoint);
                }
                self.endpoints.pass_on(endpoint);
                self.refresh.want();
            }
            Outcome::Refused { code: Code::NotReady | Code::OutcomeUnknown | Code::Unavailable, .. } => {
                self.endpoints.pass_on(endpoint);
                self.refresh.want();
            }
            Outcome::Refused { .. } => self.endpoints.succeeded(endpoint),
        }
    }

    /// The endpoint to ask for its `Cluster.Status` now, if it is time. The answer is owed to [`Router::learn`] or
    /// [`Router::refresh_failed`]; until then there is no other refresh.
    pub fn poll_refresh(&mut self, now_ms: u64) -> Option<EndpointId> {
        if !self.refresh.is_due(now_ms, &self.policy) {
            return None;
        }
        let knows_more = self.refresh.knows_more.take().filter(|&endpoint| self.endpoints.is_usable(endpoint, now_ms));
        let endpoint = knows_more.or_else(|| self.endpoints.choose(now_ms, self.refresh.tried))?;
        self.refresh.begin(now_ms);
        Some(endpoint)
    }

    /// A node says how many changes of the members it knows of. True: that is news, and it is asked who they are next.
    pub fn heard_of_members(&mut self, from: EndpointId, changes: u64) -> bool {
        let news = changes > self.member_changes;
        if news {
            self.member_changes = changes;
            self.refresh.want();
            self.refresh.knows_more = Some(from);
        }
        news
    }

    /// Takes an answer to `Cluster.Status`: who is a member, and who leads which group.
    ///
    /// # Errors
    /// The endpoint belongs to another cluster than the first that answered. Nothing is learned from it.
    pub fn learn(&mut self, now_ms: u64, from: EndpointId, view: &View) -> Result<(), ForeignCluster> {
        self.refresh.succeeded(now_ms);
        match &self.cluster {
            Some(pinned) if *pinned != view.cluster => {
                self.endpoints.exclude(from);
                self.refresh.want();
                return Err(ForeignCluster { pinned: pinned.clone(), found: view.cluster.clone() });
            }
            Some(_) => {}
            None => self.cluster = Some(view.cluster.clone()),
        }
        self.endpoints.succeeded(from);
        self.endpoints.is_node(from, view.node);
        if view.member_changes < self.learned_changes {
            // It is behind: it names members that are gone, and does not know those that came.
            self.endpoints.pass_on(from);
        } else {
            self.learned_changes = view.member_changes;
            self.endpoints.learn(view);
        }
        self.routes.learn(view, &self.endpoints);
        Ok(())
    }

    /// The endpoint that [`Router::poll_refresh`] named did not answer.
    pub fn refresh_failed(&mut self, now_ms: u64, from: EndpointId) {
        self.endpoints.failed(from, now_ms, &self.policy);
        self.refresh.failed(from);
        if !self.endpoints.has_untried(self.refresh.tried) {
            self.refresh.tried = 0;
        }
    }

    /// The address of an endpoint. It may change when a member moves.
    pub fn address(&self, endpoint: EndpointId) -> &str {
        self.endpoints.address(endpoint)
    }

    /// The endpoint that leads the group of `bucket`, as far as is known.
    pub fn leader_of(&self, bucket: &str) -> Option<EndpointId> {
        self.routes.leader(bucket_hash(bucket))
    }

    /// The endpoints known now, the first ones given first.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointId> + '_ {
        self.endpoints.ids()
    }
}

/// True for what may have become of a write that was applied.
fn leaves_unsure(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Answered | Outcome::NotSent => false,
        Outcome::Lost | Outcome::TimedOut => true,
        Outcome::Refused { code, named } => code.outcome_is_unknown() || (!named && code.nothing_was_proposed()),
    }
}

/// True for a refusal of a read after which another attempt may end better.
fn worth_another_attempt(code: Code) -> bool {
    code.nothing_was_proposed() || matches!(code, Code::Unavailable | Code::OutcomeUnknown | Code::DeadlineExceeded)
}
