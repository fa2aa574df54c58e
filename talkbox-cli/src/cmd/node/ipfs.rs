//! The IPFS peer that runs beside the node, under the same key: its settings, its start, and what stands in its way.

use std::{path::Path, sync::OnceLock};

use clap::builder::FalseyValueParser;
use serde::Deserialize;
use serde_json::json;
use talkbox_backend_gossip::node::{self, Sample, SampleKind, Standing};
use talkbox_backend_ipfs::{Dht, IpfsNode, IpfsNodeConfig, PinSettings, read_pins};
use talkbox_core::{
    Error, ErrorKind, MailboxId, SystemClock,
    address::{Address, Target},
    async_trait,
};

use crate::{
    exit::{Code, Failure, Outcome},
    output::Output,
    session::Session,
};

/// The folder of the peer, in that of the node.
pub(super) const FOLDER: &str = "ipfs";
/// What keeps every mailbox that mail is brought for.
const ANY: &str = "any";

/// The flags of the peer.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "IPFS")]
pub(super) struct Flags {
    /// Run a peer on IPFS beside the node, too: it keeps mailboxes as OrbitDB logs
    #[arg(long, env = "TALKBOX_NODE_IPFS", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    ipfs: bool,
    /// Where the peer listens, such as `/ip4/0.0.0.0/tcp/4002/ws` for browsers; may be given several times
    /// [default: TCP and QUIC on port 4001]
    #[arg(
        id = "ipfs_listen",
        long = "ipfs-listen",
        value_name = "MULTIADDR",
        env = "TALKBOX_NODE_IPFS_LISTEN",
        value_delimiter = ',',
        hide_env_values = true
    )]
    listen: Vec<String>,
    /// Where others reach the peer, where that is not where it listens; may be given several times
    #[arg(
        id = "ipfs_external",
        long = "ipfs-external",
        value_name = "MULTIADDR",
        env = "TALKBOX_NODE_IPFS_EXTERNAL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    external: Vec<String>,
    /// A mailbox that the peer keeps, or `any` for every one that mail is brought for; may be given several times
    #[arg(
        id = "ipfs_keep",
        long = "ipfs-keep",
        value_name = "NPUB|CODE|any",
        env = "TALKBOX_NODE_IPFS_KEEP",
        value_delimiter = ',',
        hide_env_values = true
    )]
    keep: Vec<String>,
    /// Another peer, to stay connected to: `/ip4/…/tcp/…/p2p/…`; may be given several times
    #[arg(
        id = "ipfs_peer",
        long = "ipfs-peer",
        value_name = "MULTIADDR",
        env = "TALKBOX_NODE_IPFS_PEERS",
        value_delimiter = ',',
        hide_env_values = true
    )]
    peers: Vec<String>,
    /// A peer at which the DHT begins, besides those of `--ipfs-peer`; may be given several times
    #[arg(
        id = "ipfs_bootstrap",
        long = "ipfs-bootstrap",
        value_name = "MULTIADDR",
        env = "TALKBOX_NODE_IPFS_BOOTSTRAP",
        value_delimiter = ',',
        hide_env_values = true
    )]
    bootstrap: Vec<String>,
    /// The part of the peer in the DHT [default: server]
    #[arg(
        id = "ipfs_dht", long = "ipfs-dht",
        value_name = "off|client|server",
        value_parser = dht,
        env = "TALKBOX_NODE_IPFS_DHT",
        hide_env_values = true
    )]
    dht: Option<Dht>,
    /// Which DHT [default: /ipfs/kad/1.0.0, that of the public network]
    #[arg(
        id = "ipfs_dht_protocol",
        long = "ipfs-dht-protocol",
        value_name = "PROTOCOL",
        env = "TALKBOX_NODE_IPFS_DHT_PROTOCOL",
        hide_env_values = true
    )]
    dht_protocol: Option<String>,
}

fn dht(text: &str) -> Result<Dht, String> {
    match text {
        "off" => Ok(Dht::Off),
        "client" => Ok(Dht::Client),
        "server" => Ok(Dht::Server),
        _ => Err("it is `off`, `client` or `server`".to_owned()),
    }
}

/// The table `[ipfs]` of the settings file: where it is, there is a peer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Table {
    listen: Vec<String>,
    external: Vec<String>,
    keep: Vec<String>,
    peers: Vec<String>,
    bootstrap: Vec<String>,
    dht: Option<Dht>,
    dht_protocol: Option<String>,
    max_connections: Option<u32>,
    /// In MiB.
    max_store: Option<u64>,
    allow_private: bool,
    /// The services that pin what it keeps.
    #[serde(deserialize_with = "read_pins")]
    pub(super) pins: Vec<PinSettings>,
}

