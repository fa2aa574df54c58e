//! Nodes that know each other, over real sockets.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use serde_json::Value;
use talkbox_backend_gossip::node::{Bind, Listen, Node, NodeConfig, NodeContext};
use talkbox_core::{ManualClock, async_trait};
use tokio::net::TcpListener;

use crate::{
    http::support::get,
    support::{NOW, PATIENCE},
};

/// A listener that was opened before, so that others could be told its port.
#[derive(Debug)]
struct Opened(Mutex<Option<StdListener>>);

#[async_trait]
impl Bind for Opened {
    async fn bind(&self, _: SocketAddr) -> io::Result<Box<dyn Listen>> {
        let listener = self.0.lock().expect("unpoisoned").take().ok_or(io::ErrorKind::AddrInUse)?;
        listener.set_nonblocking(true)?;
        Ok(Box::new(TcpListener::from_std(listener)?))
    }
}

/// A place for a node: its port and its folder.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    listener: Option<StdListener>,
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let listener = StdListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        Self { address, listener: Some(listener), folder: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

/// Nodes of one mesh, and their common clock.
pub(crate) struct Mesh {
    pub(crate) places: Vec<Place>,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) clock: ManualClock,
}

impl Mesh {
    /// As many nodes, each with all others as its peers.
    pub(crate) async fn of(nodes: usize) -> Self {
        let mut mesh = Self::unstarted(nodes);
        for at in 0..nodes {
            mesh.start(at).await;
        }
        mesh
    }

    pub(crate) fn unstarted(nodes: usize) -> Self {
        Self {
            places: (0..nodes).map(|_| Place::new()).collect(),
            nodes: (0..nodes).map(|_| None).collect(),
            clock: ManualClock::new(NOW),
        }
    }

    pub(crate) async fn start(&mut self, at: usize) {
        self.start_with(at, |_| ()).await;
    }

    pub(crate) async fn start_with(&mut self, at: usize, change: impl FnOnce(&mut NodeConfig)) {
        let mut config = NodeConfig::loopback();
        config.data = Some(self.places[at].data());
        config.sync_interval = 1;
        let others = self.places.iter().enumerate().filter(|(other, _)| *other != at);
        config.peers = others.map(|(_, place)| place.url()).collect();
        change(&mut config);
        let place = &mut self.places[at];
        config.listen = place.address;
        let mut context = NodeContext::default().with_clock(self.clock.clone());
        if let Some(listener) = place.listener.take() {
            context = context.with_listeners(Opened(Mutex::new(Some(listener))));
        }
        self.nodes[at] = Some(Node::start(config, context).await.expect("the node starts"));
    }

    pub(crate) async fn stop(&mut self, at: usize) {
        self.nodes[at].take().expect("it runs").shutdown().await;
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("it runs")
    }

    /// Waits until each has met all its peers.
    pub(crate) async fn meet(&self) {
        let is_met = |peer: &Value| peer["state"] == "ok";
        self.until(|states| {
            states.iter().all(|state| state["peers"].as_array().is_some_and(|peers| peers.iter().all(is_met)))
        })
        .await;
    }

    /// Waits until all that run hold the same, so many ids.
    pub(crate) async fn hold(&self, ids: usize) {
        self.until(|states| {
            states.iter().all(|state| state["events"] == ids && state["fingerprint"] == states[0]["fingerprint"])
        })
        .await;
    }

    /// Waits until what the nodes say of themselves is so.
    pub(crate) async fn until(&self, so: impl Fn(&[Value]) -> bool) {
        let mut states = Vec::new();
        let held = tokio::time::timeout(PATIENCE, async {
            loop {
                states.clear();
                for node in self.nodes.iter().flatten() {
                    states.push(get(node, "/v1/peers").send().await.json());
                }
                if so(&states) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        if held.await.is_err() {
            panic!("not so: {states:#?}");
        }
    }
}
