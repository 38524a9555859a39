//! One process of a cluster: started, perhaps killed and started again, and ended whatever happens.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;

/// A node is asked to end, and killed when it has not after so long.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a node that is asked to end is looked after.
const STOP_POLL: Duration = Duration::from_millis(20);

/// So much of a node's log is shown when it does not come up.
const LOG_TAIL_BYTES: u64 = 2_000;

/// One running process.
pub(super) struct Node {
    command: Command,
    child: Child,
    log: PathBuf,
}

impl Node {
    /// Starts a process that adds what it says to `log`.
    pub(super) fn start(mut command: Command, log: PathBuf) -> Result<Self, Error> {
        let failed = |what: String| move |source| Error::io(what, source);
        let output =
            File::options().create(true).append(true).open(&log).map_err(failed(format!("creating {log:?}")))?;
        let errors = output.try_clone().map_err(failed(format!("opening {log:?} again")))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = spawn(&mut command)?;
        Ok(Self { command, child, log })
    }

    /// Starts it as before, once the process that was killed is gone.
    pub(super) fn start_again(&mut self) -> Result<(), Error> {
        self.child.wait().map_err(|source| Error::io("waiting for a killed node to end", source))?;
        self.child = spawn(&mut self.command)?;
        Ok(())
    }

    /// The process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// The end of what it said.
    pub(super) fn log_tail(&self) -> String {
        read_tail(&self.log).unwrap_or_else(|error| format!("{:?}: {error}", self.log))
    }

    /// Asks it to end.
    pub(super) fn ask_to_end(&self) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // One that has ended already needs no asking. Its id is not another's before it is waited for.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until it has ended, and kills it if that takes too long.
    pub(super) fn wait_for_end(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => std::thread::sleep(STOP_POLL),
                Err(source) => return Err(Error::io("waiting for a node to end", source)),
            }
        }
        self.kill_and_wait().map_err(|source| Error::io("killing a node that does not end", source))
    }

    /// Kills it, as the kernel does when memory runs out, without waiting for its end.
    pub(super) fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()
    }

    fn kill_and_wait(&mut self) -> std::io::Result<()> {
        self.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Does nothing where the node has been waited for.
        let _ = self.kill_and_wait();
    }
}

fn spawn(command: &mut Command) -> Result<Child, Error> {
    command.spawn().map_err(|source| Error::io(format!("starting {:?}", command.get_program()), source))
}

fn read_tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, directory: &Path) -> Node {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Node::start(command, directory.join("log")).unwrap()
    }

    #[test]
    fn a_node_ends_when_asked_and_its_log_stays() {
        let directory = tempfile::tempdir().unwrap();
        let mut node =
            shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done", directory.path());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !node.log_tail().contains("ready") {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(node.ended(), None);
        node.ask_to_end();
        node.wait_for_end().unwrap();
        assert!(node.ended().is_some());
        assert!(node.log_tail().ends_with("bye\n"));
    }

    #[test]
    fn a_killed_node_is_started_again_as_before_and_its_log_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let mut node = shell("echo ready; exec sleep 600", directory.path());
        let wait_for = |node: &Node, log: &str| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while node.log_tail() != log {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
        };
        wait_for(&node, "ready\n");
        let first = node.pid();
        node.kill().unwrap();
        node.start_again().unwrap();
        wait_for(&node, "ready\nready\n");
        assert_ne!(node.pid(), first);
        assert_eq!(node.ended(), None);
    }

    #[test]
    fn a_dropped_node_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let node = shell("trap '' TERM; exec sleep 600", directory.path());
        let process = PathBuf::from(format!("/proc/{}", node.pid()));
        assert!(process.exists());
        drop(node);
        assert!(!process.exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let error = Node::start(Command::new("/nonexistent/etcd"), directory.path().join("log")).err().unwrap();
        assert!(error.to_string().contains("/nonexistent/etcd"));
    }
}
