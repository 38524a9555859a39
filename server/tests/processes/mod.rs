//! Real nodes: processes of the `drey` binary on loopback, killed and started again by their ids.
#![allow(dead_code, reason = "each test uses a part")]

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use drey_client::Client;
use drey_client::proto::{Member, member::Role};

pub struct Cluster {
    directory: tempfile::TempDir,
    members: Vec<(String, String)>,
    /// What each is started with beside its name and place.
    options: Vec<Vec<String>>,
    processes: Vec<Option<Child>>,
}

impl Cluster {
    /// Three nodes on free ports.
    pub fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    /// Three nodes on free ports, with these options.
    pub fn start_with(options: &[&str]) -> Cluster {
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let members = listeners.iter().enumerate();
        let members: Vec<(String, String)> =
            members.map(|(n, listener)| (format!("n{}", n + 1), listener.local_addr().unwrap().to_string())).collect();
        drop(listeners);
        let directory = tempfile::tempdir().unwrap();
        let list: Vec<String> = members.iter().map(|(name, address)| format!("{name}={address}")).collect();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let options = vec![[vec!["--initial-members".to_owned(), list.join(",")], options].concat(); 3];
        let mut cluster = Cluster { directory, members, options, processes: vec![None, None, None] };
        (0..3).for_each(|node| cluster.start_node(node));
        cluster
    }

    /// One node on its own, which others may join.
    pub fn start_lone() -> Cluster {
        Cluster::start_lone_with(&[])
    }

    /// One node on its own, with these options.
    pub fn start_lone_with(options: &[&str]) -> Cluster {
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Cluster { directory, members: Vec::new(), options: Vec::new(), processes: Vec::new() };
        cluster.add("n1", options.iter().map(|&option| option.to_owned()).collect());
        cluster
    }

    /// Starts a further node that joins by way of those that run; answers its number here.
    pub fn join(&mut self, name: &str) -> usize {
        let running = self.running().into_iter().map(|node| self.members[node].1.clone());
        let seeds = running.collect::<Vec<_>>().join(",");
        self.add(name, vec!["--join".to_owned(), seeds])
    }

    /// Starts a further node that joins by way of these addresses, with these options.
    pub fn join_with(&mut self, name: &str, seeds: &str, options: &[&str]) -> usize {
        let words = [&["--join", seeds], options].concat();
        self.add(name, words.into_iter().map(str::to_owned).collect())
    }

    fn add(&mut self, name: &str, options: Vec<String>) -> usize {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        self.members.push((name.to_owned(), address));
        self.options.push(options);
        self.processes.push(None);
        self.start_node(self.members.len() - 1);
        self.members.len() - 1
    }

    /// The nodes that were started and not stopped.
    pub fn running(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|node| self.processes[*node].is_some()).collect()
    }

    /// A node's address.
    pub fn address(&self, node: usize) -> &str {
        &self.members[node].1
    }

    /// Runs a command against a node; its output as JSON.
    pub fn command(&self, node: usize, arguments: &[&str]) -> serde_json::Value {
        let output = Command::new(env!("CARGO_BIN_EXE_drey"))
            .args(["--server", self.address(node), "--output", "json", "--timeout", "20s"])
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "drey {arguments:?}: {said}\n{}", self.logs());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that must be refused; its exit code and what it says.
    pub fn refused(&self, node: usize, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_drey"))
            .args(["--server", self.address(node), "--timeout", "5s"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success(), "drey {arguments:?} went well");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A stopped node's disk is gone.
    pub fn wipe(&self, node: usize) {
        assert!(self.processes[node].is_none());
        std::fs::remove_dir_all(self.data_dir(node)).unwrap();
    }

    /// Waits until a node has ended by itself; answers its exit code.
    pub fn wait_end(&mut self, node: usize, within: Duration) -> Option<i32> {
        let mut process = self.processes[node].take().unwrap();
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = process.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() >= deadline {
                process.kill().unwrap();
                process.wait().unwrap();
                panic!("node {node} does not end\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn start_node(&mut self, node: usize) {
        let (name, address) = &self.members[node];
        let log = File::options().create(true).append(true).open(self.log_path(node)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_drey"))
            .args(["start", "--name", name, "--listen", address])
            .args(&self.options[node])
            .arg("--data-dir")
            .arg(self.data_dir(node))
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

    /// Where a node keeps everything.
    pub fn data_dir(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("{node}-{}", self.members[node].0))
    }

    fn log_path(&self, node: usize) -> PathBuf {
        self.directory.path().join(format!("{node}-{}.log", self.members[node].0))
    }

    /// What a node said.
    pub fn log(&self, node: usize) -> String {
        std::fs::read_to_string(self.log_path(node)).unwrap_or_default()
    }

    /// What all said, for a failure's report.
    pub fn logs(&self) -> String {
        let one = |node: usize| format!("--- {} ({})\n{}", self.members[node].0, self.members[node].1, self.log(node));
        (0..self.members.len()).map(one).collect()
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

    /// Waits until a node that was started again answers, and all reach each other.
    pub async fn wait_until_reachable(&self, node: usize, within: Duration) {
        let deadline = Instant::now() + within;
        for asked in self.running() {
            let client = Client::builder([self.address(asked)]).timeout(within).discover(false).connect().unwrap();
            loop {
                let status = client.status().await;
                if status.is_ok_and(|status| status.members.iter().all(|member| member.reachable)) {
                    break;
                }
                assert!(Instant::now() < deadline, "node {node} is not reached by all\n{}", self.logs());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

impl Cluster {
    /// Waits until so many members vote and are reachable, as a node sees it.
    pub async fn settled(&self, node: usize, members: usize, within: Duration) {
        let client = Client::builder([self.address(node)]).discover(false).connect().unwrap();
        let deadline = Instant::now() + within;
        loop {
            let status = client.status().await;
            let good = |member: &Member| member.role() == Role::Voter && member.reachable;
            if status.as_ref().is_ok_and(|status| {
                status.members.len() == members
                    && status.members.iter().all(good)
                    && status.groups.iter().all(|group| group.leader != 0)
            }) {
                return;
            }
            assert!(Instant::now() < deadline, "{members} members expected: {status:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.processes.len()).for_each(|node| self.kill(node));
    }
}
