//! The inbox of the local store: what arrives is there once, in any order, and what was deleted stays away.

use std::{collections::HashSet, time::Duration};

use talkbox_core::{
    Cursor, Draft, ErrorKind, Holding, HoldingState, MessageId, MessageKind, Opener, SealOptions, Sealed, Timestamp,
    local::{Kinds, Lookup, MessageCounts, MessageQuery, Opened, Rejected},
    seal::{seal, wrap},
};

#[expect(dead_code, reason = "each test program uses a part of it")]
mod local_common;
use local_common::*;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn what_arrives_is_there_once() {
    let (store, clock) = memory().await;
    let owner = secret();
    let (one, two) = (sealed("one", &owner), sealed("two", &owner));
    let mut first = batch(&owner, "a", &[&one, &two]);
    first.cursor = Some(Cursor("17".to_owned()));
    let done = store.ingest(first.clone()).await.expect("ingests");
    assert_eq!(done.new.iter().map(|new| new.message.body.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(store.cursor(owner.id(), &holder("a")).await.expect("reads"), Some(Cursor("17".to_owned())));
    assert_eq!(store.cursor(owner.id(), &holder("b")).await.expect("reads"), None);

    clock.advance(DAY);
    let again = store.ingest(first).await.expect("ingests");
    assert_eq!((again.new.len(), again.duplicates), (0, 2));
    let messages = everything(&store, &owner).await;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages.iter().find(|stored| stored.message.id == one.message.id).expect("there").message, one.message);
    assert_eq!(store.envelope(owner.id(), one.envelope.id()).await.expect("reads"), Some(one.envelope));
}

#[tokio::test]
async fn a_second_envelope_of_a_message_is_kept_and_not_shown() {
    let (store, _) = memory().await;
    let owner = secret();
    let one = sealed("one", &owner);
    let options = SealOptions::default();
    let (envelope, _) = wrap(&one.seal, owner.id(), NOW, &options).expect("wraps");
    let again = Sealed { envelope, ..one.clone() };
    store.ingest(batch(&owner, "a", &[&one])).await.expect("ingests");
    let done = store.ingest(batch(&owner, "a", &[&again])).await.expect("ingests");
    assert_eq!((done.new.len(), done.duplicates), (0, 1));
    assert_eq!(everything(&store, &owner).await.len(), 1);
    assert_eq!(store.envelopes_of(owner.id(), one.message.id).await.expect("reads").len(), 2);
    assert_eq!(store.envelopes(owner.id(), 0, 0).await.expect("reads").items.len(), 2);

    let deleted = store.delete(owner.id(), &[one.message.id], &[]).await.expect("deletes");
    assert_eq!(deleted.envelopes.len(), 2);
    assert!(everything(&store, &owner).await.is_empty());
    assert_eq!(store.envelope(owner.id(), one.envelope.id()).await.expect("reads"), None);
}

#[tokio::test]
async fn what_was_deleted_stays_away() {
    let (store, clock) = memory().await;
    let owner = secret();
    let one = sealed("one", &owner);
    store.ingest(batch(&owner, "a", &[&one])).await.expect("ingests");
    let deleted = store.delete(owner.id(), &[], &[one.envelope.id()]).await.expect("deletes");
    assert_eq!((deleted.messages, deleted.envelopes.clone()), (vec![one.message.id], vec![one.envelope.id()]));
    assert_eq!(store.deletions_to_sign(owner.id()).await.expect("reads"), deleted.envelopes);

    // The same envelope from a lagging holder, and the same message in another envelope.
    let done = store.ingest(batch(&owner, "b", &[&one])).await.expect("ingests");
    assert_eq!((done.new.len(), done.deleted), (0, 1));
    let (envelope, _) = wrap(&one.seal, owner.id(), NOW, &SealOptions::default()).expect("wraps");
    let again = Sealed { envelope, ..one.clone() };
    let done = store.ingest(batch(&owner, "b", &[&again])).await.expect("ingests");
    assert_eq!((done.new.len(), done.deleted), (0, 1));
    assert_eq!(store.deletions_to_sign(owner.id()).await.expect("reads").len(), 2);
    assert!(everything(&store, &owner).await.is_empty());

    // They count as known, so that they are not fetched again; and until they expire, as held.
    let known = store.known(owner.id(), &ids(&[&one, &again])).await.expect("reads");
    assert_eq!(known.len(), 2);
    assert_eq!(store.known_set(owner.id()).await.expect("reads").len(), 2);
    clock.advance(DAY * 93);
    assert!(store.known_set(owner.id()).await.expect("reads").is_empty());
    let done = store.ingest(batch(&owner, "b", &[&one])).await.expect("ingests");
    assert_eq!((done.new.len(), done.expired), (0, 1));
    store.sweep().await.expect("sweeps");
    let mut import = batch(&owner, "b", &[&one]);
    import.keep_expired = true;
    assert_eq!(store.ingest(import).await.expect("ingests").deleted, 1, "the message has a tombstone of its own");
}

/// The time of a message is the sender's word. One ahead of the clock is shown, and sorted as if it came now.
#[tokio::test]
async fn a_message_from_the_future_does_not_stay_on_top() {
    let (store, clock) = memory().await;
    let owner = secret();
    let opener = Opener::new(owner.clone());
    let mut first = batch(&owner, "a", &[]);
    let one = sealed("from the future", &owner);
    let mut message = opener.open(&one.envelope).expect("opens");
    message.sent_at = NOW.plus(400 * 86_400);
    first.opened.push((one.envelope.clone(), Opened::Message(message.clone())));
    store.ingest(first).await.expect("ingests");
    clock.advance(DAY);
    let later = seal(&Draft::text("later"), &secret(), owner.id(), NOW.plus(86_400), &SealOptions::default());
    store.ingest(batch(&owner, "a", &[&later.expect("seals")])).await.expect("ingests");
    let newest = all(&store, &owner, MessageQuery::newest()).await;
    let shown: Vec<_> = newest.iter().map(|stored| (stored.message.body.as_str(), stored.sort_time())).collect();
    assert_eq!(shown, [("later", NOW.plus(86_400)), ("from the future", NOW)]);
    assert_eq!(newest[1].message.sent_at, message.sent_at, "what the sender said is kept");
}

/// Holders refuse what is dated ahead; one that does not must not be able to make it stay for longer.
#[tokio::test]
async fn an_envelope_from_the_future_comes_in_its_time() {
    let (store, clock) = memory().await;
    let owner = secret();
    let mut options = SealOptions::default();
    options.backdate = false;
    let at = |ahead: u64| seal(&Draft::text("x"), &secret(), owner.id(), NOW.plus(ahead), &options).expect("seals");
    let (near, far) = (at(900), at(901));
    let both = batch(&owner, "a", &[&near, &far]);
    let done = store.ingest(both.clone()).await.expect("ingests");
    assert_eq!((done.new.len(), done.ahead, done.expired), (1, 1, 0));
    assert_eq!(store.known_set(owner.id()).await.expect("reads"), [(NOW.plus(900), near.envelope.id())]);
    clock.advance(Duration::from_secs(1));
    let done = store.ingest(both).await.expect("ingests");
    assert_eq!((done.new.len(), done.ahead, done.duplicates), (1, 0, 1));
}

#[tokio::test]
async fn what_was_refused_is_remembered_and_a_better_answer_wins() {
    let (store, _) = memory().await;
    let owner = secret();
    let one = sealed("one", &owner);
    let mut refused = local_common::batch(&owner, "a", &[]);
    let (id, created_at, until) = (one.envelope.id(), one.envelope.created_at(), one.envelope.expires_at());
    refused.rejected = vec![Rejected { id, created_at, until, kind: ErrorKind::Refused }];
    store.ingest(refused.clone()).await.expect("ingests");
    assert_eq!(store.known_set(owner.id()).await.expect("reads"), [(created_at, id)]);
    assert_eq!(store.envelope(owner.id(), id).await.expect("reads"), None);

    let mut unreadable = local_common::batch(&owner, "a", &[]);
    unreadable.opened = vec![(one.envelope.clone(), Opened::Unreadable(ErrorKind::InvalidEnvelope))];
    store.ingest(unreadable.clone()).await.expect("ingests");
    let kept = store.unreadable(owner.id(), 0, 0).await.expect("reads").items;
    assert_eq!(kept, std::slice::from_ref(&one.envelope));

    assert_eq!(store.ingest(batch(&owner, "a", &[&one])).await.expect("ingests").new.len(), 1);
    store.ingest(unreadable).await.expect("ingests");
    store.ingest(refused).await.expect("ingests");
    assert_eq!(everything(&store, &owner).await.len(), 1);
    assert!(store.unreadable(owner.id(), 0, 0).await.expect("reads").items.is_empty());
    assert_eq!(store.envelope(owner.id(), id).await.expect("reads"), Some(one.envelope));
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_not_at_all() {
    let (store, _) = memory().await;
    let (owner, other) = (secret(), secret());
    let (good, foreign) = (sealed("good", &owner), sealed("foreign", &other));
    let mut mixed = batch(&owner, "a", &[&good]);
    mixed.opened.extend(batch(&other, "a", &[&foreign]).opened);
    assert_eq!(store.ingest(mixed).await.expect_err("of another mailbox").kind(), ErrorKind::InvalidInput);

    let mut too_long = batch(&owner, "a", &[&good]);
    too_long.cursor = Some(Cursor("x".repeat(4097)));
    assert_eq!(store.ingest(too_long).await.expect_err("the cursor").kind(), ErrorKind::TooLarge);
    assert!(everything(&store, &owner).await.is_empty());
    assert!(store.known(owner.id(), &ids(&[&good])).await.expect("reads").is_empty());
}

#[tokio::test]
async fn holdings_follow_what_holders_show_and_say() {
    let (store, clock) = memory().await;
    let owner = secret();
    let one = sealed("one", &owner);
    store.ingest(batch(&owner, "a", &[&one])).await.expect("ingests");
    clock.advance(DAY);
    let mut seen = batch(&owner, "b", &[]);
    seen.seen = vec![one.envelope.id()];
    store.ingest(seen).await.expect("ingests");
    store.ingest(batch(&owner, "a", &[&one])).await.expect("ingests");

    let held = store.holdings(owner.id(), one.envelope.id()).await.expect("reads");
    let times: Vec<_> = held.iter().map(|held| (held.since, held.last_seen)).collect();
    assert_eq!(times, [(NOW, NOW.plus(86_400)), (NOW.plus(86_400), NOW.plus(86_400))]);

    let answer = |state| [Holding { id: one.envelope.id(), state }];
    let until = Some(Timestamp(2_000_000_000));
    store.audited(owner.id(), &holder("a"), &answer(HoldingState::Held { until })).await.expect("records");
    store.audited(owner.id(), &holder("a"), &answer(HoldingState::Unknown)).await.expect("records");
    store.audited(owner.id(), &holder("b"), &answer(HoldingState::Absent)).await.expect("records");
    let held = store.holdings(owner.id(), one.envelope.id()).await.expect("reads");
    assert_eq!(held.iter().map(|held| (held.holder.clone(), held.until)).collect::<Vec<_>>(), [(holder("a"), until)]);
}

#[tokio::test]
async fn pages_meet_and_filters_hold() {
    let (store, clock) = memory().await;
    let (owner, friend) = (secret(), secret());
    let opener = Opener::new(owner.clone());
    let mut expected = Vec::new();
    for number in 0..25_u64 {
        let sender = if number % 5 == 0 { friend.clone() } else { secret() };
        // Times that repeat, and arrive out of order.
        let time = NOW.minus(number * 7 % 10);
        let mut options = SealOptions::default();
        options.work = (number % 3) as u8 * 4;
        let one = seal(&Draft::text(number.to_string()), &sender, owner.id(), time, &options).expect("seals");
        let mut batch = batch(&owner, "a", &[]);
        let mut message = opener.open(&one.envelope).expect("opens");
        if number == 24 {
            message.kind = MessageKind::Control;
        }
        batch.opened.push((one.envelope.clone(), Opened::Message(message)));
        let stored = store.ingest(batch).await.expect("ingests").new.remove(0);
        expected.push(stored);
    }
    expected.sort_by_key(|stored| stored.sort_time());
    let bodies = |messages: &[talkbox_core::local::StoredMessage]| {
        messages.iter().map(|stored| stored.message.body.clone()).collect::<Vec<_>>()
    };
    for limit in [1, 3, 24, 25, 1000, 0] {
        let oldest = MessageQuery::oldest().kinds(Kinds::ALL).limit(limit);
        assert_eq!(bodies(&all(&store, &owner, oldest).await), bodies(&expected));
        let mut newest = all(&store, &owner, MessageQuery::newest().kinds(Kinds::ALL).limit(limit)).await;
        newest.reverse();
        assert_eq!(bodies(&newest), bodies(&expected));
        let from = all(&store, &owner, MessageQuery::newest().from(Some(friend.public())).limit(limit)).await;
        assert_eq!(from.len(), 5);
        assert!(from.iter().all(|stored| stored.message.from == friend.public()));
    }
    assert_eq!(all(&store, &owner, MessageQuery::newest()).await.len(), 24);
    assert_eq!(all(&store, &owner, MessageQuery::newest().kinds(Kinds::CONTROL)).await.len(), 1);
    let since = all(&store, &owner, MessageQuery::oldest().since(Some(NOW.minus(3)))).await;
    assert!(!since.is_empty() && since.iter().all(|stored| stored.sort_time() >= NOW.minus(3)));

    store.set_work_floor(owner.id(), 4).await.expect("sets");
    let requests = all(&store, &owner, MessageQuery::newest().requests(Some(true))).await;
    assert!(requests.iter().all(|stored| stored.requests && stored.work < 4));
    let others = all(&store, &owner, MessageQuery::newest().requests(Some(false))).await;
    assert_eq!(requests.len() + others.len(), 24);
    assert!(!requests.is_empty() && !others.is_empty());

    clock.advance(DAY);
    let read: Vec<MessageId> = expected[..10].iter().map(|stored| stored.message.id).collect();
    assert_eq!(store.mark_read(owner.id(), &read).await.expect("marks"), 10);
    assert_eq!(store.mark_read(owner.id(), &read).await.expect("marks"), 0);
    let unread = all(&store, &owner, MessageQuery::newest().unread(true).kinds(Kinds::ALL)).await;
    assert_eq!(unread.len(), 15);
    let one = store.message(owner.id(), read[0]).await.expect("reads").expect("there");
    assert_eq!(one.read_at, Some(NOW.plus(86_400)));
    let MessageCounts { total, unread, .. } = store.count(owner.id()).await.expect("counts");
    assert_eq!(total, 25);
    let control_read = expected[..10].iter().any(|stored| stored.message.kind == MessageKind::Control);
    assert_eq!(unread, if control_read { 15 } else { 14 });
    assert_eq!(store.mark_unread(owner.id(), &read[..3]).await.expect("marks"), 3);
}

#[tokio::test]
async fn a_prefix_finds_one_or_says_which() {
    let (store, _) = memory().await;
    let owner = secret();
    let (one, two) = (sealed("one", &owner), sealed("two", &owner));
    let mut batch = batch(&owner, "a", &[&one, &two]);
    // Ids that share five digits.
    for (at, (_, opened)) in batch.opened.iter_mut().enumerate() {
        let Opened::Message(message) = opened else { unreachable!("both were opened") };
        let mut id = [0xab; 32];
        id[31] = at as u8;
        message.id = MessageId::from_bytes(id);
    }
    let stored = store.ingest(batch).await.expect("ingests").new;
    let find = |prefix: String| {
        let store = store.clone();
        let owner = owner.id();
        async move { store.find_message(owner, &prefix).await }
    };
    let both = stored.iter().map(|stored| stored.message.id).collect();
    assert_eq!(find("ababa".to_owned()).await.expect("reads"), Lookup::Ambiguous(both));
    assert_eq!(
        find("ABAB".repeat(16)[..62].to_owned() + "01").await.expect("reads"),
        Lookup::Found(stored[1].message.id)
    );
    assert_eq!(find("0000".to_owned()).await.expect("reads"), Lookup::Missing);
    for wrong in ["", "aba", "abax", "äöü", &"a".repeat(65)] {
        assert_eq!(find(wrong.to_owned()).await.expect_err("no prefix").kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn an_opened_message_outlives_its_envelope() {
    let (store, clock) = memory().await;
    let owner = secret();
    let (one, junk) = (sealed("one", &owner), sealed("junk", &owner));
    let mut batch = batch(&owner, "a", &[&one]);
    batch.opened.push((junk.envelope.clone(), Opened::Unreadable(ErrorKind::InvalidEnvelope)));
    store.ingest(batch).await.expect("ingests");
    assert_eq!(store.sweep().await.expect("sweeps"), Default::default());
    clock.advance(DAY * 93);
    assert_eq!(store.sweep().await.expect("sweeps").envelopes, 2);
    assert_eq!(store.sweep().await.expect("sweeps").envelopes, 0);
    // Once a day is enough.
    assert!(store.sweep_daily().await.expect("sweeps").is_some());
    assert_eq!(store.sweep_daily().await.expect("is not due"), None);
    clock.advance(DAY);
    assert!(store.sweep_daily().await.expect("sweeps").is_some());
    assert_eq!(everything(&store, &owner).await[0].message, one.message);
    assert_eq!(store.envelope(owner.id(), one.envelope.id()).await.expect("reads"), None);
    assert_eq!(store.known(owner.id(), &ids(&[&one, &junk])).await.expect("reads"), HashSet::from([one.envelope.id()]));
    // Holders can still be asked to delete it.
    let deleted = store.delete(owner.id(), &[one.message.id], &[]).await.expect("deletes");
    assert_eq!(deleted.envelopes, [one.envelope.id()]);
}

#[tokio::test]
async fn mailboxes_do_not_mix() {
    let (store, _) = memory().await;
    let (owner, other) = (secret(), secret());
    let one = sealed("one", &owner);
    store.ingest(batch(&owner, "a", &[&one])).await.expect("ingests");
    assert!(everything(&store, &other).await.is_empty());
    assert!(store.message(other.id(), one.message.id).await.expect("reads").is_none());
    assert!(store.envelope(other.id(), one.envelope.id()).await.expect("reads").is_none());
    assert!(store.known(other.id(), &ids(&[&one])).await.expect("reads").is_empty());
    assert_eq!(store.delete(other.id(), &[one.message.id], &ids(&[&one])).await.expect("deletes"), Default::default());
    assert_eq!(everything(&store, &owner).await.len(), 1);
}
