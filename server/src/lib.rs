//! The `drey` binary as a library: the generated side of the protocol that servers implement, and the command line.

pub mod cli;
pub mod proto;
