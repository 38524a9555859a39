//! Sockets: streams between executors, looking ahead, connecting, a port after its owner was killed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream as ClientStream},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use drey_io::{
    listener::BoundListener,
    runtime::{TcpStream, connect, spawn},
};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use support::{PATIENCE, join, listen, loopback, one, run};

/// Sends everything back until the peer ends its side.
async fn echo(stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    // A peer that resets is a peer that is gone.
    let _ = futures_lite::io::copy(&mut reader, &mut writer).await;
}

#[test]
fn streams_carry_bytes_both_ways_at_once() {
    const BYTES: usize = 4 << 20;
    let (listener, mut connections) = listen();
    let address = listener.address();
    let server = one(|_| async move {
        let stream = connections.receive().await.unwrap().into_stream().unwrap();
        echo(stream).await;
    });
    let (same, closed) = run(move |_| async move {
        let stream = connect(address, PATIENCE).await.unwrap();
        assert_eq!(stream.peer(), address);
        let sent: Vec<u8> = (0..BYTES).map(|index| (index * 31 % 251) as u8).collect();
        let (mut reader, mut writer) = stream.split();
        let expected = sent.clone();
        spawn(async move {
            // In two slices, which leave together.
            let (head, tail) = sent.split_at(100);
            let slices = [std::io::IoSlice::new(head), std::io::IoSlice::new(tail)];
            let written = writer.write_vectored(&slices).await.unwrap();
            assert!(written > head.len(), "{written}");
            writer.write_all(&sent[written..]).await.unwrap();
            // Dropping the half ends this side.
        });
        let mut received = vec![0; BYTES];
        reader.read_exact(&mut received).await.unwrap();
        (received == expected, reader.read(&mut [0]).await.unwrap() == 0)
    });
    assert!(same && closed);
    join(server);
}

#[test]
fn looking_ahead_takes_nothing() {
    let (listener, mut connections) = listen();
    let mut client = ClientStream::connect(listener.address()).unwrap();
    let (begun, seen) = mpsc::channel();
    let server = one(|_| async move {
        let mut stream = connections.receive().await.unwrap().into_stream().unwrap();
        let again = stream.sniff(2).await.unwrap().to_vec();
        begun.send(()).unwrap();
        let first = stream.sniff(3).await.unwrap().to_vec();
        let mut one = [0];
        stream.read_exact(&mut one).await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        let end = stream.sniff(1).await.unwrap().to_vec();
        (first, again, one, rest, end)
    });
    // The first bytes come apart.
    client.write_all(b"PR").unwrap();
    seen.recv_timeout(PATIENCE).unwrap();
    client.write_all(b"I * HTTP/2.0").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (first, again, one, rest, end) = join(server).remove(0);
    assert_eq!((first, again, one), (b"PRI".to_vec(), b"PR".to_vec(), *b"P"));
    assert_eq!((rest, end), (b"RI * HTTP/2.0".to_vec(), vec![]));
}

#[test]
fn connecting_fails_with_the_systems_reason_or_in_time() {
    let (refused, timed_out) = run(|_| async {
        let nobody = {
            let listener = TcpListener::bind(loopback()).unwrap();
            listener.local_addr().unwrap()
        };
        let refused = connect(nobody, PATIENCE).await.unwrap_err().kind();
        // A listener whose backlog is full answers nobody.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&loopback().into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        let timed_out = loop {
            match connect(address, Duration::from_millis(100)).await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error.kind(),
            }
            assert!(waiting.len() < 100, "the backlog has no end");
        };
        (refused, timed_out)
    });
    assert_eq!((refused, timed_out), (std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::TimedOut));
}

/// Not a test of its own: what [`a_port_is_free_again_right_after_its_owner_was_killed`] runs as another process.
#[test]
fn child_that_serves_until_it_is_killed() {
    if std::env::var_os("DREY_TEST_CHILD").is_none() {
        return;
    }
    let (listener, mut connections) = listen();
    println!("listening on {}", listener.address());
    run(|_| async move {
        loop {
            spawn(echo(connections.receive().await.unwrap().into_stream().unwrap()));
        }
    })
}

#[test]
fn a_port_is_free_again_right_after_its_owner_was_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "child_that_serves_until_it_is_killed"])
        .env("DREY_TEST_CHILD", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address: SocketAddr = loop {
        let line = lines.next().expect("the child ended").unwrap();
        if let Some((_, address)) = line.split_once("listening on ") {
            break address.parse().unwrap();
        }
    };
    let mut client = ClientStream::connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    let refused = BoundListener::bind(address).unwrap_err().to_string();
    assert!(refused.contains("is in use"), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    // With the connection still there on this side.
    BoundListener::bind(address).unwrap();
    drop(client);
}
