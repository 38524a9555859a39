//! Leaders killed among servers in memory that take a known time to elect another.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "this uses a part")]
mod stand_in;

use std::net::TcpListener;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use drey_bench::{Error, Kill, KillsArgs, Nodes, Target, kill_leaders};
use stand_in::{Behaviour, COMMITTED, Leader, StandIn};

/// From a kill to the next leader.
const ELECTION: Duration = Duration::from_millis(150);

/// From a start to the last entry that the others have.
const CATCH_UP: Duration = Duration::from_millis(120);

/// Clocks are read before and after what they time.
const BLUR_MS: f64 = 10.0;

/// Three servers that know of each other.
struct Three {
    servers: Vec<Option<StandIn>>,
    world: Arc<Mutex<World>>,
}

struct World {
    endpoints: Vec<String>,
    leader: usize,
    led_from: Instant,
    /// One that accepts calls and answers no put.
    deaf: Option<usize>,
}

impl Three {
    fn start() -> Self {
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let endpoints = listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        let world = Arc::new(Mutex::new(World { endpoints, leader: 0, led_from: Instant::now(), deaf: None }));
        let servers = listeners.into_iter().enumerate();
        let servers =
            servers.map(|(number, listener)| Some(server(number, listener, &world, Instant::now()))).collect();
        Self { servers, world }
    }
}

fn server(number: usize, listener: TcpListener, world: &Arc<Mutex<World>>, caught_up_at: Instant) -> StandIn {
    let of = |world: &Arc<Mutex<World>>| Arc::clone(world);
    let (elected, heard, led) = (of(world), of(world), of(world));
    let behaviour = Behaviour {
        status: Box::new(move |_| if Instant::now() < elected.lock().unwrap().led_from { 14 } else { 0 }),
        answer_at: Box::new(move |_, now| {
            let deaf = heard.lock().unwrap().deaf == Some(number);
            if deaf { now + Duration::from_secs(600) } else { now }
        }),
        leader: Leader::By(Box::new(move || {
            let world = led.lock().unwrap();
            world.endpoints[world.leader].clone()
        })),
        applied: Box::new(move || if Instant::now() < caught_up_at { COMMITTED - 1 } else { COMMITTED }),
        ..Behaviour::default()
    };
    StandIn::start_on(listener, behaviour)
}

impl Nodes for Three {
    fn endpoints(&self) -> Vec<String> {
        self.world.lock().unwrap().endpoints.clone()
    }

    fn kill(&mut self, number: usize) -> Result<(), Error> {
        {
            let mut world = self.world.lock().unwrap();
            assert_eq!(world.leader, number, "it is the leader who is killed");
            world.leader = (number + 1) % 3;
            world.led_from = Instant::now() + ELECTION;
        }
        assert!(self.servers[number].take().is_some());
        Ok(())
    }

    fn start_again(&mut self, number: usize) -> Result<(), Error> {
        let listener = TcpListener::bind(&self.endpoints()[number]).unwrap();
        let before = self.servers[number].replace(server(number, listener, &self.world, Instant::now() + CATCH_UP));
        assert!(before.is_none());
        Ok(())
    }

    fn log_tails(&self) -> String {
        "what they said".into()
    }
}

fn args(kills: u32) -> KillsArgs {
    let (warmup, between) = (Duration::from_millis(50), Duration::from_millis(100));
    KillsArgs { kills: kills.try_into().unwrap(), clients: 9, warmup, between, ..KillsArgs::default() }
}

fn all_of(target: Target, args: &KillsArgs, nodes: &mut Three) -> Vec<Kill> {
    let mut kills = Vec::new();
    let ended = kill_leaders(target, args, nodes, |kill| {
        kills.push(kill.clone());
        ControlFlow::Continue(())
    });
    ended.unwrap();
    kills
}

#[test]
fn the_gap_is_the_time_that_an_election_takes() {
    for target in [Target::Drey, Target::Etcd] {
        let mut nodes = Three::start();
        let kills = all_of(target, &args(4), &mut nodes);
        let endpoints = nodes.endpoints();
        let leaders: Vec<&String> = kills.iter().map(|kill| &kill.leader).collect();
        assert_eq!(leaders, [0, 1, 2, 0].map(|number: usize| &endpoints[number]), "{target:?}");
        for kill in &kills {
            let election = ELECTION.as_secs_f64() * 1e3;
            assert!((election - BLUR_MS..election + 5_000.0).contains(&kill.gap_ms), "{kill:?}");
            assert!(kill.silence_ms >= election - BLUR_MS, "{kill:?}");
            assert!(kill.return_ms >= CATCH_UP.as_secs_f64() * 1e3, "{kill:?}");
            assert!(kill.writes > 0 && kill.errors["UNAVAILABLE"] > 0, "{kill:?}");
        }
        // The last one killed has come back, and its clients with it.
        assert!(nodes.servers.iter().flatten().all(|server| server.seen().puts > 0), "{target:?}");
    }
}

#[test]
fn a_node_that_does_not_answer_is_not_waited_for() {
    let mut nodes = Three::start();
    nodes.world.lock().unwrap().deaf = Some(2);
    let kills = all_of(Target::Drey, &args(1), &mut nodes);
    assert!(kills[0].errors["timeout"] > 0 && kills[0].writes > 0, "{kills:?}");
}

#[test]
fn it_ends_when_asked_and_refuses_what_cannot_be_run() {
    let mut nodes = Three::start();
    let mut seen = 0;
    let ended = kill_leaders(Target::Drey, &args(20), &mut nodes, |_| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(ended, Err(Error::Interrupted)) && seen == 1, "{ended:?}");

    let nobody = KillsArgs { clients: 0, ..args(1) };
    let refused = kill_leaders(Target::Drey, &nobody, &mut nodes, |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(Error::Usage(_))), "{refused:?}");
}
