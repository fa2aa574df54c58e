//! `talkbox node`: a relay that keeps envelopes for mailboxes, until it is asked to end.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::json;
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};

use crate::{
    exit::{Code, Outcome},
    interrupt,
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A node is a Nostr relay that serves sealed messages to their owners alone. Others reach it as \
                        `--backend nostr:ws://HOST:PORT`. Ctrl-C or SIGTERM end it; what it acknowledged is on the disk."
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
    let node = Node::start(config, NodeContext::default()).await?;
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
