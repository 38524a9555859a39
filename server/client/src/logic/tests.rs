//! The router's decisions, told as scripts of outcomes and times.

use super::*;

const N1: &str = "n1:1";
const N2: &str = "n2:1";
const N3: &str = "n3:1";

/// A router with a call under way, on a clock that moves only when told or when the router says to wait.
struct Script {
    router: Router,
    call: Call,
    now_ms: u64,
    waited_ms: u64,
}

impl Script {
    fn new(kind: Kind, addresses: &[&str]) -> Script {
        Script::with_policy(Policy::default(), kind, addresses)
    }

    fn with_policy(policy: Policy, kind: Kind, addresses: &[&str]) -> Script {
        let router = Router::new(policy, addresses.iter().copied(), 42);
        let call = router.begin(0, kind, Some("users"), 10_000);
        Script { router, call, now_ms: 0, waited_ms: 0 }
    }

    /// Another call of the same router.
    fn begin(&mut self, kind: Kind) {
        self.call = self.router.begin(self.now_ms, kind, Some("users"), 10_000);
        self.waited_ms = 0;
    }

    /// Waits as told, and says where the next attempt goes.
    fn sent_to(&mut self) -> String {
        loop {
            match self.router.next(self.now_ms, &mut self.call) {
                Step::Send { endpoint, .. } => return self.router.address(endpoint).to_owned(),
                Step::Wait { until_ms } => {
                    assert!(until_ms > self.now_ms);
                    self.waited_ms += until_ms - self.now_ms;
                    self.now_ms = until_ms;
                }
                Step::GiveUp(code) => panic!("gave up: {code}"),
            }
        }
    }

    fn then(&mut self, outcome: Outcome) -> Verdict {
        self.now_ms += 1;
        self.router.finished(self.now_ms, &mut self.call, outcome)
    }

    /// One attempt: it must go to `address`, and ends as given.
    fn attempt(&mut self, address: &str, outcome: Outcome) -> Verdict {
        assert_eq!(self.sent_to(), address);
        self.then(outcome)
    }

    /// Takes the answer of `from` about three members and four groups that `leader` leads in `term`.
    fn learn(&mut self, from: usize, leader: u64, term: u64) {
        let from = self.router.endpoints().nth(from).expect("an endpoint");
        self.router.learn(self.now_ms, from, &view(from.index() as u64 + 1, leader, term)).expect("the same cluster");
    }
}

fn view(node: u64, leader: u64, term: u64) -> View {
    View {
        cluster: "c1".to_owned(),
        node,
        members: vec![(1, N1.to_owned()), (2, N2.to_owned()), (3, N3.to_owned())],
        member_changes: 0,
        groups: (0..=4).map(|id| GroupView { id, leader, term }).collect(),
    }
}

fn refused(code: Code) -> Outcome {
    Outcome::Refused { code, named: true }
}

fn unnamed(code: Code) -> Outcome {
    Outcome::Refused { code, named: false }
}

#[test]
fn a_call_goes_to_the_first_endpoint_until_leaders_are_known_and_then_to_the_leader() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    assert_eq!(script.attempt(N1, Outcome::Answered), Verdict::Done);
    script.learn(0, 3, 5);
    for kind in [Kind::Read, Kind::Write] {
        script.begin(kind);
        assert_eq!(script.attempt(N3, Outcome::Answered), Verdict::Done);
    }
    script.begin(Kind::LocalRead);
    assert_eq!(script.attempt(N1, Outcome::Answered), Verdict::Done);
}

#[test]
fn members_are_learned_from_one_address() {
    let mut script = Script::new(Kind::Write, &[N1]);
    script.learn(0, 2, 5);
    assert_eq!(script.attempt(N2, Outcome::NotSent), Verdict::Again);
    assert_eq!(script.attempt(N1, Outcome::NotSent), Verdict::Again);
    assert_eq!(script.attempt(N3, Outcome::Answered), Verdict::Done);
    assert_eq!(script.waited_ms, 0, "a node that is down is no reason to wait for the next one");
}

