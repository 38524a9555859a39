//! Runs against a server in memory that is slow or faulty on purpose.

#[allow(dead_code, reason = "this uses a part")]
mod stand_in;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use drey_bench::{Distribution, Error, LoadArgs, Route, Target, run};
use stand_in::{Behaviour, Leader, StandIn};

fn against(servers: &[&StandIn]) -> LoadArgs {
    let endpoints = servers.iter().map(|server| server.endpoint.clone()).collect();
    LoadArgs { endpoints, clients: 8, key_count: 100, value_size: 32, ..LoadArgs::default() }
}

#[test]
fn both_systems_are_spoken_to_as_their_messages_are_defined() {
    for target in [Target::Drey, Target::Etcd] {
        let server = StandIn::start(Behaviour::default());
        let args = LoadArgs { target, preload: true, operations: Some(500), puts: 50, ..against(&[&server]) };
        let summary = run(args).unwrap();
        assert_eq!((summary.operations, summary.latency.count), (500, 500), "{target:?}");
        let (puts, gets) = (summary.puts.unwrap().count, summary.gets.unwrap().count);
        assert!((180..=320).contains(&puts) && puts + gets == 500, "{puts} puts and {gets} gets of half each");
        assert_eq!((summary.not_found, summary.missed, summary.errors.len()), (0, 0, 0));
        assert!(summary.client_cpu_us_per_op > 0.0 && summary.ops_per_second > 0.0);
        let seen = server.seen();
        assert_eq!((seen.puts, seen.keys, seen.value_lengths), (100 + puts, 100, vec![32]));
    }
}

#[test]
fn gets_of_keys_that_are_not_there_are_told() {
    for target in [Target::Drey, Target::Etcd] {
        let server = StandIn::start(Behaviour::default());
        let summary = run(LoadArgs { target, operations: Some(50), puts: 0, ..against(&[&server]) }).unwrap();
        assert_eq!((summary.operations, summary.not_found, summary.puts), (50, 50, None));
    }
}

#[test]
fn connections_spread_over_all_endpoints() {
    let servers = [0, 1, 2].map(|_| StandIn::start(Behaviour::default()));
    let endpoints = servers.each_ref();
    let args = LoadArgs { connections: Some(6), clients: 12, operations: Some(300), ..against(&endpoints) };
    let summary = run(args).unwrap();
    assert_eq!((summary.endpoints, summary.connections), (3, 6));
    for server in &servers {
        let seen = server.seen();
        assert_eq!(seen.connections, 2);
        assert!(seen.puts > 0);
    }
}

#[test]
fn the_leader_alone_is_driven_when_asked() {
    for target in [Target::Drey, Target::Etcd] {
        let leader = StandIn::start(Behaviour { leader: Leader::Itself, ..Behaviour::default() });
        let at = Leader::At(leader.endpoint.clone());
        let follower = StandIn::start(Behaviour { leader: at, ..Behaviour::default() });
        let args = LoadArgs { target, to: Route::Leader, operations: Some(100), ..against(&[&follower, &leader]) };
        assert_eq!(run(args).unwrap().operations, 100);
        assert_eq!((follower.seen().puts, leader.seen().puts), (0, 100), "{target:?}");

        let alone = StandIn::start(Behaviour::default());
        let nobody = run(LoadArgs { target, to: Route::Leader, ..against(&[&alone]) });
        assert!(matches!(nobody, Err(Error::NoLeader(_))), "{nobody:?}");
    }
}

#[test]
fn errors_are_counted_by_code_and_are_no_operations() {
    let status = |number| match number % 10 {
        3 => 14,
        7 => 8,
        _ => 0,
    };
    let server = StandIn::start(Behaviour { status: Box::new(status), ..Behaviour::default() });
    let summary = run(LoadArgs { operations: Some(100), ..against(&[&server]) }).unwrap();
    let expected = [("UNAVAILABLE".to_owned(), 10), ("RESOURCE_EXHAUSTED".to_owned(), 10)];
    assert_eq!(summary.errors, BTreeMap::from(expected));
    assert_eq!((summary.operations, summary.latency.count), (80, 80));
}

#[test]
fn a_broken_connection_is_counted_and_replaced() {
    let hang_up = |number| number == 20;
    let server = StandIn::start(Behaviour { hang_up: Box::new(hang_up), ..Behaviour::default() });
    let summary = run(LoadArgs { operations: Some(100), ..against(&[&server]) }).unwrap();
    let broken = summary.errors["connection"];
    assert!((1..=8).contains(&broken), "each of 8 clients had at most one call on it: {broken}");
    assert_eq!(summary.operations + broken, 100);
    assert_eq!(server.seen().connections, 2, "all clients share one new connection");
}

