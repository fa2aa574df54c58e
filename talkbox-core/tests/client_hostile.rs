//! The client among holders that lie, fail and die: what is good comes through, and nothing else.

use std::{sync::Arc, time::Duration};

use talkbox_core::{
    Backend, Clock, Draft, Envelope, EnvelopeId, ErrorKind, Locator, ManualClock, PutOptions, Registry, SealOptions,
    SecretKey, Timestamp,
    client::{SendRequest, Settings, Talkbox},
    config::Opened,
    local::{Kinds, MessageQuery, Store, StoreKey},
    memory::{self, MemoryNetwork},
    seal,
    testkit::{Fault, Faults as _, FaultyHolders, Lie},
};

const NOW: Timestamp = Timestamp(1_790_000_000);
const BUDGET: Duration = Duration::from_secs(20);

/// Three holders, each of which can be made to misbehave.
struct World {
    clock: Arc<ManualClock>,
    network: MemoryNetwork,
    faults: FaultyHolders,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let network = MemoryNetwork::of(&["a", "b", "c"], Arc::<ManualClock>::clone(&clock)).expect("a network");
        let faults = FaultyHolders::new(1, Duration::from_millis(100), Arc::<ManualClock>::clone(&clock));
        Self { clock, network, faults }
    }

    fn open(&self) -> Backend {
        self.faults.wrap(self.network.open("memory"))
    }

    async fn client(&self) -> Talkbox {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let key = StoreKey::generate().expect("randomness");
        let store = Store::in_memory(key, Arc::clone(&clock)).await.expect("a store");
        let backend = self.open();
        let mut opened = Opened::default();
        opened.mailboxes.extend(backend.mailbox.map(|mailbox| ("memory".to_owned(), mailbox)));
        opened.transports.extend(backend.transport.map(|transport| ("memory".to_owned(), transport)));
        Talkbox::new(store, opened, Registry::new().with(memory::backend()), clock, Settings::default())
    }

    fn holder(&self, at: usize) -> &Locator {
        &self.network.holders()[at]
    }

    /// So many messages for the owner, at all three.
    async fn mail(&self, owner: &SecretKey, count: usize) -> Vec<Envelope> {
        let one = |number: usize| {
            let sender = SecretKey::generate().expect("randomness");
            seal(&Draft::text(number.to_string()), &sender, owner.id(), NOW, &SealOptions::default()).expect("seals")
        };
        let envelopes: Vec<_> = (0..count).map(|number| one(number).envelope).collect();
        let mailbox = self.network.open("sender").mailbox.expect("a mailbox");
        for receipt in mailbox.put(&envelopes, PutOptions::default()).await {
            assert_eq!(receipt.expect("taken").acks.len(), 3);
        }
        envelopes
    }
}

fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

fn ids(envelopes: &[Envelope]) -> Vec<EnvelopeId> {
    let mut ids: Vec<_> = envelopes.iter().map(Envelope::id).collect();
    ids.sort();
    ids
}

/// What a client shows, and which envelopes its store holds or remembers.
async fn seen(client: &Talkbox, owner: &SecretKey) -> (Vec<String>, Vec<EnvelopeId>, usize) {
    let store = client.store();
    let page = store.messages(owner.id(), MessageQuery::oldest().kinds(Kinds::ALL)).await.expect("reads");
    let mut bodies: Vec<_> = page.items.into_iter().map(|stored| stored.message.body).collect();
    bodies.sort();
    let unreadable = store.unreadable(owner.id(), 0, 0).await.expect("reads").items.len();
    (bodies, ids(&store.envelopes(owner.id(), 0, 0).await.expect("reads").items), unreadable)
}

/// Forged, tampered, foreign, expired, dated ahead, garbage; twice, in another order, in pages of thousands.
#[tokio::test(flavor = "multi_thread")]
async fn no_lie_of_a_holder_is_shown_stored_or_in_the_way() {
    let world = World::new();
    let owner = key();
    let mail = world.mail(&owner, 5).await;
    for lie in Lie::ENVELOPES.into_iter().chain([Lie::HugePage, Lie::CursorLoop, Lie::Withhold]) {
        for liars in [1, 3] {
            let mut fault = Fault::lies([lie]);
            (fault.duplicate, fault.reorder) = (50, true);
            for at in 0..liars {
                world.faults.set(world.holder(at), fault.clone());
            }
            let reader = world.client().await;
            // Twice: what was refused once must not get in by being known.
            for _ in 0..2 {
                reader.sync(&owner, BUDGET).await.expect("the store is well");
            }
            let (bodies, envelopes, unreadable) = seen(&reader, &owner).await;
            assert_eq!(unreadable, 0, "{lie:?} of {liars}");
            if lie == Lie::Withhold && liars == 3 {
                assert!(bodies.is_empty() && envelopes.is_empty());
            } else if liars == 1 || Lie::ENVELOPES.contains(&lie) {
                assert_eq!(bodies, ["0", "1", "2", "3", "4"], "{lie:?} of {liars}");
                assert_eq!(envelopes, ids(&mail), "{lie:?} of {liars}");
            } else {
                assert!(envelopes.iter().all(|id| ids(&mail).contains(id)), "{lie:?} of {liars}");
            }
            world.faults.clear();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_lies_does_not_decide_what_a_code_means() {
    let world = World::new();
    let (owner, stranger) = (key(), key());
    let code = world.client().await.announce(&owner).await.expect("announces").record.code();
    for at in 0..3 {
        // Records of other keys that claim the code, forged and tampered ones, garbage; before the right one.
        assert!(world.faults.set(world.holder(at), Fault::lies(Lie::RECORDS)));
    }
    let sender = world.client().await;
    for _ in 0..2 {
        let found = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
        assert_eq!(found.mailbox, owner.id());
    }
    let unknown = talkbox_core::Shortcode::of(&stranger.id());
    let error = world.client().await.resolve(&unknown.into(), BUDGET).await.expect_err("only liars know it");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_holders_dies_and_nothing_is_lost() {
    const MESSAGES: usize = 12;
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let key = key();
    let code = owner.announce(&key).await.expect("announces").record.code();
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    for number in 0..MESSAGES {
        if number == MESSAGES / 2 {
            world.faults.set(world.holder(0), Fault::refuses(ErrorKind::Unreachable, "dead"));
        }
        let sent = sender.send(SendRequest::new(to.clone(), Draft::text("x"))).await.expect("is committed");
        let entry = sender.stored(sent.outbox, BUDGET).await.expect("is tried");
        assert!(entry.is_stored(), "two are left: {:?}", entry.state);
    }
    let synced = owner.sync(&key, BUDGET).await.expect("syncs");
    assert_eq!(synced.new.len(), MESSAGES);
    assert_eq!(synced.holders.iter().filter(|(_, answer)| answer.is_err()).count(), 1, "and the dead one is named");
}
