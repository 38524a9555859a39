//! Three nodes of one system on loopback, in a directory of their own, ended and removed when dropped.

mod args;
mod node;

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) use self::args::Place;
pub use self::args::SystemsArgs;
use self::node::Node;
use crate::error::Error;
use crate::load::runtime;
use crate::machine;
use crate::target::{Target, knows_leader};

/// The nodes of a cluster.
const NODES: usize = 3;

/// How long a cluster may take until every node sees a leader.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a starting cluster is looked after.
const READY_POLL: Duration = Duration::from_millis(100);

/// etcd refuses writes above its quota, which is 2 GiB if nothing is said. Long comparisons write more.
const ETCD_QUOTA_BYTES: u64 = 8 << 30;

/// A running cluster.
pub(crate) struct Cluster {
    target: Target,
    endpoints: Vec<String>,
    // In this order: the nodes end before their directory is removed.
    nodes: Vec<Node>,
    directory: TempDir,
}

impl Cluster {
    /// Starts three nodes of `target` below the place's directory.
    pub(crate) fn start(target: Target, systems: &SystemsArgs, place: &Place) -> Result<Self, Error> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("drey-bench-{}-", target.name()))
            .tempdir_in(&place.directory)
            .map_err(|source| Error::io(format!("making a directory in {:?}", place.directory), source))?;
        let logs = systems.logs.as_deref().unwrap_or(directory.path());
        // drey serves peers and clients on one port; etcd has a second one for its peers.
        let ports = free_ports(2 * NODES).map_err(|source| Error::io("looking for free ports", source))?;
        let (clients, peers) = ports.split_at(NODES);
        let mut nodes = Vec::new();
        for number in 0..NODES {
            let data = directory.path().join(name(number));
            let mut command = Command::new(systems.binary(target));
            command.args(match target {
                Target::Drey => drey_arguments(number, clients),
                Target::Etcd => etcd_arguments(number, clients, peers),
            });
            command.arg("--data-dir").arg(data).args(systems.arguments_of(target));
            let log = logs.join(format!("{}-{}.log", target.name(), name(number)));
            nodes.push(Node::start(command, log)?);
        }
        Ok(Self { target, endpoints: clients.iter().map(|&port| address(port)).collect(), nodes, directory })
    }

    /// Where clients connect, a node each.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.endpoints.clone()
    }

    /// The processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(Node::pid).collect()
    }

    /// Waits until every node answers and sees a leader.
    pub(crate) fn wait_until_led(&mut self) -> Result<(), Error> {
        let runtime = runtime()?;
        let deadline = Instant::now() + READY_TIMEOUT;
        for number in 0..NODES {
            loop {
                let reason = match runtime.block_on(knows_leader(self.target, &self.endpoints[number])) {
                    Ok(true) => break,
                    Ok(false) => format!("{} sees no leader", name(number)),
                    Err(error) => error.to_string(),
                };
                let ended = self.nodes[number].ended().map(|status| format!("{} ended: {status}", name(number)));
                if ended.is_some() || Instant::now() > deadline {
                    return Err(self.not_ready(ended.unwrap_or(reason)));
                }
                std::thread::sleep(READY_POLL);
            }
        }
        Ok(())
    }

    fn not_ready(&self, reason: String) -> Error {
        Error::NotReady { system: self.target.name(), seconds: READY_TIMEOUT.as_secs(), reason, log: self.log_tails() }
    }

    /// The end of each node's log.
    pub(crate) fn log_tails(&self) -> String {
        let logs = self.nodes.iter().enumerate();
        logs.map(|(number, node)| format!("--- {}\n{}", name(number), node.log_tail())).collect()
    }

    /// Kills a node, without waiting for its end.
    pub(crate) fn kill(&mut self, number: usize) -> Result<(), Error> {
        self.nodes[number].kill().map_err(|source| Error::io(format!("killing {}", name(number)), source))
    }

    /// Starts a killed node again, with the data that it had.
    pub(crate) fn start_again(&mut self, number: usize) -> Result<(), Error> {
        self.nodes[number].start_again()
    }

    /// Ends all nodes and removes their data.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        for node in &self.nodes {
            node.ask_to_end();
        }
        for node in &mut self.nodes {
            node.wait_for_end()?;
        }
        let path = self.directory.path().to_owned();
        self.directory.close().map_err(|source| Error::io(format!("removing {path:?}"), source))
    }
}