#[test]
fn more_calls_than_the_server_takes_at_once_wait_their_turn() {
    let server = StandIn::start(Behaviour::default());
    let args = LoadArgs { clients: 1_000, connections: Some(2), operations: Some(5_000), ..against(&[&server]) };
    let summary = run(args).unwrap();
    assert_eq!((summary.operations, summary.errors.len()), (5_000, 0));
}

/// From the second request on, for so long, nothing is answered.
fn stalls_for(stall: Duration) -> Behaviour {
    let until = OnceLock::new();
    let answer_at = move |number, now: Instant| match number {
        0 => now,
        _ => now.max(*until.get_or_init(|| now + stall)),
    };
    Behaviour { answer_at: Box::new(answer_at), ..Behaviour::default() }
}

#[test]
fn an_open_loop_shows_a_stall_that_a_closed_loop_omits() {
    let stall = Duration::from_millis(300);

    let server = StandIn::start(stalls_for(stall));
    let closed = run(LoadArgs { clients: 1, operations: Some(1_000), ..against(&[&server]) }).unwrap();
    assert!(closed.latency.max_us >= 290_000, "the stall is there: {closed:?}");
    assert!(closed.latency.p99_us < 100_000, "but one operation alone has met it: {closed:?}");

    // A thousand a second over one second: the first three hundred come due within the stall. Those wait for half of
    // it, and longer, as the one client works off what has piled up.
    let server = StandIn::start(stalls_for(stall));
    let open =
        run(LoadArgs { clients: 1, rate: Some(1_000.0), operations: Some(1_000), ..against(&[&server]) }).unwrap();
    assert_eq!((open.operations, open.latency.count, open.missed), (1_000, 1_000, 0));
    assert!(open.latency.p99_us >= 250_000, "{open:?}");
    assert!(open.elapsed_s >= 0.99, "no operation starts before it is due: {open:?}");
}

#[test]
fn an_open_loop_that_cannot_keep_up_says_what_it_missed() {
    let each = Duration::from_millis(20);
    let server = StandIn::start(Behaviour { answer_at: Box::new(move |_, now| now + each), ..Behaviour::default() });
    let args =
        LoadArgs { clients: 2, rate: Some(1_000.0), duration: Some(Duration::from_millis(500)), ..against(&[&server]) };
    let summary = run(args).unwrap();
    assert!(summary.operations <= 50, "two clients, 20 ms each: {summary:?}");
    // All of the five hundred that were due have a latency, whether or not they were started.
    assert!((495..=505).contains(&summary.latency.count), "{summary:?}");
    assert!(summary.missed >= 440, "{summary:?}");
    assert!(summary.latency.p50_us >= 150_000, "{summary:?}");
}

#[test]
fn the_warm_up_is_not_measured() {
    let server = StandIn::start(stalls_for(Duration::from_millis(200)));
    let args = LoadArgs { warmup: Duration::from_millis(400), operations: Some(200), ..against(&[&server]) };
    let summary = run(args).unwrap();
    assert!(summary.latency.max_us < 190_000, "{summary:?}");
    assert_eq!(summary.latency.count, 200);
}

#[test]
fn servers_are_measured_by_their_processes() {
    let server = StandIn::start(Behaviour::default());
    let args = LoadArgs { server_pids: vec![std::process::id()], operations: Some(2_000), ..against(&[&server]) };
    let summary = run(args).unwrap();
    // Here the server is this process, client and all.
    assert!(summary.server_rss_bytes.unwrap() > 1 << 20);
    assert!(summary.server_cpu_us_per_op.unwrap() > 0.0);

    let gone = LoadArgs { server_pids: vec![u32::MAX], operations: Some(1), ..against(&[&server]) };
    assert!(matches!(run(gone), Err(Error::Io { .. })));
}

#[test]
fn skewed_runs_touch_fewer_keys() {
    let touched = |keys| {
        let server = StandIn::start(Behaviour::default());
        run(LoadArgs { keys, key_count: 10_000, operations: Some(2_000), ..against(&[&server]) }).unwrap();
        server.seen().keys
    };
    let (uniform, skewed) = (touched(Distribution::Uniform), touched(Distribution::Zipf(1.2)));
    assert!(skewed * 2 < uniform, "{skewed} of zipf, {uniform} of uniform");
}

#[test]
fn nobody_listening_and_failing_preloads_are_errors() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = run(LoadArgs { endpoints: vec![endpoint.clone()], ..LoadArgs::default() });
    assert!(refused.unwrap_err().to_string().contains(&endpoint));

    let server = StandIn::start(Behaviour { status: Box::new(|_| 14), ..Behaviour::default() });
    let failed = run(LoadArgs { preload: true, key_count: 10, ..against(&[&server]) });
    assert!(matches!(failed, Err(Error::Preload { failed: 10, keys: 10, .. })), "{failed:?}");
}
