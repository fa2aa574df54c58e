//! What both halves share: the configured nodes, the connections, and which node a locator means.

use std::{sync::Arc, time::Duration};

use talkbox_core::{
    Clock, Descriptor, Error, ErrorKind, Locator, OpenContext, Refusal, Result, async_trait,
    half::{self, Shared},
};
use talkbox_net::{Bounds, Http, Trust};

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
}

/// One half of the backend.
pub(super) type Half = half::Half<Network>;

#[async_trait]
impl Shared for Network {
    fn name(&self) -> &str {
        &self.descriptor.name
    }

    /// Where nobody does it, connections end with whoever uses them last.
    async fn close(&self) {
        self.http.close().await;
    }
}

/// That there is nobody to ask.
pub(super) fn no_nodes() -> Error {
    Error::new(ErrorKind::Unreachable, "no node is configured")
}
