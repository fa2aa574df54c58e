//! What the NIPs say that a relay MUST do, where no other file here is about it. The words of each are beside its test.

use serde_json::{Value, json};
use talkbox_core::event::kind;

use crate::support::*;

/// NIP-01: "`limit` is only valid for the initial query and MUST be ignored afterwards".
#[tokio::test]
async fn a_limit_bounds_what_is_stored_and_not_what_comes() {
    let (node, _) = node().await;
    let owner = key();
    let mut sender = Client::connect(&node).await;
    let (old, older) = (wrap(owner.id()), wrap_by(&key(), owner.id(), NOW.minus(5), &[]));
    sender.accepted(&old).await;
    sender.accepted(&older).await;
    let mut reader = Client::connect_as(&node, &owner).await;
    let filter = json!({"kinds": [1059], "#p": [owner.id().to_hex()], "limit": 1});
    assert_eq!(reader.ask(json!(["REQ", "a", filter])).await, json!(["EVENT", "a", value(&old)]));
    assert_eq!(reader.receive().await, json!(["EOSE", "a"]));
    for _ in 0..2 {
        let fresh = wrap(owner.id());
        sender.accepted(&fresh).await;
        assert_eq!(reader.receive().await, json!(["EVENT", "a", value(&fresh)]));
    }
}

/// NIP-01: "Relays MUST manage `<subscription_id>`s independently for each WebSocket connection".
#[tokio::test]
async fn a_name_means_one_subscription_of_one_connection() {
    let (node, _) = node().await;
    let (one, two) = (key(), key());
    let mut first = Client::connect_as(&node, &one).await;
    let mut second = Client::connect_as(&node, &two).await;
    assert_eq!(first.ask(json!(["REQ", "a", mail(&one)])).await, json!(["EOSE", "a"]));
    assert_eq!(second.ask(json!(["REQ", "a", mail(&two)])).await, json!(["EOSE", "a"]));
    second.send(json!(["CLOSE", "a"])).await;
    second.stored(json!({"kinds": [kind::RECORD]})).await;
    let fresh = wrap(one.id());
    second.accepted(&fresh).await;
    assert_eq!(first.receive().await, json!(["EVENT", "a", value(&fresh)]));
}

/// NIP-01: "The `ids`, `authors`, `#e` and `#p` filter lists MUST contain exact 64-character lowercase hex values".
#[tokio::test]
async fn keys_and_ids_are_whole_and_in_lower_case() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    client.accepted(&wrap(owner.id())).await;
    let whole = owner.id().to_hex();
    for list in ["ids", "authors", "#p"] {
        for wrong in [whole.to_uppercase(), whole[..63].to_owned(), String::new(), format!("{whole}0")] {
            let answer = client.ask(json!(["REQ", "a", {list: [wrong]}])).await;
            assert_eq!(answer[0], "CLOSED", "{list} {wrong}");
        }
    }
}

/// NIP-01: "`OK` messages MUST be sent in response to `EVENT` messages … they must have the 3rd parameter set to `true` when
/// an event has been accepted by the relay, `false` otherwise. The 4th parameter MUST always be present" and with `false`
/// it begins with a prefix.
#[tokio::test]
async fn every_event_is_answered_with_four_words() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let good = wrap(key().id());
    for (event, taken) in [(&good, true), (&good, true), (&event(&key(), 1, NOW, &[], ""), false)] {
        let answer = client.ask(json!(["EVENT", value(event)])).await;
        let words = answer.as_array().expect("an array");
        assert_eq!((words.len(), &words[0], &words[1]), (4, &json!("OK"), &json!(event.id().to_hex())));
        assert_eq!(words[2], Value::Bool(taken));
        let text = words[3].as_str().expect("text");
        assert!(taken || text.split_once(": ").is_some_and(|(prefix, _)| !prefix.contains(' ')), "{text}");
    }
}

/// NIP-09: "Publishing a deletion request event against a deletion request has no effect".
#[tokio::test]
async fn a_deletion_is_not_deleted() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let letter = wrap(owner.id());
    client.accepted(&letter).await;
    let request = deletion(&owner, owner.id(), &[&letter]);
    client.accepted(&request).await;
    client.publish(&deletion(&owner, owner.id(), &[&request])).await;
    let deletions = json!({"kinds": [kind::DELETION], "#p": [owner.id().to_hex()]});
    assert!(client.stored(deletions).await.contains(&request.id().to_hex()));
    assert!(!client.publish(&letter).await.0, "still deleted");
}