#[test]
fn the_address_that_was_given_is_kept_for_the_node_that_answers_there() {
    // Inside of a container network the members' own addresses may not be reachable at all.
    let mut script = Script::new(Kind::Write, &["published:9000"]);
    script.learn(0, 1, 5);
    assert_eq!(script.sent_to(), "published:9000");
}

#[test]
fn a_write_goes_again_only_when_nothing_was_proposed() {
    for outcome in [Outcome::NotSent, refused(Code::NoLeader), refused(Code::NotReady), refused(Code::Overloaded)] {
        let mut script = Script::new(Kind::Write, &[N1, N2]);
        assert_eq!(script.attempt(N1, outcome), Verdict::Again, "{outcome:?}");
        assert_eq!(script.attempt(N2, Outcome::Answered), Verdict::Done);
    }
    for (outcome, code) in [
        (Outcome::Lost, Code::OutcomeUnknown),
        (Outcome::TimedOut, Code::DeadlineExceeded),
        (refused(Code::OutcomeUnknown), Code::OutcomeUnknown),
        (refused(Code::DeadlineExceeded), Code::DeadlineExceeded),
        (refused(Code::QuotaExceeded), Code::QuotaExceeded),
        (refused(Code::BucketNotFound), Code::BucketNotFound),
        (unnamed(Code::Unavailable), Code::OutcomeUnknown),
        (unnamed(Code::Overloaded), Code::OutcomeUnknown),
        (unnamed(Code::InvalidArgument), Code::InvalidArgument),
    ] {
        let mut script = Script::new(Kind::Write, &[N1, N2]);
        assert_eq!(script.attempt(N1, outcome), Verdict::Fail(code), "{outcome:?}");
    }
}

#[test]
fn a_read_goes_again_after_anything_that_may_pass() {
    for outcome in [
        Outcome::NotSent,
        Outcome::Lost,
        Outcome::TimedOut,
        refused(Code::NoLeader),
        refused(Code::NotReady),
        refused(Code::OutcomeUnknown),
        refused(Code::DeadlineExceeded),
        unnamed(Code::Unavailable),
    ] {
        let mut script = Script::new(Kind::Read, &[N1, N2]);
        assert_eq!(script.attempt(N1, outcome), Verdict::Again, "{outcome:?}");
        assert_eq!(script.attempt(N2, Outcome::Answered), Verdict::Done);
    }
    for code in [Code::BucketNotFound, Code::InvalidArgument, Code::DataLoss, Code::PermissionDenied] {
        let mut script = Script::new(Kind::Read, &[N1, N2]);
        assert_eq!(script.attempt(N1, refused(code)), Verdict::Fail(code));
    }
}

#[test]
fn no_leader_waits_and_asks_another_node_because_this_one_may_be_cut_off() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    assert_eq!(script.attempt(N1, refused(Code::NoLeader)), Verdict::Again);
    assert_eq!(script.sent_to(), N2);
    assert!((5..=10).contains(&script.waited_ms), "{}", script.waited_ms);
}

#[test]
fn waits_grow_while_there_is_no_leader_and_the_deadline_ends_them() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    let mut attempts = 0;
    loop {
        script.sent_to();
        attempts += 1;
        match script.then(refused(Code::NoLeader)) {
            Verdict::Again => {}
            verdict => {
                assert_eq!(verdict, Verdict::Fail(Code::NoLeader));
                break;
            }
        }
    }
    assert!((12..=40).contains(&attempts), "{attempts} attempts in 10 s");
    assert!(script.now_ms <= 10_000, "it gives up instead of waiting past its deadline");
}

#[test]
fn an_overloaded_leader_stays_the_one_to_ask() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    script.learn(0, 2, 5);
    for _ in 0..3 {
        assert_eq!(script.attempt(N2, refused(Code::Overloaded)), Verdict::Again);
    }
    assert_eq!(script.attempt(N2, Outcome::Answered), Verdict::Done);
    assert!(script.waited_ms >= 35 - 3, "{}", script.waited_ms);
}

