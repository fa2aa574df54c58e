//! NIP-01: publish, request, live, close.

use serde_json::json;
use talkbox_core::event::kind;

use crate::support::*;

#[tokio::test]
async fn what_is_published_is_stored_and_comes_back_as_it_was() {
    let (node, _) = node().await;
    let owner = key();
    let event = wrap(owner.id());
    let mut sender = Client::connect(&node).await;
    sender.accepted(&event).await;
    assert_eq!(sender.publish(&event).await, (true, "duplicate: already here".to_owned()));

    let mut reader = Client::connect_as(&node, &owner).await;
    reader.send(json!(["REQ", "a", mail(&owner)])).await;
    let answer = reader.receive().await;
    assert_eq!(answer[0], "EVENT");
    assert_eq!(checked(&answer[2]), event);
    assert_eq!(reader.receive().await, json!(["EOSE", "a"]));
    node.shutdown().await;
}

#[tokio::test]
async fn what_arrives_later_is_delivered_until_the_subscription_is_closed() {
    let (node, _) = node().await;
    let owner = key();
    let mut reader = Client::connect_as(&node, &owner).await;
    assert_eq!(reader.ask(json!(["REQ", "a", mail(&owner)])).await, json!(["EOSE", "a"]));
    let mut sender = Client::connect(&node).await;
    let (first, other, second) = (wrap(owner.id()), wrap(key().id()), wrap(owner.id()));
    for event in [&first, &other, &second] {
        sender.accepted(event).await;
    }
    for event in [&first, &second] {
        assert_eq!(reader.receive().await, json!(["EVENT", "a", value(event)]));
    }
    reader.send(json!(["CLOSE", "a"])).await;
    // An answer to something else says that the CLOSE has been read.
    reader.stored(json!({"kinds": [kind::RECORD]})).await;
    sender.accepted(&wrap(owner.id())).await;
    assert_eq!(reader.stored(mail(&owner)).await.len(), 3);
}

#[tokio::test]
async fn several_filters_give_their_union_once_and_newest_first() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let old = wrap_by(&key(), owner.id(), NOW.minus(100), &[]);
    let new = wrap_by(&key(), owner.id(), NOW.minus(10), &[]);
    let middle = wrap_by(&key(), owner.id(), NOW.minus(50), &[]);
    for event in [&old, &new, &middle] {
        client.accepted(event).await;
    }
    let all = ids(&[&new, &middle, &old]);
    assert_eq!(client.stored(mail(&owner)).await, all);
    let by_id = json!({"ids": [old.id().to_hex()]});
    assert_eq!(client.query(&[by_id, mail(&owner), mail(&owner)]).await, Ok(all.clone()));
    let p = owner.id().to_hex();
    assert_eq!(client.stored(json!({"#p": [p], "kinds": [1059], "limit": 2})).await, all[..2]);
    assert_eq!(client.stored(json!({"#p": [p], "limit": 0})).await, [""; 0]);
    assert_eq!(client.stored(json!({"#p": [p], "since": NOW.minus(50).secs()})).await, all[..2]);
    assert_eq!(client.stored(json!({"#p": [p], "until": NOW.minus(50).secs()})).await, all[1..]);
    assert_eq!(client.stored(json!({"#p": [p], "ids": []})).await, [""; 0]);
    assert_eq!(client.stored(json!({"#p": [p], "since": u64::MAX})).await, [""; 0]);
}

#[tokio::test]
async fn ties_go_to_the_lower_id() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let mut events: Vec<_> = (0..5).map(|_| wrap(owner.id())).collect();
    for event in &events {
        client.accepted(event).await;
    }
    events.sort_by_key(|event| event.id());
    assert_eq!(client.stored(mail(&owner)).await, ids(&events.iter().collect::<Vec<_>>()));
}

#[tokio::test]
async fn what_is_forged_malformed_or_of_another_kind_is_refused() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let good = wrap(key().id());
    let forged = good.to_json().replace("A+/0A+/0", "A+/0A+/1");
    let wrong_sig =
        good.to_json().replace(&good.to_json()[good.to_json().len() - 40..], &format!("{}\"}}", "0".repeat(38)));
    for (json, words) in [(&forged, "invalid: the id"), (&wrong_sig, "invalid: the signature")] {
        client.send_raw(tokio_tungstenite::tungstenite::Message::text(format!("[\"EVENT\",{json}]"))).await;
        let answer = client.receive().await;
        assert_eq!((&answer[0], &answer[2]), (&json!("OK"), &json!(false)));
        assert!(answer[3].as_str().is_some_and(|text| text.starts_with(words)), "{answer}");
    }
    // What failed must not count as known: the good one is taken, the forged one again refused.
    client.accepted(&good).await;
    let refused = [
        (event(&key(), 1, NOW, &[], "hi"), "blocked:"),
        (event(&key(), kind::RELAY_AUTH, NOW, &[], ""), "blocked:"),
        (event(&key(), kind::GIFT_WRAP, NOW, &[], ""), "invalid:"),
        (wrap_by(&key(), key().id(), NOW, &[&["p", &key().id().to_hex()]]), "invalid:"),
        (wrap_by(&key(), key().id(), NOW.plus(901), &[]), "invalid:"),
        (event(&key(), kind::RECORD, NOW, &[&["d", "X"]], ""), "pow:"),
    ];
    for (event, prefix) in &refused {
        let (taken, words) = client.publish(event).await;
        assert!(!taken && words.starts_with(prefix), "{words}");
    }
}

