//! The conformance kit, on two embedded nodes over real sockets, each behind a proxy that can misbehave for it.

mod front;
mod session;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_core::{
    Backend, BackendConfig, Clock, Locator, ManualClock, OpenContext, Result, SystemClock, async_trait,
    testkit::{Faults, Harness, Role},
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::front::{Front, WireFaults};

talkbox_core::conformance!(Nodes::start().await.expect("the nodes start"));

/// Two nodes, and a clock that they share with the backend.
#[derive(Debug)]
struct Nodes {
    clock: ManualClock,
    nodes: Mutex<Vec<Node>>,
    places: Vec<Place>,
    fronts: WireFaults,
}

/// Where a node is, so that it can be started there again.
#[derive(Debug)]
struct Place {
    address: SocketAddr,
    /// Of the proxy before it.
    public_url: String,
    folder: TempDir,
}

impl Nodes {
    async fn start() -> Result<Self> {
        let clock = ManualClock::new(SystemClock.now());
        let (mut nodes, mut places, mut fronts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let front = Front::bind(clock.clone()).await;
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let folder = TempDir::new().expect("a folder");
            let mut place = Place { address: anywhere, public_url: front.url.clone(), folder };
            let node = node(&place, &clock).await?;
            place.address = node.addr();
            front.stand_before(place.address);
            nodes.push(node);
            places.push(place);
            fronts.push(front);
        }
        Ok(Self { clock, nodes: Mutex::new(nodes), places, fronts: WireFaults(fronts) })
    }
}

async fn node(place: &Place, clock: &ManualClock) -> Result<Node> {
    let mut config = NodeConfig::loopback();
    config.listen = place.address;
    config.public_url = Some(place.public_url.clone());
    config.data = Some(place.folder.path().to_owned());
    Node::start(config, NodeContext::default().with_clock(clock.clone())).await
}

#[async_trait]
impl Harness for Nodes {
    async fn open(&self, role: Role) -> Result<Backend> {
        let relays: Vec<_> = self.places.iter().map(|place| &place.public_url).collect();
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
        for place in &self.places {
            nodes.push(node(place, &self.clock).await?);
        }
        Ok(true)
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(&self.fronts)
    }

    fn watchers(&self) -> Option<usize> {
        Some(self.fronts.0.iter().map(Front::subscriptions).sum())
    }

    fn dead_holder(&self) -> Option<Locator> {
        // Port 1 is reserved, and nobody listens there.
        Locator::new("nostr", "ws://127.0.0.1:1").ok()
    }
}
