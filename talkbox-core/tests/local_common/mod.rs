//! What the tests of the local store share.

use std::sync::Arc;

use talkbox_core::{
    Draft, EnvelopeId, Locator, ManualClock, Opener, SealOptions, Sealed, SecretKey, Timestamp,
    local::{Ingest, Kinds, MessageQuery, NewOutbox, Opened, OutboxId, Store, StoreKey, StoredMessage},
    seal::seal,
};

pub(crate) const NOW: Timestamp = Timestamp(1_790_000_000);

pub(crate) fn key() -> StoreKey {
    StoreKey::from_bytes([7; 32])
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::new(NOW)
}

pub(crate) async fn memory() -> (Store, ManualClock) {
    let clock = clock();
    let store = Store::in_memory(key(), Arc::new(clock.clone())).await.expect("opens");
    (store, clock)
}

pub(crate) async fn open(path: &std::path::Path) -> Store {
    Store::open(path, key(), Arc::new(clock())).await.expect("opens")
}

pub(crate) fn secret() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

pub(crate) fn holder(name: &str) -> Locator {
    Locator::new("test", name).expect("a locator")
}

pub(crate) fn sealed(text: &str, owner: &SecretKey) -> Sealed {
    sealed_by(&secret(), text, owner)
}

pub(crate) fn sealed_by(sender: &SecretKey, text: &str, owner: &SecretKey) -> Sealed {
    seal(&Draft::text(text), sender, owner.id(), NOW, &SealOptions::default()).expect("seals")
}

/// A batch of freshly sealed and opened messages.
pub(crate) fn batch(owner: &SecretKey, from: &str, envelopes: &[&Sealed]) -> Ingest {
    let opener = Opener::new(owner.clone());
    let mut batch = Ingest::new(owner.id(), holder(from));
    for sealed in envelopes {
        let message = opener.open(&sealed.envelope).expect("opens");
        batch.opened.push((sealed.envelope.clone(), Opened::Message(message)));
    }
    batch
}

pub(crate) fn outgoing(sealed: &Sealed) -> NewOutbox {
    NewOutbox {
        id: OutboxId::generate().expect("randomness"),
        recipient: sealed.envelope.mailbox(),
        message: sealed.message.clone(),
        envelope: sealed.envelope.clone(),
        wrap_key: sealed.wrap_key.clone(),
        seal: sealed.seal.clone(),
        locators: vec![holder("a"), holder("b"), holder("c")],
        min_acks: 2,
        copy_of: None,
    }
}

/// Every message of a mailbox, page by page.
pub(crate) async fn all(store: &Store, owner: &SecretKey, mut query: MessageQuery) -> Vec<StoredMessage> {
    let mut messages = Vec::new();
    loop {
        let page = store.messages(owner.id(), query.clone()).await.expect("reads");
        assert!(page.damaged.is_empty(), "nothing is damaged");
        messages.extend(page.items);
        match page.next {
            Some(next) => query = query.after(Some(next)),
            None => return messages,
        }
    }
}

pub(crate) async fn everything(store: &Store, owner: &SecretKey) -> Vec<StoredMessage> {
    all(store, owner, MessageQuery::oldest().kinds(Kinds::ALL)).await
}

pub(crate) fn ids(sealed: &[&Sealed]) -> Vec<EnvelopeId> {
    sealed.iter().map(|sealed| sealed.envelope.id()).collect()
}
