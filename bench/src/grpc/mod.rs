//! Unary gRPC calls at little cost: the `h2` crate, messages framed by hand, one send per connection and turn.
//!
//! A general client library spends more CPU on a call than a fast server does, and a load generator takes its share of
//! the same cores. What is left out to get there: timeouts per call, compression, interceptors, load balancing, TLS.

mod coalesce;
mod connection;
mod frame;
mod status;

pub(crate) use connection::{Connection, Link};
pub(crate) use frame::write_message;
pub use status::CallError;
