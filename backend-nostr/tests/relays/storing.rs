//! Put, list, audit, delete and watch on relays that mean well.

use crate::hostile::{Gate, Relay, Script, Writes};
use crate::support::{
    NOW, auth, envelopes, holder, ids, key, list_all, mailbox, open, open_with, sealed, soon, sorted,
};
use futures_util::StreamExt as _;
use talkbox_core::{
    AuditOptions, Cursor, DeleteOptions, DeleteRequest, DeletionState, Draft, ErrorKind, HoldingState, Level,
    ListOptions, ManualClock, PutOptions, SealOptions, Timestamp, WatchEvent, WatchOptions,
};

#[tokio::test]
async fn what_was_put_is_listed_by_every_relay() {
    let (one, other) = (Relay::honest().await, Relay::honest().await);
    let backend = open(&[&one.url, &other.url]).await;
    let owner = key();
    let sent = envelopes(owner.id(), 3);

    let receipts = mailbox(&backend).put(&sent, PutOptions::default()).await;
    for receipt in receipts {
        let receipt = receipt.expect("stored");
        assert_eq!(receipt.acks.len(), 2);
        assert!(receipt.acks.iter().all(|ack| ack.level == Level::Stored));
    }
    for relay in [&one, &other] {
        let (listed, _) =
            list_all(mailbox(&backend), owner.id(), &holder(&relay.url), ListOptions::default()).await.expect("lists");
        assert_eq!(sorted(listed), ids(&sent));
    }
    let again = mailbox(&backend).put(&sent[..1], PutOptions::default()).await.remove(0).expect("stored");
    assert!(again.acks.iter().all(|ack| ack.level == Level::Duplicate) && again.acks.len() == 2);
    assert_eq!(one.connections(), 1, "all of it over one connection");
}

#[tokio::test]
async fn pages_bring_everything_once_whatever_the_relay_gives_at_once() {
    for script in [
        Script::default(),
        Script { cap: Some(7), ..Script::default() },
        Script { cap: Some(7), says_finish: true, ..Script::default() },
        Script { cap: Some(1), ..Script::default() },
    ] {
        let relay = Relay::scripted(script.clone()).await;
        let backend = open(&[&relay.url]).await;
        let owner = key();
        let sent = envelopes(owner.id(), 40);
        sent.iter().for_each(|envelope| relay.plant(envelope.json()));
        for limit in [0, 1, 6, 7, 8, 100] {
            let options = ListOptions::default().limit(limit);
            let page = mailbox(&backend).list(owner.id(), &holder(&relay.url), options.clone()).await.expect("lists");
            assert!(limit == 0 || page.items.len() <= limit as usize);
            let (listed, _) =
                list_all(mailbox(&backend), owner.id(), &holder(&relay.url), options).await.expect("lists");
            assert_eq!(sorted(listed), ids(&sent), "limit {limit}, {script:?}");
        }
    }
}

#[tokio::test]
async fn a_full_page_of_one_second_hides_nothing() {
    let relay = Relay::honest().await;
    let backend = open(&[&relay.url]).await;
    let owner = key();
    // Sealing without a back-date gives all of them the same time.
    let options = {
        let mut options = talkbox_core::SealOptions::default();
        options.backdate = false;
        options
    };
    let at = |secs: u64| {
        talkbox_core::seal(&talkbox_core::Draft::text("x"), &key(), owner.id(), Timestamp(secs), &options)
            .expect("seals")
            .envelope
    };
    let mut sent: Vec<_> = (0..30).map(|_| at(NOW.secs() - 100)).collect();
    sent.extend((0..5).map(|number| at(NOW.secs() - 200 - number)));
    sent.iter().for_each(|envelope| relay.plant(envelope.json()));
    for limit in [1, 4, 30, 0] {
        let (listed, _) =
            list_all(mailbox(&backend), owner.id(), &holder(&relay.url), ListOptions::default().limit(limit))
                .await
                .expect("lists");
        assert_eq!(sorted(listed), ids(&sent), "limit {limit}");
    }
    // A relay that shows no more than ten of them hides the rest, and nothing of what lies below.
    relay.follow(Script { cap: Some(10), ..Script::default() });
    let fresh = open(&[&relay.url]).await;
    let (listed, _) =
        list_all(mailbox(&fresh), owner.id(), &holder(&relay.url), ListOptions::default()).await.expect("lists");
    assert!(ids(&sent[30..]).iter().all(|id| listed.contains(id)));
    assert_eq!(listed.len(), 15);
}

