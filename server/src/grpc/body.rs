//! What goes back to a client: one message or several, then the trailers; or text for who does not speak gRPC.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_lite::Stream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::refusal::Refusal;

/// The content type of every answer of gRPC.
const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Framed messages, until one fails.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Refusal>>>>;

/// An answer's body. The size of messages is told to nobody: with a content length, trailers would be a fault.
pub(super) enum ResponseBody {
    /// One framed message, and that all went well.
    Unary(Bytes),
    /// Messages as they come.
    Stream(Messages),
    /// That all went well.
    Trailers,
    /// Text, without trailers.
    Text(Bytes),
    /// Nothing more.
    Ended,
}

impl ResponseBody {
    /// The answer with this body.
    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let mut response = Response::new(self);
        response.headers_mut().insert(header::CONTENT_TYPE, APPLICATION_GRPC);
        response
    }
}

impl Refusal {
    /// The answer of a call that failed before its first message: headers alone.
    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let mut response = ResponseBody::Ended.into_response();
        self.write_to(response.headers_mut());
        response
    }
}

fn all_went_well() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

fn failed(refusal: Refusal) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    refusal.write_to(&mut trailers);
    trailers
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let (frame, next) = match &mut *self {
            ResponseBody::Unary(message) => (Frame::data(std::mem::take(message)), ResponseBody::Trailers),
            ResponseBody::Stream(messages) => match ready!(messages.as_mut().poll_next(context)) {
                Some(Ok(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Some(Err(refusal)) => (Frame::trailers(failed(refusal)), ResponseBody::Ended),
                None => (Frame::trailers(all_went_well()), ResponseBody::Ended),
            },
            ResponseBody::Trailers => (Frame::trailers(all_went_well()), ResponseBody::Ended),
            ResponseBody::Text(text) => (Frame::data(std::mem::take(text)), ResponseBody::Ended),
            ResponseBody::Ended => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, ResponseBody::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ResponseBody::Text(text) => SizeHint::with_exact(text.len() as u64),
            _ => SizeHint::default(),
        }
    }
}
