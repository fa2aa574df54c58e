//! Mail on IPFS, records and hints over Nostr: composed by the configuration, as a user does it.

use std::{sync::Arc, time::Duration};

use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_core::{
    Backend, Clock, Locator, Registry, Result, async_trait,
    config::{Config, Sources},
    layers::Stack,
    testkit::{Faults, Harness, Role},
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::nodes::Nodes;

/// Nodes that keep mail, and a relay that keeps records.
#[derive(Debug)]
pub(crate) struct Hybrid {
    nodes: Nodes,
    relay: Mutex<Option<Node>>,
    /// Of the relay, so that it can be started there again.
    config: NodeConfig,
    _folder: TempDir,
}

impl Hybrid {
    pub(crate) async fn start(number: usize) -> Result<Self> {
        let nodes = Nodes::start(number).await?;
        let folder = TempDir::new().expect("a folder");
        let mut config = NodeConfig::loopback();
        config.data = Some(folder.path().to_owned());
        let hybrid = Self { nodes, relay: Mutex::default(), config, _folder: folder };
        let relay = hybrid.start_relay(&hybrid.config).await?;
        let mut config = hybrid.config.clone();
        config.listen = relay.addr();
        *hybrid.relay.lock().await = Some(relay);
        Ok(Self { config, ..hybrid })
    }

    async fn start_relay(&self, config: &NodeConfig) -> Result<Node> {
        Node::start(config.clone(), NodeContext::default().with_clock(self.nodes.clock.clone())).await
    }
}

#[async_trait]
impl Harness for Hybrid {
    async fn open(&self, role: Role) -> Result<Backend> {
        let text = format!(
            "backend = \"hybrid\"
             [backends.hybrid]
             mailbox = \"ipfs\"
             transport = \"nostr\"
             [backends.ipfs]
             peers = {:?}
             dht = \"off\"
             timeout_ms = 5000
             [backends.nostr]
             relays = [\"ws://{}\"]
             timeout_ms = 5000",
            self.nodes.peers(),
            self.config.listen,
        );
        let registry = Registry::new().with(talkbox_backend_ipfs::backend()).with(talkbox_backend_nostr::backend());
        let config = Config::load(Sources::new().file("talkbox.toml", text))?;
        config.check(&registry)?;
        let context = |name: &str| {
            let mut context = self.nodes.context(role);
            name.clone_into(&mut context.name);
            context
        };
        let mut opened = config.plan(&registry)?.open(&Stack::default(), context).await?;
        let (Some((_, mailbox)), Some((_, transport))) = (opened.mailboxes.pop(), opened.transports.pop()) else {
            panic!("a composition has both halves")
        };
        assert!(opened.mailboxes.is_empty() && opened.transports.is_empty(), "one of each");
        // The halves that nobody uses are dropped here.
        Ok(Backend::new(mailbox, transport))
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.nodes.clock()
    }

    fn advance(&self, by: Duration) -> bool {
        self.nodes.advance(by)
    }

    async fn restart(&self) -> Result<bool> {
        let mut relay = self.relay.lock().await;
        if let Some(relay) = relay.take() {
            relay.shutdown().await;
        }
        *relay = Some(self.start_relay(&self.config).await?);
        self.nodes.restart().await
    }

    fn faults(&self) -> Option<&dyn Faults> {
        self.nodes.faults()
    }

    fn watchers(&self) -> Option<usize> {
        self.nodes.watchers()
    }

    fn dead_holder(&self) -> Option<Locator> {
        self.nodes.dead_holder()
    }
}
