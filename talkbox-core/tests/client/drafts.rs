//! Messages to mailboxes that nobody can be asked for: kept, and sent once somebody can.

use std::time::Duration;

use talkbox_core::{
    Address, Draft, ErrorKind, Retry, SecretKey, Shortcode,
    client::{LaterRequest, Replied, SendRequest, Talkbox},
    local::{MessageQuery, OutboxId, OutboxState, StoredMessage},
};

use crate::world::{BUDGET, NOW, World, bodies};

/// Longer than the longest pause between two searches.
const LATER: Duration = Duration::from_secs(4000);

fn key() -> SecretKey {
    SecretKey::generate().expect("randomness")
}

async fn state(client: &Talkbox, id: OutboxId) -> OutboxState {
    client.store().outbox_entry(id).await.expect("reads").expect("is there").state
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_knows_it_is_told_from_nobody_could_be_asked() {
    let world = World::new();
    let unknown: Address = Shortcode::of(&key().id()).into();
    let client = world.client().await;
    for (hanging, kind, retry) in [
        (0, ErrorKind::NotFound, Retry::No),
        (1, ErrorKind::NotFound, Retry::After(None)),
        (2, ErrorKind::Unreachable, Retry::After(None)),
    ] {
        world.hang(hanging);
        let error = client.resolve(&unknown, BUDGET).await.expect_err("nobody has it");
        assert_eq!((error.kind(), error.retry_advice()), (kind, retry), "{hanging} do not answer: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_that_do_not_answer_the_question_are_no_proof_that_nobody_knows() {
    let world = World::new();
    world.refuse();
    let error = world.client().await.resolve(&Shortcode::of(&key().id()).into(), BUDGET).await.expect_err("refused");
    assert_eq!((error.kind(), error.retry_advice()), (ErrorKind::Unreachable, Retry::After(None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_code_that_cannot_be_looked_up_is_sent_later() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let owner_key = key();
    let code = owner.announce(&owner_key).await.expect("announces").record.code();
    world.hang(2);
    let error = sender.resolve(&code.into(), Duration::from_secs(2)).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let id = sender.send_later(LaterRequest::new(code.into(), Draft::text("early"))).await.expect("is kept");
    sender.drain(&[], BUDGET).await.expect("drains");
    let waiting = sender.store().draft(id).await.expect("reads").expect("still waits");
    assert_eq!((waiting.attempts, waiting.reason), (1, None));
    assert!(waiting.next_try.is_some_and(|next| next > NOW));

    world.hang(0);
    world.clock.advance(LATER);
    sender.drain(&[], BUDGET).await.expect("drains");
    assert_eq!(sender.store().drafts().await.expect("reads"), []);
    assert_eq!(state(&sender, id).await, OutboxState::Stored(2), "under the id that it had");
    owner.sync(&owner_key, BUDGET).await.expect("syncs");
    let page = owner.store().messages(owner_key.id(), MessageQuery::default()).await.expect("reads");
    let StoredMessage { message, .. } = &page.items[0];
    assert_eq!((message.body.as_str(), message.sent_at), ("early", NOW), "dated when it was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_s_own_draft_waits_for_one_s_own_key() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let (owner_key, sender_key) = (key(), key());
    let code = owner.announce(&owner_key).await.expect("announces").record.code();
    let later = LaterRequest::new(code.into(), Draft::text("mine")).from(Some(sender_key.id()));
    let id = sender.send_later(later).await.expect("is kept");
    sender.drain(&[key()], BUDGET).await.expect("drains");
    assert!(sender.store().draft(id).await.expect("reads").is_some(), "nobody else can seal it");
    assert_eq!(sender.store().next_due().await.expect("reads"), None, "nor need anybody else try");
    sender.drain(std::slice::from_ref(&sender_key), BUDGET).await.expect("drains");
    assert_eq!(state(&sender, id).await, OutboxState::Stored(2));
    owner.sync(&owner_key, BUDGET).await.expect("syncs");
    let page = owner.store().messages(owner_key.id(), MessageQuery::default()).await.expect("reads");
    assert_eq!(page.items[0].message.from, sender_key.public());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_nobody_knows_is_given_up_and_can_be_tried_again() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let owner_key = key();
    let code = Shortcode::of(&owner_key.id());
    let id = sender.send_later(LaterRequest::new(code.into(), Draft::text("to nobody"))).await.expect("is kept");
    sender.drain(&[], BUDGET).await.expect("drains");
    let waiting = sender.store().draft(id).await.expect("reads").expect("is kept all the same");
    assert_eq!((waiting.next_try, waiting.reason.as_deref()), (None, Some("nobody that was asked knows this code")));

    owner.announce(&owner_key).await.expect("announces");
    sender.store().postpone_draft(id, NOW).await.expect("is tried again");
    sender.drain(&[], BUDGET).await.expect("drains");
    assert_eq!(state(&sender, id).await, OutboxState::Stored(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_until_its_mailbox_can_be_looked_for() {
    let world = World::new();
    let (owner, sender) = (world.client().await, world.client().await);
    let (owner_key, sender_key) = (key(), key());
    let code = owner.announce(&owner_key).await.expect("announces").record.code();
    sender.announce(&sender_key).await.expect("announces");
    let to = sender.resolve(&code.into(), BUDGET).await.expect("resolves");
    for from in [Some(sender_key.clone()), None] {
        let request = SendRequest::new(to.clone(), Draft::text("question")).from(from);
        let sent = sender.send(request).await.expect("is committed");
        sender.stored(sent.outbox, BUDGET).await.expect("is tried");
    }
    owner.sync(&owner_key, BUDGET).await.expect("syncs");
    let questions = owner.store().messages(owner_key.id(), MessageQuery::oldest()).await.expect("reads").items;

    // The sender's record cannot be looked for: it must not be taken for somebody who has none.
    world.hang(2);
    let mut waiting = Vec::new();
    for question in &questions {
        let replied = owner.reply(&owner_key, &question.message, Draft::text("answer"), None).await.expect("is kept");
        let Replied::Waits(id) = replied else { panic!("nobody can be asked: {replied:?}") };
        waiting.push(id);
    }
    world.hang(0);
    world.clock.advance(LATER);
    owner.drain(std::slice::from_ref(&owner_key), BUDGET).await.expect("drains");
    for id in waiting {
        assert_eq!(state(&owner, id).await, OutboxState::Stored(2));
    }
    sender.sync(&sender_key, BUDGET).await.expect("syncs");
    assert_eq!(bodies(&sender, &sender_key).await.iter().filter(|body| *body == "answer").count(), 1);
    assert_eq!(sender.sync_conversations(BUDGET).await.expect("syncs").new.len(), 1, "to the throw-away key");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sealed_is_refused_at_once_and_what_is_taken_back_is_gone() {
    let client = World::new().client().await;
    let code: Address = Shortcode::of(&key().id()).into();
    for body in [String::new(), "x".repeat(24 * 1024 + 1)] {
        let error =
            client.send_later(LaterRequest::new(code.clone(), Draft::text(body))).await.expect_err("no message");
        assert!(matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::TooLarge));
    }
    let id = client.send_later(LaterRequest::new(code, Draft::text("x"))).await.expect("is kept");
    assert!(client.store().cancel_draft(id).await.expect("is wiped"));
    assert!(!client.store().cancel_draft(id).await.expect("is gone"));
    assert!(!client.store().enqueue_draft(id, Vec::new()).await.expect("is gone"));
}
