//! NIP-42 and who may read gift wraps.

use serde_json::{Value, json};
use talkbox_core::event::kind;

use crate::support::*;

fn refused(answer: Result<Vec<String>, String>, prefix: &str) {
    let words = answer.expect_err("refused");
    assert!(words.starts_with(prefix), "{words}");
}

/// They say who got mail, and when it was deleted.
#[tokio::test]
async fn deletions_are_read_by_whom_they_concern() {
    let (node, _) = node().await;
    let (owner, author) = (key(), key());
    let letters = [1, 2].map(|age| wrap_by(&author, owner.id(), NOW.minus(age), &[]));
    let mut recipient = Client::connect_as(&node, &owner).await;
    for letter in &letters {
        recipient.accepted(letter).await;
    }
    let by_owner = deletion(&owner, owner.id(), &[&letters[0]]);
    let by_author = deletion(&author, owner.id(), &[&letters[1]]);
    recipient.accepted(&by_owner).await;
    recipient.accepted(&by_author).await;
    let of_owner = json!({"kinds": [5], "#p": [owner.id().to_hex()]});
    let mut anonymous = Client::connect(&node).await;
    for filter in [of_owner.clone(), json!({"kinds": [5]}), json!({"ids": [by_owner.id().to_hex()]})] {
        refused(anonymous.query(&[filter]).await, "auth-required:");
    }
    let mut stranger = Client::connect_as(&node, &key()).await;
    refused(stranger.query(std::slice::from_ref(&of_owner)).await, "restricted:");
    assert_eq!(stranger.stored(json!({"ids": [by_owner.id().to_hex()]})).await, [""; 0]);
    let mut both = ids(&[&by_owner, &by_author]);
    let mut found = recipient.stored(of_owner).await;
    both.sort();
    found.sort();
    assert_eq!(found, both);
    let mut sender = Client::connect_as(&node, &author).await;
    let by = json!({"kinds": [5], "authors": [author.public().to_hex()]});
    assert_eq!(sender.stored(by).await, ids(&[&by_author]));
}

#[tokio::test]
async fn mail_is_read_by_its_recipient_and_its_author_only() {
    let (node, _) = node().await;
    let (owner, author, stranger) = (key(), key(), key());
    let event = wrap_by(&author, owner.id(), NOW, &[]);
    let id = json!({"ids": [event.id().to_hex()]});
    let by_author = json!({"authors": [author.public().to_hex()]});
    let mut anonymous = Client::connect(&node).await;
    anonymous.accepted(&event).await;
    for filter in [mail(&owner), id.clone(), by_author.clone(), json!({}), json!({"kinds": [1059, 5]})] {
        refused(anonymous.query(&[filter]).await, "auth-required:");
    }

    let mut third = Client::connect_as(&node, &stranger).await;
    for filter in
        [mail(&owner), by_author.clone(), json!({}), json!({"#p": [owner.id().to_hex(), stranger.id().to_hex()]})]
    {
        refused(third.query(&[filter]).await, "restricted:");
    }
    assert_eq!(third.stored(id.clone()).await, [""; 0]);
    assert_eq!(third.ask(json!(["COUNT", "c", id])).await[2], json!({"count": 0}));

    let mut recipient = Client::connect_as(&node, &owner).await;
    for filter in [mail(&owner), id.clone(), json!({"#p": [owner.id().to_hex()]})] {
        assert_eq!(recipient.stored(filter).await, ids(&[&event]));
    }
    let mut sender = Client::connect_as(&node, &author).await;
    let with_p = json!({"ids": [event.id().to_hex()], "kinds": [1059], "#p": [owner.id().to_hex()]});
    for filter in [by_author, id.clone(), with_p] {
        assert_eq!(sender.stored(filter).await, ids(&[&event]));
    }
    assert_eq!(sender.ask(json!(["COUNT", "c", id])).await[2], json!({"count": 1}));
}

#[tokio::test]
async fn counts_and_reconciliations_are_gated_too() {
    let (node, _) = node().await;
    let owner = key();
    let mut anonymous = Client::connect(&node).await;
    let mut third = Client::connect_as(&node, &key()).await;
    for (client, prefix) in [(&mut anonymous, "auth-required:"), (&mut third, "restricted:")] {
        for (request, refusal) in [
            (json!(["COUNT", "a", mail(&owner)]), "CLOSED"),
            (json!(["NEG-OPEN", "a", mail(&owner), "6100"]), "NEG-ERR"),
        ] {
            let answer = client.ask(request).await;
            assert_eq!((&answer[0], &answer[1]), (&json!(refusal), &json!("a")));
            assert!(answer[2].as_str().is_some_and(|text| text.starts_with(prefix)), "{answer}");
        }
    }
}

#[tokio::test]
async fn live_mail_is_gated_event_by_event() {
    let (node, _) = node().await;
    let (owner, stranger) = (key(), key());
    let (hidden, shown) = (wrap(owner.id()), wrap(stranger.id()));
    let mut third = Client::connect_as(&node, &stranger).await;
    let filter = json!({"ids": ids(&[&hidden, &shown])});
    assert_eq!(third.ask(json!(["REQ", "a", filter])).await, json!(["EOSE", "a"]));
    let mut sender = Client::connect(&node).await;
    sender.accepted(&hidden).await;
    sender.accepted(&shown).await;
    assert_eq!(third.receive().await, json!(["EVENT", "a", value(&shown)]));
}

