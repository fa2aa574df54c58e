//! A node whose store is put back to an old backup: what came after it is not lost, and not given twice.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::StreamExt as _;
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext, node::maintenance};
use talkbox_core::{
    AuditOptions, Backend, Cursor, Envelope, EnvelopeId, ErrorKind, HoldingState, ListOptions, Locator, ManualClock,
    ReconcileOptions, SecretKey, WatchEvent, WatchOptions,
};

use crate::support::{NOW, auth, client, envelopes, holder, ids, key, mailbox, open, put, soon};

/// A node that can be started again at its address, which no connection on its way to somewhere takes meanwhile.
struct Place {
    address: SocketAddr,
    data: tempfile::TempDir,
}

impl Place {
    fn new(number: u8) -> Self {
        let [a, b, ..] = std::process::id().to_be_bytes()[2..] else { unreachable!("two of four bytes") };
        let listener = std::net::TcpListener::bind(SocketAddr::from(([127, a | 1, b, number], 0))).expect("a port");
        let address = listener.local_addr().expect("an address");
        Self { address, data: tempfile::tempdir().expect("a directory") }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn holder(&self) -> Locator {
        holder(&self.url())
    }

    async fn start(&self, peers: &[&Self]) -> Node {
        let mut config = NodeConfig::loopback();
        config.listen = self.address;
        config.data = Some(self.data.path().to_owned());
        config.peers = peers.iter().map(|peer| peer.url()).collect();
        config.sync_interval = 1;
        Node::start(config, NodeContext::default().with_clock(ManualClock::new(NOW))).await.expect("starts")
    }

    /// A backup of what is there now, in a folder that is kept with it.
    fn backup(&self) -> (tempfile::TempDir, PathBuf) {
        let kept = tempfile::tempdir().expect("a directory");
        let file = kept.path().join("backup");
        maintenance::backup(self.data.path(), &file).expect("is made");
        (kept, file)
    }

    /// Puts a backup in the place of the store, as an operator does.
    fn restore(&self, backup: &Path) {
        let store = self.data.path().join("node.sqlite3");
        for name in ["node.sqlite3-wal", "node.sqlite3-shm"] {
            let _not_there = std::fs::remove_file(self.data.path().join(name));
        }
        std::fs::copy(backup, store).expect("copies");
    }
}

/// All pages from a cursor on: what is in them, in order, and where they end.
async fn listed(
    backend: &Backend,
    owner: &SecretKey,
    at: &Locator,
    after: Option<Cursor>,
) -> talkbox_core::Result<(Vec<EnvelopeId>, Option<Cursor>)> {
    let (mut found, mut after) = (Vec::new(), after);
    loop {
        // Few, so that there are several.
        let options = ListOptions::default().auth(Some(auth(owner))).limit(4).after(after.clone());
        let page = soon(mailbox(backend).list(owner.id(), at, options)).await?;
        found.extend(page.items.iter().map(|raw| {
            assert!(Envelope::parse(raw.json()).is_ok());
            raw.id()
        }));
        after = page.next.or(after);
        if !page.more {
            return Ok((found, after));
        }
    }
}

fn set(ids: &[EnvelopeId]) -> BTreeSet<EnvelopeId> {
    ids.iter().copied().collect()
}

/// Lists until all of these are there. Each time nothing is there twice.
async fn until_all(backend: &Backend, owner: &SecretKey, at: &Locator, wanted: &BTreeSet<EnvelopeId>) -> Cursor {
    soon(async {
        loop {
            let (found, cursor) = listed(backend, owner, at, None).await.expect("lists");
            assert_eq!(set(&found).len(), found.len(), "nothing is there twice");
            if set(&found) == *wanted {
                return cursor.expect("a cursor");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_peers_of_a_node_that_was_put_back_lose_nothing() {
    let (a, b) = (Place::new(1), Place::new(2));
    let (first, second) = (a.start(&[&b]).await, b.start(&[&a]).await);
    let owner = key();
    let backend = open(&[&a.url()], 5_000).await;
    let (before, after) = (envelopes(owner.id(), 6), envelopes(owner.id(), 9));
    put(&backend, &before).await.into_iter().for_each(|put| drop(put.expect("is stored")));
    let (seen, _) = listed(&backend, &owner, &a.holder(), None).await.expect("lists");
    assert_eq!(set(&seen), set(&ids(&before)));
    let (_kept, file) = a.backup();

    put(&backend, &after[..8]).await.into_iter().for_each(|put| drop(put.expect("is stored")));
    let (_, late) = listed(&backend, &owner, &a.holder(), None).await.expect("lists");
    let late = late.expect("a cursor");
    let to_b = open(&[&b.url()], 5_000).await;
    let mut all = set(&ids(&before));
    all.extend(ids(&after[..8]));
    until_all(&to_b, &owner, &b.holder(), &all).await;
    let mut options = WatchOptions::default().auth(Some(auth(&owner))).after(vec![(a.holder(), late.clone())]);
    options.retry_after = Some(Duration::from_millis(10));
    let mut watch = mailbox(&backend).watch(owner.id(), options).expect("watches");
    let live = |event: &_| matches!(event, Ok(WatchEvent::Live { .. }));
    assert!(live(&soon(watch.next()).await.expect("goes on")), "all was seen");

    let epoch = first.epoch();
    first.shutdown().await;
    a.restore(&file);
    let first = a.start(&[&b]).await;
    assert_ne!(first.epoch(), epoch);
    // The cursor is of another store, and the client is told so and not given what others have at that place.
    let error = listed(&backend, &owner, &a.holder(), Some(late)).await.expect_err("is not known");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let cursor = until_all(&backend, &owner, &a.holder(), &all).await;
    // The watch says that something may be missing, and goes on; what it told before the restore it does not tell again,
    // but for what comes to this store anew.
    let mut told = Vec::new();
    let mut lagged = false;
    loop {
        match soon(watch.next()).await.expect("goes on") {
            Ok(WatchEvent::Lagged { .. }) => lagged = true,
            Ok(WatchEvent::Envelope { raw, .. }) => told.push(raw.id()),
            Ok(WatchEvent::Live { .. }) => break,
            _ => {}
        }
    }
    assert!(lagged);
    put(&backend, &after[8..]).await.into_iter().for_each(|put| drop(put.expect("is stored")));
    while told.last() != Some(&after[8].id()) {
        if let Ok(WatchEvent::Envelope { raw, .. }) = soon(watch.next()).await.expect("goes on") {
            told.push(raw.id());
        }
    }
    assert_eq!(set(&told).len(), told.len(), "nothing is told twice");
    assert!(told.iter().all(|id| !ids(&before).contains(id)), "what the backup had is not told as new");
    all.insert(after[8].id());
    assert_eq!(listed(&backend, &owner, &a.holder(), Some(cursor)).await.expect("lists").0, [after[8].id()]);
    until_all(&to_b, &owner, &b.holder(), &all).await;
    second.shutdown().await;
    first.shutdown().await;
}

/// What the owner has read it still has, and gives back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_peer_the_owner_that_syncs_brings_back_what_it_had_read() {
    let place = Place::new(4);
    let node = place.start(&[]).await;
    let owner = key();
    let client = client(&place.url()).await;
    let backend = open(&[&place.url()], 5_000).await;
    let mail = envelopes(owner.id(), 12);
    put(&backend, &mail[..5]).await.into_iter().for_each(|put| drop(put.expect("is stored")));
    let (_kept, file) = place.backup();
    put(&backend, &mail[5..]).await.into_iter().for_each(|put| drop(put.expect("is stored")));
    let sync = async || {
        let synced = client.sync(&owner, Duration::from_secs(20)).await.expect("syncs");
        assert!(synced.holders.iter().all(|(_, outcome)| outcome.is_ok()), "{:?}", synced.holders);
    };
    sync().await;
    assert_eq!(client.store().known_set(owner.id()).await.expect("reads").len(), 12);
    node.shutdown().await;
    place.restore(&file);
    let node = place.start(&[]).await;
    let listed_now = async || set(&listed(&backend, &owner, &place.holder(), None).await.expect("lists").0);
    assert_eq!(listed_now().await, set(&ids(&mail[..5])));
    sync().await;
    assert_eq!(listed_now().await, set(&ids(&mail)));
    client.close().await;
    node.shutdown().await;
}

/// What clients are given to find out by, and what comes of it when they put it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_peer_a_difference_and_an_audit_tell_what_came_after_the_backup() {
    let place = Place::new(3);
    let node = place.start(&[]).await;
    let owner = key();
    let backend = open(&[&place.url()], 5_000).await;
    let mail = envelopes(owner.id(), 12);
    put(&backend, &mail[..5]).await.into_iter().for_each(|put| drop(put.expect("is stored")));
    let (_kept, file) = place.backup();
    put(&backend, &mail[5..]).await.into_iter().for_each(|put| drop(put.expect("is stored")));
    node.shutdown().await;
    place.restore(&file);
    let node = place.start(&[]).await;

    // The owner, or a keeper in its name, finds out what is missing, and by an audit the sender does.
    let ours: Vec<_> = mail.iter().map(|envelope| (envelope.created_at(), envelope.id())).collect();
    let reconciler = mailbox(&backend).reconciler(&place.holder()).expect("reconciles");
    let options = ReconcileOptions::default().auth(Some(auth(&owner)));
    let difference = soon(reconciler.difference(owner.id(), &ours, options)).await.expect("reconciles");
    assert_eq!((set(&difference.ours), difference.theirs.len()), (set(&ids(&mail[5..])), 0));
    let (at, all) = (place.holder(), ids(&mail));
    let audit = soon(mailbox(&backend).audit(owner.id(), &at, &all, AuditOptions::default())).await.expect("audits");
    let absent = audit.iter().filter(|holding| holding.state == HoldingState::Absent);
    let absent: BTreeSet<_> = absent.map(|holding| holding.id).collect();
    assert_eq!(absent, set(&difference.ours));
    let missing: Vec<_> = mail.iter().filter(|envelope| absent.contains(&envelope.id())).cloned().collect();
    put(&backend, &missing).await.into_iter().for_each(|put| drop(put.expect("is stored")));
    until_all(&backend, &owner, &place.holder(), &set(&ids(&mail))).await;
    node.shutdown().await;
}
