//! A node: a peer that keeps mailboxes for others, as `talkbox node --ipfs` runs it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use talkbox_core::{Clock, Error, ErrorKind, MailboxId, Result, SecretKey, SystemClock};
use tokio::time::timeout;

use crate::{
    node::{
        Peer,
        address::{PeerAddress, Purpose, own_place},
        settings::{Dht, Keep, PUBLIC_DHT, Settings},
    },
    pinning::{PinSettings, services},
    store::Standing,
};

/// How long the peer, and then its store, may take to say how they do.
const ANSWER: Duration = Duration::from_secs(1);

/// What a node is told at its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IpfsNodeConfig {
    /// Where it listens, as multiaddrs: `/ip4/0.0.0.0/tcp/4001`, `/ip4/0.0.0.0/udp/4001/quic-v1`,
    /// `/ip4/0.0.0.0/tcp/4002/ws` for browsers.
    pub listen: Vec<String>,
    /// Where others reach it, where that is not where it listens: behind a proxy, or a router that forwards a port.
    pub external: Vec<String>,
    /// The folder of its key and its store; without one it remembers nothing.
    pub data: Option<PathBuf>,
    /// Other nodes, to stay connected to: `/ip4/…/tcp/…/p2p/…`.
    pub peers: Vec<String>,
    /// Where the DHT begins.
    pub bootstrap: Vec<String>,
    /// Its part in the DHT.
    pub dht: Dht,
    /// Which DHT: `/ipfs/kad/1.0.0` is that of the public network.
    pub dht_protocol: String,
    /// The mailboxes that it keeps; `None` keeps whatever is brought, until the store is full.
    pub keep: Option<Vec<MailboxId>>,
    /// Connections that may come in.
    pub max_connections: u32,
    /// Bytes that its store may have.
    pub max_store: u64,
    /// Whether peers that nobody named may lead it to addresses that are not global: on a network of one's own.
    pub allow_private: bool,
    /// The services that are asked to pin what it keeps.
    pub pins: Vec<PinSettings>,
}

impl Default for IpfsNodeConfig {
    fn default() -> Self {
        let Settings { max_connections, max_store, .. } = Settings::default();
        Self {
            listen: ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"].map(str::to_owned).to_vec(),
            external: Vec::new(),
            data: None,
            peers: Vec::new(),
            bootstrap: Vec::new(),
            dht: Dht::Server,
            dht_protocol: PUBLIC_DHT.to_owned(),
            keep: Some(Vec::new()),
            max_connections,
            max_store,
            allow_private: false,
            pins: Vec::new(),
        }
    }
}

impl IpfsNodeConfig {
    /// For tests and demos: on a port of the loopback that is free, keeping whatever is brought, in no DHT.
    pub fn loopback() -> Self {
        Self {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            dht: Dht::Off,
            keep: None,
            allow_private: true,
            ..Self::default()
        }
    }

    fn settings(self) -> Result<Settings> {
        let place = |key: &'static str, purpose: Purpose, text: &String| {
            own_place(text, purpose).map_err(|error| error.with(key, text))
        };
        let peer = |key: &'static str, text: &String| {
            text.parse::<PeerAddress>()
                .map_err(|error| Error::new(ErrorKind::ConfigInvalid, error.message().to_owned()).with(key, text))
        };
        if self.listen.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a node listens somewhere").with("listen", "nothing"));
        }
        Ok(Settings {
            listen: self.listen.iter().map(|text| place("listen", Purpose::Listen, text)).collect::<Result<_>>()?,
            external: self.external.iter().map(|text| place("external", Purpose::Tell, text)).collect::<Result<_>>()?,
            data: self.data,
            peers: self.peers.iter().map(|text| peer("peers", text)).collect::<Result<_>>()?,
            bootstrap: self.bootstrap.iter().map(|text| peer("bootstrap", text)).collect::<Result<_>>()?,
            dht: self.dht,
            dht_protocol: self.dht_protocol,
            keep: self.keep.map_or(Keep::Anyone, |mailboxes| Keep::These(mailboxes.into_iter().collect())),
            allow_private: self.allow_private,
            max_connections: self.max_connections,
            max_store: self.max_store,
            pins: services(&self.pins)?,
            ..Settings::default()
        })
    }
}

