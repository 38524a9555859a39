//! Many calls cancelled at once, as by a client whose own caller went away: the connection goes on.
//!
//! The frames are written by hand: a client library does not send a call that is cancelled before it left.

use std::io::{Read, Write};
use std::net::TcpStream;

use drey_client::proto::GetRequest;
use prost::Message;

use crate::server::{PATIENCE, Server};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const CANCEL: u32 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `POST /drey.v1.Kv/Get` in HPACK, without a table that both ends would have to keep.
fn head() -> Vec<u8> {
    const METHOD_POST: u8 = 0x83;
    const SCHEME_HTTP: u8 = 0x86;
    const AUTHORITY: &[u8] = &[0x01];
    const PATH: &[u8] = &[0x04];
    const CONTENT_TYPE: &[u8] = &[0x0f, 0x10];
    let text = |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let texts = [(AUTHORITY, "drey"), (PATH, "/drey.v1.Kv/Get"), (CONTENT_TYPE, "application/grpc")];
    let texts = texts.map(|(name, value)| text(name, value)).concat();
    [&[METHOD_POST, SCHEME_HTTP][..], &texts].concat()
}

#[test]
fn calls_that_are_cancelled_all_at_once_leave_the_connection_to_others() {
    const CALLS: u32 = 500;
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    for call in 0..CALLS {
        bytes.extend(frame(HEADERS, END_HEADERS, 2 * call + 1, &head()));
        bytes.extend(frame(RST_STREAM, 0, 2 * call + 1, &CANCEL.to_be_bytes()));
    }
    let last = 2 * CALLS + 1;
    let get = GetRequest { key: "any".into(), ..GetRequest::default() }.encode_to_vec();
    let message = [&[0][..], &u32::try_from(get.len()).unwrap().to_be_bytes(), &get].concat();
    bytes.extend(frame(HEADERS, END_HEADERS, last, &head()));
    bytes.extend(frame(DATA, END_STREAM, last, &message));
    // In one piece, so that the server finds all of them cancelled.
    stream.write_all(&bytes).unwrap();

    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("the connection goes on");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).unwrap();
        let (kind, of) = (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        assert_ne!(kind, GOAWAY, "the server hung up: {}", String::from_utf8_lossy(&payload));
        if kind == DATA && of == last {
            return;
        }
    }
}
