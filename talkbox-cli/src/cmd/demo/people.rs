//! The people and the node of the demo: processes of this very program.

use std::{ffi::OsStr, fs, path::PathBuf, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    exit::{Code, Failure, Outcome},
    files,
    paths::HOME,
    scratch::Scratch,
};

/// How long one command may take: ten times what the slowest one does on a slow computer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own, which is gone afterwards.
pub(super) struct Stage {
    folder: Scratch,
    program: PathBuf,
}

impl Stage {
    pub(super) fn new() -> Outcome<Self> {
        Ok(Self { folder: Scratch::new("demo")?, program: std::env::current_exe()? })
    }

    /// The path of a file in it.
    pub(super) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let ours = |name: &OsStr| name.as_encoded_bytes().starts_with(b"TALKBOX_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .arg("--json")
            .env(HOME, self.folder.path().join(home))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// A running node.
pub(super) struct NodeProcess {
    process: Child,
    url: String,
    /// Where its peer on IPFS is, if it has one.
    ipfs: String,
}

impl NodeProcess {
    /// Starts it, at the place of an earlier one where that is given; it listens when this returns.
    pub(super) async fn start(stage: &Stage, name: &str, at: Option<&str>) -> Outcome<Self> {
        let listen = at.and_then(|url| url.strip_prefix("ws://")).unwrap_or("127.0.0.1:0").trim_end_matches('/');
        Self::run(stage, name, &["--listen", listen], 1).await
    }

    /// Starts one that is a peer on IPFS as well, and keeps what is brought.
    pub(super) async fn start_peer(stage: &Stage, name: &str) -> Outcome<Self> {
        let place = ["--listen", "127.0.0.1:0", "--ipfs", "--ipfs-listen", "/ip4/127.0.0.1/tcp/0"];
        let rest = ["--ipfs-keep", "any", "--ipfs-dht", "off"];
        Self::run(stage, name, &[&place[..], &rest[..]].concat(), 2).await
    }

    /// Starts it, and reads so many lines that say where it listens.
    async fn run(stage: &Stage, name: &str, flags: &[&str], places: usize) -> Outcome<Self> {
        let data = stage.file(&format!("{name}-data"));
        let arguments = [&["node", "--data", &data][..], flags].concat();
        let mut process = stage.command(name, &arguments).spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| Failure::internal("the node has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let (mut url, mut ipfs) = (String::new(), String::new());
        for _ in 0..places {
            let line = timeout(PATIENCE, lines.next_line()).await;
            let line = line.map_err(|_| Failure::timeout("the node does not start"))??;
            let Some(line) = line else {
                let output = process.wait_with_output().await?;
                return Err(failed("talkbox node", &output.stderr));
            };
            let told: Value = serde_json::from_str(&line).map_err(Failure::internal)?;
            for (place, member) in [(&mut url, "url"), (&mut ipfs, "ipfs")] {
                if let Some(text) = told[member].as_str() {
                    text.clone_into(place);
                }
            }
        }
        Ok(Self { process, url, ipfs })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn ipfs(&self) -> &str {
        &self.ipfs
    }

    /// Kills it at once, as a power cut would.
    pub(super) async fn kill(mut self) -> Outcome<()> {
        Ok(self.process.kill().await?)
    }
}

/// Somebody's computer.
pub(super) struct Home<'a> {
    stage: &'a Stage,
    name: String,
}

impl<'a> Home<'a> {
    /// One that knows a relay.
    pub(super) fn new(stage: &'a Stage, name: &str, relay: &str) -> Outcome<Self> {
        // The record of the mailbox leads to this computer, which addresses of others otherwise may not.
        let config = format!("backend = \"nostr\"\nallow_private = true\n\n[backends.nostr]\nrelays = [\"{relay}\"]\n");
        Self::with(stage, name, &config)
    }

    /// One with this configuration.
    pub(super) fn with(stage: &'a Stage, name: &str, config: &str) -> Outcome<Self> {
        let home = Self { stage, name: name.to_owned() };
        files::private_folder(&home.folder())?;
        home.configure(config)?;
        Ok(home)
    }

    /// Gives it this configuration.
    pub(super) fn configure(&self, config: &str) -> Outcome<()> {
        Ok(fs::write(self.folder().join("config.toml"), config)?)
    }

    fn folder(&self) -> PathBuf {
        self.stage.folder.path().join(&self.name)
    }

    /// What a command answers, object by object.
    pub(super) async fn lines(&self, arguments: &[&str]) -> Outcome<Vec<Value>> {
        let output = self.output(arguments).await?;
        if !output.status.success() {
            return Err(failed(&format!("talkbox {}", arguments.join(" ")), &output.stderr));
        }
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(Failure::internal)).collect()
    }

    /// What a command answers that answers one object.
    pub(super) async fn one(&self, arguments: &[&str]) -> Outcome<Value> {
        let mut lines = self.lines(arguments).await?;
        match (lines.pop(), lines.is_empty()) {
            (Some(object), true) => Ok(object),
            (_, _) => Err(Failure::internal(format!("`talkbox {}` did not answer one object", arguments.join(" ")))),
        }
    }

    /// The error of a command that has to fail.
    pub(super) async fn fails(&self, arguments: &[&str], code: Code) -> Outcome<Value> {
        let output = self.output(arguments).await?;
        if output.status.code() != Some(code as i32) {
            return Err(Failure::internal(format!("`talkbox {}` ended with {}", arguments.join(" "), output.status)));
        }
        serde_json::from_slice(&output.stderr).map_err(Failure::internal)
    }

    async fn output(&self, arguments: &[&str]) -> Outcome<std::process::Output> {
        let output = timeout(PATIENCE, self.stage.command(&self.name, arguments).output()).await;
        Ok(output.map_err(|_| Failure::timeout(format!("`talkbox {}` does not end", arguments.join(" "))))??)
    }
}

/// A command that should not have failed, with its own words.
fn failed(what: &str, stderr: &[u8]) -> Failure {
    let words = String::from_utf8_lossy(stderr);
    let error = words
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["error"].is_object());
    let message = error.as_ref().and_then(|error| error["error"]["message"].as_str()).unwrap_or(words.trim());
    Failure::internal(format!("`{what}` failed: {message}"))
}
