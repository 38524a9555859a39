//! The answer to requests that are not gRPC: what is served here, in the form of drey's JSON errors.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::body::ResponseBody;

/// Answers a request of HTTP that is no call of gRPC.
pub(super) fn answer<B>(request: &Request<B>) -> Response<ResponseBody> {
    // A POST over HTTP/2 with something else in it was meant as a call.
    let meant_as_call = request.version() == http::Version::HTTP_2 && request.method() == Method::POST;
    let (status, code, message) = if meant_as_call {
        (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_argument",
            "the content type of a call is application/grpc or application/grpc+proto",
        )
    } else {
        (
            StatusCode::NOT_FOUND,
            "not_found",
            "only gRPC is served here (HTTP/2, content type application/grpc): use a gRPC client or the drey command",
        )
    };
    let error = serde_json::json!({ "error": { "code": code, "message": message, "retry": false } });
    let mut response = Response::new(ResponseBody::Text(Bytes::from(format!("{error}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
