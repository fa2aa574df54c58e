//! The real peers of `interop/`, each in a process of its own: commands in, JSON lines out (`interop/lines.mjs`).

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};

/// For any one thing that a peer is waited for: far above what it takes on a busy machine, below what a runner allows.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How many lines of a peer are repeated where a test waited in vain.
const LINES_TOLD: usize = 20;

/// A running peer; it ends with the test that holds it.
pub(crate) struct Peer {
    child: Child,
    stdin: ChildStdin,
    commands: u64,
    said: Arc<Said>,
    /// What it keeps its things in, where it needs a folder that nobody else looks into.
    _folder: Option<TempDir>,
    /// What it said when it was ready.
    pub(crate) ready: Value,
    /// Its peer id.
    pub(crate) id: String,
    /// Where it listens for TCP, with its peer id.
    pub(crate) tcp: String,
    /// Where it listens for WebSocket, with its peer id; empty where it does not.
    pub(crate) websocket: String,
    /// Where it listens for QUIC, with its peer id; empty where it does not.
    pub(crate) quic: String,
}

/// Which implementation.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// `@orbitdb/core` on Helia.
    OrbitDb,
    /// Kubo: a repository of its own, and no OrbitDB.
    Kubo,
    /// A service that keeps what it is told to by the IPFS Pinning Service API.
    Pinning,
}

impl Kind {
    /// The variable that says where it is.
    const fn variable(self) -> &'static str {
        match self {
            Self::OrbitDb => "TALKBOX_INTEROP_ORBITDB",
            Self::Kubo => "TALKBOX_INTEROP_KUBO",
            Self::Pinning => "TALKBOX_INTEROP_PINNING",
        }
    }
}

/// What a peer has said until a moment.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize);

/// A command that was given and is still to be answered.
#[derive(Clone, Copy)]
#[must_use]
pub(crate) struct Given(u64);

/// Everything that a peer has said.
#[derive(Default)]
struct Said {
    lines: Mutex<Vec<Value>>,
    /// Changes with every line; whether the peer has ended.
    has_ended: watch::Sender<bool>,
}

impl Peer {
    /// Starts an OrbitDB peer in memory; `None` where `scripts/test` has not said that there is one.
    pub(crate) async fn start() -> Option<Self> {
        Self::start_with(Kind::OrbitDb, &[]).await
    }

    /// Starts an OrbitDB peer that keeps what it has in a folder.
    pub(crate) async fn start_in(dir: &Path) -> Option<Self> {
        Self::start_with(Kind::OrbitDb, &["--dir", dir.to_str().expect("UTF-8")]).await
    }

