//! The `drey` command as a script sees it: what it prints, where, and how it ends.

mod fake;

use fake::{Cluster, Fault};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, Stdio};

/// What a command left behind.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ended {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("UTF-8 on stdout")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// It worked, and said nothing on stderr.
    fn done(self) -> Ended {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self
    }

    /// It failed with this code, printed nothing, and told on stderr what, why, and what to try.
    fn failed(self, code: i32, words: &[&str]) -> Ended {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.text(), "", "{self:?}");
        assert!(self.err.starts_with("error: "), "{self:?}");
        assert!(self.err.contains("\n  why: ") && self.err.contains("\n  try: drey "), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {self:?}");
        }
        self
    }
}

fn command(servers: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drey"));
    command.env_clear().env("DREY_SERVER", servers).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().expect("it ends");
    let err = String::from_utf8(output.stderr).expect("UTF-8 on stderr");
    Ended { code: output.status.code(), out: output.stdout, err }
}

/// Runs a command line; words are split at spaces.
fn drey(cluster: &Cluster, line: &str) -> Ended {
    ended(command(&cluster.servers(), line.split_whitespace()).spawn().expect("it starts"))
}

#[test]
fn pairs_are_set_read_and_deleted() {
    let cluster = Cluster::of(1);
    assert_eq!(drey(&cluster, "set k v").done().text(), "{\"bucket\":\"default\",\"key\":\"k\",\"version\":1}\n");
    assert_eq!(drey(&cluster, "get k").done().text(), "v");
    assert_eq!(drey(&cluster, "get default k --local").done().text(), "v");
    assert_eq!(drey(&cluster, "get k --output json").done().text(), "{\"key\":\"k\",\"value\":\"v\",\"version\":1}\n");
    assert_eq!(
        drey(&cluster, "delete k").done().text(),
        "{\"bucket\":\"default\",\"key\":\"k\",\"deleted\":true,\"version\":2}\n"
    );
    drey(&cluster, "get k").failed(1, &["key `k` is not in bucket `default`", "drey ls default"]);
    drey(&cluster, "delete k").failed(1, &["key `k` is not in bucket `default`"]);

    drey(&cluster, "create users").done();
    assert_eq!(drey(&cluster, "set users alice -5 --output text").done().text(), "version 5\n");
    assert_eq!(drey(&cluster, "get users alice").done().text(), "-5");
    drey(&cluster, "get alice").failed(1, &["`default`"]);
    assert_eq!(drey(&cluster, "delete users alice --output text").done().text(), "deleted `alice`\n");
}

