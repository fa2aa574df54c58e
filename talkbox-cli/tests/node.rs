//! A node as its operator meets it: what it logs, how it is bounded, and why it does not start.
#![cfg(unix)]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
};

use common::{Home, Ran, finish};
use serde_json::Value;

/// A node that listens.
struct Running {
    process: Child,
    told: BufReader<ChildStdout>,
    address: String,
}

impl Running {
    fn start(home: &Home, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = home.command(["node", "--listen", "127.0.0.1:0"]);
        command.args(more).envs(environment.iter().copied());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let mut told = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        told.read_line(&mut line).expect("it listens");
        let address = line.trim().strip_prefix("listening on ws://").expect("a URL").to_owned();
        Self { process, told, address }
    }

    /// The NIP-11 document.
    fn document(&self) -> Value {
        let mut stream = TcpStream::connect(&self.address).expect("connects");
        let request = "GET / HTTP/1.1\r\nhost: node\r\nconnection: close\r\naccept: application/nostr+json\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("reads");
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
    }

    fn stop(mut self) -> Ran {
        let sent = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        assert!(sent.expect("runs").success());
        self.process.stdout = Some(self.told.into_inner());
        finish(self.process).success()
    }
}

#[test]
fn a_node_logs_its_start_and_end_and_no_more_than_that() {
    let home = Home::new();
    let node = Running::start(&home, &[], &[]);
    let address = node.address.clone();
    node.document();
    let log = node.stop().stderr;
    let started = log.lines().find(|line| line.contains("the node listens")).expect("it says that it starts");
    assert!(started.contains(&address) && started.contains(&home.path().display().to_string()), "{started}");
    assert!(log.contains("the node has stopped"), "{log}");
    assert!(!log.contains("a connection"), "{log}");
}

#[test]
fn a_node_says_more_or_nothing_on_request() {
    let home = Home::new();
    let node = Running::start(&home, &["-v"], &[]);
    node.document();
    let log = node.stop().stderr;
    assert!(log.contains("a connection"), "{log}");
    assert_eq!(Running::start(&home, &["--quiet"], &[]).stop().stderr, "");
}

#[test]
fn limits_are_flags_and_variables() {
    let home = Home::new();
    let node = Running::start(&home, &["--min-work", "12", "--max-store", "100"], &[("TALKBOX_NODE_MIN_WORK", "9")]);
    assert_eq!(node.document()["limitation"]["min_pow_difficulty"], 12);
    node.stop();
    let node = Running::start(&home, &[], &[("TALKBOX_NODE_MIN_WORK", "9")]);
    assert_eq!(node.document()["limitation"]["min_pow_difficulty"], 9);
    node.stop();
    home.run(["node", "--min-work", "27"]).ends(2);
    let wrong = home.run(["node", "--listen", "127.0.0.1:0", "--registry", "hello"]).ends(2).stderr;
    assert!(wrong.contains("hello"), "{wrong}");
}

#[test]
fn a_second_node_is_told_what_stands_in_its_way() {
    let home = Home::new();
    let node = Running::start(&home, &[], &[]);
    let second = home.run(["node", "--listen", "127.0.0.1:0"]).ends(2).stderr;
    assert!(second.contains("another node uses this store") && second.contains("--data DIR"), "{second}");
    node.stop();

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ran = home.run(["node", "--listen", &address]).ends(2).stderr;
    assert!(ran.contains(&address) && ran.contains("--listen 127.0.0.1:0"), "{ran}");
    assert!(!ran.contains("config check"), "{ran}");
    let ran = home.run(["node", "--listen", "127.0.0.1:0", "--public-url", "http://node.example"]).ends(2).stderr;
    assert!(ran.contains("--public-url wss://"), "{ran}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let home = Home::new();
    let refused = |arguments: &[&str], name: &str| {
        let ran = home.run([&["node", "--listen", "127.0.0.1:0"][..], arguments].concat()).ends(2).stderr;
        assert!(ran.contains(name), "{name}: {ran}");
    };
    refused(&["--max-connections", "0"], "max_connections has to be at least 1");
    refused(&["--max-connections-per-address", "0"], "max_connections_per_address has to be at least 1");
    refused(&["--public-url", "wss://node.example/?a=b"], "a query or a fragment");
    refused(&["--public-url", "wss://node.example/#x"], "a query or a fragment");
    refused(&["--other-url", "https://node.example"], "ws or wss");
    refused(&["--name", "two\nlines"], "the setting name");
    for line in ["max_filters = 0", "min_work = 99", "ping_interval = 0", "query_timeout = 0", "max_limit = 0"] {
        home.write("node.toml", &format!("[limits]\n{line}\n"));
        let file = home.path().join("node.toml");
        refused(&["--settings", file.to_str().expect("text")], line.split_once(' ').expect("a name").0);
    }
}

#[test]
fn a_folder_without_a_store_is_told_as_such() {
    let home = Home::new();
    for action in [&["verify"][..], &["gc", "--dry-run"], &["backup", "--to", "copy"]] {
        let ran = home.run([&["node"][..], action, &["--data", "nowhere"]].concat()).ends(3).stderr;
        assert!(ran.contains("there is no store of a node in this folder") && ran.contains("nowhere"), "{ran}");
        assert!(ran.contains("--data DIR"), "{ran}");
    }
}

#[test]
fn what_is_no_store_at_all_is_damaged() {
    let home = Home::new();
    home.write("node.sqlite3", &"no database".repeat(100));
    let data = home.path().to_str().expect("text");
    let ran = home.run(["node", "verify", "--data", data]).ends(7).stdout;
    assert!(ran.contains("fault"), "{ran}");
    let file = home.path().join("node.sqlite3");
    home.run(["node", "verify", "--file", file.to_str().expect("text")]).ends(7);
    home.run(["node", "verify", "--file", "nothing"]).ends(3);
    let (data, copy) = (home.path().join("data"), home.path().join("copy"));
    let (data, copy) = (data.to_str().expect("text"), copy.to_str().expect("text"));
    let node = Running::start(&home, &["--data", data], &[]);
    home.run(["node", "backup", "--data", data, "--to", copy]).success();
    node.stop();
    home.run(["node", "verify", "--file", copy]).success();
}

/// A shell lets the node write no byte into a file: SQLite then fails as on a full disk, and as unspecifically.
#[test]
fn a_full_disk_is_named_where_the_node_does_not_start() {
    let home = Home::new();
    Running::start(&home, &[], &[]).stop();
    let node = home.command(["node", "--listen", "127.0.0.1:0"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]).arg(node.get_program()).args(node.get_args());
    for (name, value) in node.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let ran = finish(limited.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts")).ends(1).stderr;
    assert!(ran.contains("the disk is full") && ran.contains("make some room"), "{ran}");
}
