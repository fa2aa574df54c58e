//! Nodes that might become peers: where they are found, that nothing private is asked, and that they have no right.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    routing::get as route,
};
use serde_json::{Value, json};
use talkbox_backend_gossip::node::Node;
use talkbox_core::SecretKey;
use tokio::{net::TcpListener, sync::watch, time::timeout};

use super::support::{Mesh, Place};
use crate::{
    http::support::get,
    support::{PATIENCE, node_with},
};

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Waits until a node shows candidates of which this is so.
async fn candidates(node: &Node, so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let mut shown = Vec::new();
    let found = timeout(PATIENCE, async {
        loop {
            shown = get(node, "/v1/peers").send().await.json()["candidates"].as_array().expect("a list").clone();
            if so(&shown) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    assert!(found.await.is_ok(), "{shown:#?}");
    shown
}

#[tokio::test]
async fn the_peers_of_a_node_are_candidates_for_who_takes_it_as_a_registry_and_have_no_right() {
    let mesh = Mesh::of(2).await;
    mesh.meet().await;
    let directory = format!("{}/v1/peers", mesh.places[0].url());
    let (node, _) = node_with(|config| {
        config.registries = vec![directory.clone()];
        config.candidates_anywhere = true;
    })
    .await;
    let shown = candidates(&node, |shown| shown.first().is_some_and(|one| one["seen"].is_u64())).await;
    let theirs = mesh.node(1).key().to_hex();
    assert_eq!((shown.len(), &shown[0]["url"], &shown[0]["key"]), (1, &json!(mesh.places[1].url()), &json!(theirs)));
    assert_eq!(shown[0]["source"], json!(directory));
    let text = std::fs::read_to_string(mesh.places[1].data().join("node.key")).expect("a key");
    let candidate = SecretKey::from_nsec(text.trim()).expect("a key");
    assert_eq!(get(&node, "/v1/log").by(&candidate).send().await.problem().0, 403);
}

#[tokio::test]
async fn the_peers_of_peers_are_candidates() {
    let mut mesh = Mesh::unstarted(3);
    let urls: Vec<String> = mesh.places.iter().map(Place::url).collect();
    // 0 knows 1, and 1 knows 2.
    mesh.start_with(2, |config| config.peers = vec![]).await;
    mesh.start_with(1, |config| config.peers = vec![urls[2].clone()]).await;
    mesh.start_with(0, |config| {
        config.peers = vec![urls[1].clone()];
        config.candidates_anywhere = true;
        config.discover_interval = 1;
    })
    .await;
    let shown = candidates(mesh.node(0), |shown| !shown.is_empty()).await;
    assert_eq!((&shown[0]["url"], &shown[0]["source"]), (&json!(urls[2]), &json!(urls[1])));
}

#[tokio::test]
async fn nothing_private_is_asked_whatever_a_registry_says() {
    let canary = StdListener::bind("127.0.0.1:0").expect("a port");
    canary.set_nonblocking(true).expect("sets");
    let port = canary.local_addr().expect("bound").port();
    let (asked, mut rounds) = watch::channel(0_u32);
    let peers: Vec<Value> = [
        format!("https://127.0.0.1:{port}"),
        format!("https://localhost:{port}"),
        format!("https://[::1]:{port}"),
        format!("https://[::ffff:127.0.0.1]:{port}"),
        format!("https://2130706433:{port}"),
        format!("https://0x7f.1:{port}"),
        format!("https://0.0.0.0:{port}"),
        format!("http://127.0.0.1:{port}"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1".to_owned(),
        "file:///etc/passwd".to_owned(),
    ]
    .iter()
    .map(|url| json!({"url": url}))
    .collect();
    let document = json!({"peers": peers}).to_string();
    let directory = Router::new().route(
        "/",
        route(move || {
            asked.send_modify(|asked| *asked += 1);
            std::future::ready(document.clone())
        }),
    );
    let address = serve(directory).await;
    let (node, _) = node_with(|config| {
        config.registries = vec![format!("http://{address}/")];
        config.discover_interval = 1;
    })
    .await;
    // When it is read again, the round before is over.
    timeout(PATIENCE, rounds.wait_for(|asked| *asked >= 2)).await.expect("in time").expect("it is asked");
    assert!(canary.accept().is_err(), "somebody knocked");
    let shown = candidates(&node, |_| true).await;
    assert_eq!(shown, Vec::<Value>::new(), "what is only said is not repeated");
}

/// A relay that keeps what it is given, and gives it to everybody.
async fn relay() -> SocketAddr {
    async fn talk(mut socket: WebSocket, kept: Arc<Mutex<Vec<Value>>>) {
        // What nobody asked for.
        let _gone = socket.send(Message::text(r#"["NOTICE","hello"]"#)).await;
        while let Some(Ok(Message::Text(text))) = socket.recv().await {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            let mut answers = Vec::new();
            if message[0] == "EVENT" {
                kept.lock().expect("unpoisoned").push(message[1].clone());
                answers.push(json!(["OK", message[1]["id"], true, ""]));
            } else if message[0] == "REQ" {
                assert_eq!((&message[2]["kinds"], &message[2]["#t"]), (&json!([30166]), &json!(["talkbox-node"])));
                let kept = kept.lock().expect("unpoisoned");
                answers.extend(kept.iter().map(|event| json!(["EVENT", message[1], event])));
                answers.push(json!(["EOSE", message[1]]));
            }
            for answer in answers {
                let _gone = socket.send(Message::text(answer.to_string())).await;
            }
        }
    }
    type Kept = State<Arc<Mutex<Vec<Value>>>>;
    let upgrade =
        |State(kept): Kept, socket: WebSocketUpgrade| async { socket.on_upgrade(|socket| talk(socket, kept)) };
    serve(Router::new().route("/", route(upgrade)).with_state(Arc::default())).await
}

#[tokio::test]
async fn nodes_find_each_other_on_a_relay() {
    let relay = format!("ws://{}", relay().await);
    let place = Place::new();
    let mut mesh = Mesh { places: vec![place], ..Mesh::unstarted(1) };
    let (url, announce) = (mesh.places[0].url(), vec![relay]);
    mesh.start_with(0, |config| {
        config.announce = announce.clone();
        config.public_url = Some(url.replace("http", "ws"));
        config.candidates_anywhere = true;
        config.discover_interval = 1;
    })
    .await;
    let (seeker, _) = node_with(|config| {
        config.announce = announce;
        config.candidates_anywhere = true;
        config.discover_interval = 1;
    })
    .await;
    let shown = candidates(&seeker, |shown| shown.first().is_some_and(|one| one["seen"].is_u64())).await;
    let theirs = mesh.node(0).key().to_hex();
    assert_eq!((shown.len(), &shown[0]["url"], &shown[0]["key"]), (1, &json!(url), &json!(theirs)));
    let own = candidates(mesh.node(0), |_| true).await;
    assert_eq!(own, Vec::<Value>::new(), "a node is no candidate of its own, and one without a URL is none at all");
}
