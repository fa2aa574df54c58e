//! Some nodes, each behind a proxy that can misbehave for it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::json;
use talkbox_backend_ipfs::{IpfsNode, IpfsNodeConfig};
use talkbox_core::{
    Backend, BackendConfig, Clock, Locator, ManualClock, OpenContext, Result, SystemClock, async_trait,
    testkit::{Faults, Harness, Role},
};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::front::{Front, WireFaults};

/// Some nodes, and a clock that they share with the backend.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) clock: ManualClock,
    /// They know each other, and hold the same.
    are_peers: bool,
    nodes: Mutex<Vec<IpfsNode>>,
    places: Vec<Place>,
    fronts: WireFaults,
    /// Of the backends, by role: one that is opened again finds what it remembered.
    homes: [TempDir; 3],
}

/// Where a node is, so that it can be started there again.
#[derive(Debug)]
struct Place {
    /// As its peers name it: the proxy is for clients.
    address: String,
    folder: TempDir,
}

impl Nodes {
    /// Nodes that know nothing of each other.
    pub(crate) async fn start(number: usize) -> Result<Self> {
        let clock = ManualClock::new(SystemClock.now());
        let (mut nodes, mut places, mut fronts) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..number {
            let folder = TempDir::new().expect("a folder");
            let node = node(&folder, "/ip4/127.0.0.1/tcp/0", &clock, Vec::new()).await?;
            let place = Place { address: node.addresses().swap_remove(0), folder };
            let front = Front::bind().await;
            front.stand_before(place.socket(), node.id());
            nodes.push(node);
            places.push(place);
            fronts.push(front);
        }
        let homes = std::array::from_fn(|_| TempDir::new().expect("a folder"));
        Ok(Self { clock, are_peers: false, nodes: Mutex::new(nodes), places, fronts: WireFaults(fronts), homes })
    }

    /// Nodes that are peers of each other: where they listen is known once they have been started.
    pub(crate) async fn mesh(number: usize) -> Result<Self> {
        let nodes = Self { are_peers: true, ..Self::start(number).await? };
        nodes.restart().await?;
        Ok(nodes)
    }

    /// The nodes, as senders name them.
    pub(crate) fn peers(&self) -> Vec<String> {
        self.fronts.0.iter().map(Front::peer).collect()
    }

    /// What a backend is opened with.
    pub(crate) fn context(&self, role: Role) -> OpenContext {
        let mut context = OpenContext::new(role.as_str());
        context.clock = Arc::new(self.clock.clone());
        context.data_dir = Some(self.homes[role as usize].path().to_owned());
        // So that the place where nobody answers is tried.
        context.allow_private = true;
        context
    }
}

impl Place {
    fn socket(&self) -> SocketAddr {
        let mut parts = self.address.split('/').skip(2).step_by(2);
        let (host, port) = (parts.next().expect("a host"), parts.next().expect("a port"));
        format!("{host}:{port}").parse().expect("an address")
    }
}

async fn node(folder: &TempDir, listen: &str, clock: &ManualClock, peers: Vec<String>) -> Result<IpfsNode> {
    let mut config = IpfsNodeConfig::loopback();
    config.listen = vec![listen.to_owned()];
    config.data = Some(folder.path().to_owned());
    config.peers = peers;
    IpfsNode::start_with(config, None, Arc::new(clock.clone())).await
}

#[async_trait]
impl Harness for Nodes {
    async fn open(&self, role: Role) -> Result<Backend> {
        let table = json!({ "peers": self.peers(), "timeout_ms": 5_000, "dht": "off" });
        let serde_json::Value::Object(table) = table else { unreachable!("an object") };
        (talkbox_backend_ipfs::backend().open)(BackendConfig::new(table), self.context(role)).await
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
            let (listen, _) = place.address.split_once("/p2p/").expect("an address of a peer");
            let others = self.places.iter().filter(|other| self.are_peers && other.address != place.address);
            let peers = others.map(|other| other.address.clone()).collect();
            nodes.push(node(&place.folder, listen, &self.clock, peers).await?);
        }
        Ok(true)
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(&self.fronts)
    }

    fn watchers(&self) -> Option<usize> {
        // Peers listen to each other, too.
        let nodes = self.nodes.try_lock().ok().filter(|_| !self.are_peers)?;
        Some(nodes.iter().map(IpfsNode::listeners).sum())
    }

    fn dead_holder(&self) -> Option<Locator> {
        // Port 1 is reserved, and nobody listens there.
        Locator::new("ipfs", "/ip4/127.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N").ok()
    }
}
