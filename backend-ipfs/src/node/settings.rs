//! What a peer is told at its start.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
};

use libp2p::{Multiaddr, multiaddr::Protocol};
use talkbox_core::{MailboxId, Proxy, envelope::DEFAULT_RETENTION};

use super::address::PeerAddress;
use crate::pinning::Service;

/// The DHT that the public network of IPFS speaks.
pub(crate) const PUBLIC_DHT: &str = "/ipfs/kad/1.0.0";
/// Connections that come in, unless told otherwise: a light node on a small machine.
const MAX_CONNECTIONS: u32 = 256;
/// Bytes of memory beyond which no further connection is taken.
const MAX_MEMORY: usize = 512 << 20;

/// Whose mailboxes a peer keeps for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nobody's: it reads and writes for its own user.
    Nothing,
    /// Those that are named.
    These(BTreeSet<MailboxId>),
    /// Whichever mail is brought for, until the store is full.
    Anyone,
}

impl Keep {
    /// Whether mail for this mailbox is kept.
    pub(crate) fn covers(&self, mailbox: &MailboxId) -> bool {
        match self {
            Self::Nothing => false,
            Self::These(mailboxes) => mailboxes.contains(mailbox),
            Self::Anyone => true,
        }
    }

    /// Whether it keeps anything for others, and so looks after it by itself.
    pub(crate) const fn is_node(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// The part that a peer has in the DHT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dht {
    /// None.
    Off,
    /// It asks, and answers nobody.
    #[default]
    Client,
    /// It answers as well: for peers that others can reach.
    Server,
}

/// What a peer is told at its start.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where it listens.
    pub(crate) listen: Vec<Multiaddr>,
    /// Where others reach it, besides.
    pub(crate) external: Vec<Multiaddr>,
    /// The folder of its key and its store; without one it remembers nothing.
    pub(crate) data: Option<PathBuf>,
    /// The peers that are named by the user: holders, and other nodes.
    pub(crate) peers: Vec<PeerAddress>,
    /// Where the DHT begins.
    pub(crate) bootstrap: Vec<PeerAddress>,
    pub(crate) dht: Dht,
    pub(crate) dht_protocol: String,
    pub(crate) keep: Keep,
    /// How long envelopes are looked for, in seconds.
    pub(crate) retention: u64,
    /// Whether others may lead it to addresses that are not global.
    pub(crate) allow_private: bool,
    pub(crate) max_connections: u32,
    pub(crate) max_memory: usize,
    /// Bytes of the store.
    pub(crate) max_store: u64,
    /// The services that pin what is kept.
    pub(crate) pins: Vec<Service>,
    /// The proxy to reach those by.
    pub(crate) proxy: Option<Proxy>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            external: Vec::new(),
            data: None,
            peers: Vec::new(),
            bootstrap: Vec::new(),
            dht: Dht::Client,
            dht_protocol: PUBLIC_DHT.to_owned(),
            keep: Keep::Nothing,
            retention: DEFAULT_RETENTION,
            allow_private: false,
            max_connections: MAX_CONNECTIONS,
            max_memory: MAX_MEMORY,
            max_store: 16 << 30,
            pins: Vec::new(),
            proxy: None,
        }
    }
}

impl Settings {
    /// The addresses that the user has named, which may be anywhere, each with its peer.
    pub(crate) fn named(&self) -> HashSet<Multiaddr> {
        let named = self.peers.iter().chain(&self.bootstrap);
        named.map(|peer| peer.place.clone().with(Protocol::P2p(peer.peer))).collect()
    }
}
