//! drey's deterministic simulator.

pub mod checker;
pub mod clients;
pub mod disk;
pub mod effects;
pub mod faults;
pub mod history;
pub mod injector;
pub mod links;
pub mod network;
pub mod node;
pub mod plan;
pub mod process;
pub mod report;
pub mod rng;
pub mod run;
pub mod shared;
pub mod store;
pub mod trace;
pub mod workload;
pub mod world;
