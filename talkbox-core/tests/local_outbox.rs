//! The outbox of the local store: its states, leases, and what holders said.

use std::time::Duration;

use talkbox_core::{
    Ack, ErrorKind, HoldingState, Level, Refusal, Retry, SealOptions, Timestamp,
    local::{Attempt, Lookup, OutboxQuery, OutboxState},
    seal::wrap,
};

#[expect(dead_code, reason = "each test program uses a part of it")]
mod local_common;
use local_common::*;

const MINUTE: Duration = Duration::from_secs(60);

fn ack(name: &str) -> Ack {
    Ack { holder: holder(name), level: Level::Stored, until: Some(Timestamp(1_900_000_000)) }
}

fn refusal(name: &str, kind: ErrorKind, words: &str) -> Refusal {
    Refusal::new(holder(name), kind, words)
}

#[tokio::test]
async fn an_entry_goes_from_queued_to_delivered() {
    let (store, clock) = memory().await;
    let sealed = sealed("hello", &secret());
    let id = store.enqueue(outgoing(&sealed)).await.expect("enqueues");
    assert_eq!(store.next_due().await.expect("reads"), Some(NOW));
    assert_eq!(store.outbox_entry(id).await.expect("reads").expect("there").state, OutboxState::Queued);

    let mut entries = store.claim(10, MINUTE).await.expect("claims");
    assert_eq!(entries.len(), 1);
    let entry = entries.remove(0);
    assert_eq!((entry.id, entry.attempts, entry.state.clone()), (id, 1, OutboxState::Sending));
    assert_eq!((&entry.envelope, &entry.message, &entry.seal), (&sealed.envelope, &sealed.message, &sealed.seal));
    assert_eq!(entry.wrap_key().expect("kept").public(), sealed.wrap_key.public());
    assert!(store.claim(10, MINUTE).await.expect("claims").is_empty(), "it is leased");
    assert_eq!(store.next_due().await.expect("reads"), Some(NOW.plus(60)));

    // One ack of two: it is stored once, and tried again.
    let next = Some(NOW.plus(30));
    let refused = vec![refusal("b", ErrorKind::RateLimited, "slow down"), refusal("c", ErrorKind::Refused, "blocked")];
    let attempt = Attempt { acks: vec![ack("a")], refused: refused.clone(), next_try: next, ..Attempt::default() };
    assert_eq!(store.settle(id, attempt).await.expect("settles"), OutboxState::Stored(1));
    let entry = store.outbox_entry(id).await.expect("reads").expect("there");
    assert_eq!((entry.acks.len(), &entry.refused, entry.is_stored()), (1, &refused, false));
    assert!(store.claim(10, MINUTE).await.expect("claims").is_empty(), "it is not due");

    clock.advance(MINUTE);
    assert_eq!(store.claim(10, MINUTE).await.expect("claims")[0].attempts, 2);
    // The same holder again does not count twice, and a refusal takes no ack back.
    let refused = vec![refusal("a", ErrorKind::Refused, "no more")];
    let attempt = Attempt { acks: vec![ack("b")], refused, ..Attempt::default() };
    assert_eq!(store.settle(id, attempt).await.expect("settles"), OutboxState::Stored(2));
    let entry = store.outbox_entry(id).await.expect("reads").expect("there");
    assert_eq!((entry.is_stored(), entry.stored_at, entry.next_try), (true, Some(NOW.plus(60)), None));
    assert_eq!(entry.acks.iter().map(|(ack, _)| ack.clone()).collect::<Vec<_>>(), [ack("a"), ack("b")]);
    assert_eq!(store.next_due().await.expect("reads"), None);

    assert_eq!(store.delivered(id).await.expect("ends"), OutboxState::Delivered);
    assert!(store.outbox_entry(id).await.expect("reads").expect("there").wrap_keys.is_empty());
    assert_eq!(store.cancel(id).await.expect("stays"), OutboxState::Delivered);
    assert_eq!(store.retry(id).await.expect("stays"), OutboxState::Delivered);
}

