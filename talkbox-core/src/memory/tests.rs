//! What this network does beyond what every backend has to: gates, restarts, lost disks, bounds.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;

use super::*;
use crate::{
    AuditOptions, Backend, BackendConfig, Clock, DeleteOptions, DeleteRequest, Envelope, ErrorKind, HoldingState,
    KeyAuthorizer, Level, ListOptions, Mailbox, ManualClock, OpenContext, PutOptions, Registry, SealOptions, SecretKey,
    Timestamp, WatchEvent, WatchOptions,
    seal::{Draft, Sealed, seal},
};

const NOW: Timestamp = Timestamp(1_790_000_000);

fn clock() -> (ManualClock, Arc<dyn Clock>) {
    let clock = ManualClock::new(NOW);
    (clock.clone(), Arc::new(clock))
}

fn network() -> MemoryNetwork {
    MemoryNetwork::of(&["a", "b"], clock().1).expect("a network")
}

fn mailbox(backend: &Backend) -> Arc<dyn Mailbox> {
    Arc::clone(backend.mailbox.as_ref().expect("a mailbox"))
}

fn sealed_to(owner: &SecretKey) -> Sealed {
    let sender = SecretKey::generate().expect("randomness");
    seal(&Draft::text("x"), &sender, owner.id(), NOW, &SealOptions::default()).expect("seals")
}

fn envelopes(owner: &SecretKey, count: usize) -> Vec<Envelope> {
    (0..count).map(|_| sealed_to(owner).envelope).collect()
}

fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

#[tokio::test]
async fn by_name_it_is_a_network_of_its_own() {
    let registry = Registry::new().with(backend());
    let def = registry.get(SCHEME).expect("registered");
    let config = BackendConfig::new(serde_json::json!({"holders": ["a", "b"]}).as_object().expect("a table").clone());
    let one = (def.open)(config.clone(), OpenContext::new("one")).await.expect("opens");
    let other = (def.open)(config, OpenContext::new("other")).await.expect("opens");
    let (one, other) = (mailbox(&one), mailbox(&other));
    assert_eq!((one.descriptor().name.as_str(), one.holders().len()), ("one", 2));
    assert!(!one.capabilities().durable, "it goes with the process");

    let owner = key();
    let now = crate::SystemClock.now();
    let sealed = seal(&Draft::text("x"), &key(), owner.id(), now, &SealOptions::default()).expect("seals");
    one.put(&[sealed.envelope], PutOptions::default()).await.remove(0).expect("stored");
    let holder = &one.holders()[0];
    assert_eq!(one.list(owner.id(), holder, ListOptions::default()).await.expect("a page").items.len(), 1);
    assert!(other.list(owner.id(), holder, ListOptions::default()).await.expect("a page").items.is_empty());
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused() {
    for (config, what) in [
        (serde_json::json!({"holders": []}), "none"),
        (serde_json::json!({"holders": ["a", "a"]}), "twice"),
        (serde_json::json!({"holders": ["a b"]}), "no name"),
        (serde_json::json!({"holder": ["a"]}), "misspelt"),
    ] {
        let config = BackendConfig::new(config.as_object().expect("a table").clone());
        let error = (backend().open)(config, OpenContext::new("x")).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{what}");
    }
}

#[tokio::test]
async fn a_gated_mailbox_is_read_by_its_owner_and_each_envelope_audited_by_its_author() {
    let config = MemoryConfig { gated: true, ..MemoryConfig::default() };
    let network = MemoryNetwork::new(config, clock().1).expect("a network");
    let owned = mailbox(&network.open("x"));
    let holder = &owned.holders()[0];
    let (owner, stranger) = (key(), key());
    let (mine, others) = (sealed_to(&owner), sealed_to(&owner));
    owned.put(&[mine.envelope.clone(), others.envelope.clone()], PutOptions::default()).await;
    let auth = |key: &SecretKey| -> Option<Arc<dyn crate::Authorizer>> {
        Some(Arc::new(KeyAuthorizer::for_anyone(key.clone(), clock().1)))
    };

    let list = |key| owned.list(owner.id(), holder, ListOptions::default().auth(key));
    assert_eq!(list(auth(&owner)).await.expect("the owner").items.len(), 2);
    assert_eq!(list(auth(&stranger)).await.expect_err("a stranger").kind(), ErrorKind::Denied);
    assert_eq!(list(None).await.expect_err("nobody").kind(), ErrorKind::Denied);

    let ids = [mine.envelope.id(), others.envelope.id()];
    let by_author = AuditOptions::default().auth(auth(&mine.wrap_key));
    let states = owned.audit(owner.id(), holder, &ids, by_author).await.expect("an answer");
    assert!(matches!(states[0].state, HoldingState::Held { .. }), "its own");
    assert_eq!(states[1].state, HoldingState::Unknown, "somebody else's");

    let mut watch = owned.watch(owner.id(), WatchOptions::default().auth(auth(&stranger))).expect("watches");
    assert_eq!(watch.next().await.expect("an event").expect_err("a stranger").kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_new_numbering_makes_old_cursors_unknown() {
    let network = network();
    let mailbox = mailbox(&network.open("x"));
    let (owner, holder) = (key(), &network.holders()[0]);
    mailbox.put(&envelopes(&owner, 2), PutOptions::default()).await;
    let page = mailbox.list(owner.id(), holder, ListOptions::default()).await.expect("a page");
    network.renumber(holder).expect("known");
    let after = |cursor| mailbox.list(owner.id(), holder, ListOptions::default().after(cursor));
    assert_eq!(after(page.next.clone()).await.expect_err("unknown").kind(), ErrorKind::NotFound);
    assert_eq!(after(Some(crate::Cursor("x".to_owned()))).await.expect_err("unknown").kind(), ErrorKind::NotFound);

    let named = vec![(holder.clone(), page.next.expect("a cursor"))];
    let mut watch = mailbox.watch(owner.id(), WatchOptions::default().after(named)).expect("watches");
    let events: Vec<_> = watch.by_ref().take(3).map(|event| event.expect("no error")).collect().await;
    assert!(events.iter().any(|event| matches!(event, WatchEvent::Lagged { holder: at } if at == holder)));
}

#[tokio::test]
async fn a_restart_is_told_to_those_who_watch() {
    let network = network();
    let mailbox = mailbox(&network.open_at("x", &network.holders()[..1]));
    let (owner, holder) = (key(), &network.holders()[0]);
    let mut watch = mailbox.watch(owner.id(), WatchOptions::default()).expect("watches");
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Live { .. }))));
    network.restart(holder).expect("known");
    let error = watch.next().await.expect("an event").expect_err("lost");
    assert_eq!((error.kind(), error.context("holder")), (ErrorKind::Unreachable, Some(holder.as_str())));
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Lagged { .. }))));
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Live { .. }))));
    assert_eq!(network.watchers(), 1);
    drop(watch);
    assert_eq!(network.watchers(), 0);
}

