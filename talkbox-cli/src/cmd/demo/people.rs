//! The people and the node of the demo: processes of this very program.

use std::{ffi::OsStr, path::PathBuf, process::Stdio, time::Duration};

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
}

impl NodeProcess {
    /// Starts it, at the place of an earlier one where that is given; it listens when this returns.
    pub(super) async fn start(stage: &Stage, at: Option<&str>) -> Outcome<Self> {
        let listen = at.and_then(|url| url.strip_prefix("ws://")).unwrap_or("127.0.0.1:0").trim_end_matches('/');
        let data = stage.file("node-data");
        let mut process = stage.command("node", &["node", "--listen", listen, "--data", &data]).spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| Failure::internal("the node has no output"))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await;
        let line = line.map_err(|_| Failure::timeout("the node does not start"))??;
        let Some(line) = line else {
            let output = process.wait_with_output().await?;
            return Err(failed("talkbox node", &output.stderr));
        };
        let told: Value = serde_json::from_str(&line).map_err(Failure::internal)?;
        let url = told["url"].as_str().unwrap_or_default().to_owned();
        Ok(Self { process, url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Kills it at once, as a power cut would.
    pub(super) async fn kill(mut self) -> Outcome<()> {
        Ok(self.process.kill().await?)
    }
}

/// Somebody's computer.
pub(super) struct Home<'a> {
    stage: &'a Stage,
    name: &'static str,
}

impl<'a> Home<'a> {
    /// One that knows a relay.
    pub(super) fn new(stage: &'a Stage, name: &'static str, relay: &str) -> Outcome<Self> {
        let folder = stage.folder.path().join(name);
        files::private_folder(&folder)?;
        // The record of the mailbox leads to this computer, which addresses of others otherwise may not.
        let config = format!("backend = \"nostr\"\nallow_private = true\n\n[backends.nostr]\nrelays = [\"{relay}\"]\n");
        files::create(&folder.join("config.toml"), &config)?;
        Ok(Self { stage, name })
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
        let output = timeout(PATIENCE, self.stage.command(self.name, arguments).output()).await;
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