#[test]
fn a_leader_that_is_down_is_passed_over_by_the_calls_after() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    script.learn(0, 2, 5);
    assert_eq!(script.attempt(N2, Outcome::NotSent), Verdict::Again);
    assert_eq!(script.attempt(N1, Outcome::Answered), Verdict::Done);
    script.begin(Kind::Write);
    assert_eq!(script.sent_to(), N1);

    script.now_ms += 1_000;
    script.begin(Kind::Write);
    assert_eq!(script.sent_to(), N2, "after a while one call tries it");
    let mut second = script.router.begin(script.now_ms, Kind::Write, Some("users"), 10_000);
    let Step::Send { endpoint, .. } = script.router.next(script.now_ms, &mut second) else { panic!("not sent") };
    assert_eq!(script.router.address(endpoint), N1, "and the others wait for what it finds");
    assert_eq!(script.then(Outcome::Answered), Verdict::Done);
    script.begin(Kind::Write);
    assert_eq!(script.sent_to(), N2);
}

#[test]
fn suspects_are_tried_when_nobody_else_is_left() {
    let mut script = Script::new(Kind::Read, &[N1, N2]);
    assert_eq!(script.attempt(N1, Outcome::NotSent), Verdict::Again);
    assert_eq!(script.attempt(N2, Outcome::NotSent), Verdict::Again);
    assert_eq!(script.waited_ms, 0);
    assert_eq!(script.attempt(N1, Outcome::Answered), Verdict::Done);
    assert!(script.waited_ms >= 5, "a round in which all failed is a reason to wait");
}

#[test]
fn a_call_without_any_node_gives_up_early_if_told_to() {
    let policy = Policy { unreachable_rounds_max: Some(2), ..Policy::default() };
    let mut script = Script::with_policy(policy, Kind::Write, &[N1, N2]);
    for address in [N1, N2, N1] {
        assert_eq!(script.attempt(address, Outcome::NotSent), Verdict::Again);
    }
    assert_eq!(script.attempt(N2, Outcome::NotSent), Verdict::Fail(Code::Unreachable));

    let mut script = Script::with_policy(policy, Kind::Write, &[N1, N2]);
    for _ in 0..6 {
        script.sent_to();
        assert_eq!(script.then(Outcome::NotSent), Verdict::Again);
        script.sent_to();
        assert_eq!(script.then(refused(Code::NotReady)), Verdict::Again, "somebody was there");
    }
}

#[test]
fn deadlines_bound_each_attempt_and_the_whole() {
    let mut script = Script::new(Kind::Read, &[N1, N2]);
    let timeout_of = |script: &mut Script| match script.router.next(script.now_ms, &mut script.call) {
        Step::Send { timeout_ms, .. } => timeout_ms,
        step => panic!("{step:?}"),
    };
    assert_eq!(timeout_of(&mut script), 2_000);
    script.now_ms = 9_000;
    assert_eq!(script.then(Outcome::TimedOut), Verdict::Again);
    assert_eq!(timeout_of(&mut script), 999);
    script.now_ms = 10_000;
    assert_eq!(script.then(Outcome::TimedOut), Verdict::Fail(Code::DeadlineExceeded));

    script.begin(Kind::Write);
    assert_eq!(timeout_of(&mut script), 10_000, "a write gets all the time there is");
    assert_eq!(script.then(refused(Code::NoLeader)), Verdict::Again);
    script.now_ms += 10_000;
    assert_eq!(script.router.next(script.now_ms, &mut script.call), Step::GiveUp(Code::NoLeader));
}

#[test]
fn a_view_of_an_older_term_is_not_believed() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    script.learn(0, 2, 7);
    script.learn(2, 3, 6);
    assert_eq!(script.sent_to(), N2);
    script.learn(2, 0, 7);
    assert_eq!(script.sent_to(), N2, "not to know a leader is no news within the same term");
    script.learn(2, 0, 8);
    assert_eq!(script.router.leader_of("users"), None);
}

