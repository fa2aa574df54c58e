//! The client over the in-memory backend: the whole way of a message, and what happens when networks fail.

mod drafts;
mod killed;
mod order;
mod pending;
mod remedies;
mod waiting;
mod world;

use futures_util::StreamExt as _;
use talkbox_core::{
    Address, Draft, ErrorKind, SecretKey,
    client::{ClientEvent, Replied, SendRequest},
    local::{MessageQuery, OutboxState},
};

use crate::world::{BUDGET, World, bodies};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_and_its_answer_go_all_the_way() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let key = SecretKey::generate().expect("randomness");
    let announced = owner.announce(&key).await.expect("announces");
    assert!(announced.acks() >= 1);

    let address: Address = announced.record.code().into();
    let resolved = sender.resolve(&address, BUDGET).await.expect("resolves");
    assert_eq!(resolved.mailbox, key.id());
    let sent = sender.send(SendRequest::new(resolved, Draft::text("hello"))).await.expect("is committed");
    let entry = sender.stored(sent.outbox, BUDGET).await.expect("is tried");
    assert_eq!(entry.state, OutboxState::Stored(2));

    let synced = owner.sync(&key, BUDGET).await.expect("syncs");
    assert_eq!(synced.new, [sent.message]);
    assert!(owner.sync(&key, BUDGET).await.expect("syncs").new.is_empty());
    assert_eq!(bodies(&owner, &key).await, ["hello"]);

    let page = owner.store().messages(key.id(), MessageQuery::default()).await.expect("reads");
    let answer = owner.reply(&key, &page.items[0].message, Draft::text("hi back"), None).await.expect("is committed");
    let Replied::Sent(answer) = answer else { panic!("everybody can be asked: {answer:?}") };
    assert!(owner.stored(answer.outbox, BUDGET).await.expect("is tried").is_stored());

    let replies = sender.sync_conversations(BUDGET).await.expect("syncs");
    assert_eq!(replies.new, [answer.message]);
    let conversation = sender.store().conversations().await.expect("reads").remove(0).key;
    let page = sender.store().messages(conversation.id(), MessageQuery::default()).await.expect("reads");
    assert_eq!((page.items[0].message.body.as_str(), page.items[0].message.reply_to), ("hi back", Some(sent.message)));

    // The owner's own copy of the answer comes back under the same message id, once it is drained.
    owner.drain(&[], BUDGET).await.expect("drains");
    assert_eq!(owner.sync(&key, BUDGET).await.expect("syncs").new, [answer.message]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_announces_last_is_found_also_where_two_computers_do_in_one_second() {
    let world = World::new();
    let (one, other, sender) = (world.client().await, world.client().await, world.client().await);
    let key = SecretKey::generate().expect("randomness");
    one.announce(&key).await.expect("announces");
    world.clock.advance(std::time::Duration::from_secs(10));
    let before = other.announce(&key).await.expect("announces").record;
    let last = one.announce(&key).await.expect("announces").record;
    assert!(last.created_at() > before.created_at(), "equal times are decided by chance");
    let found = sender.resolve(&last.code().into(), BUDGET).await.expect("resolves");
    assert_eq!(found.record, Some(last));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_is_gone_everywhere_and_stays_away() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let key = SecretKey::generate().expect("randomness");
    let code = owner.announce(&key).await.expect("announces").record.code();
    let resolved = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    let sent = sender.send(SendRequest::new(resolved, Draft::text("x"))).await.expect("is committed");
    let entry = sender.stored(sent.outbox, BUDGET).await.expect("is tried");
    owner.sync(&key, BUDGET).await.expect("syncs");

    let deleted = owner.delete(&key, &[sent.message], BUDGET).await.expect("deletes");
    assert_eq!((deleted.messages, deleted.envelopes), (vec![sent.message], vec![entry.envelope.id()]));
    for holder in world.network.holders() {
        assert!(world.network.held(holder, key.id()).expect("a holder").is_empty());
    }
    owner.import(&key, vec![entry.envelope]).await.expect("imports");
    assert!(bodies(&owner, &key).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_nobody_knows_is_not_found() {
    let world = World::new();
    let code = talkbox_core::Shortcode::of(&SecretKey::generate().expect("randomness").id());
    let error = world.client().await.resolve(&code.into(), BUDGET).await.expect_err("nobody knows it");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_gives_what_was_there_and_what_comes() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let key = SecretKey::generate().expect("randomness");
    let code = owner.announce(&key).await.expect("announces").record.code();
    let resolved = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    let send = async |text: &str| {
        let sent = sender.send(SendRequest::new(resolved.clone(), Draft::text(text))).await.expect("is committed");
        sender.stored(sent.outbox, BUDGET).await.expect("is tried");
    };
    send("before").await;
    let mut events = owner.watch(&key);
    let mut seen = Vec::new();
    loop {
        match events.next().await.expect("goes on").expect("no error") {
            ClientEvent::Message(stored) => seen.push(stored.message.body),
            ClientEvent::CaughtUp { down } => {
                assert!(down.is_empty());
                send("after").await;
            }
            other => panic!("unexpected: {other:?}"),
        }
        if seen.len() == 2 {
            break;
        }
    }
    assert_eq!(seen, ["before", "after"]);
}
