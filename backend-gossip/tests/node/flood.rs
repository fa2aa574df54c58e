//! Floods of requests from many addresses: whoever sends more than he may is not read from, and the others are served.
//! Only on Linux has this machine many addresses of its own.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use talkbox_backend_gossip::node::Node;
use talkbox_core::event::kind;
use tokio::{net::TcpSocket, task::JoinSet};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{
    http::support::{get, post},
    support::*,
};

/// Addresses that flood the node, and the connections of each.
const ADDRESSES: u8 = 8;
const CONNECTIONS: usize = 2;
/// Requests of each connection, sent without waiting for an answer.
const PIPELINED: usize = 60;

/// Sends all that it has, and counts what is answered.
async fn flood(node: &Node, from: [u8; 4], answers: Arc<AtomicUsize>, flooders: &mut JoinSet<()>) {
    let own = TcpSocket::new_v4().expect("a socket");
    own.bind(SocketAddrV4::new(Ipv4Addr::from(from), 0).into()).expect("an address of this machine");
    let stream = own.connect(node.addr()).await.expect("connects");
    let (socket, _) = client_async(node.url(), stream).await.expect("shakes hands");
    let (mut out, mut back) = socket.split();
    let authors: Vec<String> = (0..990).map(|_| key().public().to_hex()).collect();
    flooders.spawn(async move {
        for number in 0..PIPELINED {
            let request =
                json!(["REQ", format!("s{}", number % 8), {"kinds": [kind::INBOX_RELAYS], "authors": authors}]);
            if out.send(Message::text(request.to_string())).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    flooders.spawn(async move {
        while let Some(Ok(message)) = back.next().await {
            let text = message.to_text().unwrap_or_default();
            if text.starts_with(r#"["EOSE""#) || text.starts_with(r#"["CLOSED""#) {
                answers.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_from_many_addresses_leaves_the_others_served() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.requests_per_second = 2;
        // 60 requests for the good one; three of the others, which cost sixteen each.
        config.limits.burst_seconds = 30;
    })
    .await;
    let (answers, mut flooders) = (Arc::<AtomicUsize>::default(), JoinSet::new());
    for address in 0..ADDRESSES {
        for _ in 0..CONNECTIONS {
            flood(&node, [127, 0, 9, address + 1], Arc::clone(&answers), &mut flooders).await;
        }
    }
    // The flood has begun.
    tokio::time::timeout(PATIENCE, async {
        while answers.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("answers");
    for _ in 0..30 {
        let answer = post(&node, "/v1/envelopes", wrap(key().id()).to_json()).send().await.lines();
        assert_eq!(answer[0]["status"], "stored");
        assert_eq!(get(&node, "/livez").send().await.status, 200);
    }
    // 3 of each address at once, and one more in 8 s: of 960 that were sent this is what a minute would give.
    let answered = answers.load(Ordering::Relaxed);
    assert!(answered < usize::from(ADDRESSES) * 12, "{answered} answers to the flood");
    drop(flooders);
}

#[tokio::test]
async fn what_is_more_than_the_rate_is_read_later_and_served() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.events_per_second = 20;
        config.limits.requests_per_second = 20;
        config.limits.burst_seconds = 1;
    })
    .await;
    let mut client = Client::connect(&node).await;
    let events = [(); 30].map(|()| wrap(key().id()));
    for event in &events {
        client.send(json!(["EVENT", value(event)])).await;
    }
    let mut taken = BTreeSet::new();
    for _ in &events {
        let answer = client.receive().await;
        assert_eq!((&answer[0], &answer[2]), (&json!("OK"), &json!(true)), "{answer}");
        taken.insert(answer[1].to_string());
    }
    assert_eq!(taken.len(), events.len());
    for number in 0..30 {
        client.send(json!(["COUNT", number.to_string(), {"kinds": [kind::INBOX_RELAYS]}])).await;
    }
    for _ in 0..30 {
        let answer = client.receive().await;
        assert_eq!((&answer[0], &answer[2]), (&json!("COUNT"), &json!({"count": 0})), "{answer}");
    }
}

/// What it sent and nobody read keeps no place for it.
#[tokio::test]
async fn a_client_that_has_gone_is_noticed_though_its_messages_wait() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.max_connections_per_address = 1;
        config.limits.requests_per_second = 1;
        config.limits.ping_interval = 1;
    })
    .await;
    let authors: Vec<String> = (0..990).map(|_| key().public().to_hex()).collect();
    let mut client = Client::connect(&node).await;
    // 30 tokens are there, and each takes sixteen: to read all of them would take more than a minute.
    for _ in 0..8 {
        client.send(json!(["COUNT", "c", {"kinds": [kind::INBOX_RELAYS], "authors": authors}])).await;
    }
    client.receive().await;
    drop(client);
    let place = async { while tokio_tungstenite::connect_async(node.url()).await.is_err() {} };
    tokio::time::timeout(PATIENCE, place).await.expect("its place is free");
}

/// A message that waits is still one that the node has not taken: it counts for its address.
#[tokio::test]
async fn messages_that_wait_take_of_the_room_of_their_address() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.requests_per_second = 1;
        config.limits.burst_seconds = 1;
        config.limits.max_body_bytes_total = 400_000;
    })
    .await;
    let authors: Vec<String> = (0..950).map(|_| key().public().to_hex()).collect();
    let large = json!(["COUNT", "c", {"kinds": [kind::INBOX_RELAYS], "authors": authors}]);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(&node).await);
    }
    for client in &mut clients {
        let _may_be_closed = client.try_send(&large).await;
    }
    let ends = clients.iter_mut().map(|client| tokio::time::timeout(Duration::from_secs(20), client.next()));
    let ends = futures_util::future::join_all(ends).await;
    let refused = ends.iter().flatten().flatten().filter(|answer| answer[0] == "NOTICE").count();
    assert!(refused > 0, "a quarter of 400,000 bytes is room for one: {ends:?}");
}
