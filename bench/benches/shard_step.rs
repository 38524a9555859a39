//! The core's share of a put: every replica's Raft, log encoding, frames and memory store, on one thread.

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::BATCH;
use support::cluster::Cluster;

fn shard_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shard_step");
    for nodes in [1, 3] {
        for puts in [1, BATCH] {
            let mut cluster = Cluster::new(nodes);
            group.throughput(Throughput::Elements(puts));
            group
                .bench_function(format!("{nodes} replicas, {puts} puts"), |bencher| bencher.iter(|| cluster.put(puts)));
        }
    }
}

criterion_group!(benches, shard_step);
criterion_main!(benches);
