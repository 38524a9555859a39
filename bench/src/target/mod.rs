//! The systems that can be driven: their messages, and who leads where.

mod drey;
mod etcd;
mod messages;
mod route;
mod standing;

pub(crate) use messages::Messages;
pub(crate) use route::{endpoints_in_use, knows_leader, leader_of, standing_of};
pub(crate) use standing::Standing;

/// A system under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// drey, by `drey.v1.Kv`.
    Drey,
    /// etcd 3, by `etcdserverpb.KV`.
    Etcd,
}

impl Target {
    /// The system's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drey => "drey",
            Self::Etcd => "etcd",
        }
    }

    /// The method that puts a key.
    pub(crate) fn put_method(self) -> &'static str {
        match self {
            Self::Drey => drey::PUT,
            Self::Etcd => etcd::PUT,
        }
    }

    /// The method that gets a key, linearizably.
    pub(crate) fn get_method(self) -> &'static str {
        match self {
            Self::Drey => drey::GET,
            Self::Etcd => etcd::RANGE,
        }
    }
}

/// Which of the endpoints given are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Route {
    /// All of them in turn, as clients behind a load balancer would.
    All,
    /// The leader of the bucket alone, as a client that has learnt it would. Asked once, before the run.
    Leader,
}
