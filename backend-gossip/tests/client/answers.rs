//! What a node says of envelopes that it was given, of records, and in reconciliation.

use axum::{body::Body, http::Response};
use futures_util::StreamExt as _;
use serde_json::json;
use talkbox_core::{ErrorKind, PutOptions, ReconcileOptions, ResolveEvent, ResolveOptions, Retry, Shortcode, Target};

use crate::{
    hostile::{Asked, Hostile, ids_of, lines, ok, problem, status, stored},
    support::{NOW, ack_of, auth, envelopes, holder, honest, ids, key, mailbox, open, put, soon, transport},
};

#[tokio::test]
async fn answers_that_are_not_about_what_was_sent_take_nothing_for_stored() {
    let (_node, url) = honest().await;
    let sent = envelopes(key().id(), 3);
    type Answer = fn(&Asked) -> Response<Body>;
    let answers: [(Answer, [bool; 3]); 6] = [
        (|asked| lines(ids_of(&asked.body).iter().rev().map(stored)), [false, true, false]),
        (|asked| lines(ids_of(&asked.body)[..1].iter().map(stored)), [true, false, false]),
        (
            |asked| lines(ids_of(&asked.body).iter().map(|id| json!({ "id": id.to_hex(), "status": "sold" }))),
            [false; 3],
        ),
        (|_| status(200, "<html>welcome to the hotel</html>"), [false; 3]),
        (|_| status(200, ""), [false; 3]),
        (|asked| status(200, &lines_and_garbage(asked)), [true, false, true]),
    ];
    for (at, (answer, taken)) in answers.into_iter().enumerate() {
        let bad = Hostile::start(move |asked| (asked.path == "/v1/envelopes").then(|| answer(asked))).await;
        let backend = open(&[&bad.url(), &url], 5_000).await;
        for (receipt, taken) in put(&backend, &sent).await.into_iter().zip(taken) {
            let receipt = receipt.expect("the honest one has it");
            ack_of(&receipt, &holder(&url));
            assert_eq!(receipt.acks.iter().any(|ack| ack.holder == bad.holder()), taken, "answer {at}: {receipt:?}");
            assert_eq!(receipt.refused.iter().any(|refusal| refusal.holder == bad.holder()), !taken, "answer {at}");
        }
    }
}

fn lines_and_garbage(asked: &Asked) -> String {
    let ids = ids_of(&asked.body);
    format!("{}\n\u{0}{{{{\n{}\n", stored(&ids[0]), stored(&ids[2]))
}

#[tokio::test]
async fn a_refusal_says_what_a_sender_can_mend() {
    let says = async |code: &'static str, detail: &'static str| {
        let bad = Hostile::start(move |asked| {
            let refused = |id: &talkbox_core::EnvelopeId| {
                json!({ "id": id.to_hex(), "status": "refused", "code": code, "detail": detail })
            };
            (asked.path == "/v1/envelopes").then(|| lines(ids_of(&asked.body).iter().map(refused)))
        })
        .await;
        let backend = open(&[&bad.url()], 5_000).await;
        let error = put(&backend, &envelopes(key().id(), 1)).await.remove(0).expect_err("refused");
        let refusal = error.refusals()[0].clone();
        assert_eq!(refusal.holder, bad.holder());
        (refusal.kind, refusal.retry, refusal.words)
    };
    let work = "12 bits of work are asked for, and 0 are shown";
    assert_eq!(says("pow", work).await, (ErrorKind::Refused, Retry::No, format!("pow: {work}")));
    let date = "created_at is more than 15 minutes in the future";
    assert_eq!(says("too-early", date).await, (ErrorKind::Refused, Retry::No, format!("too-early: {date}")));
    assert_eq!(says("quota", "").await, (ErrorKind::RateLimited, Retry::After(None), "quota".to_owned()));
    assert_eq!(says("disk-full", "").await, (ErrorKind::Refused, Retry::After(None), "disk-full".to_owned()));
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_whatever_is_before_the_node_goes_in_parts() {
    // As a proxy with a limit of 20 KB does it: without a problem, and without a look at what is in it.
    let small = Hostile::start(|asked| {
        (asked.path == "/v1/envelopes" && asked.body.len() > 20_000).then(|| status(413, "<html>too large</html>"))
    })
    .await;
    let backend = open(&[&small.url()], 5_000).await;
    let sent = envelopes(key().id(), 40);
    for receipt in put(&backend, &sent).await {
        assert!(ack_of(&receipt.expect("stored"), &small.holder()).until.is_some());
    }
    let taken: Vec<_> =
        small.asked("/v1/envelopes").iter().filter(|asked| asked.body.len() <= 20_000).cloned().collect();
    let found: Vec<_> = taken.iter().flat_map(|asked| ids_of(&asked.body)).collect();
    assert_eq!(found, ids(&sent), "each once, in order");

    let none = Hostile::start(|asked| (asked.path == "/v1/envelopes").then(|| problem(413, "too-large"))).await;
    let backend = open(&[&none.url()], 5_000).await;
    for receipt in put(&backend, &sent[..3]).await {
        assert_eq!(receipt.expect_err("too large").kind(), ErrorKind::TooLarge);
    }
    assert_eq!(none.asked("/v1/envelopes").len(), 5, "three, two and one, and the two on their own");
}

#[tokio::test]
async fn a_node_that_leads_elsewhere_is_not_followed() {
    let elsewhere = Hostile::start(|_| None).await;
    let target = format!("{}/v1/envelopes", elsewhere.url());
    let leads = Hostile::start(move |_| {
        let builder = Response::builder().status(307).header("location", &target);
        Some(builder.body(Body::empty()).expect("a response"))
    })
    .await;
    let backend = open(&[&leads.url()], 5_000).await;
    let error = put(&backend, &envelopes(key().id(), 1)).await.remove(0).expect_err("not stored");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, false));
    assert!(elsewhere.asked("/").is_empty());
}

