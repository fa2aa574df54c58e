//! NIP-11: the information document, on the same address.

use serde_json::{Value, json};
use talkbox_backend_gossip::node::Node;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::*;

/// One HTTP request: head and body of the answer.
async fn http(node: &Node, method: &str, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(node.addr()).await.expect("connects");
    let request = format!("{method} / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n", node.addr());
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("reads");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_lowercase(), body.to_owned())
}

#[tokio::test]
async fn the_document_states_nips_and_limits_for_pages_of_any_origin() {
    let (node, _) = node_with(|config| {
        config.name = "a name".to_owned();
        config.limits.min_work = 7;
        config.limits.events_per_second = 0;
        config.limits.max_mailbox_events = 77;
    })
    .await;
    let (head, body) = http(&node, "GET", "accept: application/nostr+json\r\n").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/nostr+json"), "{head}");
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
    let document: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(document["name"], "a name");
    assert_eq!(document["supported_nips"], json!([1, 9, 11, 13, 40, 42, 45, 59, 62, 77]));
    assert_eq!(document["limitation"]["max_subscriptions"], 32);
    assert_eq!(document["limitation"]["min_pow_difficulty"], 7);
    assert_eq!(document["limitation"]["created_at_lower_limit"], 400 * 86_400);
    let own = &document["talkbox"];
    assert_eq!(own["kinds"], json!([5, 62, 1059, 10050, 21787, 30787]));
    assert_eq!(own["max_event_bytes"], json!({"1059": 65_536, "others": 16_384}));
    assert_eq!(own["retention"], json!({"default": 90 * 86_400, "max": 400 * 86_400}));
    assert_eq!((&own["events_per_second"], &own["requests_per_second"]), (&json!(null), &json!(20)));
    assert_eq!((&own["burst_seconds"], &own["max_filter_values"]), (&json!(30), &json!(1_000)));
    assert_eq!((&own["max_mailbox_events"], &own["max_mailbox_bytes"]), (&json!(77), &json!(256 << 20)));
    assert_eq!(document["software"], "talkbox-backend-gossip");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    let (head, _) = http(&node, "OPTIONS", "").await;
    assert!(head.starts_with("http/1.1 204") && head.contains("access-control-allow-methods: get"), "{head}");
    assert!(
        head.contains("access-control-allow-origin: *") && head.contains("access-control-allow-headers: *"),
        "{head}"
    );
    let (head, body) = http(&node, "GET", "").await;
    assert!(head.starts_with("http/1.1 200") && body.contains("relay"), "{head}");
}

#[tokio::test]
async fn the_work_that_is_asked_for_is_asked_for() {
    let (node, _) = node_with(|config| config.limits.min_work = 8).await;
    let owner = key();
    let mut client = Client::connect(&node).await;
    let (taken, words) = client.publish(&wrap(owner.id())).await;
    assert!(!taken && words.starts_with("pow:"), "{words}");
    let worked = (0..)
        .map(|nonce: u32| wrap_by(&owner, owner.id(), NOW, &[&["nonce", &nonce.to_string(), "8"]]))
        .find(|event| event.id().as_bytes()[0] == 0)
        .expect("one in 256");
    client.accepted(&worked).await;
}