#[test]
fn bytes_go_in_and_out_as_they_are() {
    let cluster = Cluster::of(1);
    let value = b"\x00\xff\n\xfe";
    let mut child = command(&cluster.servers(), ["set", "raw", "-"]).stdin(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(value).expect("it reads");
    ended(child).done();
    assert_eq!(drey(&cluster, "get raw").done().out, value);
    assert_eq!(drey(&cluster, "get raw --output json").done().json()["value"]["base64"], "AP8K/g==");

    let key = OsString::from_vec(vec![0xc3, 0x28]);
    let words = [OsString::from("set"), key.clone(), OsString::from("v")];
    let set = ended(command(&cluster.servers(), &words).spawn().expect("it starts")).done();
    assert_eq!(set.json()["key"]["base64"], "wyg=");
    let words = [OsString::from("get"), key];
    assert_eq!(ended(command(&cluster.servers(), &words).spawn().expect("it starts")).done().text(), "v");
    let scanned = drey(&cluster, "scan --output text --keys-only").done();
    assert!(scanned.text().contains("\\xc3("), "{scanned:?}");
}

#[test]
fn times_to_live_are_given_changed_and_shown() {
    let cluster = Cluster::of(1);
    drey(&cluster, "set k v --ttl 5m").done();
    let entry = "{\"key\":\"k\",\"value\":\"v\",\"version\":1,\"ttl_ms\":300000}\n";
    assert_eq!(drey(&cluster, "get k --output json").done().text(), entry);
    assert_eq!(drey(&cluster, "scan").done().text(), entry);
    assert!(drey(&cluster, "ls default --output text").done().text().contains("5m 0s  v"));
    let answer = "{\"bucket\":\"default\",\"key\":\"k\",\"ttl_ms\":7000,\"version\":2}\n";
    assert_eq!(drey(&cluster, "expire k 7").done().text(), answer);
    assert_eq!(drey(&cluster, "get k --output json").done().json()["ttl_ms"], 7_000);
    assert_eq!(drey(&cluster, "expire default k never --output text").done().text(), "version 3\n");
    assert_eq!(drey(&cluster, "get k --output json").done().json()["ttl_ms"], serde_json::Value::Null);
    drey(&cluster, "expire nobody 5s").failed(1, &["key `nobody` is not in bucket `default`"]);
    drey(&cluster, "expire k soon").failed(2, &["`soon` is no time to live", "or never"]);
    drey(&cluster, "expire k 36501d").failed(2, &["the longest time to live is 36500d"]);

    assert_eq!(drey(&cluster, "create short --ttl 1500ms").done().json()["default_ttl_ms"], 1_500);
    drey(&cluster, "set short k v").done();
    assert_eq!(drey(&cluster, "get short k --output json").done().json()["ttl_ms"], 1_500);
    assert!(drey(&cluster, "ls --output text").done().text().lines().any(|line| line.ends_with("1s")));
    for bad in ["set k v --ttl 0", "set k v --ttl 5x", "create b --ttl never", "set k v --ttl 5s5m"] {
        let ended = drey(&cluster, bad);
        assert_eq!((ended.code, ended.text()), (Some(2), ""), "{bad}: {ended:?}");
        assert!(ended.err.contains("--ttl") && ended.err.contains("\n  try: drey "), "{ended:?}");
    }
    for (ttl, why) in [
        ("never", "leave it out for what is to stay"),
        ("-5s", "a time cannot be negative"),
        ("1.5s", "as 1500ms"),
        ("0", "more than nothing"),
        ("", "it is empty"),
    ] {
        let set = ["set", "k", "v", "--ttl", ttl];
        let ended = ended(command(&cluster.servers(), set).spawn().expect("it starts"));
        assert_eq!(ended.code, Some(2), "{ttl:?}: {ended:?}");
        assert!(ended.err.contains(why) && ended.err.contains("\n  try: drey set --help\n"), "{ttl:?}: {ended:?}");
    }
}

#[test]
fn conditions_have_their_exit_code() {
    let cluster = Cluster::of(1);
    drey(&cluster, "set k 1 --if-absent").done();
    drey(&cluster, "set k 2 --if-absent").failed(3, &["was not written", "version 1", "drey get k --output json"]);
    drey(&cluster, "set k 2 --if-version 7").failed(3, &["version 1"]);
    drey(&cluster, "set k 2 --if-version 1").done();
    drey(&cluster, "delete k --if-version 1").failed(3, &["was not deleted", "version 2"]);
    assert_eq!(drey(&cluster, "get k").done().text(), "2");
    drey(&cluster, "delete k --if-version 2").done();
    drey(&cluster, "delete k --if-version 2").failed(3, &["was not deleted"]);
}

#[test]
fn buckets_are_created_listed_and_dropped() {
    let cluster = Cluster::of(1);
    let created = drey(&cluster, "create users").done().json();
    assert_eq!((&created["name"], &created["created"]), (&"users".into(), &true.into()));
    drey(&cluster, "create users").failed(5, &["cannot create bucket `users`", "bucket_exists", "drey ls users"]);
    assert_eq!(drey(&cluster, "create users --if-not-exists").done().json()["created"], false);
    drey(&cluster, "set users alice blue").done();
    let listed = drey(&cluster, "ls").done();
    let names: Vec<serde_json::Value> =
        listed.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(names.iter().map(|bucket| &bucket["name"]).collect::<Vec<_>>(), ["default", "users"]);
    assert_eq!((&names[1]["keys_estimate"], &names[1]["bytes_estimate"]), (&1.into(), &9.into()));
    let table = drey(&cluster, "ls --output text").done();
    let lines: Vec<Vec<&str>> = table.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["BUCKET", "GROUP", "KEYS", "SIZE", "MAX", "TTL"]);
    assert_eq!((lines[2][0], lines[2][2], lines[2][3]), ("users", "~1", "~9"));

    assert_eq!(drey(&cluster, "drop users").done().text(), "{\"name\":\"users\",\"dropped\":true}\n");
    drey(&cluster, "drop users").failed(1, &["bucket `users` does not exist", "drey ls"]);
    drey(&cluster, "create a/b").failed(5, &["invalid_argument"]);
}

