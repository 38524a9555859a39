//! The client of drey: give it the addresses of a few nodes, and it finds the rest.
//!
//! It learns which node leads the group of a bucket and goes straight there; when that node is gone it asks any other,
//! since every node answers every call. Reads are repeated as need be, and so are writes: each goes out under an id in a
//! session that the client opened, and is applied once however often it arrives. Only a write that found no answer within its
//! time is an error of unknown outcome ([`Code::outcome_is_unknown`]). Without sessions ([`Builder::sessions`]) a write is
//! repeated only when it was certainly not proposed.
//!
//! ```no_run
//! # async fn example() -> Result<(), drey_client::Error> {
//! let client = drey_client::Client::connect(["127.0.0.1:9001", "127.0.0.1:9002"])?;
//! let users = client.bucket("users");
//! let version = users.put("alice", "blue").await?;
//! let entry = users.get("alice").await?.expect("it was written just now");
//! assert_eq!((entry.value.as_ref(), entry.version), (b"blue".as_ref(), version));
//! # Ok(())
//! # }
//! ```
//!
//! Every decision is made in [`logic`], which knows no socket and no clock: the simulator drives the same code. The
//! feature `transport` (on by default) adds what carries the decisions out, on tokio and tonic.

mod error;
pub mod logic;

#[cfg(feature = "transport")]
mod bucket;
#[cfg(feature = "transport")]
mod client;
#[cfg(feature = "transport")]
mod requests;
#[cfg(feature = "transport")]
mod scan;
#[cfg(feature = "transport")]
mod sessions;
#[cfg(feature = "transport")]
mod transport;

/// The messages of `drey.proto`, as they are on the wire, and tonic's stubs.
#[cfg(feature = "transport")]
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::large_futures)]
    tonic::include_proto!("drey.v1");
}

pub use error::{Code, ERROR_METADATA_KEY, Error, MEMBERS_METADATA_KEY};

#[cfg(feature = "transport")]
pub use bucket::Bucket;
#[cfg(feature = "transport")]
pub use client::{Builder, Client};
#[cfg(feature = "transport")]
pub use requests::{Batch, Scan, Txn};
#[cfg(feature = "transport")]
pub use scan::ScanStream;

/// How fresh a read must be.
#[cfg(feature = "transport")]
pub use proto::ReadMode;
