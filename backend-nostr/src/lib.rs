//! Talkbox on Nostr relays, as they exist: envelopes are gift wraps (kind 1059), records are addressable events (kind
//! 30787), hints are ephemeral ones (kind 21787).
//!
//! The relay client is a thin layer of our own, for what the promise needs: an answer for each event and its own time
//! for it, no silent loss, cursors that never come from the time of an event, reconciliation that proves who asks first
//! and falls back within seconds, and bounds on everything that a relay sends. A relay that refuses, hangs, floods or
//! lies costs only itself.
//!
//! The document in which a relay describes itself (NIP-11) is not fetched: that a relay authenticates or reconciles is
//! found out by asking it, its limits are met by the refusal that names them, and retention it cannot announce.
//!
//! ```
//! use talkbox_core::Registry;
//!
//! let registry = Registry::new().with(talkbox_backend_nostr::backend());
//! assert_eq!(registry.for_scheme("nostr").map(|def| def.name), Some("nostr"));
//! ```

mod ask;
mod config;
mod connection;
mod deliver;
mod filter;
mod hints;
mod line;
mod mailbox;
mod network;
mod pool;
mod reconcile;
mod records;
mod relay_url;
mod routes;
mod socket;
mod subscription;
mod transport;
mod verdict;
mod walk;
mod watch;
mod wire;

use std::sync::Arc;

use talkbox_core::{Backend, BackendConfig, BackendDef, OpenContext, Result, half::halves};

use crate::{config::NostrConfig, mailbox::NostrMailbox, network::Network, transport::NostrTransport};

/// The backend, for a [`Registry`](talkbox_core::Registry).
///
/// Settings: `relays`, a list of `wss://…` (or `ws://…`) URLs, and `timeout_ms`, how long a relay may take to connect
/// and for each answer (10,000). Opening connects to nothing yet. The certificates of `wss` relays are those that the
/// system trusts, or the environment variable `SSL_CERT_FILE` in its place.
pub const fn backend() -> BackendDef {
    BackendDef {
        name: network::NAME,
        about: "Nostr relays: envelopes, records and hints as events",
        schemes: network::SCHEMES,
        uri_key: Some("relays"),
        keys: config::KEYS,
        list_keys: &[],
        open: |config, context| Box::pin(async { open(config, context) }),
    }
}

fn open(config: BackendConfig, context: OpenContext) -> Result<Backend> {
    let config: NostrConfig = config.read()?;
    config.check()?;
    let (mailbox, transport) = halves(Network::open(&config, context)?);
    Ok(Backend::new(Arc::new(NostrMailbox::new(mailbox)), Arc::new(NostrTransport::new(transport))))
}
