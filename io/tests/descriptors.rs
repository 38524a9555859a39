//! Nothing leaks: descriptors after connections came and went, and after executors ended. In a process of its own, so
//! that the count is exact.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream as ClientStream,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use drey_io::runtime::{self, TcpStream, sleep, spawn};
use support::{PATIENCE, join, listen, one, run};

/// Sends everything back until the peer ends its side.
async fn echo(stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    // A peer that resets is a peer that is gone.
    let _ = futures_lite::io::copy(&mut reader, &mut writer).await;
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Has these tests run one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn connections_that_come_and_go_leave_no_descriptor() {
    let _alone = alone();
    const ROUNDS: usize = 20;
    const AT_ONCE: usize = 50;
    let (listener, mut connections) = listen();
    let address = listener.address();
    let server = one(|_| async move {
        while let Some(connection) = connections.receive().await {
            spawn(echo(connection.into_stream().unwrap()));
        }
    });
    let round = || {
        let mut clients: Vec<ClientStream> = (0..AT_ONCE).map(|_| ClientStream::connect(address).unwrap()).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            // A third say nothing, a third are answered, a third leave with the answer unread.
            if index % 3 > 0 {
                client.write_all(b"hello").unwrap();
            }
            if index % 3 == 1 {
                client.read_exact(&mut [0; 5]).unwrap();
            }
        }
    };
    let settled = || {
        let deadline = Instant::now() + PATIENCE;
        while listener.open() > 0 {
            assert!(Instant::now() < deadline, "{} connections stay open", listener.open());
            thread::yield_now();
        }
        descriptors()
    };
    round();
    let before = settled();
    (0..ROUNDS).for_each(|_| round());
    let after = settled();
    assert_eq!(after, before);
    listener.stop();
    join(server);
}

#[test]
fn executors_that_end_close_what_they_opened() {
    let _alone = alone();
    const STARTS: usize = 20;
    let live = || {
        let (listener, mut connections) = listen();
        let client = ClientStream::connect(listener.address()).unwrap();
        run(|_| async move {
            // A connection, a timer and a blocking call that are never finished.
            let stream = connections.receive().await.unwrap().into_stream().unwrap();
            spawn(echo(stream));
            spawn(sleep(Duration::from_secs(3_600)));
            spawn(async { drop(runtime::blocking(|| thread::sleep(Duration::from_millis(1))).await) });
            runtime::yield_now().await;
        });
        drop(client);
    };
    live();
    let before = descriptors();
    (0..STARTS).for_each(|_| live());
    let after = descriptors();
    // One each is glommio's, which never closes the eventfd of an executor. Each executor opens more than five, and
    // this test as many.
    assert!(after <= before + STARTS, "{before} descriptors before, {after} after");
}
