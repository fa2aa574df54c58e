//! NIP-62: a key that asks to vanish.

use serde_json::json;
use talkbox_core::{
    Timestamp,
    event::{Event, kind},
};

use crate::{
    http::support::{get, publish},
    mesh::support::Mesh,
    support::*,
};

fn vanish(who: &talkbox_core::SecretKey, at: Timestamp, relay: &str) -> Event {
    event(who, kind::VANISH, at, &[&["relay", relay]], "")
}

#[tokio::test]
async fn all_mail_to_a_key_and_all_that_is_from_it_goes_and_does_not_come_back() {
    let (node, _) = node().await;
    let (owner, other) = (key(), key());
    let mut client = Client::connect_as(&node, &owner).await;
    let (letter, sent, others) = (wrap(owner.id()), wrap_by(&owner, other.id(), NOW, &[]), wrap(other.id()));
    let late = wrap_by(&key(), owner.id(), NOW.plus(10), &[]);
    let list = event(&owner, kind::INBOX_RELAYS, NOW, &[&["relay", "wss://a.example"]], "");
    let deleted = wrap_by(&key(), owner.id(), NOW, &[&["x", "deleted"]]);
    for event in [&letter, &sent, &others, &late, &list, &deleted, &deletion(&owner, owner.id(), &[&deleted])] {
        client.accepted(event).await;
    }
    let request = vanish(&owner, NOW.plus(5), &node.url());
    client.accepted(&request).await;

    assert_eq!(client.stored(mail(&owner)).await, ids(&[&late]), "what is dated after it stays");
    assert_eq!(client.stored(json!({"authors": [owner.id().to_hex()]})).await, ids(&[&request]));
    let mut others_client = Client::connect_as(&node, &other).await;
    assert_eq!(others_client.stored(mail(&other)).await, ids(&[&others]), "others' mail stays");
    for event in [&letter, &sent, &list, &deleted] {
        let (taken, words) = client.publish(event).await;
        assert!(!taken && words.starts_with("blocked:"), "{words}");
    }
    // NIP-62: a deletion of the request has no effect.
    let undo = event(&owner, kind::DELETION, NOW.plus(20), &[&["e", &request.id().to_hex()], &["k", "62"]], "");
    assert!(!client.publish(&undo).await.0, "only gift wraps are deleted");
    assert!(!client.publish(&letter).await.0);
    assert_eq!(client.publish(&request).await, (true, "duplicate: already here".to_owned()));
    let (taken, words) = client.publish(&vanish(&owner, NOW, &node.url())).await;
    assert!(!taken && words.starts_with("invalid:"), "an older request: {words}");
    client.accepted(&vanish(&owner, NOW.plus(10), "ALL_RELAYS")).await;
    assert_eq!(client.stored(mail(&owner)).await, [""; 0]);
}

#[tokio::test]
async fn a_request_to_another_relay_does_nothing() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let letter = wrap(owner.id());
    client.accepted(&letter).await;
    let nobody = event(&owner, kind::VANISH, NOW, &[], "");
    for request in [vanish(&owner, NOW, "wss://other.example"), vanish(&owner, NOW, "all_relays"), nobody] {
        let (taken, words) = client.publish(&request).await;
        assert!(!taken && words.starts_with("blocked:"), "{words}");
    }
    assert_eq!(client.stored(mail(&owner)).await, ids(&[&letter]));
}

#[tokio::test]
async fn it_outlives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = Some(directory.path().to_owned());
    let owner = key();
    let letter = wrap(owner.id());
    let (first, _) = node_with(|config| config.data = data.clone()).await;
    let mut client = Client::connect_as(&first, &owner).await;
    client.accepted(&letter).await;
    client.accepted(&vanish(&owner, NOW, "ALL_RELAYS")).await;
    first.shutdown().await;
    let (again, _) = node_with(|config| config.data = data).await;
    let mut client = Client::connect_as(&again, &owner).await;
    assert!(!client.publish(&letter).await.0);
}

#[tokio::test]
async fn whoever_vanishes_from_one_node_vanishes_from_all_that_hold_the_same() {
    let mut mesh = Mesh::of(3).await;
    let owner = key();
    let mut client = Client::connect_as(mesh.node(0), &owner).await;
    let letter = wrap(owner.id());
    client.accepted(&letter).await;
    mesh.hold(1).await;
    mesh.stop(2).await;
    client.accepted(&vanish(&owner, NOW, &mesh.node(0).url())).await;
    // The request alone; the node that was away is told of it, and gives nothing back.
    mesh.hold(1).await;
    mesh.start(2).await;
    mesh.until(|states| {
        states.iter().all(|state| state["events"] == 1 && state["fingerprint"] == states[0]["fingerprint"])
    })
    .await;
    for at in 0..3 {
        let mut client = Client::connect_as(mesh.node(at), &owner).await;
        assert_eq!(client.stored(mail(&owner)).await, [""; 0], "node {at}");
        assert!(!client.publish(&letter).await.0, "node {at}");
    }
}

#[tokio::test]
async fn a_large_mailbox_is_hidden_at_once_and_gone_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = Some(directory.path().to_owned());
    let (owner, other) = (key(), key());
    let (node, _) = node_with(|config| config.data = data.clone()).await;
    let letters: Vec<Event> = (0..2_560).map(|n| wrap_by(&other, owner.id(), NOW.minus(n), &[])).collect();
    for some in letters.chunks(256) {
        publish(&node, &some.iter().collect::<Vec<_>>()).await;
    }
    let mut client = Client::connect_as(&node, &owner).await;
    client.accepted(&vanish(&owner, NOW, "ALL_RELAYS")).await;
    assert_eq!(client.stored(mail(&owner)).await, [""; 0], "nobody is given what is left");
    for event in [&letters[0], &letters[2_559]] {
        let (taken, words) = client.publish(event).await;
        assert!(!taken && words.starts_with("blocked:"), "{words}");
    }
    let page = get(&node, &format!("/v1/mailboxes/{}/envelopes", owner.id().to_hex())).by(&owner).send().await;
    assert_eq!(page.json()["items"].as_array().map(Vec::len), Some(0));
    node.shutdown().await;
    let (again, _) = node_with(|config| config.data = data).await;
    let mut client = Client::connect_as(&again, &owner).await;
    assert_eq!(client.stored(mail(&owner)).await, [""; 0]);
    // What is left goes by itself.
    let gone = async {
        while get(&again, "/v1/peers").send().await.json()["events"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("all goes but for the request");
}
