//! Messages on the wire of gRPC: five bytes (compressed or not, and the length), then the message.
//!
//! A request that came in one frame, as small ones do, is used where it lies. The memory of larger ones is counted, for all
//! connections of an executor together, from the moment that their length is known until they are answered.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use drey_core::Error;
use drey_core::limits::VALUE_BYTES_MAX;
use drey_io::runtime;
use http_body::Body;
use prost::Message;

use super::refusal::Refusal;
use crate::api::REQUEST_BYTES_MAX;

/// The bytes before a message.
const PREFIX_BYTES: usize = 5;

/// The most bytes of requests that one executor holds, received or still coming.
const HELD_BYTES_MAX: usize = 128 << 20;

/// How much of a request that is too large is read and thrown away, so that its sender is done sending and hears why. One
/// that is larger still is cut off.
const DISCARDED_BYTES_MAX: usize = 16 << 20;

/// The most bytes of an answer: what the client of this repository takes. All answers of core are far below.
const ANSWER_BYTES_MAX: usize = 64 << 20;

thread_local! {
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Room for a request's bytes, given back when dropped.
#[derive(Debug)]
struct Held {
    bytes: usize,
}

impl Held {
    fn take(bytes: usize) -> Result<Held, Refusal> {
        let held = HELD_BYTES.get() + bytes;
        if held > HELD_BYTES_MAX {
            let limit = HELD_BYTES_MAX >> 20;
            return Err(Error::Overloaded(format!("requests of {limit} MiB are under way, the most")).into());
        }
        HELD_BYTES.set(held);
        Ok(Held { bytes })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD_BYTES.set(HELD_BYTES.get() - self.bytes);
    }
}

/// A request's message, and the time that was left when it was here.
#[derive(Debug)]
pub(super) struct Received {
    bytes: Bytes,
    /// What is left of the call's time.
    pub(super) left_ms: u64,
    held: Held,
}

impl Received {
    /// Takes the message apart. What comes with it is to be kept until the call is answered.
    pub(super) fn decode<M: Message + Default>(self) -> Result<(M, impl Drop), Refusal> {
        let message = M::decode(self.bytes)
            .map_err(|error| Refusal::invalid(format!("the request is no message of the call: {error}")))?;
        Ok((message, self.held))
    }
}

/// Receives the one message of a request.
pub(super) async fn receive<B>(body: B, timeout_ms: u64) -> Result<Received, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut receiving = Receiving { body, state: State::Prefix(BytesMut::new()) };
    let (outcome, left_ms) = match poll_fn(|context| Poll::Ready(receiving.poll(context))).await {
        Poll::Ready(outcome) => (outcome, timeout_ms),
        Poll::Pending => {
            let started_ms = runtime::now().mono_ms;
            let late = async {
                runtime::sleep(Duration::from_millis(timeout_ms)).await;
                Err(Error::DeadlineExceeded.into())
            };
            let outcome = futures_lite::future::or(poll_fn(|context| receiving.poll(context)), late).await;
            (outcome, timeout_ms.saturating_sub(runtime::now().mono_ms - started_ms))
        }
    };
    let (bytes, held) = outcome?;
    Ok(Received { bytes, left_ms, held })
}

struct Receiving<B> {
    body: B,
    state: State,
}

enum State {
    /// The prefix is not complete.
    Prefix(BytesMut),
    /// The message is not complete.
    Message { received: BytesMut, length: usize, held: Held },
    /// The message is complete, and the end of the request is not here.
    Complete { message: Bytes, held: Held },
    /// The request is refused once its rest has come.
    Discard { refusal: Option<Refusal>, left: usize },
}

impl<B> Receiving<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(Bytes, Held), Refusal>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.data(data)?;
                    }
                    if self.body.is_end_stream() {
                        return Poll::Ready(self.end());
                    }
                }
                Some(Err(error)) => {
                    return Poll::Ready(Err(Refusal::invalid(format!("the request broke off: {error}"))));
                }
                None => return Poll::Ready(self.end()),
            }
        }
    }

    fn data(&mut self, data: Bytes) -> Result<(), Refusal> {
        let state = std::mem::replace(&mut self.state, State::Prefix(BytesMut::new()));
        self.state = match state {
            State::Prefix(mut received) if !received.is_empty() || data.len() < PREFIX_BYTES => {
                received.extend_from_slice(&data);
                if received.len() < PREFIX_BYTES { State::Prefix(received) } else { begin(received.freeze())? }
            }
            State::Prefix(_) => begin(data)?,
            State::Message { mut received, length, held } => {
                if received.len() + data.len() > length {
                    return Err(more_than_one());
                }
                received.extend_from_slice(&data);
                if received.len() == length {
                    State::Complete { message: received.freeze(), held }
                } else {
                    State::Message { received, length, held }
                }
            }
            State::Complete { message, held } if data.is_empty() => State::Complete { message, held },
            State::Complete { .. } => return Err(more_than_one()),
            State::Discard { mut refusal, left } => {
                if data.len() > left
                    && let Some(refusal) = refusal.take()
                {
                    return Err(refusal);
                }
                State::Discard { refusal, left: left.saturating_sub(data.len()) }
            }
        };
        Ok(())
    }

    fn end(&mut self) -> Result<(Bytes, Held), Refusal> {
        match std::mem::replace(&mut self.state, State::Prefix(BytesMut::new())) {
            State::Complete { message, held } => Ok((message, held)),
            State::Discard { refusal: Some(refusal), .. } => Err(refusal),
            _ => Err(Refusal::invalid("the request ends within its message")),
        }
    }
}

