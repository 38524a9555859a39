//! Generates the message types of `raft-proto` without `protoc`.
//!
//! `raft-proto`'s build script calls a crate named `protobuf-build`. The published one runs whatever `protoc` the machine
//! has and fails where there is none (or where `PROTOC` points nowhere). This one has the same few calls, compiles the
//! `.proto` files in pure Rust with protox, and makes two choices of its own: `bytes` fields become
//! [`Bytes`](https://docs.rs/bytes), so that a Raft entry is cloned without copying its payload; and only the accessors
//! that a proto3 file can need are generated.
//!
//! It panics freely: it runs in build scripts only.

mod accessors;

use std::path::{Path, PathBuf};
use std::{env, fs};

use prost11::Message as _;
use prost_types::FileDescriptorSet;

/// Collects files and include directories, then writes `$OUT_DIR/protos/mod.rs`.
#[derive(Default)]
pub struct Builder {
    files: Vec<PathBuf>,
    includes: Vec<PathBuf>,
}

impl Builder {
    /// A builder without files.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Takes every file of `dir`.
    pub fn search_dir_for_protos(&mut self, dir: &str) -> &mut Self {
        let listed = fs::read_dir(dir).expect("the proto directory is readable");
        self.files = listed.map(|file| file.expect("a directory entry").path()).collect();
        self.files.sort();
        self
    }

    /// Adds directories that imports are looked up in; those that do not exist are passed over.
    pub fn includes<T: ToString>(&mut self, dirs: &[T]) -> &mut Self {
        let dirs = dirs.iter().map(|dir| PathBuf::from(dir.to_string()));
        self.includes.extend(dirs.filter(|dir| dir.is_dir()));
        self
    }

    /// Adds this crate's `include`; protox brings Google's well-known types with it.
    pub fn include_google_protos(&mut self) -> &mut Self {
        self.includes(&[concat!(env!("CARGO_MANIFEST_DIR"), "/include")])
    }

    /// Compiles the files and writes the modules.
    pub fn generate(&self) {
        let out_dir = Path::new(&env::var("OUT_DIR").expect("run by cargo")).join("protos");
        fs::create_dir_all(&out_dir).expect("the output directory can be made");

        let compiled = protox::compile(&self.files, &self.includes).expect("the proto files compile");
        let encoded = prost::Message::encode_to_vec(&compiled);
        let mut set = FileDescriptorSet::decode(encoded.as_slice()).expect("descriptors are plain protobuf");
        // rust-protobuf's own options and Google's descriptors take part in the compilation, not in the program.
        set.file.retain(|file| !matches!(file.package(), "google.protobuf" | "rustproto"));

        let mut module = String::new();
        for file in &set.file {
            let package = file.package();
            fs::write(out_dir.join(format!("{package}_accessors.rs")), accessors::of_file(file))
                .expect("the output directory is writable");
            module += &format!(
                "pub mod {package} {{ include!(\"{package}.rs\"); include!(\"{package}_accessors.rs\"); }}\n"
            );
        }
        prost_build::Config::new()
            .bytes(["."])
            .out_dir(&out_dir)
            .compile_fds(set)
            .expect("prost generates the types");
        fs::write(out_dir.join("mod.rs"), module).expect("the output directory is writable");
    }
}
