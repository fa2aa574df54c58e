//! The real `@orbitdb/core`, as `interop/orbitdb/peer` runs it.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use serde_json::Value;

const VARIABLE: &str = "TALKBOX_INTEROP_ORBITDB";
/// Answers that wait to be looked at: there is one for each command.
const ANSWERS: usize = 64;
/// Longer than any command here takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a claim is skipped.
pub(crate) const NOT_THERE: &str = "TALKBOX_INTEROP_ORBITDB is not set";

/// A JavaScript peer in a process of its own.
pub(crate) struct OrbitDb {
    process: Child,
    stdin: ChildStdin,
    answers: Receiver<Value>,
    /// Its address over TCP.
    pub(crate) address: String,
}

/// What it has used of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) rss: u64,
    pub(crate) cpu: Duration,
}

impl OrbitDb {
    /// Starts one, in memory or in a folder; `None` where it is not set up.
    pub(crate) fn start(folder: Option<&Path>) -> io::Result<Option<Self>> {
        let Some(launcher) = env::var_os(VARIABLE).filter(|launcher| !launcher.is_empty()) else { return Ok(None) };
        let mut command = Command::new(launcher);
        if let Some(folder) = folder {
            command.arg("--dir").arg(folder);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let (told, answers) = sync_channel(ANSWERS);
        // It stands still when nobody reads what it tells.
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let value: Value = serde_json::from_str(&line).unwrap_or_default();
                let is_wanted = value.get("answer").is_some() || value["event"] == "ready";
                if is_wanted && told.send(value).is_err() {
                    return;
                }
            }
        });
        let mut peer = Self { process, stdin, answers, address: String::new() };
        let ready = peer.next()?;
        let addresses = ready["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
        peer.address = addresses.into_iter().find(|it| !it.contains("/ws/")).unwrap_or_default().to_owned();
        Ok(Some(peer))
    }

    fn next(&self) -> io::Result<Value> {
        let answer = self.answers.recv_timeout(PATIENCE).map_err(|_| io::Error::other("the peer does not answer"))?;
        match answer["error"].as_str() {
            Some(words) => Err(io::Error::other(words.to_owned())),
            None => Ok(answer),
        }
    }

    /// Gives a command and waits for its answer.
    pub(crate) fn ask(&mut self, command: &str) -> io::Result<Value> {
        self.give(command)?;
        self.next()
    }

    /// Gives a command, to be answered later.
    pub(crate) fn give(&mut self, command: &str) -> io::Result<()> {
        writeln!(self.stdin, "{command}")
    }

    /// How long it says that a command took.
    pub(crate) fn time(&mut self, command: &str) -> io::Result<Duration> {
        Ok(Duration::from_secs_f64(self.ask(command)?["ms"].as_f64().unwrap_or(f64::NAN) / 1e3))
    }

    /// Appends texts of this length, one by one.
    pub(crate) fn append(&mut self, count: usize) -> io::Result<Duration> {
        self.time(&format!("addn {count} {}", crate::PAYLOAD))
    }

    pub(crate) fn usage(&mut self) -> io::Result<Usage> {
        let usage = self.ask("usage")?;
        let cpu = Duration::from_secs_f64(usage["cpu_ms"].as_f64().unwrap_or_default() / 1e3);
        Ok(Usage { rss: usage["rss"].as_u64().unwrap_or_default(), cpu })
    }

    /// Ends it in good order, so that it can be started again in its folder.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.ask("quit")?;
        self.process.wait().map(drop)
    }
}

impl Drop for OrbitDb {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
