//! What an operation costs the load generator itself: three servers in memory answer puts in bursts, a thread for each,
//! as a replicated store does that writes and syncs many operations at once.
//!
//! `cargo run --release -p drey-bench --example client_cost [-- CLIENTS [MILLISECONDS BETWEEN BURSTS]]`

#[allow(dead_code, missing_docs)]
#[path = "../tests/stand_in/mod.rs"]
mod stand_in;

use std::time::{Duration, Instant};

use drey_bench::LoadArgs;
use stand_in::{Behaviour, StandIn};

fn main() -> Result<(), drey_bench::Error> {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let clients = numbers.next().unwrap_or(64);
    let burst = Duration::from_millis(numbers.next().unwrap_or(2));
    let start = Instant::now();
    let in_bursts = move |_, now: Instant| match burst {
        Duration::ZERO => now,
        // On the next multiple of the time between bursts.
        _ => now + burst - Duration::from_nanos((now.duration_since(start).as_nanos() % burst.as_nanos()) as u64),
    };
    let servers: Vec<StandIn> =
        (0..3).map(|_| StandIn::start(Behaviour { answer_at: Box::new(in_bursts), ..Behaviour::default() })).collect();
    for puts in [100, 0] {
        let summary = drey_bench::run(LoadArgs {
            endpoints: servers.iter().map(|server| server.endpoint.clone()).collect(),
            clients: clients as usize,
            puts,
            preload: puts == 0,
            warmup: Duration::from_millis(500),
            duration: Some(Duration::from_secs(3)),
            ..LoadArgs::default()
        })?;
        println!("{}", summary.to_json());
    }
    Ok(())
}
