//! What the node says that it holds.

use serde_json::json;
use talkbox_core::{EnvelopeId, custody::CustodyReceipt};

use super::support::{post, publish};
use crate::support::{NOW, deletion, key, node, wrap, wrap_by};

#[tokio::test]
async fn anyone_who_knows_an_id_hears_whether_it_is_held_and_until_when() {
    let (node, clock) = node().await;
    let owner = key();
    let soon = NOW.plus(3_600).to_string();
    let (kept, short, gone) =
        (wrap(owner.id()), wrap_by(&key(), owner.id(), NOW, &[&["expiration", &soon]]), wrap(owner.id()));
    publish(&node, &[&kept, &short, &gone, &deletion(&owner, owner.id(), &[&gone])]).await;
    let ids = [&kept, &short, &gone].map(|event| event.id().to_hex());
    let have = || post(&node, "/v1/have", json!({"ids": ids}).to_string()).send();
    let answer = have().await.json();
    assert_eq!(
        answer["items"],
        json!([
            {"id": ids[0], "held": true, "until": NOW.plus(90 * 86_400).secs()},
            {"id": ids[1], "held": true, "until": NOW.plus(3_600).secs()},
            {"id": ids[2], "held": false},
        ])
    );
    let receipt = CustodyReceipt::parse(&answer["receipt"].to_string()).expect("a receipt");
    assert_eq!((receipt.node(), receipt.until()), (node.key(), NOW.plus(3_600)));
    assert!(receipt.covers(&EnvelopeId::from(kept.id())) && receipt.covers(&EnvelopeId::from(short.id())));
    assert!(!receipt.covers(&EnvelopeId::from(gone.id())));

    clock.set(NOW.plus(3_600));
    let answer = have().await.json();
    assert_eq!(answer["items"][1]["held"], false);
    let receipt = CustodyReceipt::parse(&answer["receipt"].to_string()).expect("a receipt");
    assert_eq!(receipt.ids().len(), 1);
    let nothing = post(&node, "/v1/have", json!({"ids": ["00".repeat(32)]}).to_string()).send().await.json();
    assert!(nothing["receipt"].is_null());
}

#[tokio::test]
async fn a_rotten_envelope_is_not_held() {
    let directory = tempfile::tempdir().expect("a directory");
    let (node, _) = crate::support::node_with(|config| config.data = Some(directory.path().to_owned())).await;
    let (good, rotten) = (wrap(key().id()), wrap(key().id()));
    publish(&node, &[&good, &rotten]).await;
    let file = rusqlite::Connection::open(directory.path().join("node.sqlite3")).expect("opens");
    let changed = file
        .execute("UPDATE event SET content = zeroblob(length(content)) WHERE id = ?1", [&rotten.id().as_bytes()[..]])
        .expect("writes");
    assert_eq!(changed, 1);
    let ids = [good.id().to_hex(), rotten.id().to_hex()];
    let answer = post(&node, "/v1/have", json!({"ids": ids}).to_string()).send().await.json();
    assert_eq!((&answer["items"][0]["held"], &answer["items"][1]["held"]), (&json!(true), &json!(false)));
    let receipt = CustodyReceipt::parse(&answer["receipt"].to_string()).expect("a receipt");
    assert_eq!(receipt.ids(), [EnvelopeId::from(good.id())]);
}

#[tokio::test]
async fn the_key_of_a_node_is_kept_with_its_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || crate::support::node_with(|config| config.data = Some(directory.path().to_owned()));
    let (node, _) = start().await;
    let first = node.key();
    node.shutdown().await;
    assert_eq!(start().await.0.key(), first);
    assert_ne!(crate::support::node().await.0.key(), first);
}
