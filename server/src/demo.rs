//! `drey demo`: three nodes on loopback, what they say, and what to try with them.
//!
//! Each is a process of its own, so that one can be killed to see what the others do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::{DemoArgs, Exit, Failure};

const NODES: usize = 3;
/// How long the nodes may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// How long the nodes may take to stop before they are killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

struct DemoNode {
    name: String,
    address: String,
    log: PathBuf,
    process: Child,
}

/// However the demonstration ends, its nodes end with it.
impl Drop for DemoNode {
    fn drop(&mut self) {
        stop_node(&mut self.process);
    }
}

/// Says it on stdout. That nobody may be reading there is no reason to panic, with three nodes to be stopped.
fn say(text: &str) {
    drop(writeln!(io::stdout(), "{text}"));
}

/// Runs the demonstration until it is interrupted.
pub fn run(args: &DemoArgs) -> Exit {
    match demonstrate(args) {
        Ok(()) => Exit::Done,
        Err(why) => {
            let next = "drey demo --dir DIR, which keeps the nodes' data and logs in DIR";
            Failure::new(Exit::Refused, "the demonstration cannot run", why, next).report();
            Exit::Refused
        }
    }
}

fn demonstrate(args: &DemoArgs) -> Result<(), String> {
    let (stop, stopped) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // Nobody listens any more once the nodes are being stopped.
            let _ = stop.send(());
        }
    });

    let temporary = match &args.dir {
        None => Some(tempfile::Builder::new().prefix("drey-demo-").tempdir().map_err(|error| error.to_string())?),
        Some(_) => None,
    };
    let directory =
        args.dir.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned())).unwrap_or_default();
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;

    let mut nodes = start_nodes(&directory).map_err(|error| error.to_string())?;
    let outcome = wait_until_ready(&mut nodes, &stopped).map(|ready| {
        if ready {
            explain(&nodes, &directory);
            say(match args.keep || args.dir.is_some() {
                true => "\nCtrl-C ends the demonstration; its data stay.",
                false => "\nCtrl-C ends the demonstration and removes its data.",
            });
            // Interrupted, or the sender is gone with the same meaning.
            let _ = stopped.recv();
        }
    });
    say("\nstopping the nodes");
    drop(nodes);
    if args.keep
        && let Some(temporary) = temporary
    {
        say(&format!("their data stay in {}", temporary.keep().display()));
    }
    outcome
}

fn start_nodes(directory: &Path) -> io::Result<Vec<DemoNode>> {
    // Held until all are chosen, so that no two are the same; a restart in the same directory finds its own again.
    let ports_file = directory.join("ports");
    let ports: Vec<u16> = match std::fs::read_to_string(&ports_file) {
        Ok(kept) => kept.split_whitespace().filter_map(|port| port.parse().ok()).collect(),
        Err(_) => {
            let listeners: Vec<_> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
            let ports = listeners.iter().map(|listener| listener.local_addr().map(|address| address.port()));
            ports.collect::<Result<_, _>>()?
        }
    };
    let kept: Vec<String> = ports.iter().map(u16::to_string).collect();
    std::fs::write(ports_file, kept.join(" "))?;
    let members: Vec<_> =
        ports.iter().enumerate().map(|(n, port)| (format!("n{}", n + 1), format!("127.0.0.1:{port}"))).collect();
    let list: Vec<String> = members.iter().map(|(name, address)| format!("{name}={address}")).collect();
    let program = std::env::current_exe()?;
    let start = |(name, address): (String, String)| {
        let log = directory.join(format!("{name}.log"));
        let process = Command::new(&program)
            .args(["start", "--name", &name, "--listen", &address, "--initial-members", &list.join(",")])
            .args(["--parent", &std::process::id().to_string()])
            .arg("--data-dir")
            .arg(directory.join(&name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            // An interrupt at the terminal is this process's to handle.
            .process_group(0)
            .spawn()?;
        Ok(DemoNode { name, address, log, process })
    };
    members.into_iter().map(start).collect()
}

/// False: interrupted meanwhile.
fn wait_until_ready(nodes: &mut [DemoNode], stopped: &mpsc::Receiver<()>) -> Result<bool, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        for node in &mut *nodes {
            if let Ok(Some(status)) = node.process.try_wait() {
                let mut log = String::new();
                // Without a log the status is all there is to say.
                let _ = File::open(&node.log).and_then(|mut file| file.read_to_string(&mut log));
                return Err(format!("{} ended with {status}\n{log}", node.name));
            }
        }
        if runtime.block_on(all_lead(&addresses)) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Err(format!("the nodes are not ready after {} s", READY_WITHIN.as_secs()));
        }
        if stopped.recv_timeout(POLL).is_ok() {
            return Ok(false);
        }
    }
}

/// Whether every node answers and knows a leader of every group.
async fn all_lead(addresses: &[String]) -> bool {
    for address in addresses {
        let Ok(client) =
            drey_client::Client::builder([address.as_str()]).timeout(Duration::from_secs(1)).discover(false).connect()
        else {
            return false;
        };
        match client.status().await {
            Ok(status) if !status.groups.is_empty() && status.groups.iter().all(|group| group.leader != 0) => {}
            _ => return false,
        }
    }
    true
}

fn explain(nodes: &[DemoNode], directory: &Path) {
    let program = std::env::current_exe().map_or("drey".to_owned(), |path| path.display().to_string());
    let servers: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    say(&format!("three nodes are ready; their data and logs are in {}\n", directory.display()));
    for node in nodes {
        say(&format!("  {}  {}  process {}", node.name, node.address, node.process.id()));
    }
    let first = &nodes[0];
    say(&format!(
        "\ntry, in another terminal:\n
  alias drey={program}
  export DREY_SERVER={}
  drey set greeting hello            # through any node, kept by all
  drey get greeting
  drey create fruits
  drey set fruits apple red
  drey set fruits banana yellow
  drey scan fruits
  drey ls
  drey node
  drey cluster
  kill -9 {}                      # {} is gone; the others go on
  drey get greeting",
        servers.join(","),
        first.process.id(),
        first.name
    ));
}

fn stop_node(process: &mut Child) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(process), rustix::process::Signal::TERM);
    let deadline = Instant::now() + STOP_WITHIN;
    while matches!(process.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            // It has had its time.
            let _ = process.kill();
            let _ = process.wait();
            return;
        }
        std::thread::sleep(POLL);
    }
}