/// NIP-13: the target in the `nonce` tag is a commitment, so that spammers who aim low get nothing for their luck: the lesser
/// of the two counts.
#[tokio::test]
async fn luck_is_no_work() {
    let (node, _) = node_with(|config| config.limits.min_work = 4).await;
    let to = key();
    let lucky = |target: &str| {
        let worked = (0..).map(|nonce: u32| wrap_by(&to, to.id(), NOW, &[&["nonce", &nonce.to_string(), target]]));
        worked.into_iter().find(|event| event.id().as_bytes()[0] < 16).expect("one in 16")
    };
    let mut client = Client::connect(&node).await;
    let (taken, words) = client.publish(&lucky("3")).await;
    assert!(!taken && words.starts_with("pow:"), "{words}");
    client.accepted(&lucky("4")).await;
}

/// NIP-40: relays "SHOULD NOT send expired events to clients, even if they are stored".
#[tokio::test]
async fn what_expires_while_one_listens_is_not_sent_to_who_asks_again() {
    let (node, clock) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let soon = wrap_by(&key(), owner.id(), NOW, &[&["expiration", &NOW.plus(10).to_string()]]);
    client.accepted(&soon).await;
    assert_eq!(client.stored(mail(&owner)).await, ids(&[&soon]));
    clock.set(NOW.plus(10));
    assert_eq!(client.stored(mail(&owner)).await, [""; 0]);
    assert_eq!(client.stored(json!({"ids": [soon.id().to_hex()]})).await, [""; 0]);
}

/// NIP-42: "relays MUST exclude `kind:22242` events from being broadcasted to any client", and answer an AUTH with an OK.
#[tokio::test]
async fn a_proof_is_answered_and_goes_to_nobody() {
    let (node, _) = node().await;
    let me = key();
    let mut listener = Client::connect(&node).await;
    assert_eq!(listener.ask(json!(["REQ", "a", {"kinds": [kind::RELAY_AUTH]}])).await, json!(["EOSE", "a"]));
    let mut client = Client::connect(&node).await;
    let proof = client.auth_event(&me, NOW);
    assert!(!client.publish(&proof).await.0, "as an event it is refused");
    let answer = client.ask(json!(["AUTH", value(&proof)])).await;
    assert_eq!((&answer[0], &answer[1], &answer[2]), (&json!("OK"), &json!(proof.id().to_hex()), &json!(true)));
    assert_eq!(listener.ask(json!(["REQ", "b", {"kinds": [kind::RELAY_AUTH]}])).await, json!(["EOSE", "b"]));
}

/// NIP-45: the answer has an integer `count`; a relay that refuses to count MUST say `CLOSED`.
#[tokio::test]
async fn a_count_is_a_number_or_a_refusal() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    for count in 0..3 {
        assert_eq!(client.ask(json!(["COUNT", "a", mail(&owner)])).await, json!(["COUNT", "a", {"count": count}]));
        client.accepted(&wrap(owner.id())).await;
    }
    let answer = client.ask(json!(["COUNT", "a", mail(&key())])).await;
    assert_eq!((&answer[0], &answer[1]), (&json!("CLOSED"), &json!("a")));
}

/// NIP-70: "The default behavior of a relay MUST be to reject any event that contains `["-"]`".
#[tokio::test]
async fn a_protected_event_is_refused() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let (taken, words) = client.publish(&wrap_by(&key(), key().id(), NOW, &[&["-"]])).await;
    assert!(!taken && words.starts_with("blocked:"), "{words}");
}

/// NIP-77: an unknown version is answered by the one that is spoken, in one byte; a second `NEG-OPEN` of a name takes the
/// place of the first; `NEG-CLOSE` is not answered.
#[tokio::test]
async fn a_reconciliation_agrees_on_a_version_and_is_replaced_by_another_of_its_name() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let open = |message: &str| json!(["NEG-OPEN", "n", mail(&owner), message]);
    assert_eq!(client.ask(open("62")).await, json!(["NEG-MSG", "n", "61"]));
    // "Everything: nothing is here", by version 1.
    let empty = "6100000200";
    for _ in 0..2 {
        assert_eq!(client.ask(open(empty)).await[0], "NEG-MSG");
    }
    client.send(json!(["NEG-CLOSE", "n"])).await;
    let answer = client.ask(json!(["NEG-MSG", "n", empty])).await;
    assert_eq!((&answer[0], &answer[1]), (&json!("NEG-ERR"), &json!("n")));
    assert!(answer[2].as_str().is_some_and(|why| why.starts_with("error: closed")), "{answer}");
}
