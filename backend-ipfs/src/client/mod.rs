//! The client half: mailboxes on peers, and how they are found there.
//!
//! Every configured peer is asked for itself: each gets every envelope, lists and watches are of one peer each, and one
//! that is away, refuses, hangs, floods or lies costs only itself. A client is a peer like others, with a key that lasts
//! as long as it; it keeps nothing for others and passes nothing on.

mod config;
mod cursor;
mod deliver;
mod holdings;
mod listing;
mod mailbox;
mod network;
mod pins;
pub(crate) mod report;
mod resolve;
mod seen;
mod transport;
mod watch;

use std::sync::Arc;

use talkbox_core::{Backend, BackendConfig, BackendDef, OpenContext, Result, half::halves};

use self::{config::IpfsConfig, mailbox::IpfsMailbox, network::Network, transport::IpfsTransport};

/// The backend, for a [`Registry`](talkbox_core::Registry).
///
/// Settings: `peers`, the holders, as multiaddrs that end with `/p2p/` and the id of the peer; `timeout_ms`, how long a
/// peer may take to connect and for each answer (10,000); `dht`, the part in the DHT (`client`, `server`, `off`), which
/// begins at the peers of `bootstrap` and speaks `dht_protocol` (`/ipfs/kad/1.0.0`); `pins`, services that pin what is here,
/// each with a `name`, an `endpoint` and a `token_file`. Opening connects to nothing yet.
pub const fn backend() -> BackendDef {
    BackendDef {
        name: network::NAME,
        about: "IPFS: an OrbitDB log for each mailbox and month, on libp2p peers that replicate it",
        schemes: network::SCHEMES,
        uri_key: Some("peers"),
        keys: config::KEYS,
        list_keys: config::LIST_KEYS,
        open: |config, context| Box::pin(open(config, context)),
    }
}

async fn open(config: BackendConfig, context: OpenContext) -> Result<Backend> {
    let config: IpfsConfig = config.read()?;
    config.check()?;
    let (mailbox, transport) = halves(Network::open(&config, context).await?);
    Ok(Backend::new(Arc::new(IpfsMailbox::new(mailbox)), Arc::new(IpfsTransport::new(transport))))
}
