//! One mailbox in both languages: whatever the order, whoever connects, over both transports.

use std::time::{Duration, Instant};

use crate::{
    ours::{Client, Ids, Owner, TCP, WEBSOCKET, ids, node},
    peer::{Peer, text},
};

/// Messages of which the way is timed.
const TIMED: usize = 12;

#[tokio::test]
async fn what_a_javascript_peer_has_is_listed_and_kept_over_tcp_and_websocket() {
    let Some(mut holder) = Peer::start().await else { return };
    let owner = Owner::new();
    holder.open(&owner.log()).await;
    let mail = owner.mail(20);
    holder.add_mail(&mail[..10]).await;
    holder.add("no mail").await;
    holder.add_mail(&mail[10..]).await;
    for (address, listen) in [(holder.tcp.clone(), TCP), (holder.websocket.clone(), WEBSOCKET)] {
        let reader = Client::of(&owner, &address).await;
        assert_eq!(reader.listed().await, ids(&mail));
        // A node that dials, and one that is dialled.
        let (_dials, one) = node(&owner, listen, &[&address]).await;
        let (_dialled, other) = node(&owner, listen, &[]).await;
        holder.connect(&other).await;
        for at in [one, other] {
            Client::of(&owner, &at).await.until_listed(&ids(&mail)).await;
        }
    }
}

#[tokio::test]
async fn what_a_node_has_a_javascript_peer_gets_over_tcp_and_websocket() {
    let Some(mut before) = Peer::start().await else { return };
    let mut after = Peer::start().await.expect("as the other");
    for listen in [TCP, WEBSOCKET] {
        let owner = Owner::new();
        let (_node, address) = node(&owner, listen, &[]).await;
        let mail = owner.mail(20);
        let sender = Client::of(&owner, &address).await;
        sender.store(&mail[..15]).await;
        sender.store(&mail[15..]).await;
        // It may open the log first, or connect first.
        before.open(&owner.log()).await;
        before.connect(&address).await;
        after.connect(&address).await;
        after.open(&owner.log()).await;
        for peer in [&mut before, &mut after] {
            peer.until(20).await;
            assert_eq!(peer.mail().await, ids(&mail));
        }
    }
}

