//! What every engine on disk must do, beside the contract of all engines.

use std::fs;

use drey_core::store::{Store, contract};
use tempfile::TempDir;

use super::{Engine, crashes, one, pairs};

/// One module of tests for an engine.
macro_rules! suite {
    ($name:ident: $engine:ty) => {
        mod $name {
            #[test]
            fn keeps_the_contract() {
                super::keeps_the_contract::<$engine>();
            }

            #[test]
            fn keeps_the_contract_with_little_memory() {
                super::keeps_the_contract_with_little_memory::<$engine>();
            }

            #[test]
            fn clones_are_handles_of_one_store() {
                super::clones_are_handles_of_one_store::<$engine>();
            }

            #[test]
            fn a_directory_has_one_process() {
                super::a_directory_has_one_process::<$engine>();
            }

            #[test]
            fn a_store_that_was_left_half_made_is_made_again() {
                super::a_store_that_was_left_half_made_is_made_again::<$engine>();
            }

            #[test]
            fn a_killed_process_loses_nothing_persisted() {
                super::crashes::a_killed_process_loses_nothing_persisted::<$engine>();
            }

            #[test]
            fn a_process_killed_amid_its_work_loses_nothing_persisted() {
                let name = concat!(stringify!($name), "::a_process_killed_amid_its_work_loses_nothing_persisted");
                super::crashes::a_process_killed_amid_its_work_loses_nothing_persisted::<$engine>(name);
            }

            #[test]
            fn a_power_cut_loses_no_persisted_batch_whatever_blocks_were_written() {
                super::crashes::a_power_cut_loses_no_persisted_batch_whatever_blocks_were_written::<$engine>();
            }
        }
    };
}

suite!(lsm: crate::Lsm);
suite!(btree: crate::Btree);

fn keeps_the_contract<E: Engine>() {
    let directory = TempDir::new().unwrap();
    let mut count = 0;
    contract::check(|| {
        count += 1;
        E::open(&directory.path().join(count.to_string())).unwrap()
    });
}

fn keeps_the_contract_with_little_memory<E: Engine>() {
    let directory = TempDir::new().unwrap();
    let mut count = 0;
    contract::check(|| {
        count += 1;
        E::open_busy(&directory.path().join(count.to_string()))
    });
}

fn clones_are_handles_of_one_store<E: Engine>() {
    let directory = TempDir::new().unwrap();
    let store = E::open(directory.path()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut store = store.clone();
            scope.spawn(move || {
                for at in 0..200 {
                    store.write(one(&format!("{thread}/{at:03}"), "v")).unwrap();
                }
                store.persist().unwrap();
            });
        }
    });
    assert_eq!(pairs(&store).len(), 800);
}

fn a_directory_has_one_process<E: Engine>() {
    let directory = TempDir::new().unwrap();
    let store = E::open(directory.path()).unwrap();
    let error = E::open(directory.path()).err().unwrap();
    assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    drop(store);
    E::open(directory.path()).unwrap();
}

fn a_store_that_was_left_half_made_is_made_again<E: Engine>() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let unfinished = directory.path().join("store.unfinished");
    for (name, bytes) in E::HALF_MADE {
        let file = unfinished.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    let mut store = E::open(&path).unwrap();
    store.write(one("k", "v")).unwrap();
    store.persist().unwrap();
    drop(store);
    assert!(!unfinished.exists());
    assert_eq!(pairs(&E::open(&path).unwrap()).len(), 1, "a made store is not made again");
}
