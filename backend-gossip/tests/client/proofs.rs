//! Who asks: proved where it is the mailbox's own mail, for one request on one node, and not shown elsewhere.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use talkbox_core::{
    ErrorKind, KeyAuthorizer, ListOptions, ManualClock, PutOptions,
    event::{Event, kind},
    hex,
};

use crate::{
    hostile::{Asked, Hostile, ok, problem},
    support::{NOW, ack_of, auth, envelopes, key, mailbox, open, put, soon},
};

fn proof(asked: &Asked) -> Option<Event> {
    let claim = asked.headers.get("authorization")?.to_str().expect("text").strip_prefix("Nostr ").expect("NIP-98");
    let json = String::from_utf8(STANDARD.decode(claim).expect("base64")).expect("text");
    Some(Event::parse(&json).expect("an event that holds"))
}

#[tokio::test]
async fn a_proof_names_the_request_to_the_letter() {
    let node = Hostile::start(|asked| {
        let empty = json!({ "items": [], "next": null, "more": false });
        asked.path.contains("/envelopes?").then(|| ok(&empty))
    })
    .await;
    let (owner, base) = (key(), format!("{}/box", node.url()));
    let backend = open(&[&base], 5_000).await;
    let holder = crate::support::holder(&base);
    let options = ListOptions::default().auth(Some(auth(&owner))).limit(7);
    soon(mailbox(&backend).list(owner.id(), &holder, options.clone())).await.expect("a page");
    let asked = node.asked("/box/v1/mailboxes/").remove(0);
    let event = proof(&asked).expect("a proof");
    assert_eq!((event.kind(), event.author(), event.created_at()), (kind::HTTP_AUTH, owner.public(), NOW));
    assert_eq!(event.value("u"), Some(&*format!("{}{}", node.url(), asked.path)));
    assert_eq!((event.value("method"), event.value("payload")), (Some("GET"), None));

    let by_id = options.ids([talkbox_core::EnvelopeId::from_bytes([1; 32])]);
    soon(mailbox(&backend).list(owner.id(), &holder, by_id)).await.expect_err("there is no such thing");
    let asked = node.asked("/box/v1/envelopes/get").remove(0);
    let event = proof(&asked).expect("a proof");
    assert_eq!(event.value("method"), Some("POST"));
    assert_eq!(event.value("payload"), Some(&*hex::encode(&Sha256::digest(&asked.body))));
}

#[tokio::test]
async fn the_key_of_a_mailbox_is_not_shown_to_others_nodes() {
    let (node, owner) = (Hostile::start(|_| None).await, key());
    let backend = open(&[&node.url()], 5_000).await;
    let own = [crate::support::holder("https://own.example")];
    let auth = KeyAuthorizer::for_holders(owner.clone(), own, Arc::new(ManualClock::new(NOW)));
    let options = ListOptions::default().auth(Some(Arc::new(auth)));
    let error = soon(mailbox(&backend).list(owner.id(), &node.holder(), options)).await.expect_err("not shown");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(node.asked("/").is_empty(), "it is not even asked");
}

#[tokio::test]
async fn a_writer_is_shown_where_the_node_wants_to_know() {
    let sent = envelopes(key().id(), 1);
    let open_to_all = Hostile::start(|_| None).await;
    let backend = open(&[&open_to_all.url()], 5_000).await;
    let as_somebody = PutOptions::default().auth(auth(&key()));
    soon(mailbox(&backend).put(&sent, as_somebody.clone())).await.remove(0).expect("stored");
    assert!(open_to_all.asked("/v1/envelopes").iter().all(|asked| proof(asked).is_none()));

    let wants_a_key = Hostile::start(|asked| {
        let is_closed = asked.path == "/v1/envelopes" && !asked.headers.contains_key("authorization");
        is_closed.then(|| problem(401, "auth-required"))
    })
    .await;
    let backend = open(&[&wants_a_key.url()], 5_000).await;
    let error = put(&backend, &sent).await.remove(0).expect_err("as nobody");
    assert_eq!(error.kind(), ErrorKind::Denied);
    let receipt = soon(mailbox(&backend).put(&sent, as_somebody)).await.remove(0).expect("stored");
    ack_of(&receipt, &wants_a_key.holder());
}
