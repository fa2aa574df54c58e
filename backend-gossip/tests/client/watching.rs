//! Watches and subscriptions on nodes that break off, lie or fall silent.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use axum::{body::Body, http::Response};
use futures_util::{StreamExt as _, stream::BoxStream};
use talkbox_core::{
    Backend, Cursor, Envelope, Error, ErrorKind, Hint, Locator, Result, SecretKey, SubscribeOptions, WatchEvent,
    WatchOptions,
};

use crate::{
    hostile::{Hostile, feed, problem, status},
    support::{NOW, auth, envelopes, holder, honest, key, mailbox, open, put, soon, transport},
};

type Events = BoxStream<'static, Result<WatchEvent>>;

fn watch(backend: &Backend, owner: &SecretKey, after: Vec<(Locator, Cursor)>) -> Events {
    let mut options = WatchOptions::default().auth(Some(auth(owner))).after(after);
    options.retry_after = Some(Duration::from_millis(10));
    mailbox(backend).watch(owner.id(), options).expect("it watches")
}

/// A node that answers one watch after the other with these, and then with nothing but `live`.
async fn node(answers: Vec<Response<Body>>) -> Hostile {
    let answers = Mutex::new(VecDeque::from(answers));
    Hostile::start(move |asked| {
        asked.path.ends_with("/watch").then(|| {
            let next = answers.lock().expect("not poisoned").pop_front();
            next.unwrap_or_else(|| feed(live(9)))
        })
    })
    .await
}

fn live(place: u64) -> String {
    format!("id: 00000000000000aa.{place}\nevent: live\ndata:\n\n")
}

fn told(place: u64, envelope: &Envelope) -> String {
    format!("id: 00000000000000aa.{place}\nevent: envelope\ndata: {}\n\n", envelope.json())
}

/// What a watch says, in a word each, until it is live so often.
async fn until_live(events: &mut Events, at: &Locator, times: usize) -> Vec<String> {
    let (mut said, mut lives) = (Vec::new(), 0);
    while lives < times {
        match soon(events.next()).await.expect("does not end") {
            Ok(WatchEvent::Live { holder }) if holder == *at => {
                lives += 1;
                said.push("live".to_owned());
            }
            Ok(WatchEvent::Lagged { holder }) if holder == *at => said.push("lagged".to_owned()),
            Ok(WatchEvent::Envelope { holder, cursor, .. }) if holder == *at => {
                said.push(cursor.map_or("envelope".to_owned(), |cursor| cursor.0[17..].to_owned()));
            }
            Ok(_) => {}
            Err(error) => said.push(word(&error)),
        }
    }
    said
}

