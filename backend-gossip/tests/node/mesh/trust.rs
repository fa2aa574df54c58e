//! Who may ask for what, and what a peer that is none is told.

use talkbox_core::{
    SecretKey,
    anti_entropy::{FrameLimit, IdSet, Initiator},
};

use super::support::Mesh;
use crate::{
    http::support::{get, post, publish},
    support::{key, wrap},
};

#[tokio::test]
async fn the_log_and_the_whole_set_are_for_peers_alone() {
    let mesh = Mesh::of(2).await;
    publish(mesh.node(0), &[&wrap(key().id())]).await;
    mesh.hold(1).await;
    let text = std::fs::read_to_string(mesh.places[1].data().join("node.key")).expect("a key");
    let peer = SecretKey::from_nsec(text.trim()).expect("a key");
    let stranger = key();
    let message = Initiator::new(FrameLimit::NONE).start(&IdSet::new());
    assert_eq!(get(mesh.node(0), "/v1/log").by(&peer).send().await.json()["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(get(mesh.node(0), "/v1/log").by(&stranger).send().await.problem().0, 403);
    assert_eq!(get(mesh.node(0), "/v1/log").send().await.problem().0, 401);
    let whole = "/v1/reconcile?set=whole";
    assert_eq!(post(mesh.node(0), whole, message.clone()).send().await.problem().0, 401);
    assert_eq!(post(mesh.node(0), whole, message.clone()).by(&stranger).send().await.problem().0, 403);
    assert_eq!(post(mesh.node(0), whole, message.clone()).by(&peer).open().await.status().as_u16(), 200);
    // To a stranger it is the set of its own mailbox, which is empty.
    let answer = post(mesh.node(0), "/v1/reconcile", message.clone()).by(&stranger).open().await;
    assert_eq!(answer.status().as_u16(), 200);
    let nonsense = post(mesh.node(0), "/v1/reconcile", vec![0x61, 0xff, 0xff]).by(&peer).send().await;
    assert_eq!(nonsense.problem(), (400, "malformed".to_owned()));
}

/// It counts as held, so that it is not fetched again and again; and nobody is told that it is kept.
#[tokio::test]
async fn what_a_node_has_no_room_for_counts_as_held_between_nodes_and_gets_no_receipt() {
    let mut mesh = Mesh::unstarted(2);
    mesh.start(0).await;
    mesh.start_with(1, |config| config.limits.max_mailbox_events = 1).await;
    let owner = key();
    let (first, second) = (wrap(owner.id()), wrap(owner.id()));
    publish(mesh.node(0), &[&first]).await;
    mesh.hold(1).await;
    publish(mesh.node(0), &[&second]).await;
    mesh.hold(2).await;
    let have = serde_json::json!({"ids": [second.id().to_hex()]}).to_string();
    assert_eq!(post(mesh.node(1), "/v1/have", have).send().await.json()["items"][0]["held"], false);
    let text = std::fs::read_to_string(mesh.places[0].data().join("node.key")).expect("a key");
    let peer = SecretKey::from_nsec(text.trim()).expect("a key");
    let again = post(mesh.node(1), "/v1/envelopes", format!("{}\n", second.to_json())).by(&peer).send().await;
    assert_eq!(again.lines(), [serde_json::json!({"id": second.id().to_hex(), "status": "duplicate"})]);
    assert_eq!(publish(mesh.node(1), &[&second]).await[0]["code"], "quota", "a client is told the truth");
}

#[tokio::test]
async fn a_peer_that_brings_forgeries_is_told_to_slow_down_and_clients_are_not() {
    let mut mesh = Mesh::of(2).await;
    mesh.meet().await;
    let text = std::fs::read_to_string(mesh.places[1].data().join("node.key")).expect("a key");
    let peer = SecretKey::from_nsec(text.trim()).expect("a key");
    mesh.stop(1).await;
    let forged: String =
        (0..65).map(|_| wrap(key().id()).to_json().replace("\"sig\":\"", "\"sig\":\"00") + "\n").collect();
    let forged = forged.replace("00\"}", "\"}");
    let bring = async || post(mesh.node(0), "/v1/envelopes", forged.clone()).by(&peer).send().await;
    assert!(bring().await.lines().iter().all(|line| line["code"] == "malformed"));
    assert_eq!(bring().await.problem(), (429, "quota".to_owned()));
    let mail = wrap(key().id());
    assert_eq!(publish(mesh.node(0), &[&mail]).await[0]["status"], "stored");
}

#[tokio::test]
async fn a_peer_that_has_another_key_than_it_should_is_not_spoken_to() {
    let mut mesh = Mesh::unstarted(2);
    mesh.start(0).await;
    let url = mesh.places[0].url();
    let npub = talkbox_core::Address::new(key().id(), &[]).expect("an address").to_string();
    mesh.start_with(1, |config| config.peers = vec![format!("{url}#{npub}")]).await;
    publish(mesh.node(1), &[&wrap(key().id())]).await;
    mesh.until(|states| states[1]["peers"][0]["state"] == "away").await;
    assert_eq!(get(mesh.node(0), "/v1/peers").send().await.json()["events"], 0);
    let fault = get(mesh.node(1), "/v1/peers").send().await.json()["peers"][0]["fault"].to_string();
    assert!(fault.contains("another key"), "{fault}");
}

#[tokio::test]
async fn a_peer_that_is_the_node_itself_is_named_as_that() {
    let mut mesh = Mesh::unstarted(1);
    let own = mesh.places[0].url();
    mesh.start_with(0, |config| config.peers = vec![own]).await;
    mesh.until(|states| states[0]["peers"][0]["state"] == "self").await;
    let fault = get(mesh.node(0), "/v1/peers").send().await.json()["peers"][0]["fault"].to_string();
    assert!(fault.contains("this node itself"), "{fault}");
}

#[tokio::test]
async fn strangers_hear_that_a_peer_is_away_and_not_why() {
    let mut mesh = Mesh::unstarted(1);
    // Nothing listens there.
    mesh.start_with(0, |config| config.peers = vec!["http://127.0.0.1:1".to_owned()]).await;
    mesh.until(|states| states[0]["peers"][0]["state"] == "away").await;
    let asked = async |passed_on: bool| {
        let ask = get(mesh.node(0), "/v1/peers");
        let ask = if passed_on { ask.header("x-forwarded-for", "192.0.2.7") } else { ask };
        let peer = ask.send().await.json()["peers"][0].clone();
        assert_eq!(peer["state"], "away");
        peer["fault"].clone()
    };
    assert!(asked(false).await.is_string(), "the operator is told");
    assert!(asked(true).await.is_null());
}

#[tokio::test]
async fn the_key_that_a_peer_shows_first_is_kept() {
    let mut mesh = Mesh::of(2).await;
    mesh.until(|states| states.iter().all(|state| state["peers"][0]["state"] == "ok")).await;
    mesh.stop(0).await;
    mesh.stop(1).await;
    std::fs::remove_file(mesh.places[1].data().join("node.key")).expect("removes");
    mesh.start(0).await;
    mesh.start(1).await;
    mesh.until(|states| states[0]["peers"][0]["fault"].to_string().contains("another key")).await;
}

#[tokio::test]
async fn a_node_is_ready_when_it_has_compared_with_a_peer() {
    let mut mesh = Mesh::unstarted(2);
    mesh.start(0).await;
    let ready = get(mesh.node(0), "/readyz").send().await;
    assert_eq!((ready.status, ready.json()["fault"].clone()), (503, "not compared with a peer yet".into()));
    mesh.start(1).await;
    mesh.until(|states| states.iter().all(|state| state["peers"][0]["compared"].is_u64())).await;
    assert_eq!(get(mesh.node(0), "/readyz").send().await.status, 200);
}
