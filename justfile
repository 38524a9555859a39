# Each of these is also written plainly in the README.

check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

# Looks for failing seeds: just sim 1000
sim seeds="200":
    cargo run --release -p drey-sim -- explore --seeds {{seeds}}

# Runs one fuzz target: just fuzz log_recovery 600
fuzz target seconds="60":
    cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

bench:
    cargo bench -p drey-bench

ci:
    bash .ci/run
