//! Generates the message types and the client side of `drey.proto`, with protox in the place of a protoc.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "transport")]
    generate();
}

#[cfg(feature = "transport")]
fn generate() {
    println!("cargo::rerun-if-changed=../proto/drey.proto");
    let descriptors = protox::compile(["drey.proto"], ["../proto"]).expect("server/proto/drey.proto compiles");
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)
        .expect("the generated code can be written to OUT_DIR");
}
