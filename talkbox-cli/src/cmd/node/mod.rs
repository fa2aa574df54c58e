//! `talkbox node`: a relay that keeps envelopes for mailboxes, until it is asked to end; and what an operator asks of one.

mod ipfs;
mod mesh;
mod settings;
mod store;

use std::{
    fs::TryLockError,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;
use talkbox_backend_gossip::{Node, NodeContext, node::health};
use talkbox_backend_ipfs::PinSettings;
use talkbox_core::{Error, ErrorKind};

use self::settings::Settings;
use crate::{
    exit::{Code, Failure, Outcome},
    interrupt,
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "A node is a Nostr relay that serves sealed messages to their owners alone, and an HTTP service beside \
                        it on the same port. Nodes that name each other as peers hold the same. For senders elsewhere \
                        give it a certificate, or put a proxy before it that gives wss:// and name that with \
                        --public-url; a proxy on another computer has to be named with --trusted-proxy, or all its \
                        clients count as one address.\n\nWith --ipfs it is a peer on IPFS as well, under the same key: \
                        it prints its addresses, one of which belongs into `peers` of [backends.ipfs]; those with /tls/ws \
                        are for browsers.\n\nIt logs to standard error; -v shows connections, -q errors alone. \
                        Ctrl-C or SIGTERM end it; what it acknowledged is on the disk."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Whether the node answers that runs on this computer with the same settings, variables and flags
    Health {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// How the peers of a node do
    Peers {
        #[command(flatten)]
        at: At,
    },
    /// Check a store, event by event, and that of the peer on IPFS, block by block; or with --all whether a node and its
    /// peers hold the same
    Verify {
        /// Compare a running node with its peers
        #[arg(long)]
        all: bool,
        /// Check the file of a backup, of the node or of its peer on IPFS
        #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "data"])]
        file: Option<PathBuf>,
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        of: Of,
    },
    /// Copy the store into a file while the node runs, and that of the peer on IPFS into another beside it
    Backup {
        /// The file; it must not be there yet. The store of the peer goes into the one of this name with `.ipfs` behind it
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        of: Of,
    },
    /// Say what has expired: the node removes it by itself, within a minute of each hour
    Gc {
        /// Remove nothing, only say
        #[arg(long, required = true)]
        dry_run: bool,
        #[command(flatten)]
        of: Of,
    },
}

/// Which node.
#[derive(Debug, clap::Args)]
struct At {
    /// The node
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7447", env = "TALKBOX_NODE_URL")]
    url: String,
}

/// Whose store.
#[derive(Debug, clap::Args)]
struct Of {
    /// The folder of the store [default: `node` in the data folder]
    #[arg(long, value_name = "DIR", env = "TALKBOX_NODE_DATA", hide_env_values = true)]
    data: Option<PathBuf>,
}

impl Of {
    fn folder(&self, session: &Session) -> PathBuf {
        self.data.clone().unwrap_or_else(|| default_folder(session))
    }
}

fn default_folder(session: &Session) -> PathBuf {
    session.paths.data().join("node")
}

/// The pinning services of the node with these settings, and the folder of its peer on IPFS.
///
/// # Errors
/// Those of the file.
pub(crate) fn pins(session: &Session, settings: &Path, data: Option<&Path>) -> Outcome<(Vec<PinSettings>, PathBuf)> {
    let (pins, folder) = settings::pins(settings)?;
    let folder = data.map(Path::to_owned).or(folder).unwrap_or_else(|| default_folder(session));
    Ok((pins, folder.join(ipfs::FOLDER)))
}

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let output = &session.output;
    match &arguments.action {
        None => serve(session, &arguments.settings).await,
        Some(Action::Health { settings }) => {
            health(&settings.read(default_folder(session))?).await?;
            output.note("the node answers");
            Ok(Code::Done)
        }
        Some(Action::Peers { at }) => mesh::peers(output, &at.url).await,
        Some(Action::Verify { all: true, at, .. }) => mesh::verify(output, &at.url).await,
        Some(Action::Verify { file: Some(file), .. }) => store::verify_file(output, file).await,
        Some(Action::Verify { of, .. }) => store::verify(output, &of.folder(session)).await,
        Some(Action::Backup { to, of }) => store::backup(output, &of.folder(session), to).await,
        Some(Action::Gc { of, .. }) => store::collectable(output, &of.folder(session)).await,
    }
}

impl Arguments {
    /// Whether it runs until it is asked to end.
    pub(crate) const fn is_service(&self) -> bool {
        self.action.is_none()
    }
}

async fn serve(session: &Session, settings: &Settings) -> Outcome {
    let config = settings.read(default_folder(session))?;
    let beside = settings.read_ipfs(session).await?;
    let (listen, data) = (config.listen, config.data.clone().unwrap_or_default());
    let beside_node = Arc::new(ipfs::Beside::default());
    let mut context = NodeContext::default();
    if beside.is_some() {
        context = context.with_beside(Arc::<ipfs::Beside>::clone(&beside_node));
    }
    let node = match Node::start(config, context).await {
        Ok(node) => node,
        Err(error) => return Err(not_started(error, listen, &data)),
    };
    let peer = match beside {
        None => None,
        // After the node: whoever has its folder has that of the peer, and its key is there.
        Some(config) => match ipfs::start(config, &data).await {
            Ok(peer) => {
                beside_node.runs(peer.clone());
                Some(peer)
            }
            Err(failure) => {
                node.shutdown().await;
                return Err(failure);
            }
        },
    };
    // From before it is told: whoever hears that it listens may ask it to end at once.
    let asked = interrupt::requested();
    let told = if session.output.is_json() {
        session.output.object(&json!({"event": "listening", "url": node.url(), "data": data}))
    } else {
        session.output.line(format_args!("listening on {}", node.url()))
    };
    let told = told.and_then(|()| peer.as_ref().map_or(Ok(()), |peer| ipfs::tell(&session.output, peer)));
    // Where nobody hears that it listens, it does not stay behind.
    if told.is_ok() {
        tell_manager(State::Ready);
        asked.await;
        tell_manager(State::Stopping);
    }
    session.output.note("closing");
    // Both at once: a service manager waits for neither longer than for one.
    let peer_ends = async {
        if let Some(peer) = peer {
            peer.shutdown().await;
        }
    };
    tokio::join!(node.shutdown(), peer_ends);
    told.map(|()| Code::Done)
}

/// What to do about a setting of a node that is wrong.
const PUT_RIGHT: &str = "put it right where it stands: a flag, a variable or the file of `--settings`";

/// What a service manager wants to know.
#[derive(Clone, Copy)]
enum State {
    Ready,
    Stopping,
}

/// Tells systemd, where it asked for that (`Type=notify`).
#[cfg(unix)]
fn tell_manager(state: State) {
    let state = match state {
        State::Ready => sd_notify::NotifyState::Ready,
        State::Stopping => sd_notify::NotifyState::Stopping,
    };
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told how the node is");
    }
}

