//! What was acknowledged is there after a restart.

use serde_json::json;
use talkbox_backend_gossip::node::{Node, NodeConfig, NodeContext};
use talkbox_core::ErrorKind;

use crate::support::*;

fn config(directory: &tempfile::TempDir) -> NodeConfig {
    let mut config = NodeConfig::loopback();
    config.data = Some(directory.path().to_owned());
    config
}

#[tokio::test]
async fn everything_acknowledged_survives_and_deletions_still_hold() {
    let directory = tempfile::tempdir().expect("a directory");
    let (node, _) = node_with(|one| *one = config(&directory)).await;
    let (address, epoch) = (node.addr(), node.epoch());
    let owner = key();
    let mut client = Client::connect(&node).await;
    let events: Vec<_> = (0..50).map(|_| wrap(owner.id())).collect();
    for event in &events {
        client.accepted(event).await;
    }
    client.accepted(&deletion(&owner, owner.id(), &[&events[0]])).await;
    node.shutdown().await;
    assert_eq!(client.next().await.map(|notice| notice[0].clone()), Some(json!("NOTICE")));

    let (node, _) = node_with(|one| {
        *one = config(&directory);
        one.listen = address;
    })
    .await;
    assert_eq!((node.addr(), node.epoch()), (address, epoch), "the same port and store");
    let mut client = Client::connect_as(&node, &owner).await;
    assert_eq!(client.stored(mail(&owner)).await.len(), 49);
    assert_eq!(client.publish(&events[0]).await.1, "blocked: the event was deleted");
    assert_eq!(client.publish(&events[1]).await.1, "duplicate: already here");
}

#[tokio::test]
async fn answers_that_are_owed_are_given_before_the_node_stops() {
    let (node, _) = node().await;
    let mut client = Client::connect(&node).await;
    let events: Vec<_> = (0..100).map(|_| wrap(key().id())).collect();
    for event in &events {
        client.send(json!(["EVENT", value(event)])).await;
    }
    // One answer says that the node is at it.
    assert_eq!(client.receive().await[2], true);
    let stopped = tokio::spawn(node.shutdown());
    let mut last = json!(null);
    while let Some(message) = client.next().await {
        assert!(message[0] == "NOTICE" || message[2] == true, "{message}");
        last = message;
    }
    assert_eq!(last[0], "NOTICE");
    stopped.await.expect("stops");
}

#[tokio::test]
async fn stores_are_told_apart_and_used_by_one_node_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let one = Node::start(config(&directory), NodeContext::default()).await.expect("starts");
    let error = Node::start(config(&directory), NodeContext::default()).await.expect_err("in use");
    assert_eq!(error.kind(), ErrorKind::Storage);
    let other = Node::start(NodeConfig::loopback(), NodeContext::default()).await.expect("starts");
    assert_ne!(one.epoch(), other.epoch());
}

#[tokio::test]
async fn a_newer_or_damaged_store_is_refused_untouched() {
    let directory = tempfile::tempdir().expect("a directory");
    Node::start(config(&directory), NodeContext::default()).await.expect("starts").shutdown().await;
    let file = directory.path().join("node.sqlite3");
    let conn = rusqlite::Connection::open(&file).expect("opens");
    conn.pragma_update(None, "user_version", 99).expect("sets");
    drop(conn);
    let before = std::fs::read(&file).expect("reads");
    let error = Node::start(config(&directory), NodeContext::default()).await.expect_err("newer");
    assert!(error.to_string().contains("newer version"), "{error}");
    assert_eq!(std::fs::read(&file).expect("reads"), before);
    std::fs::write(&file, [7; 8192]).expect("writes");
    let error = Node::start(config(&directory), NodeContext::default()).await.expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Storage);
}

#[tokio::test]
async fn a_rotten_row_is_not_served_and_its_neighbours_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let (node, _) = node_with(|one| *one = config(&directory)).await;
    let owner = key();
    let (rotten, sound) = (wrap(owner.id()), wrap(owner.id()));
    let mut client = Client::connect(&node).await;
    client.accepted(&rotten).await;
    client.accepted(&sound).await;
    node.shutdown().await;
    let conn = rusqlite::Connection::open(directory.path().join("node.sqlite3")).expect("opens");
    let changed = conn
        .execute("UPDATE event SET content = zeroblob(length(content)) WHERE id = ?1", [&rotten.id().as_bytes()[..]])
        .expect("updates");
    assert_eq!(changed, 1);
    drop(conn);
    let (node, _) = node_with(|one| *one = config(&directory)).await;
    let mut client = Client::connect_as(&node, &owner).await;
    assert_eq!(client.stored(mail(&owner)).await, ids(&[&sound]));
}

#[cfg(unix)]
#[tokio::test]
async fn what_a_node_keeps_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("a/b");
    let (node, _) = node_with(|config| config.data = Some(data.clone())).await;
    Client::connect(&node).await.accepted(&wrap(key().id())).await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for file in ["node.key", "node.sqlite3", "node.sqlite3-wal"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
    let backup = directory.path().join("backup");
    talkbox_backend_gossip::node::maintenance::backup(&data, &backup).expect("copies");
    assert_eq!(mode(&backup), 0o600);
}
