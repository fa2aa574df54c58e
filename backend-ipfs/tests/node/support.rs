//! What the tests share: nodes on the loopback, backends before them, and mail.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::BoxStream};
use serde_json::{Value, json};
use talkbox_backend_ipfs::{IpfsNode, IpfsNodeConfig};
use talkbox_core::{
    BackendConfig, Clock as _, Draft, Envelope, EnvelopeId, ListOptions, Locator, Mailbox, MailboxId, ManualClock,
    OpenContext, PutOptions, Receipt, Result, SealOptions, SecretKey, SystemClock, WatchEvent, WatchOptions, seal,
};
use tempfile::TempDir;
use tokio::time::sleep;

/// How long something may take that happens at once.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) type Events = BoxStream<'static, Result<WatchEvent>>;

/// A node with a folder and an address of its own, so that it can be stopped and started again.
pub(crate) struct Place {
    pub(crate) config: IpfsNodeConfig,
    pub(crate) clock: ManualClock,
    pub(crate) node: Option<IpfsNode>,
    /// As others name it.
    pub(crate) address: String,
    _folder: TempDir,
}

impl Place {
    /// A node that keeps these mailboxes, or any.
    pub(crate) async fn start(clock: &ManualClock, keep: Option<Vec<MailboxId>>, peers: Vec<String>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut config = IpfsNodeConfig::loopback();
        config.data = Some(folder.path().to_owned());
        config.keep = keep;
        config.peers = peers;
        let node = start(&config, clock).await;
        let address = node.addresses().swap_remove(0);
        let (listen, _) = address.split_once("/p2p/").expect("an address of a peer");
        config.listen = vec![listen.to_owned()];
        Self { config, clock: clock.clone(), node: Some(node), address, _folder: folder }
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            node.shutdown().await;
        }
    }

    pub(crate) async fn start_again(&mut self) {
        self.stop().await;
        self.node = Some(start(&self.config, &self.clock).await);
    }

    pub(crate) fn socket(&self) -> SocketAddr {
        let mut parts = self.address.split('/').skip(2).step_by(2);
        let (host, port) = (parts.next().expect("a host"), parts.next().expect("a port"));
        format!("{host}:{port}").parse().expect("an address")
    }

    pub(crate) fn locator(&self) -> Locator {
        Locator::new("ipfs", &self.address).expect("a locator")
    }
}

async fn start(config: &IpfsNodeConfig, clock: &ManualClock) -> IpfsNode {
    IpfsNode::start_with(config.clone(), None, Arc::new(clock.clone())).await.expect("the node starts")
}

/// A clock that shows the time now, and stands still.
pub(crate) fn clock() -> ManualClock {
    ManualClock::new(SystemClock.now())
}

/// A mailbox of a backend before these nodes.
pub(crate) async fn open(nodes: &[&Place], clock: &ManualClock, home: Option<&Path>) -> Arc<dyn Mailbox> {
    open_at(nodes.iter().map(|place| place.address.clone()).collect(), clock, home).await
}

pub(crate) async fn open_at(peers: Vec<String>, clock: &ManualClock, home: Option<&Path>) -> Arc<dyn Mailbox> {
    let Value::Object(table) = json!({ "peers": peers, "dht": "off", "timeout_ms": 5_000 }) else {
        unreachable!("an object")
    };
    let mut context = OpenContext::new("ipfs");
    context.clock = Arc::new(clock.clone());
    context.data_dir = home.map(Path::to_owned);
    context.allow_private = true;
    let opened = (talkbox_backend_ipfs::backend().open)(BackendConfig::new(table), context).await;
    opened.expect("opens").mailbox.expect("a mailbox")
}

pub(crate) fn owner() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

/// So many envelopes as they are sent at this time, none dated back.
pub(crate) fn mail(to: MailboxId, clock: &ManualClock, count: usize) -> Vec<Envelope> {
    let sender = SecretKey::generate().expect("randomness");
    let mut options = SealOptions::default();
    options.backdate = false;
    let one = |number| {
        let draft = Draft::text(format!("message {number}"));
        seal(&draft, &sender, to, clock.now(), &options).expect("seals").envelope
    };
    (0..count).map(one).collect()
}

pub(crate) fn ids(envelopes: &[Envelope]) -> BTreeSet<EnvelopeId> {
    envelopes.iter().map(Envelope::id).collect()
}

/// Puts envelopes, each of which so many holders have to store.
pub(crate) async fn put(mailbox: &dyn Mailbox, envelopes: &[Envelope], holders: usize) -> Vec<Receipt> {
    let receipts = mailbox.put(envelopes, PutOptions::default()).await;
    let receipts: Vec<_> = receipts.into_iter().map(|receipt| receipt.expect("somebody takes it")).collect();
    for receipt in &receipts {
        assert_eq!(receipt.acks.len(), holders, "{receipt:?}");
    }
    receipts
}

/// All that a holder has, to the end.
pub(crate) async fn listed(mailbox: &dyn Mailbox, owner: MailboxId, holder: &Locator) -> Result<BTreeSet<EnvelopeId>> {
    let (mut ids, mut after) = (BTreeSet::new(), None);
    loop {
        let page = mailbox.list(owner, holder, ListOptions::default().after(after).limit(50)).await?;
        ids.extend(page.items.iter().map(|raw| raw.id()));
        if !page.more {
            return Ok(ids);
        }
        after = page.next;
    }
}

/// Waits until a holder has all of these.
pub(crate) async fn wait_listed(mailbox: &dyn Mailbox, owner: MailboxId, holder: &Locator, wanted: &[Envelope]) {
    let (wanted, begun) = (ids(wanted), Instant::now());
    loop {
        let listed = listed(mailbox, owner, holder).await.expect("lists");
        if wanted.is_subset(&listed) {
            return;
        }
        let missing = wanted.difference(&listed).count();
        assert!(begun.elapsed() < SOON, "{missing} of {} are not at {holder}", wanted.len());
        sleep(Duration::from_millis(50)).await;
    }
}

/// A watch, once it is live at so many holders.
pub(crate) async fn watch(mailbox: &dyn Mailbox, owner: MailboxId, holders: usize) -> Events {
    let mut options = WatchOptions::default();
    options.retry_after = Some(Duration::from_millis(50));
    let mut events = mailbox.watch(owner, options).expect("it can be watched");
    until_live(&mut events, holders).await;
    events
}

/// Waits until so many holders have become live.
pub(crate) async fn until_live(events: &mut Events, holders: usize) {
    let mut live = 0;
    let seen = async {
        while live < holders {
            if let Ok(WatchEvent::Live { .. }) = events.next().await.expect("a watch does not end by itself") {
                live += 1;
            }
        }
    };
    tokio::time::timeout(SOON, seen).await.expect("the holders become live");
}

/// Waits until a watch has shown all of these.
pub(crate) async fn until_shown(events: &mut Events, wanted: &[Envelope]) {
    let mut wanted = ids(wanted);
    let shown = async {
        while !wanted.is_empty() {
            if let Ok(WatchEvent::Envelope { raw, .. }) = events.next().await.expect("a watch does not end by itself") {
                wanted.remove(&raw.id());
            }
        }
    };
    let shown = tokio::time::timeout(SOON, shown).await;
    assert!(shown.is_ok(), "{} envelopes are not shown", wanted.len());
}
