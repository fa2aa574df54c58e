//! NIP-09 and NIP-59: deletion of gift wraps by their author and by their recipient.

use serde_json::json;
use talkbox_core::event::kind;

use crate::support::*;

#[tokio::test]
async fn the_recipient_and_the_author_may_delete_and_nobody_else() {
    let (node, _) = node().await;
    let (owner, author) = (key(), key());
    let mut client = Client::connect_as(&node, &owner).await;
    let (one, two) = (wrap_by(&author, owner.id(), NOW, &[]), wrap_by(&author, owner.id(), NOW, &[&["x", "y"]]));
    client.accepted(&one).await;
    client.accepted(&two).await;

    let (taken, words) = client.publish(&deletion(&key(), owner.id(), &[&one])).await;
    assert!(!taken && words.starts_with("restricted:"), "{words}");
    assert_eq!(client.stored(mail(&owner)).await.len(), 2);

    client.accepted(&deletion(&owner, owner.id(), &[&one])).await;
    assert_eq!(client.stored(mail(&owner)).await, ids(&[&two]));
    client.accepted(&deletion(&author, owner.id(), &[&two])).await;
    assert_eq!(client.stored(mail(&owner)).await, [""; 0]);

    for event in [&one, &two] {
        assert_eq!(client.publish(event).await, (false, "blocked: the event was deleted".to_owned()));
    }
    assert_eq!(client.stored(mail(&owner)).await, [""; 0]);
}

#[tokio::test]
async fn a_deletion_that_comes_first_decides_on_arrival() {
    let (node, _) = node().await;
    let (owner, author) = (key(), key());
    let mut client = Client::connect_as(&node, &owner).await;
    let events = [(); 3].map(|()| wrap_by(&author, owner.id(), NOW, &[&["x", &key().id().to_hex()]]));
    client.accepted(&deletion(&owner, owner.id(), &[&events[0]])).await;
    client.accepted(&deletion(&author, owner.id(), &[&events[1]])).await;
    client.accepted(&deletion(&key(), owner.id(), &[&events[2]])).await;
    for event in &events[..2] {
        let (taken, words) = client.publish(event).await;
        assert!(!taken && words.starts_with("blocked:"), "{words}");
    }
    client.accepted(&events[2]).await;
    assert_eq!(client.stored(mail(&owner)).await, ids(&[&events[2]]));
}

#[tokio::test]
async fn deletions_are_stored_asked_for_and_delivered() {
    let (node, _) = node().await;
    let owner = key();
    let event = wrap(owner.id());
    let mut reader = Client::connect_as(&node, &owner).await;
    let filter = json!({"kinds": [kind::DELETION], "#p": [owner.id().to_hex()]});
    assert_eq!(reader.ask(json!(["REQ", "a", filter])).await, json!(["EOSE", "a"]));
    let mut client = Client::connect_as(&node, &owner).await;
    client.accepted(&event).await;
    let request = deletion(&owner, owner.id(), &[&event]);
    client.accepted(&request).await;
    assert_eq!(reader.receive().await, json!(["EVENT", "a", value(&request)]));
    for filter in [
        filter,
        json!({"kinds": [5], "#p": [owner.id().to_hex()], "#e": [event.id().to_hex()]}),
        json!({"kinds": [5], "#p": [owner.id().to_hex()], "#k": ["1059"]}),
        json!({"kinds": [5], "authors": [owner.public().to_hex()]}),
        json!({"kinds": [5], "ids": [request.id().to_hex()]}),
    ] {
        assert_eq!(client.stored(filter).await, ids(&[&request]));
    }
    assert_eq!(client.publish(&request).await.1, "duplicate: already here");
}

#[tokio::test]
async fn what_is_no_deletion_of_gift_wraps_is_refused() {
    let (node, _) = node().await;
    let owner = key();
    let mut client = Client::connect(&node).await;
    let id = "0a".repeat(32);
    let many: Vec<Vec<&str>> = (0..101).map(|_| vec!["e", id.as_str()]).collect();
    let many: Vec<&[&str]> = many.iter().map(Vec::as_slice).collect();
    let wrong: [&[&[&str]]; 4] = [&[], &[&["e", &id], &["k", "1"]], &[&["e", "short"]], &many];
    for tags in wrong {
        let (taken, words) = client.publish(&event(&owner, kind::DELETION, NOW, tags, "")).await;
        assert!(!taken && words.starts_with("invalid:"), "{words}");
    }
}

#[tokio::test]
async fn a_deleted_event_is_not_sent_after_it_was_deleted() {
    let (node, _) = node().await;
    let owner = key();
    let mut reader = Client::connect_as(&node, &owner).await;
    assert_eq!(reader.ask(json!(["REQ", "a", {"kinds": [1059], "#p": [owner.id().to_hex()]}])).await[0], "EOSE");
    let (early, late) = (wrap(owner.id()), wrap(owner.id()));
    let mut client = Client::connect(&node).await;
    client.accepted(&deletion(&owner, owner.id(), &[&early])).await;
    assert!(!client.publish(&early).await.0);
    client.accepted(&late).await;
    assert_eq!(reader.receive().await, json!(["EVENT", "a", value(&late)]), "what was refused is not delivered live");
}

#[tokio::test]
async fn a_clock_that_was_ahead_does_not_bring_back_what_was_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = |now| node_at(now, |config| config.data = Some(directory.path().to_owned()));
    let owner = key();
    let (node, _) = start(NOW).await;
    let soon = NOW.plus(86_400).to_string();
    let [wrap, other] = [(); 2].map(|()| wrap_by(&key(), owner.id(), NOW, &[&["expiration", &soon]]));
    let mut client = Client::connect(&node).await;
    client.accepted(&wrap).await;
    client.accepted(&other).await;
    client.accepted(&deletion(&owner, owner.id(), &[&wrap])).await;
    node.shutdown().await;

    let file = rusqlite::Connection::open(directory.path().join("node.sqlite3")).expect("opens");
    let wraps = || file.query_row("SELECT count(*) FROM event WHERE kind = 1059", [], |row| row.get::<_, u32>(0));
    assert_eq!(wraps().expect("counts"), 1);
    let (node, _) = start(NOW.plus(10 * 86_400)).await;
    tokio::time::timeout(PATIENCE, async {
        while wraps().expect("counts") > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("what has expired goes");
    node.shutdown().await;

    let (node, _) = start(NOW).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.publish(&wrap).await, (false, "blocked: the event was deleted".to_owned()));
    client.accepted(&other).await;
}
