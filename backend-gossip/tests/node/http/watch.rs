//! Server-sent events.

use talkbox_core::{Hint, event::Event};

use super::support::{Events, get, publish};
use crate::support::{NOW, key, node, node_with, wrap};

fn path(of: &talkbox_core::SecretKey) -> String {
    format!("/v1/mailboxes/{}/watch", of.id().to_hex())
}

fn id_of(data: &str) -> String {
    Event::parse(data).expect("an event").id().to_hex()
}

#[tokio::test]
async fn what_arrives_is_told_at_once_and_a_watch_resumes_where_it_broke() {
    let (node, _) = node().await;
    let owner = key();
    let (before, first, missed, late) = (wrap(owner.id()), wrap(owner.id()), wrap(owner.id()), wrap(owner.id()));
    publish(&node, &[&before]).await;
    let mut events = Events::open(get(&node, &path(&owner)).by(&owner)).await;
    let (start, name, _) = events.next().await;
    assert_eq!((start, &*name), (format!("{:016x}.1", node.epoch()), "live"));
    // One after the other: events of one batch are verified side by side and arrive in any order.
    publish(&node, &[&wrap(key().id())]).await;
    publish(&node, &[&first]).await;
    let (cursor, name, data) = events.next().await;
    assert_eq!((&*name, id_of(&data)), ("envelope", first.id().to_hex()));
    assert_eq!(cursor, format!("{:016x}.3", node.epoch()));
    drop(events);

    publish(&node, &[&missed]).await;
    let mut events = Events::open(get(&node, &path(&owner)).by(&owner).header("last-event-id", &cursor)).await;
    let (_, name, data) = events.next().await;
    assert_eq!((&*name, id_of(&data)), ("envelope", missed.id().to_hex()));
    assert_eq!(events.next().await.1, "live");
    publish(&node, &[&late]).await;
    assert_eq!(id_of(&events.next().await.2), late.id().to_hex());
}

#[tokio::test]
async fn hints_come_too_and_without_a_place() {
    let (node, _) = node().await;
    let owner = key();
    let mut events = Events::open(get(&node, &path(&owner)).by(&owner)).await;
    assert_eq!(events.next().await.1, "live");
    let hint = Hint::sign(owner.id(), &[], NOW).expect("signs");
    publish(&node, &[hint.event()]).await;
    let (id, name, data) = events.next().await;
    assert_eq!((&*id, &*name, id_of(&data)), ("", "hint", hint.event().id().to_hex()));
}

#[tokio::test]
async fn watches_end_when_the_node_does_and_leave_nothing_behind() {
    let (node, _) = node_with(|config| {
        config.limits.exempt_loopback = false;
        config.limits.max_connections_per_address = 3;
    })
    .await;
    let owner = key();
    for _ in 0..10 {
        let mut events = Events::open(get(&node, &path(&owner)).by(&owner)).await;
        assert_eq!(events.next().await.1, "live");
    }
    let mut events = Events::open(get(&node, &path(&owner)).by(&owner)).await;
    node.shutdown().await;
    assert!(events.ends().await);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_loses_its_watch_and_nobody_else_anything() {
    let (node, _) = node_with(|config| config.limits.max_pending_bytes = 100_000).await;
    let (owner, other) = (key(), key());
    let mut slow = Events::open(get(&node, &path(&owner)).by(&owner)).await;
    let mut good = Events::open(get(&node, &path(&other)).by(&other)).await;
    assert_eq!(good.next().await.1, "live");
    // More than the buffers of both ends hold.
    for _ in 0..40 {
        let mail: Vec<Event> = (0..200).map(|_| wrap(owner.id())).collect();
        publish(&node, &mail.iter().collect::<Vec<_>>()).await;
    }
    let mail = wrap(other.id());
    publish(&node, &[&mail]).await;
    assert_eq!(id_of(&good.next().await.2), mail.id().to_hex());
    assert!(slow.ends().await);
}
