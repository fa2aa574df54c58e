//! NIP-77: what each side lacks is found, whatever the sizes.

use std::collections::BTreeSet;

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use serde_json::json;
use talkbox_core::{event::Event, hex};

use crate::support::*;

/// Reconciles these events with the node: the ids that only the client has, and those that only the node has.
async fn reconcile(client: &mut Client, filter: serde_json::Value, mine: &[&Event]) -> [BTreeSet<String>; 2] {
    let mut storage = NegentropyStorageVector::new();
    for event in mine {
        storage.insert(event.created_at().secs(), Id::from_byte_array(*event.id().as_bytes())).expect("inserts");
    }
    storage.seal().expect("seals");
    let mut engine = Negentropy::owned(storage, 60_000).expect("an engine");
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut answer =
        client.ask(json!(["NEG-OPEN", "n", filter, hex::encode(&engine.initiate().expect("starts"))])).await;
    loop {
        assert_eq!((&answer[0], &answer[1]), (&json!("NEG-MSG"), &json!("n")), "{answer}");
        let message: Vec<u8> = answer[2]
            .as_str()
            .expect("digits")
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("digits"))
            .collect();
        match engine.reconcile_with_ids(&message, &mut have, &mut need).expect("reconciles") {
            Some(next) => answer = client.ask(json!(["NEG-MSG", "n", hex::encode(&next)])).await,
            None => break,
        }
    }
    client.send(json!(["NEG-CLOSE", "n"])).await;
    [have, need].map(|ids| ids.into_iter().map(|id| hex::encode(&id.to_bytes())).collect())
}

#[tokio::test]
async fn both_differences_are_found_and_nothing_of_others() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let events: Vec<_> =
        (0..300).map(|n| wrap_by(&owner, owner.id(), NOW.minus(n % 7), &[&["n", &n.to_string()]])).collect();
    let (only_mine, theirs) = events.split_at(5);
    for event in theirs {
        client.accepted(event).await;
    }
    client.accepted(&wrap(key().id())).await;
    let mine: Vec<&Event> = only_mine.iter().chain(&theirs[7..]).collect();
    let [have, need] = reconcile(&mut client, mail(&owner), &mine).await;
    assert_eq!(have, ids(&only_mine.iter().collect::<Vec<_>>()).into_iter().collect());
    assert_eq!(need, ids(&theirs[..7].iter().collect::<Vec<_>>()).into_iter().collect());

    client.accepted(&deletion(&owner, owner.id(), &[&theirs[0]])).await;
    let [_, need] = reconcile(&mut client, mail(&owner), &[]).await;
    assert_eq!(need.len(), theirs.len() - 1, "what was deleted is not offered");
    let [have, need] = reconcile(&mut client, json!({"#p": [owner.id().to_hex()], "ids": []}), &mine).await;
    assert_eq!((have.len(), need.len()), (mine.len(), 0));
}

#[tokio::test]
async fn sessions_are_bounded_and_nonsense_is_refused() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let refused = |answer: serde_json::Value, prefix: &str| {
        assert_eq!(answer[0], "NEG-ERR", "{answer}");
        assert!(answer[2].as_str().is_some_and(|text| text.starts_with(prefix)), "{answer}");
    };
    refused(client.ask(json!(["NEG-OPEN", "n", mail(&owner), "not digits"])).await, "invalid:");
    refused(client.ask(json!(["NEG-OPEN", "n", mail(&owner), ""])).await, "invalid:");
    refused(client.ask(json!(["NEG-OPEN", "n", mail(&owner), "61000007"])).await, "invalid:");
    refused(client.ask(json!(["NEG-MSG", "n", "61"])).await, "error: closed");
    for name in ["a", "b", "c", "d"] {
        assert_eq!(client.ask(json!(["NEG-OPEN", name, mail(&owner), "61"])).await[0], "NEG-MSG");
    }
    refused(client.ask(json!(["NEG-OPEN", "e", mail(&owner), "61"])).await, "blocked:");
    client.send(json!(["NEG-CLOSE", "a"])).await;
    assert_eq!(client.ask(json!(["NEG-OPEN", "e", mail(&owner), "61"])).await[0], "NEG-MSG");
}

#[tokio::test]
async fn a_set_that_is_too_large_is_refused() {
    let (node, _) = node_with(|config| config.limits.max_reconciled = 2).await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    for _ in 0..3 {
        client.accepted(&wrap(owner.id())).await;
    }
    let answer = client.ask(json!(["NEG-OPEN", "n", mail(&owner), "61"])).await;
    assert!(answer[2].as_str().is_some_and(|text| text.starts_with("blocked:")), "{answer}");
}
