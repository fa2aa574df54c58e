//! What waits for a holder that cannot be reached now, and who has to wait for one that is slow.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use talkbox_core::{
    Clock, Draft, MessageId, PutOptions, Registry, SealOptions, SecretKey,
    client::{SendRequest, Settings, Talkbox},
    config::Opened,
    local::OutboxState,
    seal,
};

use crate::world::{BUDGET, NOW, World, bodies};

fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

/// A client that has read a message, which both holders still have.
async fn with_mail(world: &World) -> (Talkbox, SecretKey, MessageId) {
    let (owner, owner_key, message) = with_mail_at_holders(world).await;
    owner.sync(&owner_key, BUDGET).await.expect("syncs");
    (owner, owner_key, message)
}

/// A message that the holders have and its owner does not yet.
async fn with_mail_at_holders(world: &World) -> (Talkbox, SecretKey, MessageId) {
    let (owner, sender) = (world.client().await, world.client().await);
    let owner_key = key();
    let code = owner.announce(&owner_key).await.expect("announces").record.code();
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    let sent = sender.send(SendRequest::new(to, Draft::text("x"))).await.expect("is committed");
    sender.drain(&[], BUDGET).await.expect("drains");
    (owner, owner_key, sent.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_knows_no_way_to_a_holder_takes_nothing_out_of_the_outbox() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let code = owner.announce(&key()).await.expect("announces").record.code();
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    let sent = sender.send(SendRequest::new(to, Draft::text("later"))).await.expect("is committed");

    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    let (store, settings) = (sender.store().clone(), Settings::default());
    let elsewhere = Talkbox::new(store, Opened::default(), Registry::new(), clock, settings);
    let drained = elsewhere.drain(&[], BUDGET).await.expect("drains");
    assert_eq!(drained.entries.len(), 1);
    assert_eq!(drained.entries[0].state, OutboxState::Queued, "{:?}", drained.entries[0].refused);
    assert!(drained.entries[0].next_try.is_some());

    world.clock.advance(Duration::from_secs(60));
    sender.drain(&[], BUDGET).await.expect("drains");
    let entry = sender.store().outbox_entry(sent.outbox).await.expect("reads").expect("is there");
    assert_eq!(entry.state, OutboxState::Stored(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_follows_a_recipient_who_has_moved() {
    let world = World::new();
    let [old, new] = [0, 1].map(|at| world.network.holders()[at].clone());
    let owner_key = key();
    let at = async |place| world.client_of(world.network.open_at("memory", &[place])).await;
    let before = at(old).await;
    let code = before.announce(&owner_key).await.expect("announces").record.code();
    let sender = world.client().await;
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");

    world.hang(1);
    let sent = sender.send(SendRequest::new(to, Draft::text("where are you?"))).await.expect("is committed");
    let state = async || sender.store().outbox_entry(sent.outbox).await.expect("reads").expect("is there").state;
    sender.drain(&[], BUDGET).await.expect("drains");
    assert_eq!(state().await, OutboxState::Queued);

    world.clock.advance(Duration::from_secs(60));
    let after = at(new).await;
    after.announce(&owner_key).await.expect("announces");
    sender.drain(&[], BUDGET).await.expect("drains");
    assert_eq!(state().await, OutboxState::Stored(1));
    after.sync(&owner_key, BUDGET).await.expect("syncs");
    assert_eq!(bodies(&after, &owner_key).await, ["where are you?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_told_before_the_slowest_holder_answers_and_in_order() {
    let day = Duration::from_secs(86_400);
    let world = World::patient(day);
    let (owner, sender) = (world.client().await, world.client().await);
    let owner_key = key();
    let code = owner.announce(&owner_key).await.expect("announces").record.code();
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    let mut sent = Vec::new();
    for count in 0..20 {
        let request = SendRequest::new(to.clone(), Draft::text(count.to_string()));
        sent.push(sender.send(request).await.expect("is committed").message);
    }
    sender.drain(&[], BUDGET).await.expect("drains");

    // One holder never answers, however long it is given: the other is told of at once.
    world.hang(1);
    let mut syncing = owner.syncing(&owner_key, day);
    let first = syncing.next().await.expect("one is through");
    assert_eq!(first.holders.len(), 1);
    assert_eq!((first.holders[0].1.as_ref().expect("answers"), first.new), (&20, sent));
    drop(syncing);
    assert_eq!(bodies(&owner, &owner_key).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_several_holders_bring_are_in_one_order() {
    let world = World::new();
    let (owner, owner_key) = (world.client().await, key());
    let mailbox = world.network.open("memory").mailbox.expect("a mailbox");
    let mut sent = Vec::new();
    for count in 0..20_u64 {
        let mut options = SealOptions::default();
        options.written = Some(NOW.secs() * 1000 - 60_000 + count);
        let draft = Draft::text(count.to_string());
        let sealed = seal(&draft, &key(), owner_key.id(), NOW, &options).expect("seals");
        // Each holder has every second one.
        let holder = world.network.holders()[count as usize % 2].clone();
        let put = mailbox.put(&[sealed.envelope], PutOptions::default().at([holder])).await;
        assert!(put.iter().all(Result::is_ok));
        sent.push(sealed.message.id);
    }
    world.delay_one(Duration::from_millis(5));
    assert_eq!(owner.sync(&owner_key, BUDGET).await.expect("syncs").new, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_reached_nobody_is_asked_for_again_soon() {
    let world = World::new();
    let (owner, owner_key, message) = with_mail(&world).await;

    world.hang(2);
    owner.delete(&owner_key, &[message], BUDGET).await.expect("is gone here");
    assert_eq!(owner.store().count_deletions().await.expect("reads"), 1);
    world.hang(0);
    world.clock.advance(Duration::from_secs(5));
    owner.drain(&[], BUDGET).await.expect("drains");
    for holder in world.network.holders() {
        assert!(world.network.held(holder, owner_key.id()).expect("a holder").is_empty());
    }
    assert_eq!(owner.store().count_deletions().await.expect("reads"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_reaches_holders_that_the_command_did_not_name() {
    let world = World::new();
    let (owner, owner_key, message) = with_mail_at_holders(&world).await;
    // Only one of the two brings it, or it would hang on their race whether both are known to have it.
    let bringer = &world.network.holders()[1];
    world.refuse_but(bringer);
    owner.sync(&owner_key, BUDGET).await.expect("syncs");
    world.hang(0);

    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    let (store, settings) = (owner.store().clone(), Settings::default());
    let elsewhere = Talkbox::new(store, Opened::default(), Registry::new(), clock, settings);
    elsewhere.delete(&owner_key, &[message], BUDGET).await.expect("is gone here");
    assert_eq!(owner.store().count_deletions().await.expect("reads"), 1);
    world.clock.advance(Duration::from_secs(5));
    owner.drain(&[], BUDGET).await.expect("drains");
    assert!(world.network.held(bringer, owner_key.id()).expect("a holder").is_empty());
}
