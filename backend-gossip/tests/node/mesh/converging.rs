//! What one node has, all get; and what is gone stays gone.

use talkbox_core::{EnvelopeId, Hint, event::kind};

use super::support::Mesh;
use crate::{
    http::support::{Events, get, post, publish},
    support::{NOW, deletion, event, key, wrap, wrap_by},
};

#[tokio::test]
async fn what_one_node_takes_a_subscriber_of_another_gets_at_once() {
    let mesh = Mesh::of(3).await;
    let owner = key();
    let path = format!("/v1/mailboxes/{}/watch", owner.id().to_hex());
    let mut events = Events::open(get(mesh.node(2), &path).by(&owner)).await;
    assert_eq!(events.next().await.1, "live");
    for _ in 0..3 {
        let mail = wrap(owner.id());
        publish(mesh.node(0), &[&mail]).await;
        assert!(events.next().await.2.contains(&mail.id().to_hex()));
    }
    mesh.hold(3).await;
}

#[tokio::test]
async fn a_hint_reaches_who_watches_at_another_node_and_is_kept_by_none() {
    let mesh = Mesh::of(3).await;
    mesh.meet().await;
    let owner = key();
    let path = format!("/v1/mailboxes/{}/watch", owner.id().to_hex());
    let mut events = Events::open(get(mesh.node(2), &path).by(&owner)).await;
    assert_eq!(events.next().await.1, "live");
    for _ in 0..2 {
        let hint = Hint::sign(owner.id(), &[], NOW).expect("signs");
        publish(mesh.node(0), &[hint.event()]).await;
        let (_, name, data) = events.next().await;
        assert_eq!((name.as_str(), data.contains(&hint.event().id().to_hex())), ("hint", true));
    }
    mesh.hold(0).await;
}

#[tokio::test]
async fn a_node_that_was_away_gets_what_it_missed_and_gives_what_it_took() {
    let mut mesh = Mesh::of(3).await;
    let owner = key();
    publish(mesh.node(0), &[&wrap(owner.id())]).await;
    mesh.hold(1).await;
    mesh.stop(2).await;
    let missed: Vec<_> = (0..300).map(|_| wrap(owner.id())).collect();
    for part in missed.chunks(200) {
        publish(mesh.node(0), &part.iter().collect::<Vec<_>>()).await;
    }
    mesh.hold(301).await;
    mesh.stop(0).await;
    mesh.stop(1).await;
    mesh.start(2).await;
    publish(mesh.node(2), &[&wrap(owner.id())]).await;
    mesh.hold(2).await;
    mesh.start(1).await;
    mesh.hold(302).await;
    mesh.start(0).await;
    mesh.hold(302).await;
}

#[tokio::test]
async fn how_far_a_peer_is_behind_is_known_after_a_restart() {
    let mut mesh = Mesh::unstarted(2);
    mesh.start(0).await;
    publish(mesh.node(0), &[&wrap(key().id()), &wrap(key().id())]).await;
    mesh.stop(0).await;
    mesh.start(0).await;
    mesh.until(|states| states[0]["peers"][0]["behind"] == 2).await;
    mesh.start(1).await;
    mesh.until(|states| states[0]["peers"][0]["behind"] == 0).await;
}

#[tokio::test]
async fn a_node_that_begins_with_nothing_is_filled_though_whoever_took_it_first_is_gone() {
    let mut mesh = Mesh::unstarted(3);
    mesh.start(0).await;
    mesh.start(1).await;
    let owner = key();
    publish(mesh.node(0), &[&wrap(owner.id()), &wrap(owner.id())]).await;
    mesh.hold(2).await;
    mesh.stop(0).await;
    mesh.start(2).await;
    mesh.hold(2).await;
}

