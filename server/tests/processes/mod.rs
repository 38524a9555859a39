//! Real nodes: processes of the `drey` binary on loopback, killed and started again by their ids.
#![allow(dead_code, reason = "each test uses a part")]

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use drey_client::Client;

pub struct Cluster {
    directory: tempfile::TempDir,
    members: Vec<(String, String)>,
    processes: Vec<Option<Child>>,
}

impl Cluster {
    /// Three nodes on free ports.
    pub fn start() -> Cluster {
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let members = listeners.iter().enumerate();
        let members =
            members.map(|(n, listener)| (format!("n{}", n + 1), listener.local_addr().unwrap().to_string())).collect();
        drop(listeners);
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { directory, members, processes: vec![None, None, None] };
        (0..3).for_each(|node| cluster.start_node(node));
        cluster
    }

    pub fn start_node(&mut self, node: usize) {
        let (name, address) = &self.members[node];
        let members: Vec<String> = self.members.iter().map(|(name, address)| format!("{name}={address}")).collect();
        let log = File::options().create(true).append(true).open(self.log_path(node)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_drey"))
            .args(["start", "--name", name, "--listen", address, "--initial-members", &members.join(",")])
            .arg("--data-dir")
            .arg(self.directory.path().join(name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processes[node] = Some(process);
    }

    /// As a power cut would, but for the disk's cache.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut process) = self.processes[node].take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// As an operator would.
    pub fn stop(&mut self, node: usize) {
        if let Some(mut process) = self.processes[node].take() {
            rustix::process::kill_process(rustix::process::Pid::from_child(&process), rustix::process::Signal::TERM)
                .unwrap();
            assert_eq!(process.wait().unwrap().code(), Some(0), "{}", self.log(node));
        }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|(_, address)| address.clone()).collect()
    }

    fn log_path(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.members[node].0))
    }

    /// What a node said.
    pub fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.log_path(node)).unwrap_or_default()
    }

    /// What all said, for a failure's report.
    pub fn logs(&self) -> String {
        (0..3).map(|node| format!("--- n{}\n{}", node + 1, self.log(node))).collect()
    }

    /// The node that leads a group, as any node says that answers.
    pub async fn leader_of(&self, group: u32, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        loop {
            for address in self.addresses() {
                let client = Client::builder([address]).timeout(Duration::from_secs(1)).discover(false);
                let Ok(status) = client.connect().unwrap().status().await else { continue };
                let leader = status.groups.iter().find(|of| of.id == group).map_or(0, |of| of.leader);
                if leader != 0 {
                    return leader as usize - 1;
                }
            }
            assert!(Instant::now() < deadline, "no leader of group {group}\n{}", self.logs());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..3).for_each(|node| self.kill(node));
    }
}
