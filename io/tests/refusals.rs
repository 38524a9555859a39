//! What ends a process or keeps it from starting, each in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
    thread,
    time::Duration,
};

use drey_io::runtime::{ExecutorConfig, ExecutorContext, sleep, start};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Runs the test `name` of this file in another process, where [`is_child`] holds.
fn child(name: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", name])
        .env("DREY_TEST_CHILD", name)
        .output()
        .unwrap()
}

fn is_child(name: &str) -> bool {
    std::env::var_os("DREY_TEST_CHILD").is_some_and(|child| child == name)
}

#[test]
fn too_little_lockable_memory_is_told_before_anything_starts() {
    const NAME: &str = "too_little_lockable_memory_is_told_before_anything_starts";
    if is_child(NAME) {
        let maximum = getrlimit(Resource::Memlock).maximum;
        setrlimit(Resource::Memlock, Rlimit { current: Some(65_536), maximum }).unwrap();
        let refused = start(&ExecutorConfig::new("test"), vec![|_: ExecutorContext| async {}]);
        println!("refused: {}", refused.unwrap_err());
        return;
    }
    let output = child(NAME);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("refused: this process may lock 65536 bytes of memory"), "{told}");
    assert!(told.contains("ulimit -l"), "{told}");
}

#[test]
fn more_connections_than_a_ring_can_hold_are_refused() {
    let mut config = ExecutorConfig::new("test");
    config.connections_max = 100_000;
    let refused = start(&config, vec![|_: ExecutorContext| async {}]).unwrap_err().to_string();
    assert!(refused.starts_with("100000 connections per executor are more than 15872"), "{refused}");
}

#[test]
fn a_blocked_executor_aborts_the_process() {
    const NAME: &str = "a_blocked_executor_aborts_the_process";
    if is_child(NAME) {
        support::run(|_| async {
            // The heartbeat is there after this.
            sleep(Duration::from_millis(50)).await;
            thread::sleep(4 * support::PATIENCE);
        });
        return;
    }
    let output = child(NAME);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.signal(), Some(6), "{told}");
    assert!(told.contains("the executor test-0 has not run for 5 s"), "{told}");
}