/// What decides may be known to one node alone: nothing that strangers do keeps nodes apart.
#[tokio::test]
async fn what_one_node_takes_and_another_refuses_keeps_them_not_apart() {
    let mut mesh = Mesh::unstarted(2);
    mesh.start_with(0, |config| config.limits.min_work = 4).await;
    let (owner, stranger, vanishing) = (key(), key(), key());
    let worked = |worked: bool| loop {
        let mail = wrap_by(&key(), owner.id(), NOW, &[&["nonce", "0", "4"]]);
        if (mail.id().as_bytes()[0] < 16) == worked {
            return mail;
        }
    };
    let mail: Vec<_> = (0..3).map(|_| worked(true)).collect();
    publish(mesh.node(0), &mail.iter().collect::<Vec<_>>()).await;
    let vanish = |words: &str| event(&vanishing, kind::VANISH, NOW, &[&["relay", "ALL_RELAYS"]], words);
    let requests = [vanish("one"), vanish("other")];
    publish(mesh.node(0), &[&requests[0]]).await;
    mesh.stop(0).await;
    mesh.start(1).await;
    publish(mesh.node(1), &[&requests[1], &worked(false)]).await;
    for mail in &mail {
        let by_stranger = deletion(&stranger, owner.id(), &[mail]);
        let answer = post(mesh.node(1), "/v1/deletions", by_stranger.to_json()).send().await;
        assert_eq!(answer.json()["status"], "stored", "{answer:?}");
    }
    mesh.start_with(0, |config| config.limits.min_work = 4).await;
    // The mail of both, three deletions that delete nothing, one of the two requests.
    mesh.hold(8).await;
    let list = format!("/v1/mailboxes/{}/envelopes", owner.id().to_hex());
    for (at, letters) in [(0, 3), (1, 4)] {
        let page = get(mesh.node(at), &list).by(&owner).send().await.json();
        assert_eq!(page["items"].as_array().expect("items").len(), letters, "node {at}");
    }
    let fetched = async || {
        let page = get(mesh.node(0), "/metrics").send().await.body;
        let line = page.lines().find(|line| line.starts_with("talkbox_node_fetched_total")).expect("is counted");
        line.rsplit(' ').next().expect("a number").to_owned()
    };
    // It is fetched once.
    let before = fetched().await;
    let compared = |states: &[serde_json::Value]| states[0]["peers"][0]["compared"].as_u64();
    mesh.clock.advance(std::time::Duration::from_secs(5));
    mesh.until(|states| compared(states) > Some(NOW.secs() + 4)).await;
    assert_eq!(fetched().await, before);
}

#[tokio::test]
async fn what_is_deleted_is_deleted_everywhere_and_does_not_come_back() {
    let mut mesh = Mesh::of(3).await;
    let owner = key();
    let (mail, kept) = (wrap(owner.id()), wrap(owner.id()));
    publish(mesh.node(0), &[&mail, &kept]).await;
    mesh.hold(2).await;
    mesh.stop(2).await;
    post(mesh.node(1), "/v1/deletions", deletion(&owner, owner.id(), &[&mail]).to_json()).send().await;
    // The deletion and what is kept.
    mesh.hold(2).await;
    let list = format!("/v1/mailboxes/{}/envelopes", owner.id().to_hex());
    let listed = async |node| {
        let page = get(node, &list).by(&owner).send().await.json();
        page["items"].as_array().expect("items").len()
    };
    mesh.until(|states| states.iter().all(|state| state["events"] == 2)).await;
    mesh.start(2).await;
    mesh.hold(2).await;
    for at in 0..3 {
        assert_eq!(listed(mesh.node(at)).await, 1, "node {at}");
    }
    // A node that never saw it is told of the deletion alone, and refuses what comes after.
    for at in 0..3 {
        assert_eq!(publish(mesh.node(at), &[&mail]).await[0]["code"], "deleted");
    }
}

