//! The client half: mailboxes on nodes, over HTTP.
//!
//! Every configured node is asked for itself: each gets every envelope, lists and watches are of one node each, and a
//! node that is away, refuses, hangs, floods or lies costs only itself. What a node promises counts where it is signed
//! by the key that the node itself shows.

mod ask;
mod config;
mod cursor;
mod custody;
mod deletion;
mod deliver;
mod feed;
mod health;
mod hints;
mod identity;
mod listing;
mod mailbox;
mod network;
mod node_url;
mod reconcile;
mod records;
mod refused;
mod transport;
mod watch;

use std::sync::Arc;

use talkbox_core::{Backend, BackendConfig, BackendDef, OpenContext, Result, half::halves};

use self::{config::GossipConfig, mailbox::GossipMailbox, network::Network, transport::GossipTransport};

/// The backend, for a [`Registry`](talkbox_core::Registry).
///
/// Settings: `nodes`, a list of `https://…` (or `http://…`) URLs, and `timeout_ms`, how long a node may take to connect
/// and for each answer (10,000); what is large has some more. Opening connects to nothing yet. The certificates of
/// `https` nodes are those that the system trusts, or the environment variable `SSL_CERT_FILE` in its place.
pub const fn backend() -> BackendDef {
    BackendDef {
        name: network::NAME,
        about: "Talkbox nodes over HTTP: envelopes with signed receipts, records and hints",
        schemes: network::SCHEMES,
        uri_key: Some("nodes"),
        keys: config::KEYS,
        list_keys: &[],
        open: |config, context| Box::pin(async { open(config, context) }),
    }
}

fn open(config: BackendConfig, context: OpenContext) -> Result<Backend> {
    let config: GossipConfig = config.read()?;
    config.check()?;
    let (mailbox, transport) = halves(Network::open(&config, context)?);
    Ok(Backend::new(Arc::new(GossipMailbox::new(mailbox)), Arc::new(GossipTransport::new(transport))))
}