    /// Starts a peer with options.
    #[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
    pub(crate) async fn start_with(kind: Kind, options: &[&str]) -> Option<Self> {
        let variable = kind.variable();
        let Some(launcher) = env::var_os(variable).filter(|launcher| !launcher.is_empty()) else {
            eprintln!("skipped: {variable} is not set");
            return None;
        };
        let folder = matches!(kind, Kind::Kubo).then(|| tempfile::tempdir().expect("a folder"));
        let mut command = Command::new(launcher);
        command.args(options).args(folder.as_ref().map(TempDir::path)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the peer starts");
        let stdin = child.stdin.take().expect("a pipe");
        let said = Said::listen(child.stdout.take().expect("a pipe"));
        let ready = said.find("ready", 0, |line| line["event"] == "ready").await;
        let addresses: Vec<_> = ready["addresses"].as_array().expect("addresses").iter().map(text).collect();
        let one =
            |is_it: fn(&str) -> bool| addresses.iter().find(|address| is_it(address)).cloned().unwrap_or_default();
        Some(Self {
            id: text(&ready["peer"]),
            tcp: one(|address| address.contains("/tcp/") && !address.contains("/ws/")),
            websocket: one(|address| address.contains("/ws/")),
            quic: one(|address| address.contains("/quic-v1/")),
            _folder: folder,
            child,
            stdin,
            commands: 0,
            said,
            ready,
        })
    }

    /// Gives a command and waits for its answer, which has to be no error.
    pub(crate) async fn ask(&mut self, command: &str) -> Value {
        let given = self.give(command);
        self.answer(given).await
    }

    /// Gives a command and waits for its answer, or the words with which it failed.
    pub(crate) async fn attempt(&mut self, command: &str) -> Result<Value, String> {
        let given = self.give(command);
        self.outcome(given).await
    }

    /// Gives a command, to be answered later.
    pub(crate) fn give(&mut self, command: &str) -> Given {
        assert!(!command.contains('\n'), "one command is one line");
        writeln!(self.stdin, "{command}").expect("the peer reads");
        self.commands += 1;
        Given(self.commands)
    }

    /// The answer to a command, which has to be no error.
    pub(crate) async fn answer(&self, given: Given) -> Value {
        self.outcome(given).await.unwrap_or_else(|words| panic!("command {}: {words}", given.0))
    }

    async fn outcome(&self, given: Given) -> Result<Value, String> {
        let what = format!("the answer to command {}", given.0);
        let answer = self.said.find(&what, 0, |line| line["answer"] == given.0).await;
        answer["error"].as_str().map_or_else(|| Ok(answer.clone()), |words| Err(words.to_owned()))
    }

    /// The first event of a name that is as wanted, whether it has come already or is still to come.
    pub(crate) async fn event(&self, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        self.event_after(Mark(0), name, is_wanted).await
    }

    /// The same, of those that come after a moment.
    pub(crate) async fn event_after(&self, mark: Mark, name: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        self.said.find(name, mark.0, |line| line["event"] == name && is_wanted(line)).await
    }

    /// This moment, for [`Self::event_after`].
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.said.lines.lock().expect("no panic").len())
    }

    /// All events of a name so far.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let lines = self.said.lines.lock().expect("no panic");
        lines.iter().filter(|line| line["event"] == name).cloned().collect()
    }

    /// Opens a log by its name or its address; it is then the current one. Its address.
    pub(crate) async fn open(&mut self, log: &str) -> String {
        text(&self.ask(&format!("open {log}")).await["log"])
    }

    /// Appends a text to the current log. The hash of the entry.
    pub(crate) async fn add(&mut self, value: &str) -> String {
        text(&self.ask(&format!("add {value}")).await["hash"])
    }

    /// Connects to an address.
    pub(crate) async fn connect(&mut self, address: &str) {
        self.ask(&format!("connect {address}")).await;
    }

    /// Waits until the current log has so many entries.
    pub(crate) async fn until(&mut self, entries: usize) {
        self.ask(&format!("until {entries}")).await;
    }

    /// Waits until the current log has these entries.
    pub(crate) async fn until_it_has(&mut self, hashes: &[String]) {
        self.ask(&format!("until {}", hashes.join(" "))).await;
    }

    /// All entries of the current log, newest first.
    pub(crate) async fn all(&mut self) -> Vec<Value> {
        let Value::Array(entries) = self.ask("all").await["entries"].take() else { panic!("no entries") };
        entries
    }

    /// The hashes of all entries of the current log, sorted.
    pub(crate) async fn hashes(&mut self) -> Vec<String> {
        let mut hashes: Vec<_> = self.all().await.iter().map(|entry| text(&entry["hash"])).collect();
        hashes.sort_unstable();
        hashes
    }

    /// The hashes of the current log's heads, sorted.
    pub(crate) async fn heads(&mut self) -> Vec<String> {
        let heads = self.ask("heads").await;
        let mut heads: Vec<_> =
            heads["heads"].as_array().expect("heads").iter().map(|head| text(&head["hash"])).collect();
        heads.sort_unstable();
        heads
    }

    /// Ends it in good order, so that it can be started again from its folder.
    pub(crate) async fn quit(mut self) {
        self.ask("quit").await;
        // It answers first and exits at once: this does not wait.
        self.child.wait().expect("it ends");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already, and a test that fails wants to say its own words.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Said {
    /// Reads to the end on a thread of its own: a peer whose lines nobody takes would stand still.
    fn listen(stdout: ChildStdout) -> Arc<Self> {
        let said = Arc::new(Self::default());
        let weak = Arc::downgrade(&said);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let (Ok(line), Some(said)) = (line, weak.upgrade()) else { return };
                said.lines.lock().expect("no panic").push(serde_json::from_str(&line).expect("JSON"));
                said.has_ended.send_replace(false);
            }
            if let Some(said) = weak.upgrade() {
                said.has_ended.send_replace(true);
            }
        });
        said
    }

    /// The first line from the given one on that is as wanted.
    async fn find(&self, what: &str, from: usize, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let mut has_ended = self.has_ended.subscribe();
        let mut seen = from;
        let found = timeout(PATIENCE, async {
            loop {
                let is_last = *has_ended.borrow_and_update();
                {
                    let lines = self.lines.lock().expect("no panic");
                    if let Some(line) = lines[seen..].iter().find(|line| is_wanted(line)) {
                        return Some(line.clone());
                    }
                    seen = lines.len();
                }
                if is_last {
                    return None;
                }
                has_ended.changed().await.expect("the sender is ours");
            }
        });
        found.await.ok().flatten().unwrap_or_else(|| {
            let lines = self.lines.lock().expect("no panic");
            let last: Vec<_> = lines.iter().rev().take(LINES_TOLD).rev().map(Value::to_string).collect();
            panic!("the peer never said {what}; its last lines:\n{}", last.join("\n"))
        })
    }
}

/// A field that is text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}
