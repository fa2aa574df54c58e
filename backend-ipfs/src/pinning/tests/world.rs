//! A store and a network that are told what to have.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use libp2p::Multiaddr;
use rusqlite::Connection;
use talkbox_core::{Clock as _, ManualClock, Result, Timestamp, async_trait};

use super::server::Server;
use crate::orbitdb::{Block, Cid, cid_of};
use crate::pinning::{
    Keeper, KeeperParts, Pace, Peers, PinService,
    shelf::{Contents, KeptLog, Shelf, Work},
};

/// A log's block.
pub(super) fn block(number: u32) -> Cid {
    cid_of(&number.to_be_bytes())
}

/// A store in memory.
#[derive(Debug)]
pub(super) struct Memory {
    db: Mutex<Connection>,
    /// How many entries each log has.
    pub(super) logs: Mutex<BTreeMap<String, u32>>,
    pub(super) nodes: Mutex<BTreeMap<Cid, Bytes>>,
}

#[async_trait]
impl Shelf for Memory {
    async fn logs(&self) -> Result<Vec<KeptLog>> {
        let logs = self.logs.lock().expect("unharmed");
        let one = |(address, entries): (&String, &u32)| KeptLog {
            address: address.clone(),
            name: format!("name of {address}"),
            entries: u64::from(*entries),
        };
        Ok(logs.iter().map(one).collect())
    }

    async fn contents(&self, log: &str) -> Result<Option<Contents>> {
        let logs = self.logs.lock().expect("unharmed");
        let contents = |entries: &u32| Contents {
            // As in a real one, nodes are among them.
            blocks: (0..=*entries).map(block).chain(self.nodes.lock().expect("unharmed").keys().copied()).collect(),
            last: i64::from(*entries),
            entries: u64::from(*entries),
        };
        Ok(logs.get(log).map(contents))
    }

    async fn put_nodes(&self, _: &str, nodes: Vec<Block>) -> Result<()> {
        self.nodes.lock().expect("unharmed").extend(nodes.into_iter().map(|node| (node.cid, node.bytes)));
        Ok(())
    }

    async fn drop_nodes(&self, _: &str, nodes: Vec<Cid>) -> Result<()> {
        self.nodes.lock().expect("unharmed").retain(|cid, _| !nodes.contains(cid));
        Ok(())
    }

    async fn write(&self, work: Work) -> Result<()> {
        work(&self.db.lock().expect("unharmed"))
    }
}

/// A network that remembers who was to be dialled.
#[derive(Debug, Default)]
pub(super) struct Net(pub(super) Mutex<Vec<Multiaddr>>);

impl Peers for Net {
    fn addresses(&self) -> Vec<Multiaddr> {
        ["/ip4/127.0.0.1/tcp/4001", "/ip4/1.1.1.1/tcp/4001"].map(|text| text.parse().expect("an address")).to_vec()
    }

    fn dial(&self, delegates: Vec<Multiaddr>) {
        self.0.lock().expect("unharmed").extend(delegates);
    }
}

/// All of it.
pub(super) struct World {
    pub(super) keeper: Keeper,
    pub(super) shelf: Arc<Memory>,
    pub(super) net: Arc<Net>,
    pub(super) clock: ManualClock,
}

pub(super) const LOG: &str = "/orbitdb/zdpuAtest";

impl World {
    /// With one log of so many entries.
    pub(super) async fn of(servers: &[&Server], entries: u32) -> Self {
        let shelf = Arc::new(Memory {
            db: Mutex::new(Connection::open_in_memory().expect("opens")),
            logs: Mutex::new(BTreeMap::from([(LOG.to_owned(), entries)])),
            nodes: Mutex::default(),
        });
        Self::on(servers, shelf, ManualClock::new(Timestamp(1_800_000_000))).await
    }

    async fn on(servers: &[&Server], shelf: Arc<Memory>, clock: ManualClock) -> Self {
        let services = servers.iter().enumerate();
        let services = services.map(|(number, server)| {
            let service: Arc<dyn PinService> =
                Arc::new(server.client_with(super::server::TOKEN, &format!("mock-{number}")));
            service
        });
        let net = Arc::new(Net::default());
        let parts = KeeperParts {
            services: services.collect(),
            shelf: Arc::clone(&shelf) as Arc<dyn Shelf>,
            peers: Arc::clone(&net) as Arc<dyn Peers>,
            clock: Arc::new(clock.clone()),
            pace: Pace { round: (Duration::from_millis(1), Duration::from_millis(1)), ..Pace::default() },
            allow_private: false,
        };
        Self { keeper: Keeper::open(parts).await.expect("opens"), shelf, net, clock }
    }

    /// The same store and time, as after a crash.
    pub(super) async fn again(self, servers: &[&Server]) -> Self {
        Self::on(servers, self.shelf, self.clock).await
    }

    /// One round after so many seconds; how long until the next.
    pub(super) async fn after(&self, secs: u64) -> u64 {
        self.clock.advance(Duration::from_secs(secs));
        self.keeper.round().await.minus(self.clock.now().secs()).secs()
    }

    /// A round that sees the log, and one when it is settled.
    pub(super) async fn settle(&self) {
        assert_eq!(self.after(0).await, 10);
        self.after(10).await;
    }

    pub(super) fn grow(&self, log: &str, entries: u32) {
        self.logs().insert(log.to_owned(), entries);
    }

    pub(super) fn logs(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.shelf.logs.lock().expect("unharmed")
    }

    pub(super) fn nodes(&self) -> Vec<Cid> {
        self.shelf.nodes.lock().expect("unharmed").keys().copied().collect()
    }

    pub(super) fn dialled(&self) -> Vec<String> {
        std::mem::take(&mut *self.net.0.lock().expect("unharmed")).iter().map(ToString::to_string).collect()
    }
}
