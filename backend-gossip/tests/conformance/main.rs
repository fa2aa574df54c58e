//! The conformance kit, on embedded nodes over real sockets, each behind a proxy that can misbehave for it.

mod front;

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

mod one_node {
    talkbox_core::conformance!(super::Nodes::start(1).await.expect("the node starts"));
}

mod three_nodes {
    talkbox_core::conformance!(super::Nodes::start(3).await.expect("the nodes start"));
}

/// Each is a peer of the others, so that what one takes all have.
mod mesh_of_three {
    talkbox_core::conformance!(super::Nodes::mesh(3).await.expect("the nodes start"));
}

/// Some nodes, and a clock that they share with the backend.
#[derive(Debug)]
struct Nodes {
    clock: ManualClock,
    /// They know each other, and hold the same.
    are_peers: bool,
    nodes: Mutex<Vec<Node>>,
    places: Vec<Place>,
    fronts: WireFaults,
}

/// Where a node is, so that it can be started there again.
#[derive(Debug)]
struct Place {
    address: SocketAddr,
    /// Of the proxy before it.
    front: SocketAddr,
    folder: TempDir,
}

impl Nodes {
    /// Nodes that know nothing of each other.
    async fn start(number: usize) -> Result<Self> {
        let clock = ManualClock::new(SystemClock.now());
        let (mut nodes, mut places, mut fronts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..number {
            let front = Front::bind(clock.clone()).await;
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let folder = TempDir::new().expect("a folder");
            let mut place = Place { address: anywhere, front: front.address, folder };
            let node = node(&place, &clock, Vec::new()).await?;
            place.address = node.addr();
            front.stand_before(place.address);
            nodes.push(node);
            places.push(place);
            fronts.push(front);
        }
        Ok(Self { clock, are_peers: false, nodes: Mutex::new(nodes), places, fronts: WireFaults(fronts) })
    }

    /// Nodes that are peers of each other: where they listen is known once they have been started.
    async fn mesh(number: usize) -> Result<Self> {
        let nodes = Self { are_peers: true, ..Self::start(number).await? };
        nodes.restart().await?;
        Ok(nodes)
    }

    /// The peers of one of them.
    fn peers(&self, of: &Place) -> Vec<String> {
        let others = self.places.iter().filter(|place| self.are_peers && place.address != of.address);
        others.map(|place| format!("http://{}", place.address)).collect()
    }
}

async fn node(place: &Place, clock: &ManualClock, peers: Vec<String>) -> Result<Node> {
    let mut config = NodeConfig::loopback();
    config.listen = place.address;
    config.public_url = Some(format!("ws://{}", place.front));
    config.data = Some(place.folder.path().to_owned());
    config.peers = peers;
    config.sync_interval = 1;
    Node::start(config, NodeContext::default().with_clock(clock.clone())).await
}

#[async_trait]
impl Harness for Nodes {
    async fn open(&self, role: Role) -> Result<Backend> {
        let nodes: Vec<_> = self.fronts.0.iter().map(Front::url).collect();
        let serde_json::Value::Object(table) = json!({ "nodes": nodes, "timeout_ms": 5_000 }) else { unreachable!() };
        let mut context = OpenContext::new(role.as_str());
        context.clock = Arc::new(self.clock.clone());
        // So that the place where nobody answers is tried.
        context.allow_private = true;
        (talkbox_backend_gossip::backend().open)(BackendConfig::new(table), context).await
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
            nodes.push(node(place, &self.clock, self.peers(place)).await?);
        }
        Ok(true)
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(&self.fronts)
    }

    fn watchers(&self) -> Option<usize> {
        Some(self.fronts.0.iter().map(Front::watches).sum())
    }

    fn dead_holder(&self) -> Option<Locator> {
        // Port 1 is reserved, and nobody listens there.
        Locator::new("gossip", "http://127.0.0.1:1").ok()
    }
}
