//! Relays that do not mean well, or not work well: each costs only itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all};
use serde_json::{Value, json};
use talkbox_core::{
    AuditOptions, Backend, Difference, Envelope, EnvelopeId, ErrorKind, HoldingState, ListOptions, ManualClock,
    PutOptions, ReconcileOptions, Result, SecretKey, Timestamp, WatchEvent, WatchOptions,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    hostile::{Frame, Gate, Negentropy, Reads, Relay, Script, Writes},
    support::{NOW, auth, envelopes, holder, ids, key, list_all, mailbox, open_with, sealed, soon, sorted},
};

/// Short, so that what never answers is given up soon.
const TIMEOUT_MS: u64 = 400;

async fn open(relays: &[&Relay]) -> Backend {
    let urls: Vec<_> = relays.iter().map(|relay| relay.url.as_str()).collect();
    open_with(&urls, TIMEOUT_MS, ManualClock::new(NOW), false).await
}

async fn list(backend: &Backend, owner: &SecretKey, relay: &Relay) -> Result<Vec<EnvelopeId>> {
    let at = holder(&relay.url);
    let listing = list_all(mailbox(backend), owner.id(), &at, ListOptions::default());
    soon(listing).await.map(|(ids, _)| ids)
}

#[tokio::test]
async fn each_way_to_fail_a_put_leaves_the_other_relays_alone() {
    let owner = key();
    let sent = envelopes(owner.id(), 20);
    let poison = sent[3].id().to_hex();
    // How many of the twenty each takes, and what it is called where it does not.
    let cases = [
        (Writes::Refuse("rate-limited: slow down"), 0, Some(ErrorKind::RateLimited)),
        (Writes::Refuse("invalid: event too large"), 0, Some(ErrorKind::TooLarge)),
        (Writes::Refuse("restricted: members"), 0, Some(ErrorKind::Denied)),
        (Writes::RefuseBefore(NOW.secs() + 1), 0, Some(ErrorKind::Refused)),
        (Writes::Never, 0, Some(ErrorKind::Timeout)),
        (Writes::Close, 0, None),
        (Writes::OkButDrop, 20, None),
        (Writes::Poisoned(poison.clone()), 19, Some(ErrorKind::Timeout)),
        (Writes::CloseOn(poison), 19, Some(ErrorKind::Unreachable)),
    ];
    for (writes, taken, kind) in cases {
        let (good, bad) =
            (Relay::honest().await, Relay::scripted(Script { writes: writes.clone(), ..Script::default() }).await);
        let backend = open(&[&bad, &good]).await;
        let receipts = soon(mailbox(&backend).put(&sent, PutOptions::default())).await;
        let receipts: Vec<_> = receipts.into_iter().map(|receipt| receipt.expect("the good one took it")).collect();
        assert!(receipts.iter().all(|receipt| receipt.acks.iter().any(|ack| ack.holder == holder(&good.url))));
        let by_bad = receipts.iter().filter(|receipt| receipt.acks.iter().any(|ack| ack.holder == holder(&bad.url)));
        assert_eq!(by_bad.count(), taken, "{writes:?}");
        for refusal in receipts.iter().flat_map(|receipt| &receipt.refused) {
            assert_eq!(refusal.holder, holder(&bad.url));
            assert!(kind.is_none_or(|kind| refusal.kind == kind), "{writes:?}: {refusal:?}");
        }
        assert_eq!(good.ids().len(), sent.len());
    }
}

#[tokio::test]
async fn the_words_of_a_relay_are_passed_on() {
    let relay = Relay::scripted(Script { writes: Writes::Refuse("pow: 28 bits, please"), ..Script::default() }).await;
    let backend = open(&[&relay]).await;
    let error =
        mailbox(&backend).put(&envelopes(key().id(), 1), PutOptions::default()).await.remove(0).expect_err("refused");
    assert_eq!(
        (error.kind(), error.message(), error.is_retryable()),
        (ErrorKind::Refused, "pow: 28 bits, please", false)
    );
    assert_eq!(error.operation(), Some("put"));
}

#[tokio::test]
async fn a_dead_relay_is_unreachable_and_found_again() {
    let mut relay = Relay::honest().await;
    let backend = open(&[&relay]).await;
    let sent = envelopes(key().id(), 3);
    mailbox(&backend).put(&sent[..1], PutOptions::default()).await.remove(0).expect("stored");
    relay.stop().await;
    for outcome in mailbox(&backend).put(&sent, PutOptions::default()).await {
        let error = outcome.expect_err("dead");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true), "{error}");
    }
    relay.start();
    let receipts = mailbox(&backend).put(&sent, PutOptions::default()).await;
    assert!(receipts.iter().all(|receipt| receipt.is_ok()));
}