/// How a node does at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpfsNodeState {
    /// What keeps it from its work, in fixed words.
    pub fault: Option<&'static str>,
    /// Open connections.
    pub connections: u64,
    /// Logs that it follows: one for each mailbox and month.
    pub logs: u64,
    /// Entries that it has and whose signature holds.
    pub entries: u64,
    /// Entries that wait for one that nobody has brought yet, or for their identity.
    pub waiting: u64,
    /// Entries that it has refused since it started.
    pub refused: u64,
    /// Bytes of its store that are in use.
    pub bytes: u64,
    /// Whether these are as many as they may be: then it takes nothing more.
    pub is_full: bool,
}

/// A running node. A clone is the same node, which ends with [`shutdown`](Self::shutdown), or with its last clone.
#[derive(Clone)]
pub struct IpfsNode(Arc<Peer>);

impl IpfsNode {
    /// Starts a node. It listens when this returns.
    ///
    /// # Errors
    /// `ConfigInvalid`, also where it cannot listen; `Storage` for its folder.
    pub async fn start(config: IpfsNodeConfig) -> Result<Self> {
        Self::start_with(config, None, Arc::new(SystemClock)).await
    }

    /// Starts a node with a key of the caller's, in place of the one in its folder, and with another clock.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(config: IpfsNodeConfig, key: Option<SecretKey>, clock: Arc<dyn Clock>) -> Result<Self> {
        let settings = config.settings()?;
        let data = settings.data.clone();
        let node = Self(Arc::new(Peer::start(settings, key, clock).await?));
        let data = data.as_ref().map(|folder| folder.display());
        tracing::info!(peer = node.id(), data = data.map(tracing::field::display), "the peer on IPFS listens");
        Ok(node)
    }

    /// Its id, which names its key.
    pub fn id(&self) -> String {
        self.0.link.peer().to_string()
    }

    /// Where it can be reached, each as `/ip4/…/tcp/…/p2p/…`: what it was told first, then where it listens, and last
    /// what browsers alone reach, behind TLS.
    pub fn addresses(&self) -> Vec<String> {
        let mut addresses = self.0.link.addresses();
        addresses.sort_by_key(|address| !address.is_dialled());
        addresses.iter().map(ToString::to_string).collect()
    }

    /// How it does. It takes two seconds at the most, also where nothing answers.
    pub async fn state(&self) -> IpfsNodeState {
        let Peer { link, logs, store, .. } = &*self.0;
        let connections = timeout(ANSWER, link.connections()).await.ok().and_then(Result::ok);
        let census = timeout(ANSWER, store.census()).await.ok().and_then(Result::ok);
        let standing = *store.standing().borrow();
        let fault = match (standing, census) {
            _ if connections.is_none() => Some("the peer on IPFS does not run"),
            (Standing::Damaged, _) => Some("the store of the peer on IPFS is damaged"),
            (Standing::Failing, _) => Some("the disk takes nothing for the peer on IPFS"),
            (_, None) => Some("the store of the peer on IPFS cannot be read"),
            (_, Some(census)) => census.is_full.then_some("the store of the peer on IPFS is full"),
        };
        let census = census.unwrap_or_default();
        IpfsNodeState {
            fault,
            connections: connections.unwrap_or_default().into(),
            logs: logs.count() as u64,
            entries: census.entries,
            waiting: census.waiting,
            refused: store.refused(),
            bytes: census.bytes,
            is_full: census.is_full,
        }
    }

    /// What the benchmarks look at.
    #[cfg(feature = "bench")]
    pub(crate) fn parts(&self) -> (crate::store::Store, crate::node::logs::Logs) {
        (self.0.store.clone(), self.0.logs.clone())
    }

    /// How many peers listen here for new mail: each counts once for every month of every mailbox.
    pub fn listeners(&self) -> usize {
        self.0.logs.listeners()
    }

    /// Ends it: what was acknowledged is on the disk.
    pub async fn shutdown(self) {
        self.0.close().await;
        tracing::info!("the peer on IPFS has stopped");
    }
}

impl fmt::Debug for IpfsNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IpfsNode").field(&self.id()).finish()
    }
}