#[test]
fn a_leader_that_says_no_leader_is_forgotten() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    script.learn(0, 3, 7);
    assert_eq!(script.attempt(N3, refused(Code::NoLeader)), Verdict::Again);
    assert_eq!(script.attempt(N1, Outcome::Answered), Verdict::Done);
    script.begin(Kind::Write);
    assert_eq!(script.sent_to(), N1);
}

#[test]
fn a_partial_list_of_groups_routes_nothing() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    let from = script.router.endpoints().next().expect("an endpoint");
    let mut partial = view(1, 2, 5);
    partial.groups.remove(2);
    script.router.learn(0, from, &partial).expect("the same cluster");
    assert_eq!(script.router.leader_of("users"), None);
    assert_eq!(script.sent_to(), N1);
}

#[test]
fn members_that_left_are_not_asked_and_may_come_back() {
    let mut script = Script::new(Kind::Write, &[N1]);
    script.learn(0, 3, 5);
    let from = script.router.endpoints().next().expect("an endpoint");
    let addresses =
        |script: &Script| script.router.endpoints().map(|id| script.router.address(id).to_owned()).collect::<Vec<_>>();
    assert_eq!(addresses(&script), [N1, N2, N3]);

    let mut smaller = view(1, 1, 6);
    smaller.members.pop();
    script.router.learn(0, from, &smaller).expect("the same cluster");
    assert_eq!(addresses(&script), [N1, N2]);

    let mut moved = view(1, 3, 7);
    moved.members[2].1 = "n3:2".to_owned();
    script.router.learn(0, from, &moved).expect("the same cluster");
    assert_eq!(addresses(&script), [N1, N2, "n3:2"]);
    assert_eq!(script.sent_to(), "n3:2");
}

#[test]
fn endpoints_of_another_cluster_are_left_out() {
    let mut script = Script::new(Kind::Write, &[N1, "other:1"]);
    script.learn(0, 1, 5);
    let foreign = script.router.endpoints().nth(1).expect("an endpoint");
    let view = View { cluster: "c2".to_owned(), ..view(1, 2, 9) };
    let error = script.router.learn(0, foreign, &view).expect_err("another cluster");
    assert_eq!(error.to_string(), "belongs to cluster `c2`, not to `c1`");
    assert_eq!(script.sent_to(), N1);
    assert!(script.router.endpoints().all(|id| script.router.address(id) != "other:1"));
}

#[test]
fn endpoints_are_bounded_and_given_only_once() {
    let addresses: Vec<String> = (0..200).map(|number| format!("n{number}:1")).collect();
    let router = Router::new(Policy::default(), addresses.iter().chain(&addresses).cloned(), 1);
    assert_eq!(router.endpoints().count(), ENDPOINTS_MAX);
    let router = Router::new(Policy::default(), [N1, N1, N2], 1);
    assert_eq!(router.endpoints().count(), 2);
}

#[test]
fn a_router_without_endpoints_says_so() {
    let mut script = Script::new(Kind::Read, &[]);
    assert_eq!(script.router.next(0, &mut script.call), Step::GiveUp(Code::Unreachable));
    assert_eq!(script.router.poll_refresh(0), None);
}

#[test]
fn leaders_are_asked_for_at_first_after_trouble_and_now_and_then() {
    let mut script = Script::new(Kind::Write, &[N1, N2, N3]);
    let first = script.router.poll_refresh(0).expect("nothing is known yet");
    assert_eq!(script.router.address(first), N1);
    assert_eq!(script.router.poll_refresh(1_000), None, "one at a time");
    script.router.refresh_failed(2_000, first);
    let second = script.router.poll_refresh(2_000).expect("the first did not answer");
    assert_eq!(script.router.address(second), N2);
    script.router.learn(2_010, second, &view(2, 2, 5)).expect("the same cluster");
    assert_eq!(script.router.poll_refresh(7_009), None);
    assert!(script.router.poll_refresh(7_010).is_some(), "after five seconds");
    script.router.learn(7_010, second, &view(2, 2, 5)).expect("the same cluster");

    script.now_ms = 8_000;
    script.begin(Kind::Write);
    assert_eq!(script.attempt(N2, refused(Code::NoLeader)), Verdict::Again);
    let third = script.router.poll_refresh(script.now_ms).expect("the leader is gone");
    script.router.learn(script.now_ms, third, &view(1, 3, 6)).expect("the same cluster");
    assert_eq!(script.attempt(N3, refused(Code::NoLeader)), Verdict::Again);
    assert_eq!(script.router.poll_refresh(script.now_ms + 50), None, "not more often than every 100 ms");
}

