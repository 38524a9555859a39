//! Crashes between jobs: what the store has after any of its batches is a state to go on from.

use super::*;

/// Everything that writes: applies, a purge, a snapshot.
fn history() -> Vec<StorageJob> {
    let mut from = worker(MemoryStore::new());
    from.apply_next(&[create("sent"), put("sent", "k1", "v"), put("sent", "k2", "v"), put("default", "k", "sent")]);
    for _ in 1..9 {
        from.apply_next(&[]);
    }
    let (meta, chunks) = from.snapshot(1);
    let mut jobs = vec![
        apply_job(1, &[create("b"), put("b", "k1", "v"), put("b", "k2", "v"), put("b", "k3", "v")]),
        apply_job(2, &[put("default", "k", "v"), create("c")]),
        apply_job(3, &[drop_bucket("b"), put("c", "k", "v")]),
        StorageJob::Purge { group: GROUP, limit: 2 },
        apply_job(4, &[create("b"), put("b", "k", "again")]),
        StorageJob::Purge { group: GROUP, limit: 2 },
    ];
    let stage = |(at, data)| StorageJob::SnapshotStage { group: GROUP, origin: origin(), chunk: at as u64, data };
    jobs.extend(chunks.clone().into_iter().take(2).enumerate().map(stage));
    jobs.push(apply_job(5, &[put("c", "k", "during")]));
    jobs.extend(chunks.into_iter().enumerate().map(stage));
    jobs.push(StorageJob::SnapshotInstall { group: GROUP, meta });
    jobs.push(apply_job(10, &[put("sent", "k1", "behind"), drop_bucket("sent")]));
    jobs.push(StorageJob::Purge { group: GROUP, limit: 3 });
    jobs
}

fn is_apply_beyond(job: &StorageJob, applied: LogIndex) -> bool {
    matches!(job, StorageJob::Apply { entries, .. } if entries[0].index > applied)
}

#[test]
fn after_a_crash_at_any_batch_the_rest_leads_to_the_same_state() {
    let mut whole = worker(MemoryStore::new());
    for job in history() {
        let done = whole.run(job);
        assert!(!matches!(done, StorageDone::Failed(_)), "{done:?}");
    }
    whole.purge_all();

    let mut crashes = 0;
    for jobs_done in 0..=history().len() {
        let mut lived = worker(MemoryStore::with_crashes());
        for job in history().into_iter().take(jobs_done) {
            lived.run(job);
        }
        let store = lived.into_store();
        for keep in 0..=store.batches_since_persist() {
            let mut store = store.clone();
            store.crash(keep);
            let mut worker = worker(store);
            let applied = worker.group(GROUP).unwrap().applied();
            // The log is replayed from the first entry on; a snapshot, if it is still wanted, comes again as a whole.
            for job in history() {
                let snapshot = matches!(job, StorageJob::SnapshotStage { .. } | StorageJob::SnapshotInstall { .. });
                if is_apply_beyond(&job, applied) || (snapshot && applied < LogIndex(9)) {
                    let done = worker.run(job);
                    assert!(!matches!(done, StorageDone::Failed(_)), "{done:?}");
                }
            }
            worker.purge_all();
            assert_eq!(worker.hash(), whole.hash(), "{jobs_done} jobs, {keep} batches kept");
            let live = |worker: &StorageWorker<MemoryStore>| worker.store().len();
            assert_eq!(live(&worker), live(&whole), "{jobs_done} jobs, {keep} batches kept");
            crashes += 1;
        }
    }
    assert!(crashes > 100, "{crashes} crashes were tried");
}