impl Flags {
    /// What the file and the flags say together; `None` where no peer is to run.
    ///
    /// # Errors
    /// Bad input where a flag says how a peer runs that nobody asked for, for a mailbox that is not known, and where
    /// everything is to go by a proxy.
    pub(super) async fn read(&self, session: &Session, file: Option<Table>) -> Outcome<Option<IpfsNodeConfig>> {
        let Some(table) = file.or_else(|| self.ipfs.then(Table::default)) else {
            return match self.given() {
                Some(flag) => Err(Failure::input(format!("`{flag}` is about a peer on IPFS, and none is to run"))
                    .hint("add `--ipfs`")),
                None => Ok(None),
            };
        };
        if session.config.proxy().is_some() {
            // As its clients do: what it says to other peers would go past the proxy.
            let why = format!("IPFS cannot be reached by a proxy yet (at: {})", session.config.origin("proxy"));
            return Err(Failure::new(Code::BadInput, ErrorKind::ConfigInvalid.as_str(), why).hint(
                "run the node without `--ipfs`, or without the proxy: an empty variable `TALKBOX_PROXY=` goes before all",
            ));
        }
        let list = |given: &[String], file: Vec<String>| {
            let given: Vec<String> = given.iter().filter(|one| !one.is_empty()).cloned().collect();
            if given.is_empty() { file } else { given }
        };
        let mut config = IpfsNodeConfig::default();
        let listen = list(&self.listen, table.listen);
        if !listen.is_empty() {
            config.listen = listen;
        }
        config.external = list(&self.external, table.external);
        config.peers = list(&self.peers, table.peers);
        config.bootstrap = list(&self.bootstrap, table.bootstrap);
        config.dht = self.dht.or(table.dht).unwrap_or(config.dht);
        if let Some(protocol) = self.dht_protocol.clone().or(table.dht_protocol).filter(|text| !text.is_empty()) {
            config.dht_protocol = protocol;
        }
        if let Some(connections) = table.max_connections {
            config.max_connections = connections;
        }
        if let Some(mebibytes) = table.max_store {
            config.max_store = mebibytes.saturating_mul(1 << 20);
        }
        config.allow_private = table.allow_private;
        config.pins = table.pins;
        config.keep = mailboxes(session, &list(&self.keep, table.keep)).await?;
        if config.keep.as_ref().is_some_and(Vec::is_empty) {
            session.output.warn(
                "the peer on IPFS keeps no mailbox: name some with `--ipfs-keep NPUB`, or all with `--ipfs-keep any`",
            );
        }
        Ok(Some(config))
    }

    /// A flag that is of use to a peer alone.
    fn given(&self) -> Option<&'static str> {
        let lists = [
            ("--ipfs-listen", &self.listen),
            ("--ipfs-external", &self.external),
            ("--ipfs-keep", &self.keep),
            ("--ipfs-peer", &self.peers),
            ("--ipfs-bootstrap", &self.bootstrap),
        ];
        let list = lists.into_iter().find(|(_, given)| given.iter().any(|one| !one.is_empty())).map(|(flag, _)| flag);
        list.or_else(|| self.dht.map(|_| "--ipfs-dht"))
            .or_else(|| self.dht_protocol.as_ref().filter(|text| !text.is_empty()).map(|_| "--ipfs-dht-protocol"))
    }
}

/// The mailboxes that are meant; `None` for any.
async fn mailboxes(session: &Session, texts: &[String]) -> Outcome<Option<Vec<MailboxId>>> {
    if texts.iter().any(|text| text == ANY) {
        return Ok(None);
    }
    let mut mailboxes = Vec::new();
    for text in texts {
        let address = Address::parse(text).map_err(|error| {
            Failure::input(format!("`--ipfs-keep {text}`: {error}")).hint("name a mailbox by its npub, or `any`")
        })?;
        mailboxes.push(match address.target() {
            Target::Mailbox(mailbox) => mailbox,
            Target::Code(code) => known(session, code).await?,
        });
    }
    Ok(Some(mailboxes))
}