#[test]
fn a_node_that_knows_more_of_the_members_is_asked_at_once_and_once() {
    let mut script = Script::new(Kind::Read, &[N1, N2, N3]);
    let first = script.router.poll_refresh(0).expect("nothing is known yet");
    let [_, n2, n3] = script.router.endpoints().collect::<Vec<_>>()[..] else { panic!("three endpoints") };
    // While the first answer is under way, and after it.
    assert!(script.router.heard_of_members(n3, 1));
    assert_eq!(script.router.poll_refresh(200), None, "one at a time");
    script.router.learn(200, first, &view(1, 1, 5)).expect("the same cluster");
    assert_eq!(script.router.poll_refresh(200), Some(n3));
    script.router.learn(200, n3, &view(3, 1, 5)).expect("the same cluster");
    assert!(!script.router.heard_of_members(n2, 1), "it is no news");
    assert_eq!(script.router.poll_refresh(1_000), None);
    assert!(script.router.heard_of_members(n2, 2));
    assert_eq!(script.router.poll_refresh(1_000), Some(n2));
}

#[test]
fn a_node_that_is_behind_takes_no_member_away() {
    let mut script = Script::new(Kind::Read, &[N1]);
    let n1 = script.router.endpoints().next().expect("the one that was given");
    let moved = View {
        members: vec![(4, "n4:9000".to_owned()), (5, "n5:9000".to_owned())],
        member_changes: 4,
        ..view(1, 4, 5)
    };
    script.router.learn(0, n1, &moved).expect("the same cluster");
    // It was restarted from an old copy of its disk, or has not heard that it was removed.
    script.router.learn(10, n1, &View { member_changes: 3, ..view(1, 1, 4) }).expect("the same cluster");
    let known: Vec<_> = script.router.endpoints().map(|at| script.router.address(at).to_owned()).collect();
    assert_eq!(known, [N1, "n4:9000", "n5:9000"]);
    assert_eq!(script.attempt("n4:9000", Outcome::TimedOut), Verdict::Again, "nor is it where to go first");
    script.router.learn(20, n1, &View { member_changes: 5, ..view(1, 1, 6) }).expect("the same cluster");
    assert_eq!(script.router.endpoints().count(), 3, "n1, n2, n3");
}

#[test]
fn the_same_seed_and_script_give_the_same_steps() {
    let run = |seed: u64| {
        let mut router = Router::new(Policy::default(), [N1, N2, N3], seed);
        let mut steps = Vec::new();
        let (mut now_ms, mut chance) = (0, 7_u64);
        for round in 0..50 {
            let kind = if round % 3 == 0 { Kind::Read } else { Kind::Write };
            let mut call = router.begin(now_ms, kind, Some(&format!("bucket-{round}")), 500);
            loop {
                let step = router.next(now_ms, &mut call);
                steps.push(format!("{now_ms} {step:?}"));
                match step {
                    Step::Wait { until_ms } => now_ms = until_ms,
                    Step::GiveUp(_) => break,
                    Step::Send { .. } => {
                        now_ms += 3;
                        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let outcome = match chance >> 61 {
                            0 => Outcome::NotSent,
                            1 => refused(Code::NoLeader),
                            2 => refused(Code::Overloaded),
                            3 => Outcome::TimedOut,
                            4 => Outcome::Lost,
                            _ => Outcome::Answered,
                        };
                        if router.finished(now_ms, &mut call, outcome) != Verdict::Again {
                            break;
                        }
                    }
                }
            }
        }
        steps
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
