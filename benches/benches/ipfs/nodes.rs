//! Nodes in processes of their own, so that nothing is counted but what a node costs.

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::Duration,
};

use talkbox_backend_ipfs::{IpfsNode, IpfsNodeConfig, bench::Log};
use talkbox_benches::Stopwatch;
use talkbox_core::MailboxId;
use tokio::{runtime::Runtime, time::sleep};

/// Names the role.
const ROLE: &str = "IPFS_BENCH_ROLE";
/// How often a node looks how far it is.
const LOOK: Duration = Duration::from_millis(10);

/// Whether this process is a node.
pub(crate) fn is_node() -> bool {
    env::var_os(ROLE).is_some()
}

/// What `main` does in that role. The arguments: a folder or nothing, a mailbox, how many entries to wait for, and peers.
pub(crate) fn play() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match node(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn node(arguments: &[String]) -> io::Result<()> {
    let [folder, mailbox, wanted, peers @ ..] = arguments else { return Err(io::Error::other("too few arguments")) };
    let mailbox = MailboxId::from_hex(mailbox).map_err(io::Error::other)?;
    let wanted: u64 = wanted.parse().map_err(io::Error::other)?;
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let watch = Stopwatch::start();
        let mut config = config(mailbox, Some(folder).filter(|it| !it.is_empty()).map(PathBuf::from));
        config.peers = peers.to_vec();
        let node = IpfsNode::start(config).await.map_err(io::Error::other)?;
        let log = Log::of(&node, mailbox).await.map_err(io::Error::other)?;
        // What it says of its own start, and what it then has.
        let joined = log.count().await.map_err(io::Error::other)?.1;
        let started = watch.stop().wall;
        say(&format!("{} {} {joined}", node.addresses().swap_remove(0), started.as_nanos()))?;
        let watch = Stopwatch::start();
        if wanted > 0 {
            while log.count().await.map_err(io::Error::other)?.1 < wanted {
                sleep(LOOK).await;
            }
            let spent = watch.stop();
            say(&format!("{} {}", spent.wall.as_nanos(), spent.cpu.as_nanos()))?;
        }
        tokio::task::spawn_blocking(|| io::stdin().read(&mut [0])).await.map_err(io::Error::other)??;
        node.shutdown().await;
        Ok(())
    })
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// A node on the loopback that keeps one mailbox.
pub(crate) fn config(mailbox: MailboxId, data: Option<PathBuf>) -> IpfsNodeConfig {
    let mut config = IpfsNodeConfig::loopback();
    config.keep = Some(vec![mailbox]);
    config.data = data;
    config
}

/// A node in a process of its own.
pub(crate) struct Node {
    process: Child,
    stdin: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) address: String,
    /// How long its start took, until it listens and its log is open.
    pub(crate) started: Duration,
    /// Entries of its log then.
    pub(crate) joined: u64,
}

/// What it took to get all entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caught {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// The most memory that the process has had.
    pub(crate) peak: u64,
}

impl Node {
    /// Starts one that waits for so many entries.
    pub(crate) fn start(
        folder: Option<&Path>,
        mailbox: MailboxId,
        wanted: usize,
        peers: &[String],
    ) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        // Nothing that is set for whoever measures belongs to what is measured.
        command.env_clear().env(ROLE, "node");
        command.arg(folder.unwrap_or(Path::new(""))).arg(mailbox.to_hex()).arg(wanted.to_string()).args(peers);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = process.stdin.take().expect("piped");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let told = line(&mut output)?;
        let [address, started, joined] = &told[..] else { return Err(io::Error::other("the node does not start")) };
        let (address, started) = (address.clone(), nanos(started)?);
        let joined = joined.parse().map_err(io::Error::other)?;
        Ok(Self { process, stdin, output, address, started, joined })
    }

    /// Waits until it has all that it waits for.
    pub(crate) fn caught_up(&mut self) -> io::Result<Caught> {
        let told = line(&mut self.output)?;
        let [wall, cpu] = &told[..] else { return Err(io::Error::other("the node has gone")) };
        Ok(Caught { wall: nanos(wall)?, cpu: nanos(cpu)?, peak: self.memory("VmHWM:") })
    }

    /// What it has in memory now.
    pub(crate) fn rss(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Bytes of memory, where the system says so.
    fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or_default() * 1024
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn end(mut self) -> io::Result<()> {
        drop(self.stdin);
        self.process.wait().map(drop)
    }
}

fn line(output: &mut BufReader<ChildStdout>) -> io::Result<Vec<String>> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

fn nanos(text: &str) -> io::Result<Duration> {
    text.parse().map(Duration::from_nanos).map_err(io::Error::other)
}