/// The mailbox of a code: one's own, or one that was found before. A node asks nobody: a code alone proves nothing.
async fn known(session: &Session, code: talkbox_core::Shortcode) -> Outcome<MailboxId> {
    if let Some(own) = session.keyring.list()?.into_iter().find(|entry| entry.code == code) {
        return Ok(own.id);
    }
    if session.paths.store().exists() {
        let local = session.open_store().await?;
        let pinned = local.store.pinned(code).await;
        local.close().await;
        if let Some(record) = pinned? {
            return Ok(record.mailbox());
        }
    }
    Err(Failure::not_found(format!("the key of the mailbox {code} is not known on this computer"))
        .hint("name its npub: `talkbox id --npub` prints it where the mailbox is"))
}

/// Starts the peer under the key of the node, which runs already.
///
/// # Errors
/// What stands in its way, and what to do.
pub(super) async fn start(mut config: IpfsNodeConfig, data: &Path) -> Outcome<IpfsNode> {
    let key = node::key_of(data)?;
    config.data = Some(data.join(FOLDER));
    let started = IpfsNode::start_with(config, Some(key), std::sync::Arc::new(SystemClock)).await;
    started.map_err(|error| not_started(error, data))
}

/// The peer, as the node beside it asks for it: the node runs before it does.
#[derive(Debug, Default)]
pub(super) struct Beside(OnceLock<IpfsNode>);

impl Beside {
    /// It runs from now on.
    pub(super) fn runs(&self, peer: IpfsNode) {
        // It is started once.
        let _ = self.0.set(peer);
    }
}

#[async_trait]
impl node::Beside for Beside {
    async fn standing(&self) -> Standing {
        let Some(peer) = self.0.get() else {
            return Standing { fault: Some("the peer on IPFS does not run yet"), ..Standing::default() };
        };
        let state = peer.state().await;
        let sample = |name, kind, help, value| Sample { name, kind, help, value };
        let (counter, gauge) = (SampleKind::Counter, SampleKind::Gauge);
        let samples = vec![
            sample("ipfs_connections", gauge, "Open connections of the peer on IPFS.", state.connections),
            sample("ipfs_logs", gauge, "Logs that the peer on IPFS follows.", state.logs),
            sample("ipfs_entries", gauge, "Entries of logs whose signature holds.", state.entries),
            sample("ipfs_waiting", gauge, "Entries of logs that wait for others.", state.waiting),
            sample("ipfs_store_bytes", gauge, "Bytes of the store of logs that are in use.", state.bytes),
            sample("ipfs_store_full", gauge, "Whether the store of logs takes nothing more.", state.is_full.into()),
            sample("ipfs_refused_total", counter, "Entries of logs that were refused.", state.refused),
        ];
        Standing { fault: state.fault, samples }
    }
}

/// Says where the peer is, so that it can be named by others.
pub(super) fn tell(output: &Output, peer: &IpfsNode) -> Outcome<()> {
    for address in peer.addresses() {
        if output.is_json() {
            output.object(&json!({"event": "listening", "ipfs": address, "peer": peer.id()}))?;
        } else {
            output.line(format_args!("listening on {address}"))?;
        }
    }
    Ok(())
}

/// Why the peer does not start, and what to do.
fn not_started(error: Error, data: &Path) -> Failure {
    // What libp2p says of a socket is inside errors of its own types: only their text is told.
    let mut causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    let is_taken = causes.any(|cause| format!("{cause:?}").contains("AddrInUse"));
    let hint = if is_taken {
        format!(
            "another program, perhaps another peer, listens on {}: stop it, or choose another port with `--ipfs-listen \
             /ip4/0.0.0.0/tcp/0`",
            error.context("listen").unwrap_or("that port")
        )
    } else if error.context("listen").is_some() {
        "name where this computer is reached, such as `--ipfs-listen /ip4/0.0.0.0/tcp/4001`".to_owned()
    } else if error.context("external").is_some() {
        "name where others reach it, such as `--ipfs-external /dns4/node.example/tcp/4001`".to_owned()
    } else if error.context("peers").is_some() || error.context("bootstrap").is_some() {
        "an address of a peer ends with its id: `/ip4/192.0.2.7/tcp/4001/p2p/16Uiu2HA…`, as the peer itself prints it"
            .to_owned()
    } else {
        match error.kind() {
            ErrorKind::Storage => format!(
                "see that {} is a folder of the user who runs the node, and that its disk has room; a store that is damaged \
                 can be moved away: a backup takes its place, or other peers fill a new one",
                data.join(FOLDER).display()
            ),
            ErrorKind::ConfigInvalid => super::PUT_RIGHT.to_owned(),
            _ => return error.into(),
        }
    };
    Failure::from(error).hint(hint)
}