#[tokio::test]
async fn what_has_expired_is_fetched_by_nobody() {
    let mut mesh = Mesh::of(2).await;
    let owner = key();
    let soon = NOW.plus(60).to_string();
    let short = wrap_by(&key(), owner.id(), NOW, &[&["expiration", &soon]]);
    publish(mesh.node(0), &[&short]).await;
    mesh.hold(1).await;
    mesh.stop(1).await;
    mesh.clock.set(NOW.plus(7_200));
    mesh.start(1).await;
    let late = wrap_by(&key(), owner.id(), NOW.plus(7_200), &[]);
    publish(mesh.node(1), &[&late]).await;
    mesh.until(|states| states.iter().all(|state| state["events"].as_u64() >= Some(1))).await;
    for at in 0..2 {
        let have = serde_json::json!({"ids": [short.id().to_hex()]}).to_string();
        assert_eq!(post(mesh.node(at), "/v1/have", have).send().await.json()["items"][0]["held"], false);
    }
}

#[tokio::test]
async fn the_newest_list_wins_everywhere() {
    let mut mesh = Mesh::of(2).await;
    let owner = key();
    let list = |at| event(&owner, kind::INBOX_RELAYS, at, &[&["relay", "wss://a.example"]], "");
    publish(mesh.node(0), &[&list(NOW.minus(10))]).await;
    mesh.hold(1).await;
    mesh.stop(1).await;
    publish(mesh.node(0), &[&list(NOW)]).await;
    mesh.start(1).await;
    mesh.hold(1).await;
    assert_eq!(publish(mesh.node(1), &[&list(NOW)]).await[0]["status"], "duplicate");
}

/// It counts as held to the end of the hour at those who had it, and nobody is given it.
#[tokio::test]
async fn what_has_expired_keeps_no_mesh_apart_that_has_a_node_of_an_old_backup() {
    let mut mesh = Mesh::of(2).await;
    let owner = key();
    mesh.meet().await;
    mesh.stop(0).await;
    let file = mesh.places[0].data().join("node.sqlite3");
    let old = std::fs::read(&file).expect("reads");
    mesh.start(0).await;
    let soon = NOW.plus(10).to_string();
    let mail: Vec<_> = (0..3).map(|_| wrap_by(&key(), owner.id(), NOW, &[&["expiration", &soon]])).collect();
    publish(mesh.node(0), &mail.iter().collect::<Vec<_>>()).await;
    mesh.hold(3).await;
    mesh.stop(0).await;
    std::fs::write(&file, old).expect("writes");
    mesh.clock.advance(std::time::Duration::from_secs(20));
    mesh.start(0).await;
    mesh.hold(3).await;
    let ids: Vec<_> = mail.iter().map(|event| event.id().to_hex()).collect();
    for node in [mesh.node(0), mesh.node(1)] {
        let have = serde_json::json!({"ids": ids}).to_string();
        let items = post(node, "/v1/have", have.clone()).send().await.json()["items"].clone();
        assert!(items.as_array().expect("items").iter().all(|item| item["held"] == false), "{items}");
        assert!(post(node, "/v1/envelopes/get", have).by(&owner).send().await.body.is_empty());
    }
}

#[tokio::test]
async fn a_store_of_an_old_backup_gets_back_what_it_lost() {
    let mut mesh = Mesh::of(2).await;
    let owner = key();
    publish(mesh.node(0), &[&wrap(owner.id())]).await;
    mesh.hold(1).await;
    mesh.stop(0).await;
    let file = mesh.places[0].data().join("node.sqlite3");
    let old = std::fs::read(&file).expect("reads");
    mesh.start(0).await;
    let after: Vec<_> = (0..5).map(|_| wrap(owner.id())).collect();
    publish(mesh.node(0), &after.iter().collect::<Vec<_>>()).await;
    mesh.hold(6).await;
    let epoch = mesh.node(0).epoch();
    mesh.stop(0).await;
    std::fs::write(&file, old).expect("writes");
    mesh.start(0).await;
    assert_ne!(mesh.node(0).epoch(), epoch, "what comes now has places that others had");
    mesh.hold(6).await;
    let ids: Vec<_> = after.iter().map(|event| EnvelopeId::from(event.id()).to_hex()).collect();
    let have = serde_json::json!({"ids": ids}).to_string();
    let items = post(mesh.node(0), "/v1/have", have).send().await.json()["items"].clone();
    assert!(items.as_array().expect("items").iter().all(|item| item["held"] == true));
}
