//! What a run found, as one line of JSON.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::target::{Route, Target};

/// What a run found. Its JSON form is one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The system.
    pub target: Target,
    /// Which endpoints were used.
    pub to: Route,
    /// How many of them.
    pub endpoints: usize,
    /// Clients, each with at most one operation outstanding.
    pub clients: usize,
    /// Connections, which the clients shared.
    pub connections: usize,
    /// Bytes of each value.
    pub value_size: usize,
    /// Keys in use.
    pub key_count: u64,
    /// The share of puts, in per cent.
    pub puts_percent: u8,
    /// How often each key was touched, as the option has it.
    pub keys: String,
    /// The rate of an open loop, operations a second; absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<f64>,
    /// Where the random choices started.
    pub seed: u64,
    /// How long was measured, in seconds.
    pub elapsed_s: f64,
    /// Operations that ended well within that time.
    pub operations: u64,
    /// The same by the second.
    pub ops_per_second: f64,
    /// Latency of all operations.
    #[serde(flatten)]
    pub latency: Latency,
    /// Latency of the puts alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub puts: Option<Latency>,
    /// Latency of the gets alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gets: Option<Latency>,
    /// Gets of keys that were not there; they count as operations.
    pub not_found: u64,
    /// Operations of an open loop that were due and that no client was free to start.
    pub missed: u64,
    /// Errors by gRPC code, or `connection`, `malformed`, `unfinished`.
    pub errors: BTreeMap<String, u64>,
    /// CPU time of the load generator, user and kernel, microseconds an operation.
    pub client_cpu_us_per_op: f64,
    /// CPU time of the server processes, user and kernel, microseconds an operation; absent without `--server-pids`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server_cpu_us_per_op: Option<f64>,
    /// CPU time of the whole machine, whatever ran, microseconds an operation.
    pub machine_cpu_us_per_op: f64,
    /// Resident memory of the server processes at the end, in bytes; absent without `--server-pids`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server_rss_bytes: Option<u64>,
}

impl Summary {
    /// The summary as one line of JSON, without its end.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text always have a JSON form")
    }
}

/// A distribution of latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many there were.
    #[serde(rename = "latencies")]
    pub count: u64,
    /// The median.
    pub p50_us: u64,
    /// 99 of 100 are at most this.
    pub p99_us: u64,
    /// 999 of 1,000 are at most this.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Latency {
    /// The distribution within a histogram of microseconds.
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_reads_back_as_it_was() {
        let latency = Latency { count: 9, p50_us: 1, p99_us: 2, p999_us: 3, max_us: 4 };
        let summary = Summary {
            target: Target::Etcd,
            to: Route::Leader,
            endpoints: 1,
            clients: 64,
            connections: 3,
            value_size: 256,
            key_count: 100_000,
            puts_percent: 50,
            keys: "zipf:0.99".into(),
            rate: None,
            seed: 1,
            elapsed_s: 10.25,
            operations: 1_000,
            ops_per_second: 97.5,
            latency,
            puts: Some(latency),
            gets: None,
            not_found: 0,
            missed: 0,
            errors: BTreeMap::from([("UNAVAILABLE".into(), 2)]),
            client_cpu_us_per_op: 8.5,
            server_cpu_us_per_op: Some(100.25),
            machine_cpu_us_per_op: 110.0,
            server_rss_bytes: Some(1 << 30),
        };
        let line = summary.to_json();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Summary>(&line).unwrap(), summary);

        let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(fields["p99_us"], 2);
        assert_eq!(fields["puts"]["p999_us"], 3);
        assert_eq!(fields["errors"]["UNAVAILABLE"], 2);
        assert_eq!(fields["target"], "etcd");
        assert!(fields.get("gets").is_none() && fields.get("rate").is_none());
    }
}
