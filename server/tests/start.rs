//! `drey start` and `drey demo` as a user meets them: real processes, started, stopped, killed, and given what they cannot take.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A process of `drey` that is at work. However a test ends, the process ends with it.
struct Running {
    process: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn spawn(line: &str) -> Running {
        let mut process = command("", line).spawn().expect("it starts");
        let stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        Running { process, stdout }
    }

    /// The next line on stdout; empty at its end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("UTF-8 on stdout");
        line
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it runs");
    }

    /// Asks it to stop; says how it ended.
    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.process.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A node, and where it listens.
struct Node {
    running: Running,
    address: String,
}

/// Starts a node on a free port, and waits until it says that it is ready.
fn start(directory: &Path, options: &str) -> Node {
    let line = format!("start --listen 127.0.0.1:0 --data-dir {} {options}", directory.display());
    let mut running = Running::spawn(&line);
    let ready = running.line();
    let address = ready.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
    let Some(address) = address else {
        let mut log = String::new();
        let _ = running.process.stderr.take().map(|mut stderr| stderr.read_to_string(&mut log));
        panic!("{ready:?} is not a node's ready line\n{log}");
    };
    Node { address: address.to_owned(), running }
}

fn command(server: &str, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drey"));
    command.env_clear().env("DREY_SERVER", server).env("RUST_LOG", "warn").args(line.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn drey(server: &str, line: &str) -> Output {
    command(server, line).output().expect("it runs")
}

fn refused(output: &Output, code: i32, word: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert!(err.starts_with("error: ") && err.contains(word), "no {word:?} in {err}");
    assert!(err.contains("\n  try: drey "), "{err}");
}

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8 on stdout")
}

#[test]
fn a_node_keeps_its_data_however_it_ends_and_with_however_many_shards_it_starts() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for (round, shards) in [1, 4, 2, 3, 1].into_iter().enumerate() {
        let node = start(&data, &format!("--shards {shards}"));
        for earlier in 0..round {
            assert_eq!(done(&drey(&node.address, &format!("get b{earlier} key"))), format!("value{earlier}"));
        }
        // Buckets are spread over groups, and groups over shards.
        done(&drey(&node.address, &format!("create b{round}")));
        done(&drey(&node.address, &format!("set b{round} key value{round}")));
        if round % 2 == 0 {
            drop(node);
        } else {
            assert_eq!(node.running.stop(), Some(0));
        }
    }
}

#[test]
fn a_second_process_is_refused_and_the_first_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let node = start(&data, "");
    let second = drey("", &format!("start --listen 127.0.0.1:0 --data-dir {}", data.display()));
    refused(&second, 5, "in use");
    let port_taken = drey("", &format!("start --listen {} --data-dir {}2", node.address, data.display()));
    refused(&port_taken, 5, &node.address);
    done(&drey(&node.address, "set key value"));
    assert_eq!(node.running.stop(), Some(0));
}

#[test]
fn flags_that_would_make_a_node_another_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    assert_eq!(start(&data, "--groups 4").running.stop(), Some(0));
    for (flag, word) in [
        ("--name other", "name"),
        ("--engine memory", "engine"),
        ("--groups 5", "groups"),
        ("--advertise a:1", "advertise"),
    ] {
        let output = drey("", &format!("start --listen 127.0.0.1:0 --data-dir {} {flag}", data.display()));
        refused(&output, 5, word);
    }
    for (nonsense, word) in [
        ("--listen nowhere", "--listen"),
        ("--listen 127.0.0.1:70000", "--listen"),
        ("--listen 0.0.0.0:0", "--advertise"),
        ("--initial-members n1=127.0.0.1:1", "--initial-members"),
        ("--name a --initial-members a=127.0.0.1:1,b=127.0.0.1:1", "twice"),
        ("--name a --initial-members a=127.0.0.1:1,b=0.0.0.0:1", "nobody can reach b"),
        ("--name a/b", "name"),
    ] {
        refused(&drey("", &format!("start --data-dir {}2 {nonsense}", data.display())), 2, word);
    }
    assert_eq!(start(&data, "").running.stop(), Some(0));
}

