//! What a node serves over gRPC, on a real socket with real clients, and with a fake in the place of its shards.

#![allow(clippy::unwrap_used)]

mod calls;
mod cancelled;
mod fake;
mod refused;
mod scans;
mod server;
mod wire;
