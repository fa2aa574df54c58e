//! What both halves share: the configured relays, the pool, and which relay a locator means.

use std::{sync::Arc, time::Duration};

use talkbox_core::{
    Authorizer, Clock, Descriptor, Error, ErrorKind, Locator, OpenContext, PublicKey, Refusal, Result, async_trait,
    half::{self, Shared},
};
use talkbox_net::Trust;

use crate::{
    config::NostrConfig,
    pool::{Lease, Pool},
    relay_url::{RelayUrl, SCHEME},
    socket::{Dial, WebSocket},
};

/// The kind of this backend.
pub(crate) const NAME: &str = "nostr";
/// The schemes of the locators that it opens.
pub(crate) const SCHEMES: &[&str] = &[SCHEME];

/// An opened backend: relays, connections, time.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) descriptor: Descriptor,
    pub(crate) pool: Pool,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long a relay may take for one answer.
    pub(crate) timeout: Duration,
    relays: Vec<Relay>,
    allow_private: bool,
}

/// A relay, and how it is named by whoever asks.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    pub(crate) url: RelayUrl,
    /// As the caller spells it, which is how the answer names it.
    pub(crate) holder: Locator,
    pub(crate) trust: Trust,
}

impl Network {
    /// Opens nothing yet: a connection is made when it is first needed.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(crate) fn open(config: &NostrConfig, context: OpenContext) -> Result<Self> {
        let timeout = config.timeout();
        let dial = WebSocket::new(timeout, context.proxy.clone());
        Self::with_dial(config, context, Arc::new(dial))
    }

    /// Over other sockets.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(crate) fn with_dial(config: &NostrConfig, context: OpenContext, dial: Arc<dyn Dial>) -> Result<Self> {
        let relays = config.relays()?.into_iter();
        let relays = relays.map(|url| Relay { holder: url.locator(), url, trust: Trust::Configured }).collect();
        Ok(Self {
            descriptor: Descriptor::new(NAME, context.name, SCHEMES),
            pool: Pool::new(dial),
            clock: context.clock,
            timeout: config.timeout(),
            relays,
            allow_private: context.allow_private,
        })
    }

    /// The configured relays, in order.
    pub(crate) fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// The relay that a locator means. One that is not configured comes from somebody's record.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(crate) fn relay(&self, holder: &Locator) -> Result<Relay> {
        let url = RelayUrl::of(holder)?;
        let trust = if self.relays.iter().any(|relay| relay.url == url) {
            Trust::Configured
        } else if self.allow_private {
            Trust::ForeignAnywhere
        } else {
            Trust::Foreign
        };
        Ok(Relay { url, holder: holder.clone(), trust })
    }

    /// These relays, or all that are configured where none is named; those that are no relays as refusals.
    pub(crate) fn chosen(&self, at: &[Locator]) -> Vec<Result<Relay, Refusal>> {
        if at.is_empty() {
            return self.relays.iter().cloned().map(Ok).collect();
        }
        at.iter().map(|holder| self.relay(holder).map_err(|error| Refusal::of(holder.clone(), &error))).collect()
    }

    /// The connection to a relay as somebody.
    ///
    /// # Errors
    /// As [`Pool::connect`].
    pub(crate) async fn connect(&self, relay: &Relay, identity: Option<PublicKey>) -> Result<Lease> {
        self.pool.connect(&relay.url, relay.trust, identity).await
    }
}

/// One half of the backend.
pub(crate) type Half = half::Half<Network>;

#[async_trait]
impl Shared for Network {
    fn name(&self) -> &str {
        &self.descriptor.name
    }

    async fn close(&self) {
        self.pool.close().await;
    }

    /// Connections that nobody holds any more close themselves.
    fn abandon(&self) {
        self.pool.abandon();
    }
}

/// Who asks, as connections are pooled.
pub(crate) fn identity(auth: Option<&Arc<dyn Authorizer>>) -> Option<PublicKey> {
    auth.map(|auth| auth.public())
}

/// That there is nobody to ask.
pub(crate) fn no_relays() -> Error {
    Error::new(ErrorKind::Unreachable, "no relay is configured")
}
