//! The load generator of drey, and the side-by-side comparison with etcd.
//!
//! Both systems are driven by the same code: the same clients, connections, keys, values, clocks and histograms, with
//! only the messages differing. The load generator runs on the machine that it measures, so it is built to cost little:
//! one thread, gRPC on the `h2` crate without a client library on top, and one send per connection and turn of the loop.
//! [`run`] makes one run against nodes that are up; [`compare()`] starts nodes of each system and makes many.

mod cluster;
mod compare;
mod error;
mod figures;
mod grpc;
mod keys;
mod kills;
mod load;
mod machine;
mod target;

pub use cluster::SystemsArgs;
pub use compare::{CompareArgs, compare};
pub use error::Error;
pub use keys::Distribution;
pub use kills::{Kill, KillsArgs, Nodes, kill_leaders, kills};
pub use load::args::LoadArgs;
pub use load::run;
pub use load::summary::{Latency, Summary};
pub use target::{Route, Target};