#[tokio::test]
async fn what_is_not_configured_is_not_reached_at_home() {
    let home = Hostile::start(|_| None).await;
    let backend = open(&[], 5_000).await;
    let sent = envelopes(key().id(), 1);
    for url in [home.url(), format!("https://{}", home.address), "https://localhost:1".to_owned()] {
        let putting = mailbox(&backend).put(&sent, PutOptions::default().at([holder(&url)]));
        let error = soon(putting).await.remove(0).expect_err("refused");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, false), "{url}");
    }
    assert!(home.asked("/").is_empty());
    let backend = crate::support::open_with(&[], 5_000, true).await;
    let putting = mailbox(&backend).put(&sent, PutOptions::default().at([home.holder()]));
    soon(putting).await.remove(0).expect("where that is allowed");
}

#[tokio::test]
async fn records_are_bounded_and_each_source_says_that_it_was_all() {
    let (node, url) = honest().await;
    let many = Hostile::start(|asked| {
        let large = "x".repeat(20_000);
        let small = vec![json!({ "kind": 30787 }); 100];
        asked.path.starts_with("/v1/records/").then(|| {
            let mut items = vec![json!(large)];
            items.extend(small.clone());
            ok(&json!({ "items": items }))
        })
    })
    .await;
    let huge = Hostile::start(|_| Some(status(200, &"x".repeat(2_000_000)))).await;
    let away = "http://127.0.0.1:1";
    let backend = open(&[&url, &many.url(), &huge.url(), away], 5_000).await;
    let code = Shortcode::of(&key().id());
    let answers: Vec<_> =
        soon(transport(&backend).resolve(&Target::Code(code), ResolveOptions::default()).collect()).await;
    let records = answers.iter().filter(|answer| matches!(answer, Ok(ResolveEvent::Record(_)))).count();
    assert_eq!(records, 16);
    let mut ends: Vec<_> = answers
        .iter()
        .filter_map(|answer| match answer {
            Ok(ResolveEvent::End { source }) => Some(source.clone()),
            _ => None,
        })
        .collect();
    ends.sort();
    let mut expected = vec![holder(&url), many.holder()];
    expected.sort();
    assert_eq!(ends, expected);
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|error| error.context("node").is_some() && error.operation() == Some("resolve")));
    node.shutdown().await;
}

#[tokio::test]
async fn reconciliation_with_a_liar_ends() {
    let owner = key();
    let ours: Vec<_> = ids(&envelopes(owner.id(), 3)).into_iter().map(|id| (NOW, id)).collect();
    let ask = async |node: &Hostile| {
        let backend = open(&[&node.url()], 5_000).await;
        let reconciler = mailbox(&backend).reconciler(&node.holder()).expect("there is one");
        let options = ReconcileOptions::default().auth(Some(auth(&owner)));
        soon(reconciler.difference(owner.id(), &ours, options)).await.expect_err("a lie").kind()
    };
    let garbage = Hostile::start(|_| Some(status(200, "\u{61}\u{ff}garbage"))).await;
    assert_eq!(ask(&garbage).await, ErrorKind::Unexpected);
    let older = Hostile::start(|_| None).await;
    assert_eq!(ask(&older).await, ErrorKind::Unsupported);
    // It is never content: of the whole range it says each time that its own fingerprint is another.
    let endless = Hostile::start(|_| {
        let mut message = vec![0x61, 0, 0, 1];
        message.extend([7; 16]);
        Some(Response::new(Body::from(message)))
    })
    .await;
    assert_eq!(ask(&endless).await, ErrorKind::Refused);
    assert!(endless.asked("/v1/reconcile").len() <= 128);
    // It names ids that nobody has, a full message each time, and then says that the rest differs.
    let inventive = Hostile::start(|asked| {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        asked.path.starts_with("/v1/reconcile").then(|| {
            let mut message = vec![0x61];
            // Up to a second later each time: a list of 4,000 ids; and of what comes after it a fingerprint.
            let number = NEXT.fetch_add(1, Ordering::SeqCst);
            message.extend([1 + 1, 0, 2]);
            message.extend([0x9f, 0x20]);
            for at in 0..4_000_u64 {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&(number * 4_000 + at).to_be_bytes());
                message.extend(id);
            }
            message.extend([0, 0, 1]);
            message.extend([7; 16]);
            Response::new(Body::from(message))
        })
    })
    .await;
    assert_eq!(ask(&inventive).await, ErrorKind::Refused);
    assert!(inventive.asked("/v1/reconcile").len() <= 51, "{}", inventive.asked("/v1/reconcile").len());
}