fn word(error: &Error) -> String {
    assert!(error.context("node").is_some() && error.operation() == Some("watch"), "{error}");
    error.kind().as_str().to_owned()
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was() {
    let owner = key();
    let mail = envelopes(owner.id(), 2);
    let broken = Response::builder().header("content-type", "text/event-stream");
    let broken = broken.body(Body::from(format!("{}{}", live(4), told(5, &mail[0])))).expect("a response");
    let node = node(vec![broken, feed(format!("{}{}", told(6, &mail[1]), live(6)))]).await;
    let backend = open(&[&node.url()], 5_000).await;
    let mut events = watch(&backend, &owner, Vec::new());
    let said = until_live(&mut events, &node.holder(), 2).await;
    assert_eq!(said, ["live", "5", "unreachable", "lagged", "6", "live"]);
    let asked = node.asked("/v1/mailboxes/");
    let from: Vec<_> =
        asked.iter().map(|asked| asked.headers.get("last-event-id").map(|id| id.to_str().expect("text"))).collect();
    assert_eq!(from, [None, Some("00000000000000aa.5")]);
}

#[tokio::test]
async fn a_place_that_the_node_does_not_know_is_begun_anew() {
    let owner = key();
    let node = node(vec![problem(410, "cursor-unknown")]).await;
    let backend = open(&[&node.url()], 5_000).await;
    let after = vec![(node.holder(), Cursor("00000000000000bb.7".to_owned()))];
    let mut events = watch(&backend, &owner, after);
    assert_eq!(until_live(&mut events, &node.holder(), 1).await, ["lagged", "live"]);
    let asked = node.asked("/v1/mailboxes/");
    assert_eq!(asked[0].headers["last-event-id"], "00000000000000bb.7");
    assert!(!asked[1].headers.contains_key("last-event-id"));
    // A cursor of something else is not even sent.
    let mut events = watch(&backend, &owner, vec![(node.holder(), Cursor("1700000000".to_owned()))]);
    assert_eq!(until_live(&mut events, &node.holder(), 1).await, ["lagged", "live"]);
}

#[tokio::test]
async fn what_is_no_watch_is_an_error_and_tried_again() {
    let owner = key();
    let silent = feed(": nothing yet\n\n".to_owned());
    let answers = vec![
        status(200, "<html>"),
        status(500, "oops"),
        problem(403, "forbidden"),
        feed(format!("data: {}\n\n", "x".repeat(70_000))),
        feed("\u{0}\u{1}: garbage\n\nid\n\nevent: envelope\n\n".to_owned()),
        silent,
        problem(410, "cursor-unknown"),
    ];
    let node = node(answers).await;
    let (honest, url) = honest().await;
    let backend = open(&[&node.url(), &url], 300).await;
    let mut events = watch(&backend, &owner, Vec::new());
    let said = until_live(&mut events, &node.holder(), 1).await;
    assert_eq!(
        said,
        [
            "unexpected",
            "unreachable",
            "denied",
            "lagged",
            "too-large",
            "lagged",
            "timeout",
            "lagged",
            "timeout",
            "not-found",
            "lagged",
            "live"
        ]
    );
    // The honest one goes on meanwhile.
    let mail = envelopes(owner.id(), 1);
    put(&backend, &mail).await.remove(0).expect("stored");
    loop {
        if let Ok(WatchEvent::Envelope { holder: at, raw, cursor }) = soon(events.next()).await.expect("goes on") {
            assert_eq!((at, raw.id()), (holder(&url), mail[0].id()));
            assert_eq!(cursor, Some(Cursor(format!("{:016x}.1", honest.epoch()))));
            break;
        }
    }
}

#[tokio::test]
async fn mail_that_is_none_is_not_shown_and_not_for_ever() {
    let (owner, other) = (key(), key());
    let (own, foreign) = (envelopes(owner.id(), 1), envelopes(other.id(), 1));
    let bad = format!("{}{}", told(1, &foreign[0]), "event: envelope\ndata: {}\n\n".repeat(40));
    let node = node(vec![feed(format!("{bad}{}{}", told(2, &own[0]), live(2)))]).await;
    let backend = open(&[&node.url()], 5_000).await;
    let mut events = watch(&backend, &owner, Vec::new());
    assert_eq!(until_live(&mut events, &node.holder(), 1).await, ["2", "live"]);

    let flood = self::node(vec![feed("event: envelope\ndata: {}\n\n".repeat(100_000))]).await;
    let backend = open(&[&flood.url()], 5_000).await;
    let mut events = watch(&backend, &owner, Vec::new());
    assert_eq!(until_live(&mut events, &flood.holder(), 1).await, ["unexpected", "lagged", "live"]);
}

#[tokio::test]
async fn a_hint_is_checked_and_told_once() {
    let (owner, other) = (key(), key());
    let hint = |to: &SecretKey, at| Hint::sign(to.id(), &[], at).expect("signs").event().to_json();
    let (good, foreign, old) = (hint(&owner, NOW), hint(&other, NOW), hint(&owner, NOW.minus(7_200)));
    // With the signature of another.
    let forged = format!("{}{}", &good[..good.len() - 130], &foreign[foreign.len() - 130..]);
    let last = hint(&owner, NOW.minus(1));
    let event = |json: &str| format!("event: hint\ndata: {json}\n\n");
    let text: String = [&forged, &foreign, &old, &good, &good, &last].into_iter().map(|json| event(json)).collect();
    let answers = vec![status(503, ""), feed(format!("{}event: hint\ndata: nonsense\n\n{text}", live(1)))];
    let node = node(answers).await;
    let backend = open(&[&node.url()], 5_000).await;
    let mut options = SubscribeOptions::default();
    options.auth = Some(auth(&owner));
    let mut hints = transport(&backend).subscribe(owner.id(), options);
    let error = soon(hints.next()).await.expect("does not end").expect_err("it fails first");
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Unreachable, Some("subscribe")));
    let next = soon(hints.next()).await.expect("does not end").expect("a hint");
    assert_eq!(next.event().to_json(), good);
    assert_eq!(soon(hints.next()).await.expect("does not end").expect("a hint").event().to_json(), last);
}

#[tokio::test]
async fn closing_one_half_leaves_the_other() {
    let (_node, url) = honest().await;
    let backend = open(&[&url], 5_000).await;
    let owner = key();
    let mut events = watch(&backend, &owner, Vec::new());
    assert_eq!(until_live(&mut events, &holder(&url), 1).await, ["live"]);
    transport(&backend).close().await;
    put(&backend, &envelopes(owner.id(), 1)).await.remove(0).expect("the mailbox is open");
    let event = soon(events.next()).await.expect("goes on").expect("an envelope");
    assert!(matches!(event, WatchEvent::Envelope { .. }));
    let hint = Hint::sign(owner.id(), &[], NOW).expect("signs");
    let told = soon(transport(&backend).notify(&hint, Default::default())).await;
    assert_eq!(told.expect_err("closed").kind(), ErrorKind::Closed);
    mailbox(&backend).close().await;
    assert!(soon(events.next()).await.is_none());
}
