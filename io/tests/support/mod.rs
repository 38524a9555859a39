//! What several tests need: an executor that is joined in time, and connections that arrive at it.
#![allow(dead_code, clippy::unwrap_used, reason = "not every test needs all of it, and a test may panic")]

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use drey_io::{
    listener::{BoundListener, Connection, Listener},
    mailbox::{Mailbox, mailbox},
    runtime::{ExecutorConfig, ExecutorContext, Executors, start},
};

/// How long anything may take on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Starts one executor with one body.
pub fn one<S, F, T>(body: S) -> Executors<T>
where
    S: FnOnce(ExecutorContext) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    start(&ExecutorConfig::new("test"), vec![body]).unwrap()
}

/// The results of all executors, or a panic if they do not end in time.
pub fn join<T: Send + 'static>(executors: Executors<T>) -> Vec<T> {
    let (sender, joined) = mpsc::channel();
    thread::spawn(move || sender.send(executors.join()));
    let results = joined.recv_timeout(PATIENCE).expect("the executors hang");
    results.into_iter().map(|result| result.unwrap()).collect()
}

/// Runs one body on an executor of its own to the end.
pub fn run<S, F, T>(body: S) -> T
where
    S: FnOnce(ExecutorContext) -> F + Send + 'static,
    F: Future<Output = T> + 'static,
    T: Send + 'static,
{
    join(one(body)).remove(0)
}

/// Listens on a port that the system picks; connections come to the mailbox.
pub fn listen() -> (Listener, Mailbox<Connection>) {
    let (sender, connections) = mailbox(1_024);
    let bound = BoundListener::bind(loopback()).unwrap();
    let listener = bound.accept(1_000, move |connection| sender.send(connection).unwrap()).unwrap();
    (listener, connections)
}