#[test]
fn a_log_that_is_not_there_is_not_taken_for_one_that_has_not_begun() {
    let directory = tempfile::tempdir().unwrap();
    let (data, log) = (directory.path().join("data"), directory.path().join("log"));
    let node = start(&data, &format!("--engine memory --log-dir {}", log.display()));
    done(&drey(&node.address, "set key value"));
    assert_eq!(node.running.stop(), Some(0));
    let elsewhere = drey("", &format!("start --listen 127.0.0.1:0 --data-dir {}", data.display()));
    refused(&elsewhere, 5, "--log-dir");
    let of_another = format!("start --listen 127.0.0.1:0 --data-dir {}2 --log-dir {}", data.display(), log.display());
    refused(&drey("", &of_another), 5, "identity.json is missing");
    let node = start(&data, &format!("--log-dir {}", log.display()));
    assert_eq!(done(&drey(&node.address, "get key")), "value");
    assert_eq!(node.running.stop(), Some(0));
    std::fs::remove_dir_all(&log).unwrap();
    let lost =
        drey("", &format!("start --listen 127.0.0.1:0 --data-dir {} --log-dir {}", data.display(), log.display()));
    refused(&lost, 5, "lost");
}

#[test]
fn what_a_node_cannot_take_gets_its_error_and_the_node_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(&directory.path().join("data"), "");
    let server = node.address.as_str();
    let long_key = "k".repeat(70_000);
    refused(&drey(server, &format!("set {long_key} value")), 5, "4096");
    refused(&drey(server, "get nobody key"), 1, "nobody");
    refused(&drey(server, "create .hidden"), 5, ".hidden");
    let empty_key = command(server, "set").args(["", "value"]).output().unwrap();
    refused(&empty_key, 5, "key");
    let mut large = command(server, "set large -").stdin(Stdio::piped()).spawn().unwrap();
    // It may hang up before it has read all.
    let _ = large.stdin.take().unwrap().write_all(&vec![7; 5 << 20]);
    refused(&large.wait_with_output().unwrap(), 5, "a value may have 1048576");
    for garbage in [&b"GARBAGE\r\n\r\n"[..], b"\0\0\0\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense", &[0xff; 4096]] {
        let mut socket = TcpStream::connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.write_all(garbage).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        // It answers or not, and hangs up before this end gives up.
        let ended = socket.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "{ended:?} after {garbage:?}");
    }
    done(&drey(server, "set key value"));
    assert_eq!(done(&drey(server, "get key")), "value");
    assert_eq!(node.running.stop(), Some(0));
}

/// A demonstration whose nodes are ready, their processes, and what `--server` reaches them.
fn demo(directory: &Path) -> (Running, Vec<Pid>, String) {
    let mut demo = Running::spawn(&format!("demo --dir {}", directory.display()));
    let mut pids = Vec::new();
    loop {
        let line = demo.line();
        assert!(!line.is_empty(), "it says which server to use");
        if let Some((_, pid)) = line.split_once("  process ") {
            pids.push(Pid::from_raw(pid.trim().parse().expect("a number")).expect("a process"));
        }
        if let Some((_, server)) = line.split_once("export DREY_SERVER=") {
            assert_eq!(pids.len(), 3);
            return (demo, pids, server.trim().to_owned());
        }
    }
}

fn wait_until_gone(pids: Vec<Pid>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    for pid in pids {
        // A zombie waits for its parent only.
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        while runs() {
            assert!(Instant::now() < deadline, "process {pid:?} is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn the_demonstration_shows_three_nodes_that_take_calls_and_takes_them_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (demo, pids, server) = demo(directory.path());
    done(&drey(&server, "set greeting hello"));
    kill_process(pids[0], Signal::KILL).unwrap();
    // Its groups need new leaders; the others answer once they have them. A write that met the change may be of unknown outcome,
    // and is made again.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let set = drey(&server, "set greeting again --timeout 30s");
        if set.status.code() != Some(4) || Instant::now() > deadline {
            done(&set);
            break;
        }
    }
    assert_eq!(done(&drey(&server, "get greeting --timeout 30s")), "again");
    assert_eq!(demo.stop(), Some(0));
    wait_until_gone(pids);
}

#[test]
fn a_demonstration_that_is_killed_takes_its_nodes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let (demo, pids, _) = demo(directory.path());
    // With SIGKILL.
    drop(demo);
    wait_until_gone(pids);
}
