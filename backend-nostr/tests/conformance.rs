//! The conformance kit, on two embedded nodes over real sockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_core::{
    Backend, BackendConfig, Clock, Locator, ManualClock, OpenContext, Result, SystemClock, async_trait,
    testkit::{Harness, Role},
};
use tempfile::TempDir;
use tokio::sync::Mutex;

talkbox_core::conformance!(Nodes::start().await.expect("the nodes start"));

/// Two nodes, and a clock that they share with the backend.
#[derive(Debug)]
struct Nodes {
    clock: ManualClock,
    nodes: Mutex<Vec<Node>>,
    places: Vec<(SocketAddr, TempDir)>,
}

impl Nodes {
    async fn start() -> Result<Self> {
        let clock = ManualClock::new(SystemClock.now());
        let (mut nodes, mut places) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let folder = TempDir::new().expect("a folder");
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let node = node(anywhere, &folder, &clock).await?;
            let address = node.url().trim_start_matches("ws://").parse().expect("an address");
            nodes.push(node);
            places.push((address, folder));
        }
        Ok(Self { clock, nodes: Mutex::new(nodes), places })
    }
}

async fn node(address: SocketAddr, folder: &TempDir, clock: &ManualClock) -> Result<Node> {
    let mut config = NodeConfig::loopback();
    config.listen = address;
    config.data = Some(folder.path().to_owned());
    Node::start(config, NodeContext::default().with_clock(clock.clone())).await
}

#[async_trait]
impl Harness for Nodes {
    async fn open(&self, role: Role) -> Result<Backend> {
        let relays: Vec<_> = self.places.iter().map(|(address, _)| format!("ws://{address}")).collect();
        let serde_json::Value::Object(table) = json!({ "relays": relays, "timeout_ms": 5_000 }) else { unreachable!() };
        let mut context = OpenContext::new(role.as_str());
        context.clock = Arc::new(self.clock.clone());
        // So that the place where nobody answers is tried.
        context.allow_private = true;
        (talkbox_backend_nostr::backend().open)(BackendConfig::new(table), context).await
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    fn advance(&self, by: Duration) -> bool {
        self.clock.advance(by);
        true
    }

    async fn restart(&self) -> Result<bool> {
        let mut nodes = self.nodes.lock().await;
        for node in nodes.drain(..) {
            node.shutdown().await;
        }
        for (address, folder) in &self.places {
            nodes.push(node(*address, folder, &self.clock).await?);
        }
        Ok(true)
    }

    fn dead_holder(&self) -> Option<Locator> {
        // Port 1 is reserved, and nobody listens there.
        Locator::new("nostr", "ws://127.0.0.1:1").ok()
    }
}