/// What runs where, in words.
pub(crate) fn surroundings(systems: &SystemsArgs, place: &Place) -> Result<String, Error> {
    let versions: Vec<String> =
        systems.targets()?.iter().map(|&target| version(target, systems.binary(target))).collect();
    let (versions, machine) = (versions.join(" and "), machine::described());
    Ok(format!("{versions}. Three nodes and the load generator on {machine}, {}.", place.file_system))
}

/// What a binary says of its version, or the system's bare name.
fn version(target: Target, binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output().ok();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let number = text.split_ascii_whitespace().find(|word| word.starts_with(|start: char| start.is_ascii_digit()));
    format!("{} {}", target.name(), number.unwrap_or("of unknown version"))
}

fn name(number: usize) -> String {
    format!("n{}", number + 1)
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// `n1=...,n2=...,n3=...`
fn members(ports: &[u16], scheme: &str) -> String {
    let members = ports.iter().enumerate();
    let members: Vec<String> =
        members.map(|(number, &port)| format!("{}={scheme}{}", name(number), address(port))).collect();
    members.join(",")
}

fn drey_arguments(number: usize, clients: &[u16]) -> Vec<String> {
    let listen = address(clients[number]);
    ["start", "--name", &name(number), "--listen", &listen, "--initial-members", &members(clients, "")]
        .map(str::to_owned)
        .into()
}

fn etcd_arguments(number: usize, clients: &[u16], peers: &[u16]) -> Vec<String> {
    let (client, peer) = (format!("http://{}", address(clients[number])), format!("http://{}", address(peers[number])));
    [
        ["--name", &name(number)],
        ["--listen-client-urls", &client],
        ["--advertise-client-urls", &client],
        ["--listen-peer-urls", &peer],
        ["--initial-advertise-peer-urls", &peer],
        ["--initial-cluster", &members(peers, "http://")],
        ["--initial-cluster-state", "new"],
        ["--quota-backend-bytes", &ETCD_QUOTA_BYTES.to_string()],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

/// Ports that nobody listens on. All are held until the last is found, so that they differ; another process could take
/// one before a node does, and the cluster then fails to start.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_told_of_each_other() {
        let drey = drey_arguments(1, &[1, 2, 3]).join(" ");
        let all = "n1=127.0.0.1:1,n2=127.0.0.1:2,n3=127.0.0.1:3";
        assert_eq!(drey, format!("start --name n2 --listen 127.0.0.1:2 --initial-members {all}"));
        let etcd = etcd_arguments(0, &[1, 2, 3], &[4, 5, 6]).join(" ");
        let peers = "n1=http://127.0.0.1:4,n2=http://127.0.0.1:5,n3=http://127.0.0.1:6";
        assert!(etcd.contains(&format!("--initial-cluster {peers} ")), "{etcd}");
        assert!(etcd.contains("--advertise-client-urls http://127.0.0.1:1 "), "{etcd}");
    }

    #[test]
    fn ports_differ() {
        let mut ports = free_ports(6).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }

    #[test]
    fn a_node_that_ends_at_once_is_told_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        // `sh start ...`: there is no such script.
        let systems = SystemsArgs {
            systems: vec![Target::Drey],
            drey: "sh".into(),
            etcd: "sh".into(),
            drey_argument: Vec::new(),
            etcd_argument: Vec::new(),
            directory: Some(directory.path().to_owned()),
            logs: None,
        };
        let mut cluster = Cluster::start(Target::Drey, &systems, &systems.place().unwrap()).unwrap();
        let error = cluster.wait_until_led().unwrap_err();
        assert!(
            matches!(&error, Error::NotReady { reason, log, .. } if reason.contains("n1 ended") && log.contains("start"))
        );
        cluster.stop().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
