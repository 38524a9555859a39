//! The storage thread's share of a put: decoding an entry, its effects, and the engine. Without the sync, which is shared
//! by many thousands; with what the engine does in the background.

mod support;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use drey_core::log::RecoveredLog;
use drey_core::machine::entry::{EntryBuilder, Stamp};
use drey_core::storage::{Committed, StorageDone, StorageJob, StorageWorker};
use drey_core::store::{MemoryStore, Store};
use drey_core::{FOUNDED, LogIndex, Term, Tick, start_shard};
use drey_io::store::{BtreeOptions, BtreeStore, LsmOptions, LsmStore};
use support::{BATCH, GROUP, config, put};

fn apply<S: Store>(group: &mut BenchmarkGroup<WallTime>, engine: &str, store: S) {
    let log = RecoveredLog { next_epoch: 1, groups: Default::default(), segments: Vec::new(), seals: Vec::new() };
    let now = Tick { mono_ms: 0, wall_ms: 0 };
    let (_, mut worker): (_, StorageWorker<S>) = start_shard(config(1, 1), 1, now, &log, store).expect("empty start");
    let mut index = FOUNDED.0.0;
    let mut puts = 0;
    group.bench_function(engine, |bencher| {
        bencher.iter(|| {
            let mut entry = EntryBuilder::new();
            for _ in 0..BATCH {
                puts += 1;
                entry.push(&put(puts));
            }
            index += 1;
            let commands = entry.finish(0, Stamp::default()).into();
            let entries = vec![Committed {
                index: LogIndex(index),
                term: Term(1),
                commands,
                wants_replies: true,
                configuration: None,
            }];
            let done = worker.run(StorageJob::Apply { group: GROUP, entries });
            assert!(matches!(done, StorageDone::Applied { .. }), "{done:?}");
        });
    });
}

fn store_apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store_apply");
    group.throughput(Throughput::Elements(BATCH));
    apply(&mut group, "memory", MemoryStore::new());
    let directory = || tempfile::tempdir().expect("a temporary directory");
    let (lsm, btree) = (directory(), directory());
    apply(&mut group, "lsm", LsmStore::open(lsm.path(), LsmOptions::default()).expect("an empty store"));
    apply(&mut group, "btree", BtreeStore::open(btree.path(), BtreeOptions::default()).expect("an empty store"));
}

criterion_group!(benches, store_apply);
criterion_main!(benches);
