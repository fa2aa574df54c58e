//! The real program, run as a person or a script runs it: with a home of its own, and nobody at a terminal.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use tempfile::TempDir;

/// How long one command may take before the test fails: far more than any does, also on a busy computer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Somebody's computer.
#[derive(Debug)]
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// One that knows these relays.
    pub(crate) fn with_relays(relays: &[&str]) -> Self {
        let home = Self::new();
        let relays = serde_json::to_string(relays).expect("JSON");
        home.write("config.toml", &format!("allow_private = true\n\n[backends.nostr]\nrelays = {relays}\n"));
        home
    }

    /// One that knows these nodes.
    pub(crate) fn with_nodes(nodes: &[&str]) -> Self {
        let home = Self::new();
        let nodes = serde_json::to_string(nodes).expect("JSON");
        let config = format!("backend = \"gossip\"\nallow_private = true\n\n[backends.gossip]\nnodes = {nodes}\n");
        home.write("config.toml", &config);
        home
    }

    /// One that knows these relays and has a mailbox.
    pub(crate) fn with_mailbox(name: &str, relays: &[&str]) -> Self {
        let home = Self::with_relays(relays);
        home.run(["new", name, "--plain-key"]).success();
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).expect("written");
        path
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_talkbox"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TALKBOX_")) {
            command.env_remove(name);
        }
        command.args(arguments).env("TALKBOX_HOME", self.path()).env_remove("CLICOLOR_FORCE").env_remove("COLUMNS");
        command.env_remove("ALL_PROXY").env_remove("all_proxy");
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        run(self.command(arguments), None)
    }

    pub(crate) fn run_with_input<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Ran {
        run(self.command(arguments), Some(input.to_vec()))
    }

    /// The only object that a command answers.
    pub(crate) fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let mut lines = self.lines(arguments);
        assert_eq!(lines.len(), 1, "one object: {lines:?}");
        lines.remove(0)
    }

    /// The objects that a command answers.
    pub(crate) fn lines<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Vec<Value> {
        let mut command = self.command(arguments);
        command.arg("--json");
        run(command, None).success().objects()
    }

    /// The public code of a mailbox.
    pub(crate) fn code(&self) -> String {
        self.run(["id"]).success().stdout.trim().to_owned()
    }

    /// What the mailbox reads now, in the order of the alphabet: what was sent within one second has no other.
    pub(crate) fn bodies(&self) -> Vec<String> {
        let lines = self.lines(["read", "--keep-unread"]);
        lines.iter().map(|line| line["body"].as_str().expect("a body").to_owned()).collect()
    }

    /// The secret of a mailbox that was made with `--plain-key`.
    pub(crate) fn secret(&self, name: &str) -> talkbox_core::SecretKey {
        let file = fs::read_to_string(self.path().join(format!("mailboxes/{name}.json"))).expect("read");
        let file: Value = serde_json::from_str(&file).expect("JSON");
        talkbox_core::SecretKey::from_nsec(file["secret"].as_str().expect("plain")).expect("a key")
    }
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Ran {
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.ends(0)
    }

    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    pub(crate) fn objects(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        let objects: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert!(objects.iter().all(|object| object["v"] == 1), "every object has its version");
        objects
    }

    /// The error that `--json` prints.
    pub(crate) fn error(&self) -> Value {
        let line = self.stderr.lines().last().expect("an error");
        let object: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(object["v"], 1);
        object["error"].clone()
    }

    /// Everything, for a snapshot.
    pub(crate) fn shown(&self) -> String {
        let mut text = format!("exit code {}\n", self.code.map_or("none".to_owned(), |code| code.to_string()));
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                text.push_str(&format!("--- {name}\n{stream}"));
            }
        }
        text
    }
}

/// Runs a command to its end, with nothing or this on standard input.
pub(crate) fn run(mut command: Command, input: Option<Vec<u8>>) -> Ran {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A command that fails early does not read it.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    finish(child)
}

/// Waits for a command to end.
pub(crate) fn finish(mut child: Child) -> Ran {
    let (sender, receiver) = mpsc::sync_channel(2);
    let read = |mut stream: Box<dyn std::io::Read + Send>, which| {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            stream.read_to_end(&mut text).expect("read");
            // The test may have given up.
            let _ = sender.send((which, String::from_utf8_lossy(&text).into_owned()));
        });
    };
    read(Box::new(child.stdout.take().expect("piped")), 0);
    read(Box::new(child.stderr.take().expect("piped")), 1);
    let mut streams = [String::new(), String::new()];
    for _ in 0..2 {
        let Ok((which, text)) = receiver.recv_timeout(PATIENCE) else {
            child.kill().expect("killed");
            panic!("the command does not end");
        };
        streams[which] = text;
    }
    let status = child.wait().expect("ended");
    let [stdout, stderr] = streams;
    Ran { stdout, stderr, code: status.code() }
}

/// A node in this process.
#[derive(Debug)]
pub(crate) struct Relay {
    runtime: tokio::runtime::Runtime,
    node: Option<Node>,
    pub(crate) url: String,
}

impl Relay {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(configure: impl FnOnce(&mut NodeConfig)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let mut config = NodeConfig::loopback();
        configure(&mut config);
        let node = runtime.block_on(Node::start(config, NodeContext::default())).expect("the node starts");
        let url = node.url().to_owned();
        Self { runtime, node: Some(node), url }
    }

    /// One that takes records, and no messages: it wants more work than anybody does.
    pub(crate) fn refusing() -> Self {
        Self::with(|config| config.limits.min_work = 60)
    }

    /// An address at which nobody listens.
    pub(crate) fn nobody() -> String {
        // A port that the system gives to nobody by itself, as it might do with one that was free a moment ago.
        "ws://127.0.0.1:1".to_owned()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.url.trim_start_matches("ws://").trim_end_matches('/').parse().expect("an address")
    }

    /// The same node as it is named over HTTP.
    pub(crate) fn node_url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            self.runtime.block_on(node.shutdown());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Takes out of a snapshot what is another one each time.
pub(crate) fn settings(home: &Home) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.add_filter(&regex_of(&home.path().display().to_string()), "[home]");
    settings.add_filter(r"nprofile1[02-9ac-hj-np-z]+", "[nprofile]");
    settings.add_filter(r"npub1[02-9ac-hj-np-z]{58}", "[npub]");
    settings.add_filter(r"npub1[02-9ac-hj-np-z]{4}…[02-9ac-hj-np-z]{4}", "[npub]");
    settings.add_filter(r"\b[0-9A-HJKMNP-TV-Z]{5}(-[0-9A-HJKMNP-TV-Z]{5}){3}\b", "[code]");
    settings.add_filter(r"\b[0-9a-f]{64}\b", "[id]");
    settings.add_filter(r"\b[0-9a-f]{32}\b", "[outbox]");
    settings.add_filter(r"\b[0-9a-f]{8}\b", "[short]");
    settings.add_filter(r"127\.0\.0\.1:\d+", "127.0.0.1:[port]");
    settings.add_filter(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[time]");
    settings.add_filter(r#""(created_at|sent_at|first_seen|next_try|last_sync|last_arrival|until)":\d+"#, r#""$1":0"#);
    settings
}

fn regex_of(text: &str) -> String {
    text.chars().fold(String::new(), |mut pattern, symbol| {
        if !symbol.is_alphanumeric() {
            pattern.push('\\');
        }
        pattern.push(symbol);
        pattern
    })
}
