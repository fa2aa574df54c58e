//! Clients that mean harm: each costs only itself.

use std::time::Duration;

use serde_json::{Value, json};
use talkbox_core::event::kind;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::*;

/// Another client is served as if nothing were wrong.
async fn assert_well(node: &talkbox_backend_gossip::node::Node) {
    let owner = key();
    let event = wrap(owner.id());
    let mut client = Client::connect_as(node, &owner).await;
    client.accepted(&event).await;
    assert_eq!(client.stored(mail(&owner)).await, ids(&[&event]));
}

fn notice(answer: &Value) {
    assert_eq!(answer[0], "NOTICE", "{answer}");
}

#[tokio::test]
async fn nonsense_is_answered_and_then_the_connection_closed() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let deep = format!("[{}{}]", "[".repeat(50_000), "]".repeat(50_000));
    let nonsense = ["", "x", "{}", "[]", "[1]", "[\"NO\"]", "[\"REQ\"]", "[\"REQ\",1,{}]", "[\"EVENT\",{}]", &deep];
    for text in nonsense {
        client.send_raw(Message::text(text)).await;
        notice(&client.receive().await);
    }
    client.send_raw(Message::binary(vec![0, 1, 2])).await;
    notice(&client.receive().await);
    for _ in 0..5 {
        client.send_raw(Message::text("again")).await;
        notice(&client.receive().await);
    }
    client.send_raw(Message::text("once too often")).await;
    notice(&client.receive().await);
    assert_eq!(client.next().await, None);
    assert_well(&node).await;
}

#[tokio::test]
async fn wrong_filters_and_names_are_refused_by_name() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let eleven: Vec<Value> = std::iter::repeat_n(json!({"kinds": [10050]}), 11).collect();
    let mut too_many = vec![json!("REQ"), json!("a")];
    too_many.extend(eleven);
    for request in
        [json!(["REQ", "a"]), json!(["REQ", "a", {"search": "x"}]), json!(["COUNT", "a", 1]), json!(too_many)]
    {
        let answer = client.ask(request).await;
        assert_eq!((&answer[0], &answer[1]), (&json!("CLOSED"), &json!("a")), "{answer}");
        assert!(answer[2].as_str().is_some_and(|text| text.starts_with("invalid:")), "{answer}");
    }
    notice(&client.ask(json!(["REQ", "x".repeat(65), {}])).await);
    let odd = "\"\\\u{1}é";
    assert_eq!(client.ask(json!(["REQ", odd, {"kinds": [10050]}])).await, json!(["EOSE", odd]));
}

#[tokio::test]
async fn subscriptions_are_bounded() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    for n in 0..32 {
        let name = n.to_string();
        assert_eq!(client.ask(json!(["REQ", name, {"kinds": [10050]}])).await, json!(["EOSE", name]));
    }
    let answer = client.ask(json!(["REQ", "32", {"kinds": [10050]}])).await;
    assert_eq!(answer[0], "CLOSED");
    client.send(json!(["CLOSE", "0"])).await;
    assert_eq!(client.ask(json!(["REQ", "32", {"kinds": [10050]}])).await, json!(["EOSE", "32"]));
}

#[tokio::test]
async fn an_event_that_is_too_large_is_refused_and_a_larger_message_ends_the_connection() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let tags = |key: String| vec![vec!["p".to_owned(), key]];
    let large = |bytes: usize| {
        let content = "x".repeat(bytes);
        talkbox_core::event::Event::sign(&key(), NOW, kind::GIFT_WRAP, tags(key().id().to_hex()), content)
    };
    let overhead = large(0).to_json().len();
    client.accepted(&large(65_536 - overhead)).await;
    let (taken, words) = client.publish(&large(65_537 - overhead)).await;
    assert!(!taken && words.contains("larger than 65536"), "{words}");
    client.send_raw(Message::text("x".repeat(140_000))).await;
    notice(&client.receive().await);
    assert_eq!(client.next().await, None);
    assert_well(&node).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let (node, _) = node_with(|config| {
        config.limits.max_pending_bytes = 100_000;
        config.limits.write_timeout = 1;
    })
    .await;
    let owner = key();
    let mut lazy = Client::connect_as(&node, &owner).await;
    assert_eq!(lazy.ask(json!(["REQ", "a", mail(&owner)])).await[0], "EOSE");
    let mut sender = Client::connect(&node).await;
    let content = "x".repeat(60_000);
    // What the kernel holds for both ends comes first; it is a few megabytes.
    for _ in 0..300 {
        let tags = vec![vec!["p".to_owned(), owner.id().to_hex()]];
        sender.accepted(&talkbox_core::event::Event::sign(&key(), NOW, kind::GIFT_WRAP, tags, content.clone())).await;
    }
    let mut received = 0;
    while lazy.next().await.is_some_and(|message| message[0] == "EVENT") {
        received += 1;
    }
    assert!(received < 300, "it got {received}");
    assert_well(&node).await;
}

