//! The services that a node offers over gRPC, as traits to implement, and the health service of gRPC.
//!
//! The messages are those of [`drey_client::proto`], so that what one side writes the other reads without a conversion.

#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::large_futures)]

pub use drey_client::proto::*;

tonic::include_proto!("drey.v1");

/// `grpc.health.v1`.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// The encoded `FileDescriptorSet` of all services, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
