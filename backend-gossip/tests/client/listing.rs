//! What a node lists.

use axum::{body::Body, http::Response};
use serde_json::{Value, json};
use talkbox_core::{Cursor, Envelope, ErrorKind, ListOptions, Page, RawEnvelope, Result, event::Event, event::kind};

use crate::{
    hostile::{Asked, Hostile, named_ids, ok, problem, status},
    support::{NOW, auth, envelopes, ids, key, mailbox, open, soon},
};

/// A page as the node gives it, listed from a cursor.
async fn listed(
    after: Option<&str>,
    answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static,
) -> Result<Page> {
    let node = Hostile::start(move |asked| asked.path.contains("/envelopes?").then(|| answer(asked))).await;
    let owner = key();
    let backend = open(&[&node.url()], 5_000).await;
    let options = ListOptions::default().auth(Some(auth(&owner))).after(after.map(|after| Cursor(after.to_owned())));
    soon(mailbox(&backend).list(owner.id(), &node.holder(), options)).await
}

fn page(items: Value, next: Value, more: bool) -> Value {
    json!({ "items": items, "next": next, "more": more })
}

#[tokio::test]
async fn a_listing_that_gets_nowhere_is_an_error() {
    let after = Some("00000000000000aa.7");
    for (next, more) in [
        (json!("00000000000000aa.7"), true),
        (json!("00000000000000aa.6"), true),
        (json!("00000000000000aa.6"), false),
        (json!("00000000000000ab.9"), true),
        (json!("somewhere"), true),
        (json!("../../etc"), false),
        (Value::Null, true),
    ] {
        let told = page(json!([]), next.clone(), more);
        let error = listed(after, move |_| ok(&told)).await.expect_err("leads nowhere");
        assert_eq!(error.kind(), ErrorKind::Unexpected, "{next} {more}");
        assert!(error.context("node").is_some() && error.operation() == Some("list"), "{error}");
    }
    let told = page(json!([]), json!("00000000000000aa.8"), true);
    let page = listed(after, move |_| ok(&told)).await.expect("goes on");
    assert_eq!((page.next, page.more), (Some(Cursor("00000000000000aa.8".to_owned())), true));
}

#[tokio::test]
async fn a_page_is_bounded() {
    let many = page(json!(vec![json!({}); 501]), json!("00000000000000aa.8"), false);
    assert_eq!(listed(None, move |_| ok(&many)).await.expect_err("more than asked").kind(), ErrorKind::Unexpected);
    let large = "x".repeat(6 << 20);
    assert_eq!(listed(None, move |_| status(200, &large)).await.expect_err("too large").kind(), ErrorKind::TooLarge);
    let deep = "[".repeat(1 << 20);
    assert_eq!(listed(None, move |_| status(200, &deep)).await.expect_err("no page").kind(), ErrorKind::Unexpected);
}

#[tokio::test]
async fn an_unknown_cursor_is_told_as_such_and_what_fails_is_not() {
    let unknown = listed(Some("00000000000000aa.7"), |_| problem(410, "cursor-unknown")).await;
    assert_eq!(unknown.expect_err("unknown").kind(), ErrorKind::NotFound);
    // Of another backend: the node is not even asked.
    let other = listed(Some("1700000000"), |_| panic!("asked")).await;
    assert_eq!(other.expect_err("unknown").kind(), ErrorKind::NotFound);
    for (number, code, kind, retries) in [
        (403, "forbidden", ErrorKind::Denied, false),
        (404, "not-found", ErrorKind::Unsupported, false),
        (503, "failed", ErrorKind::Refused, true),
        (500, "", ErrorKind::Refused, false),
    ] {
        let error = listed(None, move |_| problem(number, code)).await.expect_err("refused");
        assert_eq!((error.kind(), error.is_retryable()), (kind, retries), "{number} {code}");
    }
    let error = listed(None, |_| status(500, "oops")).await.expect_err("failed");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true));
}

#[tokio::test]
async fn bad_items_do_not_hide_the_good_ones() {
    let owner = key();
    let good = envelopes(owner.id(), 2);
    let foreign = envelopes(key().id(), 1).remove(0);
    let value = |envelope: &Envelope| serde_json::from_str::<Value>(envelope.json()).expect("JSON");
    let of = |kind, tags: Vec<Vec<String>>, content| {
        let event = Event::sign(&key(), NOW, kind, tags, content);
        serde_json::from_str::<Value>(&event.to_json()).expect("JSON")
    };
    let p = vec!["p".to_owned(), owner.id().to_hex()];
    let items = json!([
        null, 7, "text", [], {}, { "id": 1 }, value(&foreign), value(&good[0]),
        of(kind::GIFT_WRAP, vec![p.clone()], "x".repeat(70_000)),
        of(1, vec![p.clone()], "a note".to_owned()),
        of(kind::GIFT_WRAP, vec![p, vec!["expiration".to_owned(), NOW.secs().to_string()]], "expired".to_owned()),
        value(&good[1]),
    ]);
    let told = page(items.clone(), json!("00000000000000aa.8"), false);
    let by_id = items.clone();
    let node = Hostile::start(move |asked| {
        if asked.path == "/v1/envelopes/get" {
            let lines = by_id.as_array().expect("items").iter().map(|item| format!("{item}\n"));
            return Some(Response::new(Body::from(lines.collect::<String>())));
        }
        Some(ok(&told))
    })
    .await;
    let backend = open(&[&node.url()], 5_000).await;
    let options = ListOptions::default().auth(Some(auth(&owner)));
    let page = soon(mailbox(&backend).list(owner.id(), &node.holder(), options.clone())).await.expect("a page");
    let found: Vec<_> = page.items.iter().map(RawEnvelope::id).collect();
    assert_eq!(found, ids(&good));

    // By id: what was not asked for is not passed on, and nothing twice.
    let wanted = options.ids([good[1].id(), foreign.id()]);
    let page = soon(mailbox(&backend).list(owner.id(), &node.holder(), wanted)).await.expect("a page");
    assert_eq!(page.items.iter().map(RawEnvelope::id).collect::<Vec<_>>(), [good[1].id()]);
    assert!(!page.more && page.next.is_none());
}

#[tokio::test]
async fn many_ids_are_asked_for_in_parts() {
    let owner = key();
    let node = Hostile::start(|asked| (asked.path == "/v1/envelopes/get").then(|| status(200, ""))).await;
    let backend = open(&[&node.url()], 5_000).await;
    let ids = ids(&envelopes(owner.id(), 256));
    let options = ListOptions::default().auth(Some(auth(&owner))).ids(ids.iter().copied());
    let page = soon(mailbox(&backend).list(owner.id(), &node.holder(), options)).await.expect("a page");
    assert!(page.items.is_empty());
    let asked = node.asked("/v1/envelopes/get");
    let mut named: Vec<_> =
        asked.iter().map(|asked| named_ids(&asked.body)).inspect(|ids| assert!(ids.len() <= 64)).flatten().collect();
    let mut expected = ids;
    named.sort_unstable();
    expected.sort_unstable();
    assert_eq!(named, expected);
}