#[tokio::test]
async fn a_connection_that_ended_unnoticed_costs_no_error() {
    let relay = Relay::honest().await;
    let backend = open(&[&relay]).await;
    let owner = key();
    for round in 0..20 {
        let sent = envelopes(owner.id(), 2);
        let receipts = mailbox(&backend).put(&sent, PutOptions::default()).await;
        assert!(receipts.iter().all(|receipt| receipt.is_ok()), "round {round}");
        relay.kick();
        assert!(list(&backend, &owner, &relay).await.expect("lists").len() >= 2);
        relay.kick();
    }
}

/// What hostile relays answer to a reader, and whether that is an answer at all.
fn reads(mail: &Envelope) -> Vec<(Reads, bool)> {
    let genuine: Value = serde_json::from_str(mail.json()).expect("JSON");
    let with = |name: &str, value: Value| {
        let mut event = genuine.clone();
        event[name] = value;
        event
    };
    let tampered = with("content", json!("AAAA"));
    let for_another = with("tags", json!([["p", "ab".repeat(32)]]));
    let text = |text: &str| Frame::Text(text.to_owned());
    vec![
        (Reads::Never, false),
        (Reads::NeverEose, false),
        (Reads::Closed("error: no"), false),
        (Reads::CloseAfter(0), false),
        (Reads::CloseAfter(1), false),
        (Reads::Flood, false),
        (Reads::Preface(vec![Frame::Text("x".repeat(2 * 1024 * 1024))]), false),
        (Reads::Babble(20_000), false),
        (Reads::EarlyEose, true),
        (
            Reads::Preface(vec![
                text("garbage"),
                text("{}"),
                text("[]"),
                text("[\"EVENT\",\"1\",{}]"),
                Frame::Binary(vec![0; 999]),
            ]),
            true,
        ),
        (
            Reads::Preface(vec![
                text("[\"NOTICE\",\"\\u001b[31mhi\"]"),
                text("[\"OK\",\"x\",true]"),
                text("[\"EOSE\",\"999\"]"),
            ]),
            true,
        ),
        (Reads::Invent(vec![tampered.clone(), tampered]), true),
        (Reads::Invent(vec![for_another, with("kind", json!(4)), json!(null), json!({ "id": "x" })]), true),
        (Reads::Invent(vec![genuine.clone(); 300]), true),
        (
            Reads::Invent(vec![
                with("created_at", json!(u64::MAX)),
                with("created_at", json!(0)),
                with("created_at", json!(-1)),
            ]),
            true,
        ),
        (Reads::Invent(vec![with("content", json!("x".repeat(70_000)))]), true),
    ]
}

#[tokio::test]
async fn no_relay_shows_what_does_not_hold_or_hides_what_another_has() {
    let owner = key();
    let sent = envelopes(owner.id(), 5);
    let good = Relay::honest().await;
    sent.iter().for_each(|envelope| good.plant(envelope.json()));
    let cases = reads(&sent[0]).into_iter().map(async |(reads, is_answer)| {
        let bad = Relay::scripted(Script { reads: reads.clone(), ..Script::default() }).await;
        sent.iter().for_each(|envelope| bad.plant(envelope.json()));
        let backend = open(&[&bad, &good]).await;
        let at = holder(&bad.url);
        let (of_bad, of_good) = tokio::join!(
            soon(list_all(mailbox(&backend), owner.id(), &at, ListOptions::default())),
            list(&backend, &owner, &good),
        );
        assert_eq!(sorted(of_good.expect("the good one answers")), ids(&sent));
        match of_bad {
            Ok(_) if is_answer => {}
            Err(error) if !is_answer => assert_eq!(error.context("relay"), Some(bad.url.as_str()), "{error}"),
            other => panic!("{other:?} of {reads:.100?}"),
        }
        // Whatever is shown, core keeps only what holds.
        if is_answer {
            let page =
                mailbox(&backend).list(owner.id(), &holder(&bad.url), ListOptions::default()).await.expect("lists");
            let held = page.items.iter().filter_map(|raw| Envelope::verify(raw).ok());
            assert!(
                held.into_iter()
                    .all(|envelope| ids(&sent).contains(&envelope.id()) && envelope.mailbox() == owner.id())
            );
        }
    });
    join_all(cases).await;
}

#[tokio::test]
async fn an_event_that_does_not_answer_the_question_is_not_passed_on() {
    let (owner, other) = (key(), key());
    let theirs: Value = serde_json::from_str(sealed(other.id(), "theirs").envelope.json()).expect("JSON");
    let relay = Relay::scripted(Script { reads: Reads::Invent(vec![theirs]), ..Script::default() }).await;
    let backend = open(&[&relay]).await;
    assert!(list(&backend, &owner, &relay).await.expect("lists").is_empty());
}

