//! Kinds of which the newest counts: the relay list (10050) and the mailbox record (30787).

use serde_json::json;
use talkbox_core::{Locator, MailboxRecord, RecordFields, SecretKey, Shortcode, Timestamp, event::kind};

use crate::support::*;

fn relays(of: &SecretKey, at: Timestamp, relay: &str) -> talkbox_core::event::Event {
    event(of, kind::INBOX_RELAYS, at, &[&["relay", relay]], "")
}

#[tokio::test]
async fn the_newest_list_counts_and_of_two_as_new_the_lower_id() {
    let (node, _) = node().await;
    let (me, mut client) = (key(), Client::connect(&node).await);
    let filter = json!({"kinds": [kind::INBOX_RELAYS], "authors": [me.public().to_hex()]});
    let (old, new) = (relays(&me, NOW.minus(9), "wss://a.example"), relays(&me, NOW.minus(5), "wss://b.example"));
    client.accepted(&old).await;
    client.accepted(&new).await;
    assert_eq!(client.stored(filter.clone()).await, ids(&[&new]));
    let (taken, words) = client.publish(&old).await;
    assert!(!taken && words.starts_with("invalid: a newer event"), "{words}");

    let mut tied: Vec<_> = (0..3).map(|n| relays(&me, NOW, &format!("wss://{n}.example"))).collect();
    tied.sort_by_key(|event| event.id());
    client.accepted(&tied[1]).await;
    client.accepted(&tied[0]).await;
    assert!(!client.publish(&tied[2]).await.0);
    assert_eq!(client.stored(filter).await, ids(&[&tied[0]]));
    client.accepted(&relays(&key(), NOW, "wss://c.example")).await;
    assert_eq!(client.stored(json!({"kinds": [kind::INBOX_RELAYS]})).await.len(), 2, "one of each author");
}

#[tokio::test]
async fn a_record_is_found_by_its_code_if_the_code_is_that_of_its_key() {
    let (node, _) = node().await;
    let (me, other) = (key(), key());
    let code = Shortcode::of(&me.id());
    let fields = || RecordFields::new(vec!["nostr:wss://a.example".parse::<Locator>().expect("a locator")]);
    let sign = |by: &SecretKey, at| MailboxRecord::sign(by, code, fields(), at).expect("signs").event().clone();
    let mut client = Client::connect(&node).await;
    let (old, new, squat) = (sign(&me, NOW.minus(9)), sign(&me, NOW), sign(&other, NOW));
    client.accepted(&old).await;
    client.accepted(&new).await;
    let (taken, words) = client.publish(&squat).await;
    assert!(!taken && words.starts_with("invalid: the d tag"), "{words}");
    let found = client.stored(json!({"kinds": [kind::RECORD], "#d": [code.symbols()]})).await;
    assert_eq!(found, ids(&[&new]));
}
