//! This program once more, as somebody else: what is measured from outside, or must not be counted.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_core::{Registry, memory};

/// Names the role. Not with the prefix of the settings of the command, which refuses what it does not know.
const ROLE: &str = "CLAIMS_ROLE";
/// Names the file that the command leaves its greatest size in.
const SIZE_FILE: &str = "CLAIMS_SIZE_FILE";

/// Who a process is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// A node, until its standard input ends.
    Node,
    /// The command, with the arguments of the process.
    Command,
}

impl Role {
    pub(crate) fn of_this_process() -> Option<Self> {
        match env::var(ROLE).ok()?.as_str() {
            "node" => Some(Self::Node),
            "command" => Some(Self::Command),
            other => panic!("there is no role {other}"),
        }
    }

    /// What `main` does in this role.
    pub(crate) fn play(self) -> ExitCode {
        match self {
            Self::Node => node().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
            Self::Command => {
                let code =
                    talkbox_cli::run(Registry::new().with(memory::backend()).with(talkbox_backend_nostr::backend()));
                if let Some(file) = env::var_os(SIZE_FILE) {
                    fs::write(file, peak_kib().unwrap_or_default().to_string()).expect("the folder is there");
                }
                code
            }
        }
    }
}

fn node() -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let node = runtime.block_on(Node::start(NodeConfig::loopback(), NodeContext::default())).expect("a node");
    writeln!(io::stdout(), "{}", node.url())?;
    let _ = io::stdin().read(&mut [0])?;
    runtime.block_on(node.shutdown());
    Ok(())
}

/// The most memory that this process has had, in KiB, where the system says so.
fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn again(role: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    // Nothing that is set for whoever measures belongs to what is measured.
    command.env_clear().env(ROLE, role);
    Ok(command)
}

/// A node in a process of its own.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Child,
    url: String,
    stdin: ChildStdin,
}

impl Peer {
    pub(crate) fn node() -> io::Result<Self> {
        let mut process = again("node")?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = process.stdin.take().expect("piped");
        let mut url = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut url)?;
        Ok(Self { process, url: url.trim().to_owned(), stdin })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The processor time that its threads have had so far, where the system says so.
    pub(crate) fn processor(&self) -> Option<Duration> {
        let mut nanos = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id())).ok()? {
            let times = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            nanos += times.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(Duration::from_nanos(nanos))
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn end(mut self) {
        drop(self.stdin);
        let _ = self.process.wait();
    }
}

/// What a command showed of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// From before its start until its first byte of output.
    pub(crate) first: Duration,
    /// Until its end.
    pub(crate) last: Duration,
    /// Lines of its output.
    pub(crate) lines: usize,
    /// The most memory that it had, in KiB; 0 where the system does not say.
    pub(crate) peak_kib: u64,
}

/// Runs the command with its files in one folder, and reads what it prints as fast as it comes.
pub(crate) fn run(home: &Path, arguments: &[&str]) -> io::Result<Seen> {
    let size_file = home.join("size");
    let mut command = again("command")?;
    command.env("TALKBOX_HOME", home).env(SIZE_FILE, &size_file).args(arguments);
    let started = Instant::now();
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut output = process.stdout.take().expect("piped");
    let mut buffer = vec![0; 64 * 1024];
    let (mut first, mut lines) = (None, 0);
    loop {
        let read = output.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        first.get_or_insert_with(|| started.elapsed());
        lines += buffer[..read].iter().filter(|byte| **byte == b'\n').count();
    }
    let ended = process.wait_with_output()?;
    let last = started.elapsed();
    assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    let peak_kib = fs::read_to_string(size_file)?.parse().unwrap_or_default();
    Ok(Seen { first: first.unwrap_or(last), last, lines, peak_kib })
}