#[tokio::test]
async fn a_relay_that_ignores_limits_is_not_read_beyond_them() {
    let owner = key();
    let sent = envelopes(owner.id(), 60);
    let relay = Relay::scripted(Script { reads: Reads::Disorder, ..Script::default() }).await;
    sent.iter().for_each(|envelope| relay.plant(envelope.json()));
    let backend = open(&[&relay]).await;
    // All of it fits into a page: the order does not matter.
    assert_eq!(sorted(list(&backend, &owner, &relay).await.expect("lists")), ids(&sent));
    let options = ListOptions::default().limit(10);
    let error = mailbox(&backend).list(owner.id(), &holder(&relay.url), options).await.expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn a_relay_that_lies_in_its_answers_is_found_out_by_an_audit() {
    let owner = key();
    let relay = Relay::scripted(Script { writes: Writes::OkButDrop, ..Script::default() }).await;
    let backend = open(&[&relay]).await;
    let sent = envelopes(owner.id(), 2);
    assert!(mailbox(&backend).put(&sent, PutOptions::default()).await.iter().all(Result::is_ok));
    let at = holder(&relay.url);
    let asked = [sent[0].id(), sent[1].id()];
    let audit = || mailbox(&backend).audit(owner.id(), &at, &asked, AuditOptions::default());
    assert!(soon(audit()).await.expect("audits").iter().all(|holding| holding.state == HoldingState::Absent));

    // Nor does it help to make something up under the right id.
    let mut forged: Value = serde_json::from_str(sent[0].json()).expect("JSON");
    forged["content"] = json!("AAAA");
    relay.follow(Script { reads: Reads::Invent(vec![forged]), ..Script::default() });
    assert!(soon(audit()).await.expect("audits").iter().all(|holding| holding.state == HoldingState::Absent));

    relay.follow(Script::default());
    relay.plant(sent[1].json());
    let states: Vec<_> = soon(audit()).await.expect("audits").iter().map(|holding| holding.state).collect();
    assert_eq!(states, [HoldingState::Absent, HoldingState::Held { until: None }]);
}

async fn difference(backend: &Backend, relay: &Relay, owner: &SecretKey, ours: &[Envelope]) -> Result<Difference> {
    let reconciler = mailbox(backend).reconciler(&holder(&relay.url)).expect("not known to lack it");
    let ours: Vec<(Timestamp, EnvelopeId)> =
        ours.iter().map(|envelope| (envelope.created_at(), envelope.id())).collect();
    let options = ReconcileOptions::default().auth(Some(auth(owner)));
    soon(reconciler.difference(owner.id(), &ours, options)).await
}

#[tokio::test]
async fn reconciliation_finds_what_differs_also_behind_a_gate() {
    for gate in [Gate::Open, Gate::Reads] {
        let relay = Relay::scripted(Script { gate, ..Script::default() }).await;
        let backend = open(&[&relay]).await;
        let owner = key();
        let all = envelopes(owner.id(), 60);
        all[10..].iter().for_each(|envelope| relay.plant(envelope.json()));
        relay.plant(sealed(key().id(), "another's").envelope.json());
        let found = difference(&backend, &relay, &owner, &all[..50]).await.expect("reconciles");
        assert_eq!((found.ours, found.theirs), (ids(&all[..10]), ids(&all[50..])));
        let none = difference(&backend, &relay, &owner, &all[10..]).await.expect("reconciles");
        assert_eq!(none, Difference::default());
        let everything = difference(&backend, &relay, &owner, &[]).await.expect("reconciles");
        assert_eq!(everything.theirs, ids(&all[10..]));
    }
}

#[tokio::test]
async fn a_relay_without_reconciliation_is_known_by_it() {
    for negentropy in [
        Negentropy::Silence,
        Negentropy::Notice("could not parse command"),
        Negentropy::Error("error: unknown"),
        Negentropy::Closed("unsupported: no"),
    ] {
        let relay = Relay::scripted(Script { negentropy, ..Script::default() }).await;
        let backend = open(&[&relay]).await;
        let error = difference(&backend, &relay, &key(), &[]).await.expect_err("does not speak it");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{negentropy:?}");
        assert!(mailbox(&backend).reconciler(&holder(&relay.url)).is_none(), "it is remembered");
    }
    for (negentropy, kind) in [
        (Negentropy::Garbage, ErrorKind::Refused),
        (Negentropy::Error("rate-limited: later"), ErrorKind::RateLimited),
        (Negentropy::Notice("you are sending too many requests"), ErrorKind::RateLimited),
    ] {
        let relay = Relay::scripted(Script { negentropy, ..Script::default() }).await;
        let backend = open(&[&relay]).await;
        assert_eq!(difference(&backend, &relay, &key(), &[]).await.expect_err("fails").kind(), kind, "{negentropy:?}");
        assert!(mailbox(&backend).reconciler(&holder(&relay.url)).is_some(), "it may speak it later");
    }
}

#[tokio::test]
async fn a_watch_goes_on_beside_a_relay_in_trouble() {
    let owner = key();
    let first = envelopes(owner.id(), 1);
    for (reads, _) in reads(&first[0]) {
        let (good, bad) =
            (Relay::honest().await, Relay::scripted(Script { reads: reads.clone(), ..Script::default() }).await);
        let backend = open(&[&bad, &good]).await;
        let mut options = WatchOptions::default();
        options.retry_after = Some(Duration::from_millis(50));
        let mut watch = mailbox(&backend).watch(owner.id(), options).expect("can watch");
        let new = sealed(owner.id(), "while it is trouble").envelope;
        good.plant(new.json());
        let found = soon(async {
            while let Some(event) = watch.next().await {
                match event {
                    Ok(WatchEvent::Envelope { raw, holder: from, .. }) if from == holder(&good.url) => return raw.id(),
                    Err(error) => assert_eq!(error.context("relay"), Some(bad.url.as_str()), "{reads:.100?}"),
                    Ok(_) => {}
                }
            }
            panic!("the watch ended");
        });
        assert_eq!(found.await, new.id());
    }
}

#[tokio::test]
async fn a_slow_reader_of_a_watch_is_told_that_it_lags() {
    let relay = Relay::honest().await;
    let backend = open(&[&relay]).await;
    let owner = key();
    let mut watch = mailbox(&backend).watch(owner.id(), WatchOptions::default()).expect("can watch");
    while !matches!(soon(watch.next()).await, Some(Ok(WatchEvent::Live { .. }))) {}
    // More than waits to be taken, while nobody takes it.
    let many = envelopes(owner.id(), 1_100);
    let receipts = soon(mailbox(&backend).put(&many, PutOptions::default())).await;
    assert!(receipts.iter().all(Result::is_ok));
    let mut seen = std::collections::HashSet::new();
    let mut lagged = false;
    soon(async {
        while !(lagged && seen.len() == many.len()) {
            match watch.next().await.expect("goes on").expect("no trouble") {
                WatchEvent::Envelope { raw, .. } => drop(seen.insert(raw.id())),
                WatchEvent::Lagged { .. } => lagged = true,
                _ => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn locators_of_others_lead_to_nothing_private() {
    let (own, private) = (Relay::honest().await, Relay::honest().await);
    let backend = open(&[&own]).await;
    let sent = envelopes(key().id(), 1);
    let error = mailbox(&backend)
        .put(&sent, PutOptions::default().at([holder(&private.url)]))
        .await
        .remove(0)
        .expect_err("private");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, false));
    assert_eq!(private.connections(), 0);
    let other = "gossip:https://node.example".parse().expect("a locator");
    let receipt = mailbox(&backend)
        .put(&sent, PutOptions::default().at([holder(&own.url), other]))
        .await
        .remove(0)
        .expect("one took it");
    assert_eq!((receipt.acks.len(), receipt.refused.len()), (1, 1));

    let urls = [own.url.as_str()];
    let backend = open_with(&urls, TIMEOUT_MS, ManualClock::new(NOW), true).await;
    let receipt = mailbox(&backend)
        .put(&sent, PutOptions::default().at([holder(&private.url)]))
        .await
        .remove(0)
        .expect("allowed");
    assert_eq!(receipt.acks[0].holder, holder(&private.url));
}

/// Whoever answers there could send us to an address that is not looked at: to a service inside our network.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = Relay::honest().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let url = format!("ws://{}", listener.local_addr().expect("an address"));
    let target = inner.url.clone();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 1_024];
            if stream.read(&mut head).await.is_ok_and(|read| read == 0) {
                continue;
            }
            let http = target.replace("ws://", "http://");
            let status = ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"];
            let status = status[count.load(Ordering::SeqCst) % 4];
            let answer = format!("HTTP/1.1 {status}\r\nlocation: {http}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("answers");
        }
    });
    let sent = envelopes(key().id(), 1);
    for _ in 0..4 {
        let backend = open_with(&[&url], TIMEOUT_MS, ManualClock::new(NOW), true).await;
        let error = soon(mailbox(&backend).put(&sent, PutOptions::default())).await.remove(0).expect_err("a redirect");
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    }
    assert!(asked.load(Ordering::SeqCst) >= 4);
    assert_eq!(inner.connections(), 0);
    answering.abort();
}