#[tokio::test]
async fn live_letters_take_milliseconds_both_ways_over_tcp_and_websocket() {
    let Some(mut peer) = Peer::start().await else { return };
    for (way, listen) in [("TCP", TCP), ("WebSocket", WEBSOCKET)] {
        let owner = Owner::new();
        let log = peer.open(&owner.log()).await;
        let (_node, address) = node(&owner, listen, &[]).await;
        peer.connect(&address).await;
        let to_peer = if listen == TCP { peer.tcp.clone() } else { peer.websocket.clone() };
        let (at_peer, at_node) = (Client::of(&owner, &to_peer).await, Client::of(&owner, &address).await);
        let (mut watching, mut behind) = (at_peer.watch().await, at_node.watch().await);
        peer.event("join", |join| join["log"] == log.as_str()).await;

        let (mut direct, mut by_node, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for letter in owner.mail(TIMED) {
            let given = peer.give(&format!("addjson {}", letter.json()));
            let since = Instant::now();
            watching.until(&letter).await;
            direct.push(since.elapsed());
            behind.until(&letter).await;
            by_node.push(since.elapsed());
            peer.answer(given).await;
        }
        for letter in owner.mail(TIMED) {
            let mark = peer.mark();
            let since = Instant::now();
            at_node.store(&[letter]).await;
            peer.event_after(mark, "update", |update| update["log"] == log.as_str()).await;
            back.push(since.elapsed());
        }
        tell(&format!("{way}: added by JavaScript, seen by a client of that peer"), direct);
        tell(&format!("{way}: added by JavaScript, seen by a client of a node"), by_node);
        tell(&format!("{way}: put to a node, stored, and joined by JavaScript"), back);
        peer.until(2 * TIMED).await;
    }
}

#[tokio::test]
async fn writers_that_are_apart_are_merged_by_whoever_knows_both() {
    let (Some(mut one), Some(mut other)) = (Peer::start().await, Peer::start().await) else { return };
    let owner = Owner::new();
    let (_node, address) = node(&owner, TCP, &[]).await;
    let sender = Client::of(&owner, &address).await;
    let mail = owner.mail(24);
    for (peer, mail) in [(&mut one, &mail[..8]), (&mut other, &mail[8..16])] {
        peer.open(&owner.log()).await;
        peer.add_mail(mail).await;
    }
    sender.store(&mail[16..]).await;
    // They know the node and not each other.
    one.connect(&address).await;
    other.connect(&address).await;
    for peer in [&mut one, &mut other] {
        peer.until(24).await;
    }
    sender.until_listed(&ids(&mail)).await;
    assert_eq!(one.hashes().await, other.hashes().await);
    assert_eq!((one.heads().await.len(), other.heads().await.len()), (3, 3));
    // Whoever writes next writes on top of all three.
    let last = owner.letter();
    sender.store(std::slice::from_ref(&last)).await;
    for peer in [&mut one, &mut other] {
        peer.until(25).await;
        assert_eq!(peer.heads().await.len(), 1);
    }
    assert_eq!(one.hashes().await, other.hashes().await);
}

#[tokio::test]
async fn writers_at_the_same_time_lose_nothing() {
    let (Some(mut one), Some(mut other)) = (Peer::start().await, Peer::start().await) else { return };
    let owner = Owner::new();
    let (_node, address) = node(&owner, TCP, &[]).await;
    let sender = Client::of(&owner, &address).await;
    for peer in [&mut one, &mut other] {
        peer.open(&owner.log()).await;
        peer.connect(&address).await;
    }
    let mail = owner.mail(90);
    tokio::join!(one.add_mail(&mail[..30]), other.add_mail(&mail[30..60]), async {
        for letter in mail[60..].chunks(3) {
            sender.store(letter).await;
        }
    });
    for peer in [&mut one, &mut other] {
        peer.until(90).await;
    }
    sender.until_listed(&ids(&mail)).await;
    assert_eq!(one.hashes().await, other.hashes().await);
    assert_eq!(one.mail().await, ids(&mail));
}

#[tokio::test]
async fn a_partition_is_healed_when_they_meet_again() {
    let Some(mut peer) = Peer::start().await else { return };
    let owner = Owner::new();
    let (node, address) = node(&owner, TCP, &[]).await;
    let sender = Client::of(&owner, &address).await;
    peer.open(&owner.log()).await;
    peer.connect(&address).await;
    let mut all = Ids::new();
    for round in 0..3 {
        let (theirs, ours) = (owner.mail(7), owner.mail(7));
        if round > 0 {
            let mark = peer.mark();
            peer.ask("hangup").await;
            peer.event_after(mark, "disconnect", |gone| gone["peer"] == node.id()).await;
        }
        peer.add_mail(&theirs).await;
        sender.store(&ours).await;
        if round > 0 {
            peer.connect(&address).await;
        }
        all.extend(ids(&theirs));
        all.extend(ids(&ours));
        peer.until(all.len()).await;
        sender.until_listed(&all).await;
        assert_eq!(peer.mail().await, all);
    }
}

#[tokio::test]
async fn the_first_entry_travels_on_through_a_node() {
    let (Some(mut writer), Some(mut reader)) = (Peer::start().await, Peer::start().await) else { return };
    let owner = Owner::new();
    let (_node, address) = node(&owner, TCP, &[]).await;
    let log = reader.open(&owner.log()).await;
    reader.connect(&address).await;
    reader.event("join", |join| join["log"] == log.as_str()).await;
    // What it has when it connects is told by its heads, which JavaScript peers do not tell on.
    writer.open(&owner.log()).await;
    let mut mail = owner.mail(3);
    writer.add_mail(&mail).await;
    writer.connect(&address).await;
    reader.until_mail(&ids(&mail)).await;
    // And what it adds later by gossip.
    let later = owner.letter();
    writer.add_mail(std::slice::from_ref(&later)).await;
    mail.push(later);
    reader.until_mail(&ids(&mail)).await;
    assert_eq!(reader.hashes().await, writer.hashes().await);
}

#[tokio::test]
async fn what_only_a_javascript_peer_has_is_pending() {
    let Some(mut holder) = Peer::start().await else { return };
    let owner = Owner::new();
    holder.open(&owner.log()).await;
    holder.add("there before").await;
    let sender = Client::of(&owner, &holder.tcp).await;
    let mut mail = owner.mail(5);
    for receipt in sender.put(&mail).await {
        assert_eq!((receipt.acks.len(), receipt.pending.len(), receipt.refused.len()), (0, 1, 0), "{receipt:?}");
    }
    assert_eq!(holder.mail().await, ids(&mail));
    // On top of what was there, and the next on top of that.
    assert_eq!(holder.heads().await.len(), 1);
    let more = owner.mail(2);
    assert_eq!(sender.put(&more).await[1].pending.len(), 1);
    mail.extend(more);
    assert_eq!((holder.mail().await, holder.heads().await.len()), (ids(&mail), 1));
    assert_eq!(sender.listed().await, ids(&mail));
    let entries = holder.all().await;
    assert_eq!(text(&entries.last().expect("entries")["payload"]["value"]), "there before");
}

#[expect(clippy::print_stderr, reason = "measured, and not asserted: a test runs on any machine")]
fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    eprintln!("{what}: median {:.1?}, at most {:.1?}", times[times.len() / 2], times[times.len() - 1]);
}
