//! `talkbox node`: a relay that keeps envelopes for mailboxes, until it is asked to end.

use std::{
    fs::TryLockError,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::json;
use talkbox_backend_gossip::{Limits, Node, NodeConfig, NodeContext};
use talkbox_core::Error;

use crate::{
    exit::{Code, Failure, Outcome},
    interrupt,
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A node is a Nostr relay that serves sealed messages to their owners alone. Others reach it as \
                        `--backend nostr:ws://HOST:PORT`. It speaks ws:// only: for senders elsewhere put a proxy \
                        before it that gives wss://, and name that with --public-url. All clients of a proxy on the \
                        same computer have its address, and what is counted per address is not counted for loopback: \
                        there the proxy has to bound connections and rates.\n\nIt logs to standard error; -v shows \
                        connections, -q errors alone. Ctrl-C or SIGTERM end it; what it acknowledged is on the disk."
)]
pub(crate) struct Arguments {
    /// The address and port to listen on; port 0 lets the system choose
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:7447",
        env = "TALKBOX_NODE_LISTEN",
        hide_env_values = true
    )]
    listen: SocketAddr,
    /// The folder of its store [default: `node` in the data folder]
    #[arg(long, value_name = "DIR", env = "TALKBOX_NODE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
    /// The URL under which clients reach it, such as `wss://node.example`; needed behind a proxy
    #[arg(long, value_name = "URL", env = "TALKBOX_NODE_PUBLIC_URL", hide_env_values = true)]
    public_url: Option<String>,
    /// The name that it shows
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Serve sealed messages to anybody, as most relays do
    #[arg(long)]
    open_reads: bool,
    #[command(flatten)]
    bounds: Bounds,
}

/// What an operator most often sets. Its defaults are those of [`Limits`].
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct Bounds {
    /// The work that a sealed message has to show, in bits (NIP-13)
    #[arg(
        long,
        value_name = "BITS",
        default_value_t = Limits::default().min_work,
        value_parser = clap::value_parser!(u8).range(..=64),
        env = "TALKBOX_NODE_MIN_WORK",
        hide_env_values = true
    )]
    min_work: u8,
    /// The largest store, in MiB; above it only deletions are taken; 0: as much as the disk has
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = mebibytes(Limits::default().max_store_bytes),
        value_parser = clap::value_parser!(u64).range(..=MOST_MEBIBYTES),
        env = "TALKBOX_NODE_MAX_STORE",
        hide_env_values = true
    )]
    max_store: u64,
    /// Most MiB of one mailbox
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = mebibytes(Limits::default().max_mailbox_bytes),
        value_parser = clap::value_parser!(u64).range(1..=MOST_MEBIBYTES),
        env = "TALKBOX_NODE_MAX_MAILBOX",
        hide_env_values = true
    )]
    max_mailbox: u64,
    /// Most sealed messages of one mailbox
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = Limits::default().max_mailbox_events,
        value_parser = clap::value_parser!(u64).range(1..),
        env = "TALKBOX_NODE_MAX_MAILBOX_MESSAGES",
        hide_env_values = true
    )]
    max_mailbox_messages: u64,
    /// Messages that one address may send per second, on average, and requests that it may make; 0: any number
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = Limits::default().events_per_second,
        env = "TALKBOX_NODE_RATE",
        hide_env_values = true
    )]
    rate: u32,
    /// Most connections in all
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = Limits::default().max_connections,
        env = "TALKBOX_NODE_MAX_CONNECTIONS",
        hide_env_values = true
    )]
    max_connections: usize,
    /// Most connections of one address
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = Limits::default().max_connections_per_address,
        env = "TALKBOX_NODE_MAX_CONNECTIONS_PER_ADDRESS",
        hide_env_values = true
    )]
    max_connections_per_address: usize,
}

/// More than any disk has, and in bytes still far from the end of the numbers.
const MOST_MEBIBYTES: u64 = 1 << 40;

const fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

impl Bounds {
    fn set(&self, limits: &mut Limits) {
        limits.min_work = self.min_work;
        limits.max_store_bytes = self.max_store << 20;
        limits.max_mailbox_bytes = self.max_mailbox << 20;
        limits.max_mailbox_events = self.max_mailbox_messages;
        limits.events_per_second = self.rate;
        limits.requests_per_second = self.rate;
        limits.max_connections = self.max_connections;
        limits.max_connections_per_address = self.max_connections_per_address;
    }
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let data = arguments.data.clone().unwrap_or_else(|| session.paths.data().join("node"));
    let mut config = NodeConfig::default();
    config.listen = arguments.listen;
    config.data = Some(data.clone());
    config.public_url.clone_from(&arguments.public_url);
    config.gate_reads = !arguments.open_reads;
    if let Some(name) = &arguments.name {
        config.name.clone_from(name);
    }
    arguments.bounds.set(&mut config.limits);
    let node = match Node::start(config, NodeContext::default()).await {
        Ok(node) => node,
        Err(error) => return Err(not_started(error, arguments, &data)),
    };
    let told = if session.output.is_json() {
        session.output.object(&json!({"event": "listening", "url": node.url(), "data": data}))
    } else {
        session.output.line(format_args!("listening on {}", node.url()))
    };
    // Where nobody hears that it listens, it does not stay behind.
    if told.is_ok() {
        interrupt::requested().await;
    }
    session.output.note("closing");
    node.shutdown().await;
    told.map(|()| Code::Done)
}

/// Why the node does not start, and what to do.
fn not_started(error: Error, arguments: &Arguments, data: &Path) -> Failure {
    let cause = std::error::Error::source(&error);
    let listening = cause.and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let is_taken =
        matches!(cause.and_then(|cause| cause.downcast_ref::<TryLockError>()), Some(TryLockError::WouldBlock));
    let hint = match listening {
        _ if is_taken => format!(
            "another node runs with {}: stop that one, or give this one a folder of its own with `--data DIR`",
            data.display()
        ),
        Some(io::ErrorKind::AddrInUse) => format!(
            "another program, perhaps another node, listens on {}: stop it, or choose another port with `--listen {}:0`",
            arguments.listen,
            arguments.listen.ip()
        ),
        Some(io::ErrorKind::AddrNotAvailable) => {
            "this computer does not have that address; `--listen 0.0.0.0:7447` is all of its addresses".to_owned()
        }
        Some(io::ErrorKind::PermissionDenied) => {
            "you may not use that port or folder; ports below 1024 are the administrator's".to_owned()
        }
        _ if error.context("public_url").is_some() => "give a URL such as `--public-url wss://node.example`".to_owned(),
        _ => return error.into(),
    };
    Failure::from(error).hint(hint)
}
