//! drey's deterministic simulator.

pub mod checker;
pub mod history;
pub mod rng;
pub mod trace;