#[tokio::test]
async fn a_slow_reader_of_a_long_answer_gets_all_of_it() {
    let (node, _) = node_with(|config| config.limits.max_pending_bytes = 200_000).await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let content = "x".repeat(60_000);
    for _ in 0..100 {
        let tags = vec![vec!["p".to_owned(), owner.id().to_hex()]];
        client.accepted(&talkbox_core::event::Event::sign(&key(), NOW, kind::GIFT_WRAP, tags, content.clone())).await;
    }
    assert_eq!(client.stored(mail(&owner)).await.len(), 100, "6 MB through 0.2 MB of room");
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let (node, _) = node_with(|config| config.limits.head_timeout = 1).await;
    let mut stream = TcpStream::connect(node.addr()).await.expect("connects");
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.expect("sends");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the node closes");
    assert_well(&node).await;
}

#[tokio::test]
async fn connections_of_an_address_are_bounded() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.max_connections_per_address = 2;
    })
    .await;
    let _two = [Client::connect(&node).await, Client::connect(&node).await];
    assert!(tokio_tungstenite::connect_async(node.url()).await.is_err(), "a third connection");
}

#[tokio::test]
async fn a_mailbox_and_a_store_can_be_full() {
    let (node, _) = node_with(|config| config.limits.max_mailbox_events = 2).await;
    let owner = key();
    let mut client = Client::connect(&node).await;
    let events = [(); 3].map(|()| wrap(owner.id()));
    client.accepted(&events[0]).await;
    client.accepted(&events[1]).await;
    assert_eq!(client.publish(&events[2]).await, (false, "blocked: the mailbox is full".to_owned()));
    client.accepted(&wrap(key().id())).await;
    client.accepted(&deletion(&owner, owner.id(), &[&events[0]])).await;
    client.accepted(&events[2]).await;

    let (node, _) = node_with(|config| config.limits.max_store_bytes = 1).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.publish(&events[0]).await, (false, "error: the store is full".to_owned()));
    client.accepted(&deletion(&owner, owner.id(), &[&events[0]])).await;
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let (node, _) = node_with(|config| {
        config.limits.ping_interval = 1;
        config.limits.idle_timeout = 1;
    })
    .await;
    // A client that answers pings stays; this one reads nothing and so answers none.
    let mut stream = TcpStream::connect(node.addr()).await.expect("connects");
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        node.addr()
    );
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the node closes");
}

/// A WebSocket by hand, so that a message can be left half.
async fn open_by_hand(node: &talkbox_backend_gossip::node::Node) -> TcpStream {
    let mut stream = TcpStream::connect(node.addr()).await.expect("connects");
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        node.addr()
    );
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.expect("answers");
    assert_eq!(&head, b"HTTP/1.1 101");
    stream
}

/// The beginning of a text, in a frame that is not the last: with no mask but zeros.
fn beginning(bytes: u16) -> Vec<u8> {
    let mut frame = vec![0x01, 0x80 | 126];
    frame.extend(bytes.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(vec![b' '; usize::from(bytes)]);
    frame
}

/// What comes until the node closes.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let _reset = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the node closes");
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn halves_of_messages_are_bounded_for_each_address() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.max_body_bytes_total = 400_000;
    })
    .await;
    let mut halves = Vec::new();
    for _ in 0..4 {
        let mut stream = open_by_hand(&node).await;
        stream.write_all(&beginning(60_000)).await.expect("sends");
        halves.push(stream);
    }
    let mut closed = Vec::new();
    for stream in &mut halves {
        // A ping is answered by those that go on.
        let _closed = stream.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await;
        let mut seen = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, async {
            let mut some = [0; 4_096];
            while let Ok(1..) = stream.read(&mut some).await.inspect(|read| seen.extend_from_slice(&some[..*read])) {
                if seen.ends_with(&[0x8a, 0]) {
                    return false;
                }
            }
            true
        });
        if ended.await.expect("answers") {
            closed.push(String::from_utf8_lossy(&seen).into_owned());
        }
    }
    assert_eq!(closed.len(), 3, "a quarter of 400,000 bytes is room for one");
    assert!(closed.iter().all(|seen| seen.contains("rate-limited: too many messages")), "{closed:?}");
    assert_well(&node).await;
}

#[tokio::test]
async fn the_rest_of_a_message_is_not_waited_for_for_ever() {
    let (node, _) = node_with(|config| {
        config.limits.ping_interval = 1;
        config.limits.body_timeout = 1;
    })
    .await;
    let mut stream = open_by_hand(&node).await;
    stream.write_all(&beginning(60_000)).await.expect("sends");
    assert!(until_closed(&mut stream).await.contains("the rest of a message did not come"));
}