#[test]
fn entries_are_listed_in_order() {
    let cluster = Cluster::of(1);
    for key in ["a", "b1", "b2", "b3", "c"] {
        drey(&cluster, &format!("set {key} value-{key}")).done();
    }
    let keys = |line: &str| {
        let listed = drey(&cluster, line).done();
        let key = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["key"].clone();
        listed.text().lines().map(|line| key(line).as_str().expect("UTF-8").to_owned()).collect::<Vec<_>>().join(" ")
    };
    for all in ["scan", "scan default", "ls -d", "ls default", "ls -d default", "scan --limit 0"] {
        assert_eq!(keys(all), "a b1 b2 b3 c", "{all}");
    }
    assert_eq!(keys("scan --prefix b"), "b1 b2 b3");
    assert_eq!(keys("scan --start b2 --end c"), "b2 b3");
    assert_eq!(keys("scan --reverse --limit 2"), "c b3");
    assert_eq!(drey(&cluster, "scan --keys-only --limit 1").done().text(), "{\"key\":\"a\",\"version\":1}\n");

    let table = drey(&cluster, "scan --limit 3 --output text").done();
    let expected = "KEY     VERSION       TTL  VALUE\na             1         -  value-a\n\
                    b1            2         -  value-b1\nb2            3         -  value-b2\n\
                    more entries follow: raise --limit, or go on from the last key\n";
    assert_eq!(table.text(), expected);
    drey(&cluster, "create empty").done();
    assert_eq!(drey(&cluster, "ls empty").done().text(), "");
    drey(&cluster, "scan nowhere").failed(1, &["bucket `nowhere` does not exist", "drey create nowhere"]);
}

#[test]
fn a_node_and_its_cluster_can_be_seen() {
    let cluster = Cluster::of(3);
    let node = drey(&cluster, "node").done().json();
    assert_eq!((&node["name"], &node["state"], &node["leads"]), (&"n1".into(), &"serving".into(), &5.into()));
    assert_eq!(node["address"], cluster.nodes[0].address.as_str());
    assert_eq!((&node["metadata"]["engine"], &node["metadata"]["shards"]), (&"memory".into(), &2.into()));
    let text = drey(&cluster, "node --output text").done();
    for line in [
        "node     n1 (id 1)",
        "state    serving",
        "leads    5 of 5 groups",
        "uptime   2m 5s",
        "disk     12.3 MiB",
        "free     5.0 GiB, of which it keeps 256.0 MiB",
    ] {
        assert!(text.text().lines().any(|found| found == line), "no {line:?} in {text:?}");
    }

    let view = drey(&cluster, "cluster").done().json();
    assert_eq!((&view["cluster"], &view["seen_by"]), (&"fake".into(), &"n1".into()));
    let members = view["members"].as_array().expect("members");
    let leads: Vec<_> = members.iter().map(|member| (&member["role"], member["leads"].as_u64())).collect();
    let voter = serde_json::Value::from("voter");
    assert_eq!(leads, [(&voter, Some(5)), (&voter, Some(0)), (&voter, Some(0))]);
    assert_eq!(view["groups"].as_array().map(Vec::len), Some(5));
    assert_eq!(view["groups"][4]["leader"], "n1");
    let text = drey(&cluster, "cluster --output text").done();
    assert!(text.text().starts_with("cluster fake, as n1 sees it\n"), "{text:?}");
    let words: Vec<Vec<&str>> = text.text().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[2], ["ID", "NAME", "ADDRESS", "ROLE", "LEADS", "REACHABLE", "VERSION"]);
    assert_eq!(words[3], ["1", "n1", &cluster.nodes[0].address, "voter", "5", "yes", "0.1.0"]);
    assert_eq!(words[8], ["0", "n1", "1", "0", "0", "0"]);

    cluster.world(|world| world.leader = 0);
    assert_eq!(drey(&cluster, "node").done().json()["state"], "no_leader");
    assert_eq!(drey(&cluster, "cluster").done().json()["groups"][1]["leader"], serde_json::Value::Null);
}

#[test]
fn trouble_has_its_exit_codes() {
    let mut cluster = Cluster::of(1);
    drey(&cluster, "get nowhere k").failed(1, &["bucket `nowhere` does not exist", "drey create nowhere"]);
    let empty_key = ended(command(&cluster.servers(), ["set", "", "v"]).spawn().expect("it starts"));
    empty_key.failed(5, &["invalid_argument", &cluster.nodes[0].address]);

    for _ in 0..100 {
        cluster.nodes[0].fail_next(Fault::Refuse(tonic::Code::Unavailable, "no_leader"));
    }
    drey(&cluster, "set k v --timeout 1s").failed(4, &["no_leader", "drey cluster"]);
    cluster.restart(0);

    let cluster = Cluster::of(1);
    cluster.nodes[0].fail_next(Fault::Hang);
    drey(&cluster, "set k v --timeout 1s").failed(4, &["deadline_exceeded", "drey get k (it may or may not"]);
    cluster.nodes[0].fail_next(Fault::Refuse(tonic::Code::Aborted, "outcome_unknown"));
    drey(&cluster, "delete k").failed(4, &["outcome_unknown", "drey get k (it may or may not"]);
    cluster.nodes[0].fail_next(Fault::Refuse(tonic::Code::ResourceExhausted, "quota_exceeded"));
    drey(&cluster, "set k v").failed(5, &["quota_exceeded"]);
}

