//! Faults are what they say, and the same from the same seed.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use talkbox_core::{
    AuditOptions, Draft, Envelope, EnvelopeId, ErrorKind, HoldingState, ListOptions, Locator, Mailbox, ManualClock,
    PutOptions, SealOptions, SecretKey, Timestamp, WatchEvent, WatchOptions,
    memory::MemoryNetwork,
    seal,
    testkit::{Fault, Faults as _, FaultyHolders, Lie},
};

const NOW: Timestamp = Timestamp(1_790_000_000);

struct Scene {
    network: MemoryNetwork,
    faults: FaultyHolders,
    mailbox: Arc<dyn Mailbox>,
    owner: SecretKey,
    holder: Locator,
}

fn scene(seed: u64) -> Scene {
    let clock = Arc::new(ManualClock::new(NOW));
    let network = MemoryNetwork::of(&["a", "b"], Arc::<ManualClock>::clone(&clock)).expect("a network");
    let faults = FaultyHolders::new(seed, Duration::from_millis(100), clock);
    let mailbox = faults.wrap(network.open("x")).mailbox.expect("a mailbox");
    let holder = network.holders()[0].clone();
    Scene { network, faults, mailbox, owner: SecretKey::generate().expect("randomness"), holder }
}

impl Scene {
    fn envelopes(&self, count: usize) -> Vec<Envelope> {
        let sender = SecretKey::generate().expect("randomness");
        let one = || seal(&Draft::text("x"), &sender, self.owner.id(), NOW, &SealOptions::default());
        (0..count).map(|_| one().expect("seals").envelope).collect()
    }

    async fn put(&self, envelopes: &[Envelope]) {
        for answer in self.mailbox.put(envelopes, PutOptions::default()).await {
            assert_eq!(answer.expect("taken").acks.len(), 2);
        }
    }

    async fn listed(&self) -> Vec<EnvelopeId> {
        let page = self.mailbox.list(self.owner.id(), &self.holder, ListOptions::default()).await.expect("a page");
        page.items.iter().map(talkbox_core::RawEnvelope::id).collect()
    }
}

#[tokio::test]
async fn a_holder_that_drops_acknowledges_and_stores_nothing() {
    let scene = scene(1);
    scene.faults.set(&scene.holder, Fault::drops(100));
    scene.put(&scene.envelopes(3)).await;
    let held = |at: usize| scene.network.held(&scene.network.holders()[at], scene.owner.id()).expect("known").len();
    assert_eq!((held(0), held(1)), (0, 3));
    scene.faults.clear();
    scene.put(&scene.envelopes(1)).await;
    assert_eq!(held(0), 1);
}

#[tokio::test]
async fn the_same_seed_drops_the_same() {
    let mut kept = Vec::new();
    for seed in [1, 1, 2] {
        let scene = scene(seed);
        scene.faults.set(&scene.holder, Fault::drops(50));
        let envelopes = scene.envelopes(40);
        scene.put(&envelopes).await;
        let held = scene.network.held(&scene.holder, scene.owner.id()).expect("known");
        kept.push(envelopes.iter().map(|envelope| held.contains(&envelope.id())).collect::<Vec<_>>());
    }
    assert_eq!(kept[0], kept[1]);
    assert_ne!(kept[0], kept[2]);
    assert!(kept[0].contains(&true) && kept[0].contains(&false));
}

#[tokio::test]
async fn order_and_number_of_what_is_listed_can_be_wrong() {
    let scene = scene(1);
    let envelopes = scene.envelopes(20);
    let ids: Vec<_> = envelopes.iter().map(Envelope::id).collect();
    scene.put(&envelopes).await;
    assert_eq!(scene.listed().await, ids);

    scene.faults.set(&scene.holder, Fault::reorders());
    let mut reordered = scene.listed().await;
    assert_ne!(reordered, ids);
    reordered.sort_unstable();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(reordered, sorted);

    scene.faults.set(&scene.holder, Fault::duplicates(100));
    assert_eq!(scene.listed().await.len(), 40);
}

#[tokio::test]
async fn a_holder_can_withhold_flood_and_lead_in_circles() {
    let scene = scene(1);
    let envelopes = scene.envelopes(3);
    scene.put(&envelopes).await;
    let list = |after| {
        let options = ListOptions::default().limit(2).after(after);
        scene.mailbox.list(scene.owner.id(), &scene.holder, options)
    };
    scene.faults.set(&scene.holder, Fault::lies([Lie::Withhold]));
    assert!(scene.listed().await.is_empty());
    let missing = scene.envelopes(1)[0].id();
    let states = scene.mailbox.audit(scene.owner.id(), &scene.holder, &[missing], AuditOptions::default()).await;
    assert!(matches!(states.expect("an answer")[0].state, HoldingState::Held { .. }));

    scene.faults.set(&scene.holder, Fault::lies([Lie::HugePage]));
    assert!(list(None).await.expect("a page").items.len() > 1000);

    scene.faults.set(&scene.holder, Fault::lies([Lie::CursorLoop]));
    let first = list(None).await.expect("a page");
    let second = list(first.next.clone()).await.expect("a page");
    assert!(second.more && second.next == first.next);
}

#[tokio::test]
async fn a_holder_that_hangs_is_given_up() {
    let scene = scene(1);
    scene.faults.set(&scene.holder, Fault::hangs());
    let list = scene.mailbox.list(scene.owner.id(), &scene.holder, ListOptions::default()).await;
    assert_eq!(list.expect_err("hangs").kind(), ErrorKind::Timeout);
    let receipt = scene.mailbox.put(&scene.envelopes(1), PutOptions::default()).await.remove(0).expect("the other one");
    assert_eq!((receipt.acks.len(), receipt.refused[0].kind), (1, ErrorKind::Timeout));
}

#[tokio::test]
async fn a_watch_can_be_lied_to_and_interrupted() {
    let scene = scene(1);
    let mut events = scene.mailbox.watch(scene.owner.id(), WatchOptions::default()).expect("watches");
    for _ in scene.network.holders() {
        assert!(matches!(events.next().await, Some(Ok(WatchEvent::Live { .. }))));
    }
    scene.faults.interrupt(&scene.holder);
    let error = events.next().await.expect("an event").expect_err("lost");
    assert_eq!((error.kind(), error.context("holder")), (ErrorKind::Unreachable, Some(scene.holder.as_str())));
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Lagged { .. }))));
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Live { .. }))));

    scene.faults.set(&scene.holder, Fault::lies([Lie::Forged]));
    let envelopes = scene.envelopes(1);
    scene.put(&envelopes).await;
    let (mut good, mut forged) = (0, 0);
    while good < 2 {
        let Some(Ok(WatchEvent::Envelope { raw, .. })) = events.next().await else { panic!("no envelope") };
        match Envelope::verify(&raw) {
            Ok(envelope) => {
                assert_eq!(envelope, envelopes[0]);
                good += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::VerificationFailed);
                forged += 1;
            }
        }
    }
    // In whichever order the two holders come, the lies stand before the truth of the one that lies.
    assert_eq!(forged, 2);
}