#[tokio::test]
async fn hints_are_passed_on_and_not_stored() {
    let (node, _) = node().await;
    let owner = key();
    let mut reader = Client::connect_as(&node, &owner).await;
    let filter = json!({"kinds": [kind::HINT], "#p": [owner.id().to_hex()]});
    assert_eq!(reader.ask(json!(["REQ", "a", filter])).await, json!(["EOSE", "a"]));
    let hint = talkbox_core::Hint::sign(owner.id(), &["cid".to_owned()], NOW).expect("signs");
    let mut sender = Client::connect(&node).await;
    sender.accepted(hint.event()).await;
    assert_eq!(reader.receive().await, json!(["EVENT", "a", value(hint.event())]));
    assert_eq!(sender.publish(hint.event()).await.1, "duplicate: already here");
    let mut later = Client::connect_as(&node, &owner).await;
    assert_eq!(later.stored(filter).await, [""; 0]);
}

#[tokio::test]
async fn a_request_of_the_same_name_takes_the_place_of_the_first() {
    let (node, _) = node().await;
    let (owner, other) = (key(), key());
    let mut reader = Client::connect_as(&node, &owner).await;
    let answer = reader.ask(json!(["AUTH", value(&reader.auth_event(&other, NOW))])).await;
    assert_eq!(answer[2], true, "a second key on the same connection");
    assert_eq!(reader.ask(json!(["REQ", "a", mail(&owner)])).await, json!(["EOSE", "a"]));
    assert_eq!(reader.ask(json!(["REQ", "a", mail(&other)])).await, json!(["EOSE", "a"]));
    let mut sender = Client::connect(&node).await;
    let (unheard, heard) = (wrap(owner.id()), wrap(other.id()));
    sender.accepted(&unheard).await;
    sender.accepted(&heard).await;
    assert_eq!(reader.receive().await, json!(["EVENT", "a", value(&heard)]));
}

#[tokio::test]
async fn many_events_at_once_are_all_answered_and_all_stored() {
    let (node, _) = node().await;
    let owner = key();
    let mut sender = Client::connect(&node).await;
    let events: Vec<_> = (0..600).map(|_| wrap(owner.id())).collect();
    for event in &events {
        sender.send(json!(["EVENT", value(event)])).await;
    }
    let mut answered = std::collections::BTreeSet::new();
    for _ in &events {
        let answer = sender.receive().await;
        assert_eq!(answer[2], true, "{answer}");
        answered.insert(answer[1].as_str().expect("an id").to_owned());
    }
    assert_eq!(answered.len(), events.len());
    let mut reader = Client::connect_as(&node, &owner).await;
    assert_eq!(reader.ask(json!(["COUNT", "c", mail(&owner)])).await, json!(["COUNT", "c", {"count": 600}]));
    assert_eq!(reader.stored(mail(&owner)).await.len(), 500, "the limit where none is named");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_or_sent_twice_between_stored_and_live() {
    let (node, _) = node().await;
    let owner = key();
    let events: Vec<_> = (0..400).map(|_| wrap(owner.id())).collect();
    let mut sender = Client::connect(&node).await;
    for event in &events[..100] {
        sender.accepted(event).await;
    }
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(Client::connect_as(&node, &owner).await);
    }
    // All the rest is under way while the readers ask.
    for event in &events[100..] {
        sender.send(json!(["EVENT", value(event)])).await;
    }
    for mut reader in readers {
        reader.send(json!(["REQ", "a", mail(&owner)])).await;
        let mut seen = std::collections::BTreeSet::new();
        let mut ends = 0;
        while seen.len() < events.len() || ends == 0 {
            let message = reader.receive().await;
            match message[0].as_str() {
                Some("EVENT") => assert!(seen.insert(checked(&message[2]).id()), "sent twice"),
                Some("EOSE") => ends += 1,
                _ => panic!("unexpected: {message}"),
            }
        }
        assert_eq!(ends, 1);
    }
}

#[tokio::test]
async fn the_same_event_from_many_at_once_is_stored_once() {
    let (node, _) = node().await;
    let owner = key();
    let event = wrap(owner.id());
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::connect(&node).await);
    }
    for client in &mut clients {
        client.send(json!(["EVENT", value(&event)])).await;
    }
    let mut stored = 0;
    for client in &mut clients {
        let answer = client.receive().await;
        assert_eq!(answer[2], true);
        stored += usize::from(answer[3] == "");
    }
    assert_eq!(stored, 1);
    let mut reader = Client::connect_as(&node, &owner).await;
    assert_eq!(reader.stored(mail(&owner)).await, ids(&[&event]));
}

#[tokio::test]
async fn a_direct_message_of_another_implementation_is_stored_and_served_unchanged() {
    use nostr::{
        event::{Event, FinalizeEvent as _},
        key::Keys,
        key::PublicKey,
        nips::nip17::PrivateDirectMessageBuilder,
    };
    use talkbox_backend_gossip::node::{Node, NodeConfig, NodeContext};
    use talkbox_core::{Clock as _, SystemClock};

    let node = Node::start(NodeConfig::loopback(), NodeContext::default()).await.expect("starts");
    let owner = key();
    let to = PublicKey::from_hex(&owner.id().to_hex()).expect("a key");
    let wrap = PrivateDirectMessageBuilder::new(to, "hello").finalize(&Keys::generate()).expect("wraps");
    let mut client = Client::connect_at(&node, &owner, SystemClock.now()).await;
    let text = format!("[\"EVENT\",{}]", wrap.as_json());
    client.send_raw(tokio_tungstenite::tungstenite::Message::text(text)).await;
    assert_eq!(client.receive().await, json!(["OK", wrap.id.to_hex(), true, ""]));
    client.send(json!(["REQ", "a", mail(&owner)])).await;
    let served = Event::from_json(client.receive().await[2].to_string()).expect("their event");
    assert_eq!(served, wrap);
    served.verify().expect("valid");
}
