//! drey's deterministic simulator: whole clusters, their faults and their checkers, from one seed.
//!
//! The shards are core's own, driven by core's own `turn`; the bytes on the disks are real log records, the datagrams real
//! handshakes and frames; the store is core's memory store behind its storage worker. What is simulated is everything
//! else: time and what hosts send each other ([`network`], on one of two drivers: [`driver`]), the disks ([`disk`]), the clients
//! ([`clients`]), and what goes wrong ([`faults`], [`injector`]). Every choice comes from the seed ([`rng`], [`plan`]).
//!
//! A run ([`run`]) is thirty seconds and more of faults under load; then all faults end (or a minority of the nodes stays
//! down), and within a bound every group must answer through every node, all replicas must become equal, and every key is
//! read a last time. Some clients write keys with times to live ([`timed`]), while one wall clock at a time is set wrong by up to hours.
//! Others follow scripts, in some of the seeds ([`scripts`]): they count together, lock, scan large tables, ask for what cannot be done.
//! The laws that must have held are in [`checker`]; that they are looked after is shown by worlds that lie ([`lies`]). A run counts only if it completed enough operations
//! and saw enough kinds of faults, each counted where it took effect. Two runs of a seed must not differ in any input,
//! output or synced byte ([`trace`]).
//!
//! ```text
//! cargo run --release -p drey-sim -- run --seed 42           # one seed, twice
//! cargo run --release -p drey-sim -- explore --seeds 10000   # look for one that fails
//! cargo run --release -p drey-sim -- trace --seed 42         # all that happens, as text
//! cargo run --release -p drey-sim -- shrink --seed 42        # less of it that fails alike
//! ```
//!
//! Absences worth naming: nothing here reads a clock, draws from the system, or runs tasks beside each other within a host
//! (tokio's `select!` draws by itself), so that no special build flags are needed for runs to repeat.

pub mod changes;
pub mod checker;
pub mod clients;
pub mod coverage;
pub mod digest;
pub mod disk;
pub mod driver;
pub mod effects;
pub mod faults;
pub mod history;
pub mod hunts;
pub mod identity;
pub mod injector;
pub mod lies;
pub mod links;
#[cfg(feature = "mutations")]
pub mod mutations;
pub mod network;
pub mod node;
pub mod operator;
pub mod plan;
pub mod pool;
pub mod process;
pub mod report;
pub mod rng;
pub mod room;
pub mod run;
pub mod scripts;
pub mod sessions;
pub mod shared;
pub mod shrink;
pub mod store;
pub mod story;
pub mod throughput;
pub mod timed;
pub mod totals;
pub mod trace;
pub mod trials;
pub mod words;
pub mod workload;
pub mod world;
