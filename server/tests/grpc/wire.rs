//! Bytes that no client library would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use drey_client::proto::GetRequest;
use h2::client::{ResponseFuture, SendRequest};
use http::{Method, Request, Response, StatusCode};
use prost::Message;
use tonic::{Code, Status};

use crate::fake::HANGS;
use crate::server::{PATIENCE, Server, name_of, run};

fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The other side may have closed before all was written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

async fn connect(server: &Server) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn request(path: &str, content_type: &str) -> Request<()> {
    let uri = format!("http://drey{path}");
    Request::builder().method(Method::POST).uri(uri).header("content-type", content_type).body(()).unwrap()
}

async fn finish(response: ResponseFuture) -> (Response<()>, Bytes, Option<Status>) {
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        data.extend_from_slice(&chunk.unwrap());
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_else(|| head.headers.clone());
    (Response::from_parts(head, ()), data.into(), Status::from_header_map(&trailers))
}

async fn call(client: &mut SendRequest<Bytes>, body: &[u8]) -> Status {
    let (response, mut stream) = client.send_request(request("/drey.v1.Kv/Get", "application/grpc"), false).unwrap();
    stream.send_data(Bytes::copy_from_slice(body), true).unwrap();
    finish(response).await.2.expect("every call ends with a status")
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

async fn works(client: &mut SendRequest<Bytes>) {
    let get = GetRequest { key: "any".into(), ..GetRequest::default() }.encode_to_vec();
    assert_eq!(call(client, &framed(0, &get)).await.code(), Code::Ok);
}

#[test]
fn http_1_is_told_what_is_served_here() {
    let server = Server::start();
    for head in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", "PUT /kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"] {
        let answer = exchange(&server, head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["error"]["code"], "not_found");
        assert!(json["error"]["message"].as_str().unwrap().contains("only gRPC"), "{json}");
    }
    run(async { works(&mut connect(&server).await).await });
}

#[test]
fn garbage_closes_its_connection_and_no_other() {
    let server = Server::start();
    run(async {
        let mut client = connect(&server).await;
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let garbage: [&[u8]; 6] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"*1\r\n$4\r\nPING\r\n",
            b"GARBAGE \x00\xff\xfe\r\n\r\n",
            &[0xff; 4_096],
            &[&preface[..], &[0xff; 4_096]].concat(),
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        ];
        for bytes in garbage {
            let answer = exchange(&server, bytes);
            assert!(!answer.contains(" 200 "), "{answer}");
        }
        works(&mut client).await;
    });
}

#[test]
fn a_call_needs_the_content_type_of_grpc() {
    let server = Server::start();
    run(async {
        let mut client = connect(&server).await;
        let mut status_of = async |request: Request<()>| {
            let (response, _) = client.send_request(request, true).unwrap();
            let (head, body, status) = finish(response).await;
            (head.status(), String::from_utf8(body.to_vec()).unwrap(), status.map(|status| status.code()))
        };
        for content_type in ["application/json", "application/grpc+json", "application/grpc-web", "text/plain"] {
            let (status, body, _) = status_of(request("/drey.v1.Kv/Get", content_type)).await;
            assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
            assert!(body.contains("application/grpc"), "{body}");
        }
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            let (status, _, grpc) = status_of(request("/drey.v1.Kv/Get", content_type)).await;
            // No message at all, but a call.
            assert_eq!((status, grpc), (StatusCode::OK, Some(Code::InvalidArgument)), "{content_type}");
        }
        let get = Request::builder().uri("http://drey/").body(()).unwrap();
        assert_eq!(status_of(get).await.0, StatusCode::NOT_FOUND);
    });
}

#[test]
fn damaged_messages_are_refused_and_the_connection_goes_on() {
    let server = Server::start();
    run(async {
        let mut client = connect(&server).await;
        let get = GetRequest { key: "any".into(), ..GetRequest::default() }.encode_to_vec();
        let refused = [
            (vec![], Code::InvalidArgument, "ends within"),
            (vec![0, 0], Code::InvalidArgument, "ends within"),
            (vec![0, 0, 0, 0, 9, 1], Code::InvalidArgument, "ends within"),
            (framed(1, &get), Code::Unimplemented, "compressed"),
            (framed(0, &[0xff; 20]), Code::InvalidArgument, "no message of the call"),
            ([framed(0, &get), framed(0, &get)].concat(), Code::InvalidArgument, "more than one"),
            (vec![0, 0xff, 0xff, 0xff, 0xff], Code::InvalidArgument, "the most is"),
        ];
        for (bytes, code, why) in refused {
            let status = call(&mut client, &bytes).await;
            assert!(status.code() == code && status.message().contains(why), "{bytes:?}: {status}");
            assert!(!name_of(&status).is_empty());
        }
        works(&mut client).await;
    });
}

/// tonic's client has a timer of its own and gives up at the same moment; this one waits for what the server says.
#[test]
fn a_call_that_takes_too_long_is_answered_at_its_deadline() {
    let server = Server::start();
    run(async {
        let mut client = connect(&server).await;
        let mut head = request("/drey.v1.Kv/Get", "application/grpc");
        head.headers_mut().insert("grpc-timeout", "50000u".parse().unwrap());
        let (response, mut stream) = client.send_request(head, false).unwrap();
        let get = GetRequest { key: HANGS.into(), ..GetRequest::default() }.encode_to_vec();
        let started = Instant::now();
        stream.send_data(framed(0, &get).into(), true).unwrap();
        let status = finish(response).await.2.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(40));
        assert_eq!((status.code(), name_of(&status)), (Code::DeadlineExceeded, "deadline_exceeded"));
        works(&mut client).await;
    });
}

#[test]
fn a_request_that_never_ends_is_given_up_at_its_deadline() {
    let server = Server::start();
    run(async {
        let mut client = connect(&server).await;
        let mut head = request("/drey.v1.Kv/Get", "application/grpc");
        head.headers_mut().insert("grpc-timeout", "50m".parse().unwrap());
        let (response, mut stream) = client.send_request(head, false).unwrap();
        stream.send_data(Bytes::from_static(&[0, 0, 0]), false).unwrap();
        let status = tokio::time::timeout(Duration::from_secs(5), finish(response)).await.unwrap().2.unwrap();
        assert_eq!((status.code(), name_of(&status)), (Code::DeadlineExceeded, "deadline_exceeded"));
        works(&mut client).await;
    });
}
