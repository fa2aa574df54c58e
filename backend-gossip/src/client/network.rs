//! What both halves share: the configured nodes, the connections, and which node a locator means.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use talkbox_core::{Clock, Descriptor, Error, ErrorKind, Locator, OpenContext, Refusal, Result};
use talkbox_net::{Bounds, Http, Trust};
use tokio::sync::watch;

use super::{
    config::GossipConfig,
    health::Health,
    identity::Identities,
    node_url::{NodeUrl, SCHEME},
};

/// The kind of this backend.
pub(super) const NAME: &str = "gossip";
/// The schemes of the locators that it opens.
pub(super) const SCHEMES: &[&str] = &[SCHEME];

/// The two halves of a backend, each of which leaves the connections once.
const HALVES: usize = 2;

/// An opened backend: nodes, connections, time.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) descriptor: Descriptor,
    pub(super) http: Http,
    pub(super) clock: Arc<dyn Clock>,
    /// How long a node may take for one small answer.
    pub(super) timeout: Duration,
    pub(super) health: Health,
    pub(super) identities: Identities,
    nodes: Vec<RemoteNode>,
    allow_private: bool,
    /// The halves that are open: the last one closes the connections.
    users: AtomicUsize,
}

/// A node, and how it is named by whoever asks.
#[derive(Clone, Debug)]
pub(super) struct RemoteNode {
    pub(super) url: NodeUrl,
    /// As the caller spells it, which is how the answer names it.
    pub(super) holder: Locator,
    pub(super) trust: Trust,
}

impl Network {
    /// Opens nothing yet: a connection is made when it is first needed.
    ///
    /// # Errors
    /// `ConfigInvalid`.
    pub(super) fn open(config: &GossipConfig, context: OpenContext) -> Result<Self> {
        let way = talkbox_net::Network::new(config.timeout(), context.proxy.clone());
        let nodes = config.nodes()?.into_iter();
        let nodes = nodes.map(|url| RemoteNode { holder: url.locator(), url, trust: Trust::Configured }).collect();
        Ok(Self {
            descriptor: Descriptor::new(NAME, context.name, SCHEMES),
            http: Http::new("node", Arc::new(way), Bounds::default()),
            clock: context.clock,
            timeout: config.timeout(),
            health: Health::default(),
            identities: Identities::default(),
            nodes,
            allow_private: context.allow_private,
            users: AtomicUsize::new(HALVES),
        })
    }

    /// The configured nodes, in order.
    pub(super) fn nodes(&self) -> &[RemoteNode] {
        &self.nodes
    }

    /// Whether a node is one of one's own.
    pub(super) fn is_configured(&self, url: &NodeUrl) -> bool {
        self.nodes.iter().any(|node| node.url == *url)
    }

    /// The node that a locator means. One that is not configured comes from somebody's record.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(super) fn node(&self, holder: &Locator) -> Result<RemoteNode> {
        let url = NodeUrl::of(holder)?;
        let trust = if self.is_configured(&url) {
            Trust::Configured
        } else if self.allow_private {
            Trust::ForeignAnywhere
        } else {
            Trust::Foreign
        };
        Ok(RemoteNode { url, holder: holder.clone(), trust })
    }

    /// These nodes, or all that are configured where none is named; those that are no nodes as refusals.
    pub(super) fn chosen(&self, at: &[Locator]) -> Vec<Result<RemoteNode, Refusal>> {
        if at.is_empty() {
            return self.nodes.iter().cloned().map(Ok).collect();
        }
        at.iter().map(|holder| self.node(holder).map_err(|error| Refusal::of(holder.clone(), &error))).collect()
    }

    /// One user less; whether it was the last one.
    fn leave(&self) -> bool {
        self.users.fetch_sub(1, Ordering::AcqRel) <= 1
    }
}

/// One half of the backend, as far as opening and closing go.
pub(super) struct Half {
    network: Arc<Network>,
    closed: watch::Sender<bool>,
}

impl Half {
    pub(super) fn new(network: Arc<Network>) -> Self {
        Self { network, closed: watch::channel(false).0 }
    }

    /// What is behind it.
    ///
    /// # Errors
    /// `Closed`.
    pub(super) fn network(&self) -> Result<&Arc<Network>> {
        if *self.closed.borrow() { Err(closed()) } else { Ok(&self.network) }
    }

    /// What does not end with it.
    pub(super) fn still(&self) -> &Network {
        &self.network
    }

    /// Tells of its end.
    pub(super) fn end(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Does something, until this half is closed.
    ///
    /// # Errors
    /// `Closed`; those of the work.
    pub(super) async fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut end = self.end();
        tokio::select! {
            biased;
            done = work => done,
            _ = end.wait_for(|closed| *closed) => Err(closed()),
        }
    }

    /// Ends it, once.
    pub(super) async fn close(&self) {
        if !self.closed.send_replace(true) && self.network.leave() {
            self.network.http.close().await;
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if !self.closed.send_replace(true) {
            // Connections end with whoever uses them last; the other half only has to know that it is alone.
            self.network.leave();
        }
    }
}

impl fmt::Debug for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Half").field("name", &self.network.descriptor.name).finish_non_exhaustive()
    }
}

/// The error of everything that comes after the end.
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the backend was closed")
}

/// That there is nobody to ask.
pub(super) fn no_nodes() -> Error {
    Error::new(ErrorKind::Unreachable, "no node is configured")
}
