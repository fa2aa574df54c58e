//! Servers in processes of their own, and what they cost: nothing that the load generator spends is counted.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use talkbox_core::{Registry, memory};
use tempfile::TempDir;

use crate::http::{self, Http};

/// Names the role. Not with the prefix of the settings of the command, which refuses what it does not know.
const ROLE: &str = "NODE_BENCH_ROLE";
/// Names another `talkbox`, to compare two of them.
const BINARY: &str = "TALKBOX_BENCH_BINARY";
/// Names nostr-rs-relay.
const RELAY: &str = "TALKBOX_INTEROP_RS_RELAY";
/// How long a server may take to start: a store of a million events is checked first.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// What `/proc` counts processor time in: fixed at 100 a second for programs, whatever the kernel uses itself.
const TICK: Duration = Duration::from_millis(10);

/// Whether this process is the command.
pub(crate) fn is_command() -> bool {
    env::var_os(ROLE).is_some()
}

/// What the command has.
pub(crate) fn registry() -> Registry {
    Registry::new()
        .with(memory::backend())
        .with(talkbox_backend_nostr::backend())
        .with(talkbox_backend_gossip::backend())
}

/// A server.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
    /// Kept, so that what it prints goes somewhere.
    _output: Option<ChildStdout>,
}

impl Server {
    /// `talkbox node` with a new store on the disk.
    pub(crate) fn node() -> io::Result<Self> {
        Self::node_with(tempfile::tempdir()?, any_port()?, &[])
    }

    /// `talkbox node` with this folder, at this address, with further arguments.
    pub(crate) fn node_with(folder: TempDir, address: SocketAddr, further: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(env::var_os(BINARY).map_or_else(env::current_exe, |it| Ok(it.into()))?);
        // Nothing that is set for whoever measures belongs to what is measured.
        command.env_clear().env(ROLE, "command").env("TALKBOX_HOME", folder.path());
        command.args(["node", "--listen", &address.to_string(), "--data"]).arg(folder.path().join("node"));
        let mut process =
            command.args(further).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let mut told = String::new();
        output.read_line(&mut told)?;
        let address = told.trim().rsplit('/').next().and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| io::Error::other(format!("the node does not start: {told}")))?;
        Ok(Self { process, address, folder, _output: Some(output.into_inner()) })
    }

    /// nostr-rs-relay with a new store; `None` where it is not there.
    pub(crate) fn relay() -> io::Result<Option<Self>> {
        let Some(binary) = env::var_os(RELAY).map(PathBuf::from).filter(|binary| binary.is_file()) else {
            return Ok(None);
        };
        let (folder, address) = (tempfile::tempdir()?, any_port()?);
        let config = folder.path().join("config.toml");
        fs::write(
            &config,
            format!(
                "[info]\nrelay_url = \"ws://{address}/\"\n[network]\naddress = \"127.0.0.1\"\nport = {}\n",
                address.port()
            ),
        )?;
        let mut command = Command::new(binary);
        command.current_dir(folder.path()).arg("--db").arg(folder.path()).arg("--config").arg(config);
        Self::spawn(command, folder, address).map(Some)
    }

    /// Why there is no relay.
    pub(crate) const fn why_no_relay() -> &'static str {
        "TALKBOX_INTEROP_RS_RELAY names no nostr-rs-relay: scripts/interop-setup --full"
    }

    /// Starts a server, and waits until it listens.
    pub(crate) fn spawn(mut command: Command, folder: TempDir, address: SocketAddr) -> io::Result<Self> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut server = Self { process, address, folder, _output: None };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if server.process.try_wait()?.is_some() || started.elapsed() > STARTS_WITHIN {
                return Err(io::Error::other("a server does not start"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The processor time that it has had so far, with its children.
    pub(crate) fn processor(&self) -> Duration {
        let own = self.process.id();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ticks = ids.filter_map(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            // The name of the program is in brackets, and may have any character.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let number = |field: usize| fields.get(field)?.parse::<u32>().ok();
            // State, parent, …; user and system time, and the same of children that have ended.
            let is_ours = id == own || number(1)? == own;
            is_ours.then_some(number(11)? + number(12)? + number(13)? + number(14)?)
        });
        TICK * ticks.sum::<u32>()
    }

    /// The memory that it has now, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn most_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// How many events a node has.
    pub(crate) fn events(&self) -> io::Result<u64> {
        let mut http = Http::connect(self.address)?;
        let state: serde_json::Value = serde_json::from_str(http.ask(&http::get(self.address, "/v1/peers"))?)?;
        state["events"].as_u64().ok_or_else(|| io::Error::other("a node that does not say what it has"))
    }

    /// Asks it to end, and waits for that. The folder is left.
    pub(crate) fn end(mut self) -> io::Result<TempDir> {
        let id = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
        kill_process(id, Signal::TERM)?;
        self.process.wait()?;
        let folder = tempfile::tempdir()?;
        Ok(std::mem::replace(&mut self.folder, folder))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended before; and nobody hears of it where it cannot be.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// A port that is free now.
pub(crate) fn any_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
