//! hyper on an executor: HTTP/2 and HTTP/1 on one port, told apart by their first bytes, asked by hyper's client on
//! tokio.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{cell::RefCell, convert::Infallible, net::SocketAddr, rc::Rc, time::Duration};

use drey_io::{
    hyper_io::{HyperExecutor, HyperIo, HyperTimer},
    runtime::{TcpStream, sleep, spawn},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    rt::Timer,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{join, listen, one};

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sends the body back, and notes the version. `/late` takes its time.
async fn echo(
    request: Request<Incoming>,
    seen: Rc<RefCell<Vec<hyper::Version>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    seen.borrow_mut().push(request.version());
    if request.uri().path() == "/late" {
        sleep(Duration::from_millis(20)).await;
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(Response::new(Full::new(body)))
}

async fn serve(mut stream: TcpStream, seen: Rc<RefCell<Vec<hyper::Version>>>) {
    let http2 = stream.sniff(HTTP2_PREFACE.len()).await.unwrap() == HTTP2_PREFACE;
    // Neither `Send`: nothing of this leaves the executor.
    let service = service_fn(move |request| echo(request, Rc::clone(&seen)));
    let io = HyperIo::new(stream);
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(HyperExecutor);
        builder.clone().timer(HyperTimer).serve_connection(io, service).await.unwrap();
    } else {
        hyper::server::conn::http1::Builder::new().timer(HyperTimer).serve_connection(io, service).await.unwrap();
    }
}

async fn ask<F>(answer: F) -> Bytes
where
    F: Future<Output = hyper::Result<Response<Incoming>>>,
{
    answer.await.unwrap().into_body().collect().await.unwrap().to_bytes()
}

fn request(path: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::post(format!("http://drey{path}")).header("host", "drey").body(Full::new(body)).unwrap()
}

async fn ask_by_http2(address: SocketAddr) {
    const REQUESTS: usize = 200;
    let socket = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
    let connection = tokio::spawn(connection);
    // All at once, of all sizes from nothing to many frames; some are overtaken.
    let asking: Vec<_> = (0..REQUESTS)
        .map(|number| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let body = Bytes::from(vec![number as u8; number * number * 3]);
                let path = if number % 5 == 0 { "/late" } else { "/" };
                assert_eq!(ask(sender.send_request(request(path, body.clone()))).await, body);
            })
        })
        .collect();
    for asking in asking {
        asking.await.unwrap();
    }
    drop(sender);
    connection.await.unwrap().unwrap();
}

async fn ask_by_http1(address: SocketAddr) {
    let socket = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    for number in 0..20_usize {
        let body = Bytes::from(vec![number as u8; number * 10_000]);
        sender.ready().await.unwrap();
        assert_eq!(ask(sender.send_request(request("/", body.clone()))).await, body);
    }
    drop(sender);
    connection.await.unwrap().unwrap();
}

#[test]
fn http2_and_http1_are_served_on_one_port() {
    let (listener, mut connections) = listen();
    let address = listener.address();
    let server = one(|_| async move {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let ended = drey_io::notify::Notify::new();
        let mut served = 0;
        for _ in 0..2 {
            let stream = connections.receive().await.unwrap().into_stream().unwrap();
            let (seen, ended) = (Rc::clone(&seen), ended.clone());
            served += 1;
            spawn(async move {
                serve(stream, seen).await;
                ended.notify();
            });
        }
        while Rc::strong_count(&seen) > 1 {
            ended.notified().await;
            drey_io::runtime::yield_now().await;
        }
        let of = |version| seen.borrow().iter().filter(|&&seen| seen == version).count();
        (served, of(hyper::Version::HTTP_2), of(hyper::Version::HTTP_11))
    });
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    client.block_on(async {
        tokio::time::timeout(support::PATIENCE, async {
            tokio::join!(ask_by_http2(address), ask_by_http1(address));
        })
        .await
        .expect("the server hangs");
    });
    assert_eq!(join(server), [(2, 200, 20)]);
}

#[test]
fn hypers_timers_run_here_and_can_be_reset() {
    let server = one(|_| async {
        let started = std::time::Instant::now();
        let mut timer = HyperTimer.sleep(Duration::from_secs(3_600));
        HyperTimer.reset(&mut timer, started + Duration::from_millis(5));
        timer.await;
        HyperTimer.sleep_until(started + Duration::from_millis(10)).await;
        started.elapsed()
    });
    assert!(join(server)[0] >= Duration::from_millis(10));
}
