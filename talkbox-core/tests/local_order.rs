//! Whatever the order of arrival and however it is split into batches, the mailbox is the same.

use std::sync::OnceLock;

use proptest::{collection::vec, prelude::*, sample::select};
use talkbox_core::{
    Envelope, EnvelopeId, ErrorKind, Message, MessageId, Opener, SealOptions, SecretKey, Timestamp,
    local::{Ingest, Opened, Rejected, Store},
    seal::wrap,
};

#[expect(dead_code, reason = "each test program uses a part of it")]
mod local_common;
use local_common::*;

/// What can happen to a mailbox.
#[derive(Clone, Debug)]
enum Arrival {
    Opened(usize),
    Unreadable(usize),
    Rejected(usize),
}

struct Fixture {
    owner: SecretKey,
    /// Five messages in two envelopes each.
    envelopes: Vec<(Envelope, Message)>,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let owner = secret();
        let opener = Opener::new(owner.clone());
        let mut envelopes = Vec::new();
        for number in 0..5 {
            let sealed = sealed(&number.to_string(), &owner);
            let mut options = SealOptions::default();
            options.work = 3;
            let (again, _) = wrap(&sealed.seal, owner.id(), NOW, &options).expect("wraps");
            for envelope in [sealed.envelope, again] {
                let message = opener.open(&envelope).expect("opens");
                envelopes.push((envelope, message));
            }
        }
        Fixture { owner, envelopes }
    })
}

/// Everything that has to be the same: messages with what is known of them, and the sets of envelopes.
#[derive(Debug, PartialEq)]
struct Seen {
    messages: Vec<(Message, u8, Timestamp)>,
    bodies: Vec<EnvelopeId>,
    known: Vec<(Timestamp, EnvelopeId)>,
    to_delete: Vec<EnvelopeId>,
}

async fn seen(store: &Store) -> Seen {
    let owner = &fixture().owner;
    let messages = everything(store, owner).await;
    let mut messages: Vec<_> =
        messages.into_iter().map(|stored| (stored.message.clone(), stored.work, stored.sort_time())).collect();
    messages.sort_by_key(|(message, ..)| message.id);
    let page = store.envelopes(owner.id(), 0, 0).await.expect("reads");
    let mut bodies: Vec<_> = page.items.iter().map(Envelope::id).collect();
    bodies.sort();
    let known = store.known_set(owner.id()).await.expect("reads");
    let mut to_delete = store.deletions_to_sign(owner.id()).await.expect("reads");
    to_delete.sort();
    Seen { messages, bodies, known, to_delete }
}

async fn arrive(store: &Store, arrivals: &[Arrival]) {
    let Fixture { owner, envelopes } = fixture();
    let mut batch = Ingest::new(owner.id(), holder("a"));
    for arrival in arrivals {
        match arrival {
            Arrival::Opened(at) => {
                let (envelope, message) = envelopes[*at].clone();
                batch.opened.push((envelope, Opened::Message(message)));
            }
            Arrival::Unreadable(at) => {
                batch.opened.push((envelopes[*at].0.clone(), Opened::Unreadable(ErrorKind::InvalidEnvelope)));
            }
            Arrival::Rejected(at) => {
                let envelope = &envelopes[*at].0;
                let (created_at, until) = (envelope.created_at(), envelope.expires_at());
                let kind = ErrorKind::Refused;
                batch.rejected.push(Rejected { id: envelope.id(), created_at, until, kind });
            }
        }
    }
    store.ingest(batch).await.expect("ingests");
}

/// All envelopes opened once at least, with unreadable and rejected answers and repetitions among them.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let at = || select((0..10).collect::<Vec<usize>>());
    let more = prop_oneof![
        at().prop_map(Arrival::Opened),
        at().prop_map(Arrival::Unreadable),
        at().prop_map(Arrival::Rejected)
    ];
    vec(more, 0..12).prop_map(|more| (0..10).map(Arrival::Opened).chain(more).collect::<Vec<_>>()).prop_shuffle()
}

/// The message that is deleted on the way.
fn victim() -> MessageId {
    fixture().envelopes[0].1.id
}

async fn run(arrivals: &[Arrival], batch: usize, delete_after: usize) -> Seen {
    let (store, _) = memory().await;
    let owner = &fixture().owner;
    let mut deleted = false;
    for part in arrivals.chunks(batch) {
        arrive(&store, part).await;
        let there = store.message(owner.id(), victim()).await.expect("reads").is_some();
        if there && !deleted && delete_after == 0 {
            store.delete(owner.id(), &[victim()], &[]).await.expect("deletes");
            deleted = true;
        }
    }
    if !deleted {
        store.delete(owner.id(), &[victim()], &[]).await.expect("deletes");
    }
    seen(&store).await
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_arrival_does_not_matter(
        one in arrivals(),
        two in arrivals(),
        batches in (1_usize..8, 1_usize..30),
        delete_after in (0_usize..2, 0_usize..2),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (first, second) = runtime.block_on(async {
            (run(&one, batches.0, delete_after.0).await, run(&two, batches.1, delete_after.1).await)
        });
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(first.messages.len(), 4);
        prop_assert_eq!(first.bodies.len(), 8);
        prop_assert_eq!(first.known.len(), 10);
        prop_assert_eq!(first.to_delete.len(), 2);
        prop_assert!(first.messages.iter().all(|(_, work, _)| *work == 3));
    }
}
