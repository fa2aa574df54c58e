//! With the real store: what is pinned is what is kept.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use talkbox_core::{Clock as _, Draft, Envelope, EnvelopeId, ManualClock, SealOptions, SecretKey, Timestamp, seal};

use super::{
    server::{Server, TOKEN},
    world::Net,
};
use crate::{
    orbitdb::{Cid, Entry, LogAddress, Month, MonthLog, Writer},
    pinning::{Keeper, KeeperParts, Pace, Standing, root::walk},
    store::{Store, StoreLimits},
};

const NOW: Timestamp = Timestamp(1_796_040_000);

/// A keeper of one mailbox's log.
struct Kept {
    store: Store,
    keeper: Keeper,
    clock: ManualClock,
    log: LogAddress,
    key: SecretKey,
}

impl Kept {
    async fn at(server: &Server) -> Self {
        let clock = ManualClock::new(NOW);
        let store = Store::open(None, Arc::new(clock.clone()), StoreLimits::default()).await.expect("opens");
        let key = SecretKey::generate().expect("randomness");
        let month = MonthLog::new(key.id(), Month::of(NOW));
        let log = month.definition.address.clone();
        store.open_log(month).await.expect("opens");
        let parts = KeeperParts {
            services: vec![Arc::new(server.client_with(TOKEN, "mock"))],
            shelf: Arc::new(store.clone()),
            peers: Arc::new(Net::default()),
            clock: Arc::new(clock.clone()),
            pace: Pace::default(),
            allow_private: false,
        };
        let keeper = Keeper::open(parts).await.expect("opens");
        Self { store, keeper, clock, log, key }
    }

    async fn write(&self, count: usize) -> Vec<EnvelopeId> {
        let mail: Vec<Envelope> = (0..count).map(|_| sealed(&self.key)).collect();
        let ids = mail.iter().map(Envelope::id).collect();
        let writer = Arc::new(Writer::generate().expect("randomness"));
        self.store.append(&self.log, mail, writer, Vec::new()).await.expect("appended");
        ids
    }

    async fn settle(&self) {
        self.keeper.round().await;
        self.clock.advance(Duration::from_secs(10));
        self.keeper.round().await;
    }

    async fn standing(&self, ids: &[EnvelopeId]) -> Vec<Standing> {
        let places = self.store.places(ids.to_vec()).await.expect("known");
        let places = places.into_iter().map(|place| place.expect("is here"));
        let places = places.map(|(log, seq)| (log.as_str().to_owned(), seq)).collect();
        self.keeper.standing(places).await.expect("known").concat()
    }

    /// All blocks below a root of one node, which is served as any block is.
    async fn below(&self, root: &str) -> BTreeSet<Cid> {
        let root: Cid = root.parse().expect("a CID");
        let bytes = self.store.block(root).await.expect("reads").expect("is served");
        let only = |cid: &Cid| (*cid == root).then(|| bytes.clone());
        walk(&root, self.log.as_str(), 1000, only).expect("whole").into_iter().collect()
    }
}

/// Mail to oneself.
fn sealed(key: &SecretKey) -> Envelope {
    let sealed = seal(&Draft::text("hello"), key, key.id(), NOW, &SealOptions::default());
    sealed.expect("sealed").envelope
}

#[tokio::test]
async fn all_that_a_log_has_is_below_its_root_and_is_served() {
    let server = Server::start().await;
    let kept = Kept::at(&server).await;
    let first = kept.write(3).await;
    kept.settle().await;
    let contents = kept.store.contents(&kept.log).await.expect("open");
    // Manifest, access controller, identity, entries, and the root itself.
    assert_eq!((contents.entries, contents.blocks.len()), (3, 7));
    let (_, root) = server.pins().remove(0);
    let below = kept.below(&root).await;
    assert_eq!(below.len(), 6);
    assert!(below.contains(&kept.log.manifest()));
    let mut entries = 0;
    for cid in &below {
        let bytes = kept.store.block(*cid).await.expect("reads").expect("is served");
        if let Ok(entry) = Entry::decode(bytes) {
            entries += 1;
            assert!(below.contains(&entry.identity));
        }
    }
    assert_eq!(entries, 3);
    assert_eq!(kept.standing(&first).await, vec![Standing::Pending; 3]);
    server.set("request-1", "pinned");
    kept.clock.advance(Duration::from_secs(2));
    kept.keeper.round().await;
    assert_eq!(kept.standing(&first).await, vec![Standing::Pinned; 3]);
    let report = kept.keeper.status().await.expect("known").remove(0);
    assert_eq!((report.state, report.covered, report.of), ("pinned", 3, 3));
    assert!(report.name.starts_with("talkbox/1/") && report.root.as_deref() == Some(root.as_str()));
}

#[tokio::test]
async fn a_root_is_no_part_of_the_next_one_and_goes_when_that_is_pinned() {
    let server = Server::start().await;
    let kept = Kept::at(&server).await;
    server.inside().begins_as = "pinned";
    let first = kept.write(2).await;
    kept.settle().await;
    let old: Cid = server.pins().remove(0).1.parse().expect("a CID");
    let second = kept.write(1).await;
    assert_eq!(kept.standing(&[first[0], second[0]]).await, [Standing::Pinned, Standing::Pending]);
    kept.settle().await;
    assert_eq!(kept.standing(&[first[0], second[0]]).await, [Standing::Pinned, Standing::Pinned]);
    assert_eq!(server.pins().len(), 1);
    let below = kept.below(&server.pins().remove(0).1).await;
    assert!(!below.contains(&old));
    assert_eq!(below.len(), 2 + 2 + 3, "two writers");
    assert_eq!(kept.store.block(old).await.expect("reads"), None);
}

#[tokio::test]
async fn a_month_that_is_over_is_unpinned() {
    let server = Server::start().await;
    let kept = Kept::at(&server).await;
    server.inside().begins_as = "pinned";
    kept.write(2).await;
    kept.settle().await;
    assert_eq!(server.pins().len(), 1);
    kept.clock.advance(Duration::from_secs(500 * 86_400));
    assert_eq!(kept.store.expire(kept.clock.now()).await.expect("expires"), 1);
    kept.keeper.round().await;
    assert!(server.pins().is_empty() && kept.keeper.status().await.expect("known").is_empty());
}
