//! Clients that take as much as they can get: the others are served nevertheless.

use serde_json::{Value, json};
use talkbox_backend_gossip::node::Node;
use talkbox_core::{
    SecretKey,
    event::{Event, kind},
};

use crate::support::*;

/// Asks in each way that there is, a few times over.
async fn assert_is_answered(node: &Node, owner: &SecretKey, mine: &Event) {
    let mut client = Client::connect_as(node, owner).await;
    for _ in 0..10 {
        assert_eq!(client.stored(mail(owner)).await, ids(&[mine]));
        let count = client.ask(json!(["COUNT", "c", mail(owner)])).await;
        assert_eq!(count, json!(["COUNT", "c", {"count": 1}]));
        assert_eq!(client.ask(json!(["NEG-OPEN", "n", mail(owner), "61"])).await[0], "NEG-MSG");
        client.send(json!(["NEG-CLOSE", "n"])).await;
    }
}

/// Somebody with one message, and a mailbox with some megabytes.
async fn fill(node: &Node) -> (SecretKey, Event, SecretKey) {
    let (owner, crowded) = (key(), key());
    let mine = wrap(owner.id());
    let mut sender = Client::connect(node).await;
    sender.accepted(&mine).await;
    let content = "x".repeat(60_000);
    for _ in 0..40 {
        let tags = vec![vec!["p".to_owned(), crowded.id().to_hex()]];
        sender.accepted(&Event::sign(&key(), NOW, kind::GIFT_WRAP, tags, content.clone())).await;
    }
    (owner, mine, crowded)
}

fn values(number: usize, from: usize) -> Vec<String> {
    (from..from + number).map(|value| value.to_string()).collect()
}

#[tokio::test]
async fn clients_that_do_not_read_stop_nobody() {
    let (node, _) = node().await;
    let (owner, mine, crowded) = fill(&node).await;
    let mut lazy = Vec::new();
    for _ in 0..8 {
        let mut client = Client::connect_narrowly(&node, &crowded).await;
        for name in 0..16 {
            client.send(json!(["REQ", name.to_string(), mail(&crowded)])).await;
        }
        lazy.push(client);
    }
    assert_is_answered(&node, &owner, &mine).await;
    drop(lazy);
}

#[tokio::test]
async fn one_client_that_asks_for_much_stops_nobody() {
    let (node, _) = node().await;
    let (owner, mine, _) = fill(&node).await;
    let mut greedy = Client::connect(&node).await;
    for name in 0..32 {
        let keys: Vec<String> = (0..1_000).map(|n: u64| format!("{:064x}", n + name * 1_000)).collect();
        greedy.send(json!(["REQ", name.to_string(), {"kinds": [kind::INBOX_RELAYS], "#e": keys[..999]}])).await;
        greedy.send(json!(["COUNT", name.to_string(), {"kinds": [kind::INBOX_RELAYS], "#e": keys[..999]}])).await;
    }
    assert_is_answered(&node, &owner, &mine).await;
}

/// Each value of one list was a run of a statement with all the others as its values.
#[tokio::test]
async fn a_request_of_very_many_values_stops_nobody() {
    let (node, _) = node().await;
    let (owner, mine, _) = fill(&node).await;
    let mut hostile = Client::connect(&node).await;
    for name in 0..4 {
        let mut filter = json!({"kinds": [kind::INBOX_RELAYS]});
        for letter in ('a'..='z').filter(|letter| *letter != 'p') {
            filter[format!("#{letter}")] = json!(values(700, 0));
        }
        let answer = hostile.try_send(&json!(["REQ", name.to_string(), filter])).await;
        assert!(answer);
    }
    assert_is_answered(&node, &owner, &mine).await;
    refused(&hostile.receive().await, "0", "invalid: more than 1000 values");
}