#[tokio::test]
async fn what_a_holder_lost_can_be_put_again() {
    let network = network();
    let mailbox = mailbox(&network.open("x"));
    let (owner, holder) = (key(), &network.holders()[1]);
    let kept = envelopes(&owner, 2);
    mailbox.put(&kept, PutOptions::default()).await;
    network.lose(holder, &[kept[0].id()]).expect("known");
    assert_eq!(network.held(holder, owner.id()).expect("known"), [kept[1].id()]);
    let receipt = mailbox.put(&kept[..1], PutOptions::default()).await.remove(0).expect("stored");
    let levels: Vec<_> = receipt.acks.iter().map(|ack| ack.level).collect();
    assert_eq!(levels, [Level::Duplicate, Level::Stored]);
}

#[tokio::test]
async fn a_full_holder_refuses_until_something_expires() {
    let (manual, clock) = clock();
    let config = MemoryConfig { max_envelopes: 2, ..MemoryConfig::default() };
    let network = MemoryNetwork::new(config, clock).expect("a network");
    let mailbox = mailbox(&network.open("x"));
    let owner = key();
    let mut answers = mailbox.put(&envelopes(&owner, 3), PutOptions::default()).await;
    let error = answers.remove(2).expect_err("full");
    assert_eq!((error.kind(), answers.iter().all(Result::is_ok)), (ErrorKind::Refused, true));

    manual.advance(Duration::from_secs(100 * 86_400));
    let later = seal(&Draft::text("x"), &key(), owner.id(), NOW.plus(100 * 86_400), &SealOptions::default());
    let answer = mailbox.put(&[later.expect("seals").envelope], PutOptions::default()).await.remove(0);
    answer.expect("there is room again");
}

#[tokio::test]
async fn a_deletion_that_comes_first_decides_on_arrival() {
    let network = network();
    let mailbox = mailbox(&network.open("x"));
    let owner = key();
    let (deleted, kept) = (sealed_to(&owner).envelope, sealed_to(&owner).envelope);
    let ids = [deleted.id(), kept.id()];
    let by_owner = DeleteRequest::sign(&owner, owner.id(), &ids[..1], NOW).expect("signs");
    let by_stranger = DeleteRequest::sign(&key(), owner.id(), &ids[1..], NOW).expect("signs");
    mailbox.delete(&[by_owner, by_stranger], DeleteOptions::default()).await;
    let answers = mailbox.put(&[deleted, kept], PutOptions::default()).await;
    assert_eq!(answers[0].as_ref().expect_err("deleted").kind(), ErrorKind::Refused);
    assert!(answers[1].is_ok());
}

#[tokio::test]
async fn a_page_is_bounded_in_number_and_bytes() {
    let network = network();
    let mailbox = mailbox(&network.open_at("x", &network.holders()[..1]));
    let (owner, sender, holder) = (key(), key(), &network.holders()[0]);
    let large = Draft::text("x".repeat(24 * 1024));
    let large =
        (0..100).map(|_| seal(&large, &sender, owner.id(), NOW, &SealOptions::default()).expect("seals").envelope);
    mailbox.put(&large.collect::<Vec<_>>(), PutOptions::default()).await;
    let page = mailbox.list(owner.id(), holder, ListOptions::default().limit(5_000)).await.expect("a page");
    let bytes: usize = page.items.iter().map(|raw| raw.json().len()).sum();
    assert!(page.more && bytes <= 4 * 1024 * 1024, "{} items, {bytes} bytes", page.items.len());
}