/// No service manager asks for it here.
#[cfg(not(unix))]
const fn tell_manager(_: State) {}

/// Why the node does not start, and what to do.
fn not_started(error: Error, listen: SocketAddr, data: &Path) -> Failure {
    let cause = std::error::Error::source(&error);
    let listening = cause.and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let is_taken =
        matches!(cause.and_then(|cause| cause.downcast_ref::<TryLockError>()), Some(TryLockError::WouldBlock));
    let hint = match listening {
        _ if is_taken => format!(
            "another node runs with {}: stop that one, or give this one a folder of its own with `--data DIR`",
            data.display()
        ),
        _ if error.context("disk").is_some() => if error.message().contains("full") {
            "make some room there, a MiB at least, and start it again; what it acknowledged is still there"
        } else {
            "make it one that can be written, and start it again; `talkbox node backup --to FILE` copies the store as it is"
        }
        .to_owned(),
        Some(io::ErrorKind::AddrInUse) => format!(
            "another program, perhaps another node, listens on {listen}: stop it, or choose another port with \
             `--listen {}:0`",
            listen.ip()
        ),
        Some(io::ErrorKind::AddrNotAvailable) => {
            "this computer does not have that address; `--listen 0.0.0.0:7447` is all of its addresses".to_owned()
        }
        Some(io::ErrorKind::PermissionDenied) => format!(
            "see that {} and what is in it belong to the user who runs the node; ports below 1024 are the administrator's",
            data.display()
        ),
        _ if error.context("public_url").is_some() => "give a URL such as `--public-url wss://node.example`".to_owned(),
        _ => match error.kind() {
            ErrorKind::ConfigInvalid => PUT_RIGHT.to_owned(),
            ErrorKind::Storage => format!(
                "see that {} is a folder of the user who runs the node, and that its disk has room; a store that is \
                 damaged can be moved away: a backup takes its place, or the peers fill a new one",
                data.display()
            ),
            _ => return error.into(),
        },
    };
    // Which folder a node has is a setting, as its port is.
    let failure = match is_taken {
        true => Failure::new(Code::BadInput, ErrorKind::ConfigInvalid.as_str(), error),
        false => Failure::from(error),
    };
    failure.hint(hint)
}
