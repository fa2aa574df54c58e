//! NIP-40: nothing expired is taken, served or counted.

use std::time::Duration;

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn what_has_expired_is_neither_taken_nor_served() {
    let (node, clock) = node().await;
    let owner = key();
    let mut client = Client::connect_as(&node, &owner).await;
    let soon = NOW.plus(60).to_string();
    let (brief, lasting) = (wrap_by(&key(), owner.id(), NOW, &[&["expiration", &soon]]), wrap(owner.id()));
    client.accepted(&brief).await;
    client.accepted(&lasting).await;
    assert_eq!(client.stored(mail(&owner)).await.len(), 2);

    clock.advance(Duration::from_secs(60));
    assert_eq!(client.stored(mail(&owner)).await, ids(&[&lasting]));
    assert_eq!(client.stored(json!({"ids": [brief.id().to_hex()]})).await, [""; 0]);
    assert_eq!(client.ask(json!(["COUNT", "c", mail(&owner)])).await[2], json!({"count": 1}));
    assert_eq!(client.publish(&brief).await, (false, "invalid: the event has expired".to_owned()));

    clock.set(NOW.plus(90 * 86_400));
    assert_eq!(client.stored(mail(&owner)).await, [""; 0], "90 days where no expiration is named");
}

#[tokio::test]
async fn what_has_expired_is_removed_when_the_node_starts() {
    /// In the hour after its end: nodes remove by the hour, and serve nothing expired meanwhile.
    const LATER: talkbox_core::Timestamp = NOW.plus(3_601);
    let directory = tempfile::tempdir().expect("a directory");
    let start = || node_with(|config| config.data = Some(directory.path().to_owned()));
    let owner = key();
    let (node, _) = start().await;
    let soon = NOW.plus(60).to_string();
    let mut client = Client::connect(&node).await;
    client.accepted(&wrap_by(&key(), owner.id(), NOW, &[&["expiration", &soon]])).await;
    client.accepted(&wrap(owner.id())).await;
    node.shutdown().await;

    let (node, clock) = start().await;
    clock.set(LATER);
    // It is removed and not only hidden: the file itself is looked at.
    let file = rusqlite::Connection::open(directory.path().join("node.sqlite3")).expect("opens");
    let rows = || file.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, u32>(0)).expect("counts");
    assert_eq!(rows(), 2);
    node.shutdown().await;
    let (node, _) = node_at(LATER, |config| config.data = Some(directory.path().to_owned())).await;
    tokio::time::timeout(PATIENCE, async {
        while rows() != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the expired one goes");
    let mut client = Client::connect_at(&node, &owner, LATER).await;
    assert_eq!(client.stored(mail(&owner)).await.len(), 1);
}