/// A hint says who gets mail, and when.
#[tokio::test]
async fn hints_are_gated_too() {
    let (node, _) = node().await;
    let (owner, stranger) = (key(), key());
    let hint = |of: &talkbox_core::SecretKey| talkbox_core::Hint::sign(of.id(), &[], NOW).expect("signs");
    let (hidden, shown) = (hint(&owner), hint(&stranger));
    let everyones = json!({"kinds": [kind::HINT]});
    let owners = json!({"kinds": [kind::HINT], "#p": [owner.id().to_hex()]});
    let mut anonymous = Client::connect(&node).await;
    let mut third = Client::connect_as(&node, &stranger).await;
    for filter in [everyones, owners, json!({"kinds": [kind::HINT, kind::RECORD]})] {
        refused(anonymous.query(std::slice::from_ref(&filter)).await, "auth-required:");
        refused(third.query(&[filter]).await, "restricted:");
    }
    // Nor does one who knows the id, or the key that signed it, get it.
    let by_id = json!({"ids": ids(&[hidden.event(), shown.event()])});
    assert_eq!(third.ask(json!(["REQ", "a", by_id])).await, json!(["EOSE", "a"]));
    let by_author = json!({"authors": [hidden.event().author().to_hex()]});
    refused(third.query(&[by_author]).await, "restricted:");
    anonymous.accepted(hidden.event()).await;
    anonymous.accepted(shown.event()).await;
    assert_eq!(third.receive().await, json!(["EVENT", "a", value(shown.event())]));
}

#[tokio::test]
async fn a_node_that_does_not_gate_serves_everyone() {
    let (node, _) = node_with(|config| config.gate_reads = false).await;
    let (owner, event) = {
        let owner = key();
        let event = wrap(owner.id());
        (owner, event)
    };
    let mut anonymous = Client::connect(&node).await;
    anonymous.accepted(&event).await;
    for filter in [mail(&owner), json!({}), json!({"kinds": [1059]})] {
        assert_eq!(anonymous.stored(filter).await, ids(&[&event]));
    }
}

#[tokio::test]
async fn a_proof_has_to_be_for_this_node_this_connection_and_this_moment() {
    let (node, _) = node().await;
    let (me, mut client, other) = (key(), Client::connect(&node).await, Client::connect(&node).await);
    let good = client.auth_event(&me, NOW);
    let challenge = good.value("challenge").expect("in it").to_owned();
    let url = node.url();
    let proof = |at, kind, relay: &str, challenge: &str| {
        event(&me, kind, at, &[&["relay", relay], &["challenge", challenge]], "")
    };
    let wrong = [
        other.auth_event(&me, NOW),
        proof(NOW.minus(601), kind::RELAY_AUTH, &url, &challenge),
        proof(NOW.plus(601), kind::RELAY_AUTH, &url, &challenge),
        proof(NOW, kind::RELAY_AUTH, "wss://relay.example", &challenge),
        proof(NOW, kind::HTTP_AUTH, &url, &challenge),
    ];
    let mut answers: Vec<Value> = Vec::new();
    for event in &wrong {
        answers.push(client.ask(json!(["AUTH", value(event)])).await);
    }
    let mut tampered = value(&good);
    tampered["pubkey"] = json!(key().public().to_hex());
    answers.push(client.ask(json!(["AUTH", tampered])).await);
    for answer in answers {
        assert_eq!((&answer[0], &answer[2]), (&json!("OK"), &json!(false)), "{answer}");
        assert!(answer[3].as_str().is_some_and(|text| text.starts_with("invalid:")), "{answer}");
    }
    refused(client.query(&[mail(&me)]).await, "auth-required:");
    assert_eq!(client.ask(json!(["AUTH", value(&good)])).await[2], true);
    assert_eq!(client.stored(mail(&me)).await, [""; 0]);
    // The slash and another name of this machine make no difference.
    let port = node.addr().port();
    let again = proof(NOW, kind::RELAY_AUTH, &format!("ws://localhost:{port}/"), &challenge);
    assert_eq!(client.ask(json!(["AUTH", value(&again)])).await[2], true);
}

#[tokio::test]
async fn the_public_url_is_what_a_proof_names() {
    let (node, _) = node_with(|config| config.public_url = Some("wss://node.example/relay".to_owned())).await;
    let mut client = Client::connect(&node).await;
    let me = key();
    let answer = client.ask(json!(["AUTH", value(&client.auth_event(&me, NOW))])).await;
    assert_eq!(answer[2], false);
    let challenge = client.auth_event(&me, NOW).value("challenge").expect("in it").to_owned();
    let tags: &[&[&str]] = &[&["relay", "wss://node.example:443/relay/"], &["challenge", &challenge]];
    let answer = client.ask(json!(["AUTH", value(&event(&me, kind::RELAY_AUTH, NOW, tags, ""))])).await;
    assert_eq!(answer[2], true, "{answer}");
}