#[tokio::test]
async fn a_later_call_finds_what_came_late_and_dated_back() {
    let relay = Relay::honest().await;
    let clock = ManualClock::new(NOW);
    let backend = open_with(&[&relay.url], 2_000, clock.clone(), false).await;
    let owner = key();
    let early = envelopes(owner.id(), 20);
    early.iter().for_each(|envelope| relay.plant(envelope.json()));
    let at = holder(&relay.url);
    let (_, cursor) = list_all(mailbox(&backend), owner.id(), &at, ListOptions::default()).await.expect("lists");

    // These are dated up to two days before the newest that is known.
    clock.set(NOW.plus(60));
    let late = envelopes(owner.id(), 20);
    late.iter().for_each(|envelope| relay.plant(envelope.json()));
    let options = ListOptions::default().after(cursor.clone());
    let (listed, next) = list_all(mailbox(&backend), owner.id(), &at, options).await.expect("lists");
    assert!(ids(&late).iter().all(|id| listed.contains(id)));
    let questions = relay.heard("REQ");
    let since: Vec<_> = questions.iter().filter_map(|question| question[2]["since"].as_u64()).collect();
    let overlap = 2 * 86_400 + 15 * 60;
    assert!(!since.is_empty() && since.iter().all(|since| *since == NOW.secs() - overlap), "from our clock alone");

    // A week later what is old is not sent again.
    clock.set(NOW.plus(7 * 86_400));
    let options = ListOptions::default().after(next);
    let (_, next) = list_all(mailbox(&backend), owner.id(), &at, options).await.expect("lists");
    let (listed, _) =
        list_all(mailbox(&backend), owner.id(), &at, ListOptions::default().after(next)).await.expect("lists");
    assert!(listed.is_empty());

    let foreign = ListOptions::default().after(Some(Cursor("of another kind".to_owned())));
    let error = mailbox(&backend).list(owner.id(), &at, foreign).await.expect_err("not its own");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_has_expired_and_what_is_for_others_is_not_listed() {
    let relay = Relay::honest().await;
    let clock = ManualClock::new(NOW);
    let backend = open_with(&[&relay.url], 2_000, clock.clone(), false).await;
    let (owner, other) = (key(), key());
    let sent = envelopes(owner.id(), 2);
    sent.iter().for_each(|envelope| relay.plant(envelope.json()));
    relay.plant(sealed(other.id(), "not for you").envelope.json());
    let at = holder(&relay.url);
    let list = || list_all(mailbox(&backend), owner.id(), &at, ListOptions::default());
    assert_eq!(sorted(list().await.expect("lists").0), ids(&sent));
    let fetched =
        mailbox(&backend).list(owner.id(), &at, ListOptions::default().ids([sent[0].id()])).await.expect("fetches");
    assert_eq!((fetched.items.len(), fetched.more), (1, false));
    clock.set(sent[0].expires_at().max(sent[1].expires_at()));
    assert!(list().await.expect("lists").0.is_empty());
}

#[tokio::test]
async fn a_relay_that_gates_reads_is_shown_who_asks() {
    for (gate, challenges_late) in
        [(Gate::Reads, false), (Gate::Reads, true), (Gate::ReadsSilently, false), (Gate::ReadsSilently, true)]
    {
        let relay = Relay::scripted(Script { gate, challenges_late, ..Script::default() }).await;
        let backend = open(&[&relay.url]).await;
        let (owner, stranger) = (key(), key());
        let mail = sealed(owner.id(), "gated");
        relay.plant(mail.envelope.json());
        let at = holder(&relay.url);
        let list = |options: ListOptions| list_all(mailbox(&backend), owner.id(), &at, options);
        let as_owner = list(ListOptions::default().auth(Some(auth(&owner)))).await.expect("lists").0;
        assert_eq!(as_owner, [mail.envelope.id()]);
        match (gate, list(ListOptions::default()).await, list(ListOptions::default().auth(Some(auth(&stranger)))).await)
        {
            (Gate::Reads, Err(anonymous), Err(stranger)) => {
                assert_eq!((anonymous.kind(), stranger.kind()), (ErrorKind::Denied, ErrorKind::Denied));
            }
            (_, anonymous, stranger) => {
                assert!(anonymous.expect("lists").0.is_empty() && stranger.expect("lists").0.is_empty())
            }
        }

        let ids = [mail.envelope.id(), talkbox_core::EnvelopeId::from_bytes([7; 32])];
        let audit = |options| mailbox(&backend).audit(owner.id(), &at, &ids, options);
        for who in [&owner, &mail.wrap_key] {
            let states: Vec<_> = audit(AuditOptions::default().auth(Some(auth(who))))
                .await
                .expect("audits")
                .iter()
                .map(|it| it.state)
                .collect();
            assert_eq!(states, [HoldingState::Held { until: None }, HoldingState::Absent]);
        }
        if gate == Gate::ReadsSilently {
            let states: Vec<_> =
                audit(AuditOptions::default()).await.expect("audits").iter().map(|it| it.state).collect();
            assert_eq!(states, [HoldingState::Unknown; 2], "silence towards a stranger proves nothing");
        }
    }
}

#[tokio::test]
async fn a_relay_that_takes_events_from_somebody_alone_gets_a_throw_away_key() {
    for challenges_late in [false, true] {
        let relay = Relay::scripted(Script { gate: Gate::Writes, challenges_late, ..Script::default() }).await;
        let backend = open(&[&relay.url]).await;
        let sent = envelopes(key().id(), 5);
        let put = async |options| mailbox(&backend).put(&sent, options).await;
        for answer in put(PutOptions::default()).await {
            assert_eq!(answer.expect_err("nobody").kind(), ErrorKind::Denied);
        }
        for _ in 0..2 {
            let receipts = put(PutOptions::default().auth(auth(&key()))).await;
            assert!(receipts.iter().all(|receipt| receipt.as_ref().is_ok_and(|receipt| receipt.acks.len() == 1)));
        }
    }
}

#[tokio::test]
async fn a_deletion_is_confirmed_only_when_it_is_seen_to_be_done() {
    for keeps_deleted in [false, true] {
        let relay = Relay::scripted(Script { keeps_deleted, ..Script::default() }).await;
        let backend = open(&[&relay.url]).await;
        let owner = key();
        let mail = sealed(owner.id(), "gone soon");
        for who in [&owner, &mail.wrap_key] {
            relay.wipe();
            relay.plant(mail.envelope.json());
            let request = DeleteRequest::sign(who, owner.id(), &[mail.envelope.id()], NOW).expect("signs");
            let options = DeleteOptions::default().auth(Some(auth(who)));
            let deletion = mailbox(&backend).delete(&[request], options).await.remove(0).expect("taken");
            let expected = if keeps_deleted { DeletionState::Requested } else { DeletionState::Confirmed };
            assert_eq!(deletion.holders, [(holder(&relay.url), expected)]);
        }
    }
    let relay = Relay::scripted(Script { writes: Writes::Refuse("blocked: no deletions"), ..Script::default() }).await;
    let backend = open(&[&relay.url]).await;
    let owner = key();
    let request =
        DeleteRequest::sign(&owner, owner.id(), &[sealed(owner.id(), "x").envelope.id()], NOW).expect("signs");
    let error = mailbox(&backend).delete(&[request], DeleteOptions::default()).await.remove(0).expect_err("refused");
    assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, "blocked: no deletions"));
}