#[tokio::test]
async fn values_are_counted_over_all_lists_of_a_request() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let filter = |d: usize, e: usize| json!({"kinds": [kind::INBOX_RELAYS], "#d": values(d, 0), "#e": values(e, 0)});
    let refusals = [
        client.ask(json!(["REQ", "a", filter(500, 500)])).await,
        client.ask(json!(["COUNT", "a", filter(500, 1), filter(500, 1)])).await,
        client.ask(json!(["NEG-OPEN", "a", filter(1, 999), "61"])).await,
    ];
    for (answer, verb) in refusals.iter().zip(["CLOSED", "CLOSED", "NEG-ERR"]) {
        assert_eq!((&answer[0], &answer[1]), (&json!(verb), &json!("a")), "{answer}");
        let words = answer[2].as_str().expect("a reason");
        assert!(words.starts_with("invalid: more than 1000 values"), "{words}");
    }
    assert_eq!(client.ask(json!(["REQ", "a", filter(499, 500)])).await, json!(["EOSE", "a"]));
    let count = client.ask(json!(["COUNT", "b", filter(250, 249), filter(250, 249)])).await;
    assert_eq!(count, json!(["COUNT", "b", {"count": 0}]));
}

/// Each of the values gives up to the limit; the answer has the newest of them all.
#[tokio::test]
async fn a_request_of_many_values_is_answered_like_one_of_few() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let owners = [(); 12].map(|()| key());
    let mut newest = Vec::new();
    for age in 0..3 {
        for (at, owner) in owners.iter().enumerate() {
            let at = NOW.minus(age * 100 + at as u64);
            let stray = format!("{:064x}", at.secs());
            let event = event(&key(), kind::INBOX_RELAYS, at, &[&["p", &owner.id().to_hex()], &["e", &stray]], "");
            client.accepted(&event).await;
            newest.push(event);
        }
    }
    newest.truncate(5);
    let mailboxes: Vec<String> = owners.iter().rev().map(|owner| owner.id().to_hex()).collect();
    let filter = json!({"kinds": [kind::INBOX_RELAYS], "#p": mailboxes, "limit": 5});
    assert_eq!(client.stored(filter).await, ids(&newest.iter().collect::<Vec<_>>()));
}

fn refused(answer: &Value, name: &str, prefix: &str) {
    assert_eq!((&answer[0], &answer[1]), (&json!("CLOSED"), &json!(name)), "{answer}");
    assert!(answer[2].as_str().is_some_and(|words| words.starts_with(prefix)), "{answer}");
}

#[tokio::test]
async fn filters_are_bounded_over_all_connections_of_an_address() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.max_filter_bytes = 11_000;
    })
    .await;
    let (mut one, mut other) = (Client::connect(&node).await, Client::connect(&node).await);
    let small = json!({"kinds": [kind::INBOX_RELAYS]});
    let large = json!({"kinds": [kind::INBOX_RELAYS], "#e": values(60, 0)});
    assert_eq!(one.ask(json!(["REQ", "a", large])).await, json!(["EOSE", "a"]));
    refused(&one.ask(json!(["REQ", "b", large])).await, "b", "blocked: this address keeps");
    refused(&other.ask(json!(["REQ", "b", large])).await, "b", "blocked: this address keeps");
    refused(&other.ask(json!(["COUNT", "b", large])).await, "b", "blocked: this address keeps");
    assert_eq!(other.ask(json!(["REQ", "c", small])).await, json!(["EOSE", "c"]), "a small one has room");
    // What takes the name of another takes its room, too.
    assert_eq!(one.ask(json!(["REQ", "a", small])).await, json!(["EOSE", "a"]));
    assert_eq!(other.ask(json!(["REQ", "b", large])).await, json!(["EOSE", "b"]));
    other.send(json!(["CLOSE", "b"])).await;
    assert_eq!(other.ask(json!(["REQ", "d", large])).await, json!(["EOSE", "d"]));
}

#[tokio::test]
async fn filters_are_bounded_over_the_node_and_small_ones_still_served() {
    let (node, _) = node_with(|config| config.limits.max_filter_bytes_total = 6_000).await;
    let mut greedy = Client::connect(&node).await;
    let large = json!({"kinds": [kind::INBOX_RELAYS], "#e": values(60, 0)});
    assert_eq!(greedy.ask(json!(["REQ", "a", large])).await, json!(["EOSE", "a"]));
    refused(&greedy.ask(json!(["REQ", "b", large])).await, "b", "rate-limited: the node keeps");
    let mut other = Client::connect(&node).await;
    refused(&other.ask(json!(["REQ", "b", large])).await, "b", "rate-limited: the node keeps");
    let owner = key();
    let event = wrap(owner.id());
    let mut usual = Client::connect_as(&node, &owner).await;
    usual.accepted(&event).await;
    assert_eq!(usual.stored(mail(&owner)).await, ids(&[&event]));
}
