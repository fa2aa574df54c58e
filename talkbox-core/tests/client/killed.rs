//! A sender that is killed after the holders have taken its message, and before it has written that down.

use std::{path::Path, sync::Arc, time::Duration};

use talkbox_core::{
    Clock, Draft, Level, PutOptions, SecretKey,
    client::{SendRequest, Talkbox},
    local::{MessageQuery, OutboxState, Store, StoreKey, Way},
};

use crate::world::{BUDGET, World, bodies};

/// How long the killed process would have had the entry for itself.
const LEASE: Duration = Duration::from_secs(20);

async fn sender(world: &World, path: &Path) -> Talkbox {
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    let store = Store::open(path, StoreKey::from_bytes([7; 32]), clock).await.expect("a store");
    world.client_on(store, world.network.open("memory"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_holders_had_taken_is_settled_by_the_next_command_and_listed_as_sent() {
    let (world, folder) = (World::new(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("store.db");
    let (owner, key) = (world.client().await, SecretKey::generate().expect("randomness"));
    let code = owner.announce(&key).await.expect("announces").record.code();
    let own = SecretKey::generate().expect("randomness");

    let killed = sender(&world, &path).await;
    let to = killed.resolve(&code.into(), BUDGET).await.expect("resolves");
    let request = SendRequest::new(to, Draft::text("the last words")).from(Some(own.clone()));
    let sent = killed.send(request).await.expect("is committed");
    let entry = killed.store().claim_one(sent.outbox, LEASE).await.expect("claims").expect("is free");
    let mailbox = world.network.open("memory").mailbox.expect("a mailbox");
    mailbox.put(&[entry.envelope], PutOptions::default()).await.remove(0).expect("is taken");
    // No word to the store, and no end that it hears of.
    drop(killed);

    // The sender's own copy was committed with the message, and nobody has a lease on it.
    let next = sender(&world, &path).await;
    next.drain(&[], BUDGET).await.expect("drains");
    next.sync(&own, BUDGET).await.expect("syncs");
    let mut query = MessageQuery::default();
    query.way = Way::Sent;
    let listed = next.store().messages(own.id(), query).await.expect("reads").items;
    assert_eq!(listed.iter().map(|stored| stored.message.id).collect::<Vec<_>>(), [sent.message]);
    let now = async || next.store().outbox_entry(sent.outbox).await.expect("reads").expect("is kept");
    assert_eq!(now().await.state, OutboxState::Sending, "it may still be at it, for all that is known");

    world.clock.advance(LEASE + Duration::from_secs(1));
    assert_eq!(next.drain(&[], BUDGET).await.expect("drains").stored, 1);
    let entry = now().await;
    assert_eq!(entry.state, OutboxState::Stored(2));
    assert!(entry.acks.iter().all(|(ack, _)| ack.level == Level::Duplicate), "{:?}", entry.acks);
    owner.sync(&key, BUDGET).await.expect("syncs");
    assert_eq!(bodies(&owner, &key).await, ["the last words"], "once, and not for each attempt");
}