#[test]
fn a_command_that_finds_nobody_says_so_soon() {
    let mut cluster = Cluster::of(1);
    cluster.nodes[0].kill();
    let begun = std::time::Instant::now();
    let refused = drey(&cluster, "get k --timeout 1h").failed(4, &["unreachable", "Connection refused", "drey start"]);
    assert!(refused.err.contains(&cluster.nodes[0].address), "{refused:?}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn any_live_node_will_do() {
    let mut cluster = Cluster::of(3);
    cluster.nodes[0].kill();
    drey(&cluster, "set k v").done();
    cluster.nodes[1].kill();
    assert_eq!(drey(&cluster, "get k").done().text(), "v");
}

#[test]
fn suggestions_reach_the_same_cluster() {
    let cluster = Cluster::of(1);
    let server = cluster.servers();
    let mut command = command("", ["get", "k", "--server", &server]);
    let missing = ended(command.env_remove("DREY_SERVER").spawn().expect("it starts"));
    missing.failed(1, &[&format!("drey ls default --server {server}\n")]);
}

#[test]
fn a_command_line_that_cannot_be_right_is_usage() {
    let cluster = Cluster::of(1);
    for line in [
        "",
        "sett k v",
        "set k",
        "set a b c d",
        "get",
        "get a b c",
        "set k v --if-absent --if-version 1",
        "set k v --if-version x",
        "scan --prefix a --start b",
        "get k --timeout soon",
        "get k --output yaml",
        "node --server nonsense",
    ] {
        let ended = drey(&cluster, line);
        assert_eq!((ended.code, ended.text()), (Some(2), ""), "{line}: {ended:?}");
        // Without any word it is the help itself.
        assert!(ended.err.contains("\n  try: drey ") || line.is_empty(), "{line}: {ended:?}");
    }
    let help = drey(&cluster, "--help").done();
    for name in ["start", "demo", "create", "drop", "ls", "set", "get", "delete", "expire", "scan", "node", "cluster"] {
        assert!(help.text().lines().any(|line| line.starts_with(&format!("  {name} "))), "no {name} in the help");
    }
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let cluster = Cluster::of(1);
    let value = "v".repeat(1_000);
    for number in 0..300 {
        let request = drey_client::proto::PutRequest {
            key: format!("key-{number:03}").into(),
            value: value.clone().into(),
            ..Default::default()
        };
        cluster.world(|world| world.put(request)).expect("written");
    }
    let mut child = command(&cluster.servers(), ["scan"]).spawn().expect("it starts");
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert!(line.starts_with("{\"key\":\"key-000\""), "{line}");
    drop(reader);
    ended(child).done();
}

#[test]
fn a_terminal_gets_text() {
    let cluster = Cluster::of(1);
    drey(&cluster, "set k v").done();
    assert_eq!(on_terminal(&cluster, "get k"), "v\r\n", "a newline keeps the prompt on its own line");
    assert_eq!(on_terminal(&cluster, "set k w"), "version 2\r\n");
    assert!(on_terminal(&cluster, "ls").starts_with("BUCKET"));
    assert!(on_terminal(&cluster, "node --output json").starts_with("{\"id\":1"));
}

/// What a command writes when its stdout is a terminal.
fn on_terminal(cluster: &Cluster, line: &str) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("it can be opened");
    let name = ptsname(&ours, Vec::new()).expect("it has a name").into_string().expect("a path");
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(name).expect("its other end");
    let mut command = command(&cluster.servers(), line.split_whitespace());
    let mut child = command.stdout(theirs).spawn().expect("it starts");
    // The other end must be open here no longer, or reading would never end.
    drop(command);
    let mut written = Vec::new();
    // Linux ends a pseudo-terminal whose other end is closed with EIO, after all that was written.
    drop(std::fs::File::from(ours).read_to_end(&mut written));
    assert!(child.wait().expect("it ends").success(), "{}", String::from_utf8_lossy(&written));
    String::from_utf8(written).expect("UTF-8")
}
