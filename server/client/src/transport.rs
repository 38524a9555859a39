//! tonic's side of things: a lazily opened channel for each endpoint, and what its errors mean to the logic.

use crate::logic::{GroupView, Outcome, View};
use crate::proto::{self, buckets_client::BucketsClient, cluster_client::ClusterClient, kv_client::KvClient};
use crate::{Code, ERROR_METADATA_KEY, Error};
use std::error::Error as _;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status, TimeoutExpired};

/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection with calls under way is asked whether it still lives this often, and may take this long to say so.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest message taken from a server: a chunk of a scan may hold several values of the largest size.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The calls of one node. Cheap to clone: all clones share one connection.
#[derive(Debug, Clone)]
pub(crate) struct Stubs {
    pub(crate) kv: KvClient<Channel>,
    pub(crate) buckets: BucketsClient<Channel>,
    pub(crate) cluster: ClusterClient<Channel>,
}

impl Stubs {
    /// Opens nothing yet: the first call connects, and so does the first one after a connection broke.
    pub(crate) fn lazy(address: &str) -> Result<Stubs, Error> {
        let channel = endpoint(address)?.connect_lazy();
        Ok(Stubs {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            buckets: BucketsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            cluster: ClusterClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
    }
}

/// Checks an address (`host:port`, `http://` before it allowed) and turns it into tonic's form.
pub(crate) fn endpoint(address: &str) -> Result<Endpoint, Error> {
    let bad = |why: &str| Error::new(Code::InvalidArgument, format!("`{address}` is no address of a node: {why}"));
    let authority = address.strip_prefix("http://").unwrap_or(address);
    if authority.contains("://") {
        return Err(bad("write host:port without a scheme"));
    }
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| bad("write host:port"))?;
    if endpoint.uri().port_u16().is_none() {
        return Err(bad("the port is missing"));
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .user_agent(concat!("drey-client/", env!("CARGO_PKG_VERSION")))
        .expect("a constant that is a valid header"))
}

/// What a failed attempt was, and how to say it.
pub(crate) fn classify(status: &Status, address: &str) -> (Outcome, Error) {
    let mut cause = status.source();
    let Some(first) = cause else { return refused(status, address) };
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            let message = format!("cannot connect to {address}: {}", root_cause(error));
            return (Outcome::NotSent, Error::new(Code::Unreachable, message).at(address));
        }
        if error.is::<TimeoutExpired>() {
            return timed_out(address);
        }
        cause = error.source();
    }
    let message = format!("the connection to {address} broke before an answer came: {}", root_cause(first));
    (Outcome::Lost, Error::new(Code::Unavailable, message).at(address))
}

/// An attempt whose time was over.
pub(crate) fn timed_out(address: &str) -> (Outcome, Error) {
    let error = Error::new(Code::DeadlineExceeded, format!("{address} did not answer in time")).at(address);
    (Outcome::TimedOut, error)
}

/// A status that a server sent. The code in the metadata counts; without one the gRPC status has to do.
fn refused(status: &Status, address: &str) -> (Outcome, Error) {
    let named = status
        .metadata()
        .get(ERROR_METADATA_KEY)
        .and_then(|value| value.to_str().ok())
        .and_then(Code::from_name)
        .filter(|code| !matches!(code, Code::Unreachable | Code::Unavailable));
    // Nobody cancels a call but its caller, or a timer that serves the caller's `grpc-timeout`: that was a little faster than ours.
    if named.is_none() && status.code() == tonic::Code::Cancelled {
        return timed_out(address);
    }
    let code = named.unwrap_or_else(|| code_of_status(status.code()));
    let message = match status.message() {
        "" => format!("{address} answered {}", status.code().description()),
        message => message.to_owned(),
    };
    (Outcome::Refused { code, named: named.is_some() }, Error::new(code, message).at(address))
}

/// The nearest code for a status without `drey-error`, as a proxy or an older server may send it.
fn code_of_status(code: tonic::Code) -> Code {
    match code {
        tonic::Code::NotFound => Code::BucketNotFound,
        tonic::Code::AlreadyExists => Code::BucketExists,
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::FailedPrecondition => Code::ConditionFailed,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::Aborted => Code::OutcomeUnknown,
        tonic::Code::ResourceExhausted => Code::Overloaded,
        tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => Code::DeadlineExceeded,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::OutOfRange | tonic::Code::Internal => Code::Internal,
    }
}

/// The innermost cause, which says what a person wants to know: `Connection refused (os error 111)`.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

impl From<&proto::StatusResponse> for View {
    fn from(status: &proto::StatusResponse) -> View {
        View {
            cluster: status.cluster.clone(),
            node: status.node,
            member_changes: status.member_changes,
            members: status.members.iter().map(|member| (member.id, member.address.clone())).collect(),
            groups: status
                .groups
                .iter()
                .map(|group| GroupView { id: group.id, leader: group.leader, term: group.term })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        for good in ["127.0.0.1:9000", "localhost:9000", "[::1]:9000", "http://node-1:9000"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "localhost", "https://node-1:9000", "ftp://x:1", "a b:9000", "node:port"] {
            let error = endpoint(bad).expect_err(bad);
            assert_eq!(error.code, Code::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn the_metadata_counts_before_the_status() {
        let mut status = Status::unavailable("election under way");
        status.metadata_mut().insert(ERROR_METADATA_KEY, "no_leader".parse().expect("ascii"));
        let (outcome, error) = classify(&status, "n1:1");
        assert_eq!(outcome, Outcome::Refused { code: Code::NoLeader, named: true });
        assert_eq!(error.to_string(), "election under way (no_leader)");
        assert_eq!(error.endpoint.as_deref(), Some("n1:1"));
    }

    #[test]
    fn a_servers_timer_may_be_the_faster_one() {
        let (outcome, error) = classify(&Status::cancelled("Timeout expired"), "n1:1");
        assert_eq!((outcome, error.code), (Outcome::TimedOut, Code::DeadlineExceeded));
    }

    #[test]
    fn a_server_cannot_claim_what_only_a_client_can_know() {
        let mut status = Status::unavailable("");
        status.metadata_mut().insert(ERROR_METADATA_KEY, "unreachable".parse().expect("ascii"));
        let (outcome, _) = classify(&status, "n1:1");
        assert_eq!(outcome, Outcome::Refused { code: Code::Unavailable, named: false });
    }
}
