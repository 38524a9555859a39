//! One caller, one node, one operation at a time: what a put and a get take with all that they wait for, the sync included.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use drey_core::name::BucketName;
use drey_core::placement::group_of;
use drey_core::request::{Operation, ReadMode, ReadOp, Reply};
use drey_io::{Config, Node};
use futures_lite::future::block_on;
use support::{key, put};

const TIMEOUT_MS: u64 = 10_000;
/// The keys that are there when gets begin.
const PRELOADED: u64 = 1_000;

fn end_to_end(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(Config::new(directory.path())).expect("a node alone");
    let handle = node.handle();
    let mut number = 0;
    let mut put_next = || {
        number += 1;
        let reply = block_on(handle.call(Operation::Write(put(number)), TIMEOUT_MS));
        assert!(matches!(reply, Ok(Reply::Put { applied: true, .. })), "{reply:?}");
    };
    (0..PRELOADED).for_each(|_| put_next());
    let mut group = criterion.benchmark_group("end_to_end");
    group.bench_function("put", |bencher| bencher.iter(&mut put_next));
    for (name, mode) in [("get, linearizable", ReadMode::Linearizable), ("get, local", ReadMode::Local)] {
        let mut number = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += 1;
                let op = ReadOp::Get { bucket: BucketName::DEFAULT, key: key(number % PRELOADED + 1) };
                let bucket = group_of(&BucketName::DEFAULT, handle.groups());
                let reply = block_on(handle.read(bucket, mode, op, TIMEOUT_MS));
                assert!(matches!(reply, Ok(Reply::Entry(Some(_)))), "{reply:?}");
            });
        });
    }
    group.finish();
    node.stop().expect("a clean stop");
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
