//! Why a call is refused: drey's errors and gRPC's codes, in one table.

use drey_client::ERROR_METADATA_KEY;
use drey_core::Error;
use http::HeaderMap;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// The most bytes of a message: a status travels in headers, of which clients take a few KiB.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// A call's error, as it is told.
#[derive(Debug)]
pub(super) struct Refusal {
    code: Code,
    /// The metadata `drey-error`.
    name: &'static str,
    message: String,
}

impl Refusal {
    /// The request cannot be right.
    pub(super) fn invalid(message: impl Into<String>) -> Refusal {
        Error::invalid(message).into()
    }

    /// There is no such call, or not yet.
    pub(super) fn unimplemented(message: impl Into<String>) -> Refusal {
        Refusal { code: Code::Unimplemented, name: "unimplemented", message: message.into() }
    }

    /// What is asked about does not exist, and is no bucket.
    pub(super) fn not_found(message: impl Into<String>) -> Refusal {
        Refusal { code: Code::NotFound, name: "not_found", message: message.into() }
    }

    /// Writes the status into headers or trailers.
    pub(super) fn write_to(self, headers: &mut HeaderMap) {
        let mut metadata = MetadataMap::new();
        metadata.insert(ERROR_METADATA_KEY, MetadataValue::from_static(self.name));
        let mut message = self.message;
        if message.len() > MESSAGE_BYTES_MAX {
            let end = (0..=MESSAGE_BYTES_MAX).rev().find(|&end| message.is_char_boundary(end)).unwrap_or_default();
            message.truncate(end);
            message.push('…');
        }
        let status = Status::with_metadata(self.code, message, metadata);
        if let Err(status) = status.add_header(headers) {
            tracing::error!(%status, "a status cannot be written into headers");
            headers.insert(Status::GRPC_STATUS, http::HeaderValue::from(Code::Internal as i32));
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        let code = match error.plain() {
            Error::BucketNotFound(_) | Error::NotFound(_) => Code::NotFound,
            Error::BucketExists(_) => Code::AlreadyExists,
            Error::InvalidArgument(_) => Code::InvalidArgument,
            Error::ConditionFailed | Error::SessionExpired | Error::Refused(_) => Code::FailedPrecondition,
            Error::NoLeader | Error::NotReady(_) => Code::Unavailable,
            Error::OutcomeUnknown => Code::Aborted,
            Error::Overloaded(_) | Error::QuotaExceeded(_) => Code::ResourceExhausted,
            Error::DeadlineExceeded => Code::DeadlineExceeded,
            Error::Compacted(_) => Code::OutOfRange,
            Error::DataLoss(_) => Code::DataLoss,
            // What is plain is not explained.
            Error::Explained { .. } => Code::Internal,
        };
        Refusal { code, name: error.code(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_and_the_message_can_be_read_again() {
        let mut headers = HeaderMap::new();
        Refusal::from(Error::BucketNotFound("bücket".into())).write_to(&mut headers);
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!((status.code(), status.message()), (Code::NotFound, "bucket \"bücket\" does not exist"));
        assert_eq!(status.metadata().get(ERROR_METADATA_KEY).unwrap(), "bucket_not_found");
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let mut headers = HeaderMap::new();
        Refusal::invalid("€".repeat(MESSAGE_BYTES_MAX)).write_to(&mut headers);
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(status.message(), "€".repeat(MESSAGE_BYTES_MAX / 3) + "…");
    }

    #[test]
    fn every_error_has_a_name_that_clients_know() {
        let all = [
            Error::BucketNotFound(String::new()),
            Error::BucketExists(String::new()),
            Error::invalid(""),
            Error::ConditionFailed,
            Error::NoLeader,
            Error::NotReady(String::new()),
            Error::OutcomeUnknown,
            Error::SessionExpired,
            Error::Overloaded(String::new()),
            Error::QuotaExceeded(String::new()),
            Error::Refused(String::new()),
            Error::DeadlineExceeded,
            Error::Compacted(String::new()),
            Error::DataLoss(String::new()),
            Error::NotFound(String::new()),
        ];
        for error in all {
            assert!(drey_client::Code::from_name(error.code()).is_some(), "{error:?}");
        }
    }
}