/// Looks at a request from its start, of which at least the prefix is here.
fn begin(mut data: Bytes) -> Result<State, Refusal> {
    let compressed = data.get_u8();
    let length = data.get_u32() as usize;
    let refusal = if compressed > 1 {
        Refusal::invalid("the request is no message of gRPC")
    } else if compressed == 1 {
        Refusal::unimplemented("compressed messages are not supported: send with grpc-encoding: identity")
    } else if length > REQUEST_BYTES_MAX {
        Refusal::invalid(format!(
            "the message has {length} bytes, the most is {REQUEST_BYTES_MAX}; a value may have {VALUE_BYTES_MAX}"
        ))
    } else {
        match Held::take(length) {
            Ok(held) => return message(data, length, held),
            Err(refusal) => refusal,
        }
    };
    Ok(State::Discard { refusal: Some(refusal), left: DISCARDED_BYTES_MAX.saturating_sub(data.len()) })
}

fn message(data: Bytes, length: usize, held: Held) -> Result<State, Refusal> {
    if data.len() > length {
        return Err(more_than_one());
    }
    if data.len() == length {
        return Ok(State::Complete { message: data, held });
    }
    let mut received = BytesMut::with_capacity(length);
    received.extend_from_slice(&data);
    Ok(State::Message { received, length, held })
}

fn more_than_one() -> Refusal {
    Refusal::invalid("the request holds more than one message")
}

/// A message with its prefix, in one buffer.
pub(super) fn frame<M: Message>(message: &M) -> Result<Bytes, Refusal> {
    let length = message.encoded_len();
    if length > ANSWER_BYTES_MAX {
        return Err(Refusal::invalid(format!("the answer has {length} bytes, the most is {ANSWER_BYTES_MAX}")));
    }
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).expect("checked to be below the limit"));
    message.encode_raw(&mut buffer);
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::convert::Infallible;

    fn receive_all(parts: &[&[u8]]) -> Result<Received, Refusal> {
        let frames: Vec<Result<_, Infallible>> =
            parts.iter().map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect();
        block_on(receive(StreamBody::new(futures_lite::stream::iter(frames)), 1_000))
    }

    fn prefixed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    #[test]
    fn a_message_may_be_cut_anywhere() {
        let whole = prefixed(0, 6, b"abcdef");
        for cut in 0..=whole.len() {
            let (head, tail) = whole.split_at(cut);
            let received = receive_all(&[head, tail]).unwrap();
            assert_eq!((received.bytes.as_ref(), received.left_ms), (&b"abcdef"[..], 1_000), "cut at {cut}");
        }
        assert_eq!(receive_all(&[&prefixed(0, 0, b"")]).unwrap().bytes, "");
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(receive_all(&bytes).unwrap().bytes, "abcdef");
        assert_eq!(HELD_BYTES.get(), 0);
    }

    #[test]
    fn what_is_no_single_message_is_refused() {
        let refused: [(&[&[u8]], &str); 7] = [
            (&[], "ends within"),
            (&[b"\0\0"], "ends within"),
            (&[&prefixed(0, 6, b"abc")], "ends within"),
            (&[&prefixed(0, 1, b"abc")], "more than one"),
            (&[&prefixed(0, 3, b"abc"), b"d"], "more than one"),
            (&[&prefixed(1, 3, b"abc")], "compressed"),
            (&[&prefixed(2, 3, b"abc")], "no message of gRPC"),
        ];
        for (parts, why) in refused {
            let refusal = format!("{:?}", receive_all(parts).unwrap_err());
            assert!(refusal.contains(why), "{parts:?}: {refusal}");
        }
        assert_eq!(HELD_BYTES.get(), 0);
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_with_the_limit_and_not_kept() {
        let large = vec![0; 1 << 20];
        let head = prefixed(0, REQUEST_BYTES_MAX as u32 + 1, &[]);
        let mut parts: Vec<&[u8]> = vec![&head];
        parts.extend([large.as_slice(); 4]);
        let refusal = format!("{:?}", receive_all(&parts).unwrap_err());
        assert!(refusal.contains("4194305") && refusal.contains("4194304"), "{refusal}");
    }

    #[test]
    fn an_executor_holds_only_so_much() {
        let _most = Held::take(HELD_BYTES_MAX - 3).unwrap();
        assert_eq!(receive_all(&[&prefixed(0, 3, b"abc")]).unwrap().bytes, "abc");
        let refusal = format!("{:?}", receive_all(&[&prefixed(0, 4, b"abcd")]).unwrap_err());
        assert!(refusal.contains("overloaded"), "{refusal}");
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let message = drey_client::proto::GetRequest { bucket: "b".into(), key: "k".into(), read: 1 };
        let frame = frame(&message).unwrap();
        let (again, _held) = receive_all(&[&frame]).unwrap().decode::<drey_client::proto::GetRequest>().unwrap();
        assert_eq!(again, message);
    }
}
