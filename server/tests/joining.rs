//! `drey start --join` and `Node::join` when things are not as they should be, or not yet: seeds that are not there, a node that
//! is its own seed, directories that cannot join any more.

#![allow(clippy::unwrap_used)]

mod processes;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use drey_client::Client;
use drey_core::name::{BucketName, Key};
use drey_core::placement::group_of;
use drey_core::request::{ReadMode, ReadOp, Reply};
use drey_io::{Config, IdentityError, JoinError, Node, StartError};
use processes::Cluster;

const WITHIN: Duration = Duration::from_secs(30);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(test);
}

/// Runs `drey start`, which must end by itself; its exit code and what it says.
fn start(cluster: &Cluster, node: usize, options: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_drey"))
        .args(["start", "--listen", cluster.address(node), "--data-dir"])
        .arg(cluster.data_dir(node))
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn seeds_that_are_not_there_are_named_at_once_and_asked_until_they_are() {
    run(async {
        let mut cluster = Cluster::start_lone();
        cluster.settled(0, 1, WITHIN).await;
        cluster.stop(0);
        let seed = cluster.address(0).to_owned();
        let n2 = cluster.join_with("n2", &seed, &[]);
        let deadline = Instant::now() + WITHIN;
        while !cluster.log(n2).contains("Connection refused") {
            assert!(Instant::now() < deadline, "it says nothing\n{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let said = cluster.log(n2);
        assert!(said.contains(&format!("asking {seed} for a place: cannot connect to {seed}")), "{said}");
        cluster.start_node(0);
        cluster.settled(n2, 2, WITHIN).await;
    });
}

#[test]
fn a_node_is_no_seed_of_its_own() {
    let cluster = Cluster::start_lone();
    let own = cluster.address(0);
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data").display().to_string();
    let port = own.rsplit_once(':').unwrap().1;
    let any = format!("0.0.0.0:{port}");
    let localhost = format!("localhost:{port}");
    for (listen, advertise, seed) in [(own, own, own), (own, own, &localhost), (&any, &localhost, own)] {
        let begun = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_drey"))
            .args(["start", "--name", "n2", "--listen", listen, "--advertise", advertise, "--join", seed])
            .args(["--data-dir", &data_dir])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("--join {seed} is this node's own address")), "{said}");
        assert!(said.contains("\n  try: drey start --help"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_founder_that_left_cannot_come_back_with_its_directory() {
    run(async {
        let mut cluster = Cluster::start_lone();
        let n2 = cluster.join("n2");
        cluster.settled(n2, 2, WITHIN).await;
        cluster.command(0, &["leave"]);
        assert_eq!(cluster.wait_end(0, WITHIN), Some(0), "{}", cluster.log(0));
        for options in [&[][..], &["--name", "n1"], &["--name", "n1", "--join", cluster.address(n2)]] {
            let (code, said) = start(&cluster, 0, options);
            assert_eq!(code, Some(5), "{options:?}: {said}");
            assert!(said.contains("is that of n1 (id 1), which left its cluster"), "{options:?}: {said}");
            assert!(said.contains("\n  try: drey start --name "), "{options:?}: {said}");
        }
        // What it says helps.
        cluster.wipe(0);
        let again = cluster.join("n1");
        cluster.settled(again, 2, WITHIN).await;
    });
}

#[test]
fn a_member_that_kept_its_data_in_memory_is_told_that_they_are_gone() {
    run(async {
        let mut cluster = Cluster::start_lone();
        let seed = cluster.address(0).to_owned();
        let n2 = cluster.join_with("n2", &seed, &["--engine", "memory"]);
        cluster.settled(n2, 2, WITHIN).await;
        Client::connect([cluster.address(0)]).unwrap().bucket("default").put("k", "v").await.unwrap();
        cluster.stop(n2);
        let (code, said) = start(&cluster, n2, &[]);
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("n2 keeps its data in main memory") && said.contains("as it joined later"), "{said}");
        assert!(said.contains("\n  try: drey remove "), "{said}");
    });
}

#[test]
fn a_program_joins_with_the_node_inside_it() {
    run(async {
        let cluster = Cluster::start_lone();
        let seeds = [cluster.address(0).to_owned()];
        Client::connect(seeds.clone()).unwrap().bucket("default").put("k", "v").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = Config { name: Some("inside".to_owned()), listen: port, ..Config::new(directory.path()) };

        // Nobody there, and no name: each is said, and leaves the directory as it can be used.
        let mut told = Vec::new();
        let nobody = ["127.0.0.1:1".to_owned()];
        let short = Duration::from_secs(3);
        let refused = Node::join(config.clone(), &nobody, short, |attempt| told.push(attempt.to_string()));
        assert!(matches!(refused.err(), Some(JoinError::NoAnswer { .. })));
        assert!(told[0].starts_with("asking 127.0.0.1:1 for a place: "), "{told:?}");
        let nameless = Node::join(Config { name: None, ..config.clone() }, &seeds, WITHIN, |_| {});
        assert!(matches!(nameless.err(), Some(JoinError::Invalid(_))));

        let node = Node::join(config.clone(), &seeds, WITHIN, |_| {}).unwrap();
        let handle = node.handle();
        let group = group_of(&BucketName::DEFAULT, handle.groups());
        let deadline = Instant::now() + WITHIN;
        loop {
            let get = ReadOp::Get { bucket: BucketName::DEFAULT, key: Key::new("k").unwrap() };
            let answer = handle.read(group, ReadMode::Linearizable, get, 1_000).await;
            if let Ok(Reply::Entry(Some(entry))) = &answer {
                assert_eq!(entry.value, "v");
                break;
            }
            assert!(Instant::now() < deadline, "{answer:?}\n{}", cluster.logs());
        }
        node.stop().unwrap();
        // It has its place from now on, whoever the seeds are.
        let node = Node::join(config, &nobody, WITHIN, |_| {}).unwrap();
        node.stop().unwrap();

        let founded = tempfile::tempdir().unwrap();
        let config = Config { listen: port, ..Config::new(founded.path()) };
        Node::start(config.clone()).unwrap().stop().unwrap();
        let refused = Node::join(config.clone(), &seeds, WITHIN, |_| {}).err();
        assert!(matches!(refused, Some(JoinError::HasFounded(_))), "{refused:?}");
        std::fs::write(founded.path().join("identity.json"), "{").unwrap();
        let refused = Node::join(config, &seeds, WITHIN, |_| {}).err();
        assert!(matches!(refused, Some(JoinError::Start(StartError::Identity(IdentityError::Damaged { .. })))));
    });
}
