//! gRPC's length-prefixed messages: one byte that says "not compressed", four of length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::status::CallError;

const PREFIX_LENGTH: usize = 5;

/// The largest answer read, in bytes. Larger ones are an error, not a reason to grow.
pub(super) const ANSWER_LENGTH_MAX: usize = 64 << 20;

/// Frames `message` in `buffer` and hands it out; the buffer's memory is used again once the bytes are gone.
pub(crate) fn write_message(message: &impl Message, buffer: &mut BytesMut) -> Bytes {
    let length = message.encoded_len();
    buffer.reserve(PREFIX_LENGTH + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).expect("a value's size is limited to far less than 4 GiB"));
    message.encode(buffer).expect("the buffer has been given room for the whole message");
    buffer.split().freeze()
}

/// The one message within the body of a unary answer.
pub(super) fn read_message(mut body: Bytes) -> Result<Bytes, CallError> {
    if body.len() < PREFIX_LENGTH {
        return Err(CallError::Malformed(format!(
            "{} bytes, where a message has at least {PREFIX_LENGTH}",
            body.len()
        )));
    }
    let (compressed, length) = (body.get_u8(), body.get_u32());
    if compressed != 0 {
        return Err(CallError::Malformed("a compressed message, which was not asked for".into()));
    }
    if length as usize != body.len() {
        return Err(CallError::Malformed(format!("a message of {length} bytes in {}", body.len())));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut buffer = BytesMut::new();
        for text in ["", "a", "some longer text"] {
            let framed = write_message(&text.to_owned(), &mut buffer);
            let message = read_message(framed).unwrap();
            assert_eq!(String::decode(message).unwrap(), text);
        }
    }

    #[test]
    fn damaged_frames_are_refused() {
        for body in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\0a"] {
            assert!(read_message(Bytes::from_static(body)).is_err(), "{body:?}");
        }
    }
}