#[tokio::test]
async fn a_watch_brings_the_backlog_then_what_is_new_and_survives_the_connection() {
    let mut relay = Relay::scripted(Script { cap: Some(5), ..Script::default() }).await;
    let backend = open(&[&relay.url]).await;
    let owner = key();
    let backlog = envelopes(owner.id(), 12);
    backlog.iter().for_each(|envelope| relay.plant(envelope.json()));
    let mut options = WatchOptions::default();
    options.retry_after = Some(std::time::Duration::from_millis(20));
    let mut watch = mailbox(&backend).watch(owner.id(), options).expect("can watch");

    let mut seen = Vec::new();
    loop {
        match soon(watch.next()).await.expect("goes on").expect("no trouble") {
            WatchEvent::Envelope { raw, .. } => seen.push(raw.id()),
            WatchEvent::Live { holder: live } => break assert_eq!(live, holder(&relay.url)),
            other => panic!("{other:?} at the beginning"),
        }
    }
    assert_eq!(sorted(seen), ids(&backlog));

    let new = envelopes(owner.id(), 1);
    mailbox(&backend).put(&new, PutOptions::default()).await.remove(0).expect("stored");
    let WatchEvent::Envelope { raw, .. } = soon(watch.next()).await.expect("goes on").expect("no trouble") else {
        panic!("not an envelope");
    };
    assert_eq!(raw.id(), new[0].id());

    relay.stop().await;
    let error = soon(watch.next()).await.expect("goes on").expect_err("lost");
    assert_eq!(error.context("relay"), Some(relay.url.as_str()));
    let missed = envelopes(owner.id(), 1);
    relay.plant(missed[0].json());
    relay.start();
    let (mut lagged, mut found) = (false, false);
    loop {
        match soon(watch.next()).await.expect("goes on") {
            Ok(WatchEvent::Lagged { .. }) => lagged = true,
            Ok(WatchEvent::Envelope { raw, .. }) => found |= raw.id() == missed[0].id(),
            Ok(WatchEvent::Live { .. }) => break,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    }
    assert!(lagged && found);

    backend.close().await;
    assert!(soon(watch.next()).await.is_none_or(|event| event.is_err()));
    let closed = mailbox(&backend).put(&new, PutOptions::default()).await.remove(0).expect_err("closed");
    assert_eq!(closed.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_watch_shows_what_is_put_back_after_weeks() {
    let relay = Relay::honest().await;
    let backend = open(&[&relay.url]).await;
    let owner = key();
    let dated = |days: u64| {
        let then = NOW.minus(days * 86_400);
        let sealed = talkbox_core::seal(&Draft::text("long ago"), &key(), owner.id(), then, &SealOptions::default());
        sealed.expect("seals").envelope
    };
    // What is old is not part of what a watch begins with, but for one at most.
    let stored: Vec<_> = (20..25).map(dated).collect();
    stored.iter().for_each(|envelope| relay.plant(envelope.json()));
    let mut watch = mailbox(&backend).watch(owner.id(), WatchOptions::default()).expect("can watch");
    let mut backlog = Vec::new();
    loop {
        match soon(watch.next()).await.expect("goes on").expect("no trouble") {
            WatchEvent::Envelope { raw, .. } => backlog.push(raw.id()),
            WatchEvent::Live { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(backlog.len() <= 1, "all {} that are old come again with each watch", backlog.len());
    let repaired = dated(30);
    mailbox(&backend).put(std::slice::from_ref(&repaired), PutOptions::default()).await.remove(0).expect("stored");
    let WatchEvent::Envelope { raw, .. } = soon(watch.next()).await.expect("goes on").expect("no trouble") else {
        panic!("not an envelope");
    };
    assert_eq!(raw.id(), repaired.id());
}

#[tokio::test]
async fn a_watch_behind_a_gate_is_let_in() {
    for (gate, challenges_late) in
        [(Gate::Reads, false), (Gate::Reads, true), (Gate::ReadsSilently, false), (Gate::ReadsSilently, true)]
    {
        let relay = Relay::scripted(Script { gate, challenges_late, ..Script::default() }).await;
        let backend = open(&[&relay.url]).await;
        let owner = key();
        let mail = sealed(owner.id(), "gated").envelope;
        relay.plant(mail.json());
        let options = WatchOptions::default().auth(Some(auth(&owner)));
        let mut watch = mailbox(&backend).watch(owner.id(), options).expect("can watch");
        let mut seen = Vec::new();
        loop {
            match soon(watch.next()).await.expect("goes on").expect("no trouble") {
                WatchEvent::Envelope { raw, .. } => seen.push(raw.id()),
                WatchEvent::Live { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [mail.id()], "{gate:?}, late: {challenges_late}");
    }
}
