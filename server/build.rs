//! Generates the server's side of the protocol, with protox in the place of a protoc.
//!
//! drey's own messages are those of drey-client: only the traits and their dispatch are generated here. The descriptors
//! of all files are written beside them, encoded, for gRPC reflection.

use prost::Message;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    let descriptors =
        protox::compile(["drey.proto", "health.proto"], ["proto"]).expect("the files in server/proto compile");
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec()).expect("OUT_DIR can be written");
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        // A call that is not there yet answers UNIMPLEMENTED.
        .generate_default_stubs(true)
        .extern_path(".drey.v1", "::drey_client::proto")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .expect("OUT_DIR can be written");
}
