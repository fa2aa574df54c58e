//! The peers among themselves: what fails here is no fault of ours.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Instant,
};

use serde_json::{Value, json};

use crate::peer::{Kind, PATIENCE, Peer, text};

#[tokio::test]
async fn orbitdb_peers_replicate_old_and_live_entries_over_tcp_and_websocket() {
    let Some(mut writer) = Peer::start().await else { return };
    let log = writer.open("talkbox-test").await;
    // Name, type and who may write make the address, and nothing else.
    assert_eq!(log, "/orbitdb/zdpuAsGNbJW1aUKphMcfFaBCCeZZhqpKkWNruTtv8Novi3du9");
    writer.ask("addn 20 300").await;
    for address in [writer.tcp.clone(), writer.websocket.clone()] {
        let mut reader = Peer::start().await.expect("as the other");
        reader.connect(&address).await;
        assert_eq!(reader.open(&log).await, log, "the manifest comes from the writer");
        reader.until_it_has(&writer.heads().await).await;
        let live = writer.add("live").await;
        assert_eq!(reader.event("update", |update| update["hash"] == live.as_str()).await["value"], "live");
        let back = reader.add("back").await;
        writer.until_it_has(&[back]).await;
        assert_eq!(reader.hashes().await, writer.hashes().await);
        reader.quit().await;
    }
}

#[tokio::test]
async fn orbitdb_peers_merge_what_was_written_apart_and_keep_it_in_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (Some(mut one), Some(mut other)) = (Peer::start_in(folder.path()).await, Peer::start().await) else { return };
    let log = one.open("merge").await;
    other.open("merge").await;
    let mut apart = vec![one.add("of one").await, other.add("of the other").await];
    apart.sort_unstable();
    one.connect(&other.tcp).await;
    one.until(2).await;
    other.until(2).await;
    assert_eq!((one.heads().await, other.heads().await), (apart.clone(), apart.clone()));
    // Neither looks for the other again by itself.
    one.ask("hangup").await;
    other.event("disconnect", |gone| gone["peer"] == one.id.as_str()).await;
    let merged = other.add("onto both").await;
    one.quit().await;

    let mut again = Peer::start_in(folder.path()).await.expect("as before");
    let mark = other.mark();
    assert!(again.attempt("add nowhere").await.is_err(), "no log is open");
    again.open(&log).await;
    assert_eq!(again.hashes().await, apart);
    again.connect(&other.websocket).await;
    other.event_after(mark, "connect", |joined| joined["peer"] == again.id.as_str()).await;
    again.until_it_has(std::slice::from_ref(&merged)).await;
    assert_eq!(again.heads().await, [merged]);
    // Two heads at once may come in one frame, which it then cannot read; it can do without them here. All else is well.
    let of_frames = |error: &Value| text(&error["error"]).starts_with("CBOR decode error: too many terminals");
    assert!(again.events("error").iter().chain(&other.events("error")).all(of_frames));
}

#[tokio::test]
async fn kubo_and_helia_find_each_other_s_blocks_in_a_network_of_their_own() {
    let (Some(kubo), Some(helia)) =
        (Peer::start_with(Kind::Kubo, &[]).await, Peer::start_with(Kind::OrbitDb, &["--dht"]).await)
    else {
        return;
    };
    let (mut kubo, mut helia) = (kubo, helia);
    helia.connect(&kubo.tcp).await;
    let file = text(&kubo.ask("add 68656c6c6f").await["cid"]);
    let providers = helia.ask(&format!("providers {file}")).await["providers"].take();
    assert_eq!(providers[0]["peer"], kubo.id.as_str());
    let block = text(&helia.ask("put a1616101").await["cid"]);
    helia.ask(&format!("provide {block}")).await;

    // One that knows Kubo alone, and by RSA: it has to ask the network for the other's.
    let mut other = Peer::start_with(Kind::Kubo, &["--rsa"]).await.expect("as before");
    other.connect(&kubo.quic).await;
    other.ask(&format!("pin {block}")).await;
    assert_eq!(other.ask("pins").await["pins"][0], block.as_str());
    assert_eq!(other.ask(&format!("cat {file}")).await["bytes"]["hex"], "68656c6c6f");
}

#[tokio::test]
async fn the_pinning_service_fetches_a_whole_graph_and_serves_it_when_its_origin_is_gone() {
    let (Some(mut service), Some(mut origin)) = (Peer::start_with(Kind::Pinning, &[]).await, Peer::start().await)
    else {
        return;
    };
    // {"a":1}, and a list with a link to it.
    let leaf = text(&origin.ask("put a1616101").await["cid"]);
    let list = "81d82a58250001711220eb989b4a620fd259ae02181bdab4fc3eb6dc6b45eb7322999bb1416bce318926";
    let root = text(&origin.ask(&format!("put {list}")).await["cid"]);
    let (status, mut pin) = call(&service, "POST", "/pins", &json!({ "cid": root, "origins": [origin.tcp] }));
    assert_eq!(status, 202);
    assert_eq!(pin["delegates"], json!([service.tcp]));
    let asked = Instant::now();
    while pin["status"] != "pinned" {
        assert!(asked.elapsed() < PATIENCE && pin["status"] != "failed", "{pin}");
        pin = call(&service, "GET", &format!("/pins/{}", text(&pin["requestid"])), &Value::Null).1;
    }
    assert_eq!(service.ask(&format!("has {root} {leaf}")).await["has"], json!([true, true]));

    origin.quit().await;
    let mut reader = Peer::start().await.expect("as the other");
    reader.connect(&service.tcp).await;
    assert_eq!(reader.ask(&format!("get {leaf}")).await["bytes"]["hex"], "a1616101");
}

/// One call of its API: the status, and the body where it is JSON.
fn call(service: &Peer, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let (url, token) = (text(&service.ready["url"]), text(&service.ready["token"]));
    let host = url.strip_prefix("http://").expect("HTTP");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let mut stream = TcpStream::connect(host).expect("it listens");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         {kind}content-length: {}\r\n\r\n{body}",
        body.len(),
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].parse().expect("a status"), serde_json::from_str(body).unwrap_or_default())
}