#[tokio::test]
async fn nothing_is_forgotten() {
    let (store, clock) = memory().await;
    let id = store.enqueue(outgoing(&sealed("one", &secret()))).await.expect("enqueues");
    store.claim(1, MINUTE).await.expect("claims");
    // All refuse and the caller names no next try: wedged, in the words of the most telling one.
    let refused = vec![refusal("a", ErrorKind::Refused, "blocked: spam")];
    let state = store.settle(id, Attempt { refused, ..Attempt::default() }).await.expect("settles");
    assert_eq!(state, OutboxState::Wedged("blocked: spam".to_owned()));
    assert!(store.claim(1, MINUTE).await.expect("claims").is_empty());
    assert_eq!(store.retry(id).await.expect("retries"), OutboxState::Queued);
    assert_eq!(store.claim(1, MINUTE).await.expect("claims").len(), 1);

    // Pending somewhere: looked at again although nobody said when.
    let state = store.settle(id, Attempt { pending: vec![holder("c")], ..Attempt::default() }).await.expect("settles");
    assert_eq!(state, OutboxState::Queued);
    assert_eq!(store.outbox_entry(id).await.expect("reads").expect("there").pending, [holder("c")]);
    clock.advance(MINUTE * 11);
    assert_eq!(store.claim(1, MINUTE).await.expect("claims").len(), 1);
    let held = HoldingState::Held { until: None };
    assert_eq!(store.settle_audit(id, &holder("c"), held).await.expect("settles"), OutboxState::Stored(1));
    assert_eq!(
        store.settle_audit(id, &holder("c"), HoldingState::Unknown).await.expect("settles"),
        OutboxState::Stored(1)
    );
    let state = store.settle_audit(id, &holder("c"), HoldingState::Absent).await.expect("settles");
    assert_eq!(state, OutboxState::Sending, "it is leased still");

    assert_eq!(
        store.wedge(id, "given\u{1b}[2J up").await.expect("wedges"),
        OutboxState::Wedged("given[2J up".to_owned())
    );
    assert_eq!(store.cancel(id).await.expect("cancels"), OutboxState::Cancelled);
    assert!(store.outbox_entry(id).await.expect("reads").expect("there").wrap_keys.is_empty(), "nobody has it");
    let missing = talkbox_core::local::OutboxId::generate().expect("randomness");
    assert_eq!(store.cancel(missing).await.expect_err("missing").kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_taken_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store");
    let clock = clock();
    let open = || talkbox_core::local::Store::open(&path, key(), std::sync::Arc::new(clock.clone()));
    let (one, other) = (open().await.expect("opens"), open().await.expect("opens"));
    let id = one.enqueue(outgoing(&sealed("one", &secret()))).await.expect("enqueues");
    assert_eq!(one.claim(5, MINUTE).await.expect("claims").len(), 1);
    assert!(other.claim(5, MINUTE).await.expect("claims").is_empty());
    assert!(other.claim_one(id, MINUTE).await.expect("claims").is_none());
    assert!(one.extend_lease(id, MINUTE * 2).await.expect("extends"));
    clock.advance(MINUTE);
    assert!(other.claim(5, MINUTE).await.expect("claims").is_empty());
    clock.advance(MINUTE);
    assert_eq!(other.claim(5, MINUTE).await.expect("claims").len(), 1);
    assert!(!one.extend_lease(id, MINUTE).await.expect("lost"));
    // What the first one had got done counts; the lease of the second stays.
    let attempt = Attempt { acks: vec![ack("a")], next_try: Some(NOW), ..Attempt::default() };
    assert_eq!(one.settle(id, attempt.clone()).await.expect("settles"), OutboxState::Stored(1));
    assert!(one.claim(5, MINUTE).await.expect("claims").is_empty());
    other.settle(id, attempt).await.expect("settles");
    assert_eq!(one.claim(5, MINUTE).await.expect("claims").len(), 1);

    // A clock that is set back does not keep an entry away.
    clock.set(NOW.minus(100_000));
    one.retry(id).await.expect("due now");
    assert_eq!(other.claim(5, MINUTE).await.expect("claims").len(), 1);
    other.release(id, MINUTE).await.expect("releases");
    assert!(other.claim(5, MINUTE).await.expect("claims").is_empty());
    clock.advance(MINUTE);
    assert_eq!(one.claim_one(id, MINUTE).await.expect("claims").expect("free").id, id);
}

#[tokio::test]
async fn a_fresh_wrap_takes_the_place_of_a_refused_one() {
    let (store, clock) = memory().await;
    let sealed = sealed("one", &secret());
    let id = store.enqueue(outgoing(&sealed)).await.expect("enqueues");
    store.claim(1, MINUTE).await.expect("claims");
    let next_try = Some(NOW.plus(1_000));
    let attempt = Attempt { acks: vec![ack("a")], next_try, ..Attempt::default() };
    store.settle(id, attempt).await.expect("settles");
    let mut options = SealOptions::default();
    options.work = 4;
    let (envelope, wrap_key) = wrap(&sealed.seal, sealed.envelope.mailbox(), NOW, &options).expect("wraps");
    store.replace_envelope(id, envelope.clone(), wrap_key.clone()).await.expect("replaces");
    let entry = store.claim(1, MINUTE).await.expect("due at once").remove(0);
    assert_eq!((&entry.envelope, entry.acks[0].1), (&envelope, sealed.envelope.id()));
    assert_eq!(entry.wrap_key().expect("kept").public(), wrap_key.public());
    assert_eq!(entry.wrap_keys.len(), 2, "the first one still audits what its holders have");

    let attempt = Attempt { acks: vec![ack("b")], ..Attempt::default() };
    assert_eq!(store.settle(id, attempt).await.expect("settles"), OutboxState::Stored(2));
    clock.advance(Duration::from_secs(7 * 86_400 - 1));
    assert_eq!(store.sweep().await.expect("sweeps").wrap_keys, 0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(store.sweep().await.expect("sweeps").wrap_keys, 2);
    assert!(store.outbox_entry(id).await.expect("reads").expect("there").wrap_keys.is_empty());
    clock.advance(Duration::from_secs(90 * 86_400));
    assert_eq!(store.sweep().await.expect("sweeps").outbox, 1);
    assert!(store.outbox_entry(id).await.expect("reads").is_none());

    let other = local_common::sealed("other", &secret());
    let entry = store.enqueue(outgoing(&sealed)).await.expect("enqueues");
    let error = store.replace_envelope(entry, other.envelope, other.wrap_key).await.expect_err("of another mailbox");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn entries_are_found_by_what_one_knows() {
    let (store, _) = memory().await;
    let (friend, sender) = (secret(), secret());
    let sealed = sealed_by(&sender, "one", &friend);
    let original = outgoing(&sealed);
    let own = talkbox_core::seal::seal_copy(
        &talkbox_core::Draft::text("one"),
        &sealed.message,
        &sender,
        friend.id(),
        NOW,
        &SealOptions::default(),
    );
    let own = own.expect("seals");
    let copy = talkbox_core::local::NewOutbox { copy_of: Some(original.id), ..outgoing(&own) };
    let (id, copy_id) = (original.id, copy.id);
    assert_eq!(sealed.message.id, own.message.id, "the copy is the same message");
    store.enqueue_all(vec![original, copy]).await.expect("enqueues");

    let page = store.outbox(OutboxQuery::default()).await.expect("reads");
    assert_eq!(page.items.iter().map(|entry| entry.id).collect::<Vec<_>>(), [copy_id, id]);
    let by = |change: fn(&mut OutboxQuery)| {
        let mut query = OutboxQuery::default();
        change(&mut query);
        query
    };
    let originals = store.outbox(by(|query| query.originals = true)).await.expect("reads");
    assert_eq!(originals.items.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id]);
    let mut query = by(|query| query.limit = 1);
    let first = store.outbox(query.clone()).await.expect("reads");
    query.after = first.next;
    assert_eq!(store.outbox(query).await.expect("reads").items[0].id, id);
    let mut query = OutboxQuery::default();
    query.message = Some(sealed.message.id);
    query.recipient = Some(friend.id());
    assert_eq!(store.outbox(query).await.expect("reads").items.len(), 1);

    assert_eq!(store.find_outbox(&id.to_string()[..8]).await.expect("reads"), Lookup::Found(id));
    let both = Lookup::Ambiguous(vec![id, copy_id]);
    assert_eq!(store.find_outbox(&sealed.message.id.to_hex()).await.expect("reads"), both);
    assert_eq!(id.to_string().parse::<talkbox_core::local::OutboxId>().expect("reads"), id);
    store.wedge(id, "no").await.expect("wedges");
    let open = store.outbox(by(|query| query.unsettled = true)).await.expect("reads");
    assert_eq!(open.items.iter().map(|entry| entry.id).collect::<Vec<_>>(), [copy_id]);
    let state = store.redirect(id, vec![holder("z")]).await.expect("redirects");
    assert_eq!(state, OutboxState::Wedged("no".to_owned()));
    assert_eq!(store.outbox_entry(id).await.expect("reads").expect("there").locators, [holder("z")]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_taken() {
    let (store, _) = memory().await;
    let sealed = sealed("one", &secret());
    let good = outgoing(&sealed);
    let mut nowhere = good.clone();
    nowhere.locators.clear();
    let mut nobody = good.clone();
    nobody.min_acks = 0;
    let mut elsewhere = good.clone();
    elsewhere.recipient = secret().id();
    let mut stolen = good.clone();
    stolen.wrap_key = secret();
    for wrong in [nowhere, nobody, elsewhere, stolen] {
        assert_eq!(store.enqueue(wrong).await.expect_err("wrong").kind(), ErrorKind::InvalidInput);
    }
    store.enqueue(good.clone()).await.expect("enqueues");
    assert!(store.enqueue(good).await.is_err(), "an id is used once");
    assert_eq!(store.outbox(OutboxQuery::default()).await.expect("reads").items.len(), 1);
}

#[tokio::test]
async fn what_fails_in_a_group_takes_only_itself_back() {
    let (store, _) = memory().await;
    let new: Vec<_> = (0..40).map(|_| outgoing(&sealed("one", &secret()))).collect();
    // Every fourth comes twice.
    let calls = new.iter().enumerate().flat_map(|(at, new)| vec![new.clone(); if at % 4 == 0 { 2 } else { 1 }]);
    let answers = futures_util::future::join_all(calls.map(|new| store.enqueue(new))).await;
    assert_eq!((answers.len(), answers.iter().filter(|answer| answer.is_err()).count()), (50, 10));
    let stored = store.outbox(OutboxQuery::default()).await.expect("reads").items;
    assert_eq!(
        stored.iter().rev().map(|entry| entry.id).collect::<Vec<_>>(),
        new.iter().map(|new| new.id).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn every_advice_comes_back() {
    let (store, _) = memory().await;
    let id = store.enqueue(outgoing(&sealed("one", &secret()))).await.expect("enqueues");
    let advices = [Retry::No, Retry::After(None), Retry::After(Some(Duration::from_secs(9))), Retry::Exhausted];
    let refused: Vec<_> = advices
        .iter()
        .enumerate()
        .map(|(at, retry)| Refusal { retry: *retry, ..refusal(&at.to_string(), ErrorKind::Timeout, "x") })
        .collect();
    let attempt = Attempt { refused: refused.clone(), next_try: Some(NOW), ..Attempt::default() };
    store.settle(id, attempt).await.expect("settles");
    assert_eq!(store.outbox_entry(id).await.expect("reads").expect("there").refused, refused);
}
