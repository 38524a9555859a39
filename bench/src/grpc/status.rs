//! How a call ends.

use std::fmt;

use http::HeaderMap;

/// A gRPC status code, as the protocol numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(u8);

const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl Code {
    /// The call succeeded.
    pub const OK: Self = Self(0);
    /// A code that the protocol does not have, or none at all.
    const UNKNOWN: Self = Self(2);

    /// The code's name in capitals.
    pub fn name(self) -> &'static str {
        NAMES[usize::from(self.0)]
    }

    /// The code in a `grpc-status` header, if there is one.
    pub(super) fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("grpc-status")?;
        let number = text.to_str().ok().and_then(|text| text.parse::<u8>().ok());
        Some(number.filter(|&number| usize::from(number) < NAMES.len()).map_or(Self::UNKNOWN, Self))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server said no.
    #[error("{code}: {message}")]
    Status {
        /// Its code.
        code: Code,
        /// Its words.
        message: String,
    },
    /// The connection failed, or the stream was reset.
    #[error("connection: {0}")]
    Connection(#[from] h2::Error),
    /// What came back is no gRPC answer.
    #[error("not a gRPC answer: {0}")]
    Malformed(String),
}

impl CallError {
    /// The name to count it under.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Status { code, .. } => code.name(),
            Self::Connection(_) => "connection",
            Self::Malformed(_) => "malformed",
        }
    }

    /// The status in these headers or trailers, with its message as an error when it is not `OK`.
    pub(super) fn check(headers: &HeaderMap) -> Result<(), Self> {
        match Code::in_headers(headers) {
            Some(Code::OK) => Ok(()),
            Some(code) => {
                let message =
                    headers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
                Err(Self::Status { code, message: message.unwrap_or_default() })
            }
            None => Err(Self::Malformed("no grpc-status".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(status: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", status.parse().unwrap());
        headers.insert("grpc-message", "because".parse().unwrap());
        headers
    }

    #[test]
    fn codes_have_their_names_and_odd_ones_are_unknown() {
        assert!(CallError::check(&headers("0")).is_ok());
        for (status, name) in
            [("5", "NOT_FOUND"), ("14", "UNAVAILABLE"), ("16", "UNAUTHENTICATED"), ("17", "UNKNOWN"), ("x", "UNKNOWN")]
        {
            let error = CallError::check(&headers(status)).unwrap_err();
            assert_eq!(error.name(), name);
            assert_eq!(error.to_string(), format!("{name}: because"));
        }
        assert_eq!(CallError::check(&HeaderMap::new()).unwrap_err().name(), "malformed");
    }
}
