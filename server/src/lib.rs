//! The `drey` binary as a library: what a node serves over gRPC, the meaning of its calls, and the command line.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod backend;
pub mod cli;
pub mod demo;
pub mod grpc;
pub mod proto;
pub mod start;
