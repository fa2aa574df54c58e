//! Peers that keep to the protocol.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use cid::Cid;

use super::{
    super::{
        Config, Event,
        wire::{Message, Wish},
    },
    node::{Memory, Seen, block, configured, entry, node, raw, wants},
};

fn blocks(count: u32, size: usize) -> Vec<(Cid, Bytes)> {
    (0..count).map(|number| block(number, size)).collect()
}

fn cids(blocks: &[(Cid, Bytes)]) -> Vec<Cid> {
    blocks.iter().map(|(cid, _)| *cid).collect()
}

/// Longer than the wantlist that peers keep: it has to be emptied by what is sent.
#[tokio::test]
async fn a_chain_of_3000_blocks_is_fetched_one_by_one() {
    let memory = Arc::<Memory>::default();
    let chain = blocks(3_000, 600);
    memory.put(chain.clone());
    let server = node(&memory).await;
    let mut client = node(&Arc::default()).await;
    client.connect(&server).await;
    for (cid, bytes) in chain {
        client.want(vec![cid], &[server.peer]).await;
        assert_eq!(client.event().await, Event::Received { peer: server.peer, cid, bytes });
    }
    assert_eq!(memory.taken(), 3_000);
    assert_eq!(server.call(|swarm| swarm.behaviour().server.remembered()).await, 0);
}

#[tokio::test]
async fn five_thousand_blocks_that_are_wanted_at_once_come_once_each() {
    let memory = Arc::<Memory>::default();
    let all = blocks(5_000, 600);
    memory.put(all.clone());
    let server = node(&memory).await;
    let mut client = node(&Arc::default()).await;
    client.connect(&server).await;
    client.want(cids(&all), &[]).await;
    let mut missing: HashSet<Cid> = cids(&all).into_iter().collect();
    while !missing.is_empty() {
        let (_, cid, _) = client.received().await;
        assert!(missing.remove(&cid));
    }
    assert_eq!(memory.taken(), 5_000);
}

#[tokio::test]
async fn of_three_that_have_a_block_one_sends_it() {
    let all = blocks(2_000, 2_000);
    let mut client = node(&Arc::default()).await;
    let mut memories = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..3 {
        let memory = Arc::<Memory>::default();
        memory.put(all.clone());
        servers.push(node(&memory).await);
        memories.push(memory);
    }
    for server in &servers {
        client.connect(server).await;
    }
    client.want(cids(&all), &[]).await;
    for _ in 0..all.len() {
        client.received().await;
    }
    let taken: Vec<usize> = memories.iter().map(|memory| memory.taken()).collect();
    assert_eq!(taken.iter().sum::<usize>(), all.len(), "{taken:?}");
}

#[tokio::test]
async fn a_block_that_nobody_has_is_unsought_and_comes_once_somebody_has_it() {
    let memory = Arc::<Memory>::default();
    let (one, other) = (node(&memory).await, node(&Arc::default()).await);
    let mut client = node(&Arc::default()).await;
    client.connect(&one).await;
    client.connect(&other).await;
    let (cid, bytes) = block(1, 100);
    client.want(vec![cid], &[]).await;
    let mut absent = HashSet::new();
    for _ in 0..2 {
        let Event::Absent { cid: it, peer } = client.event().await else { panic!() };
        assert_eq!(it, cid);
        absent.insert(peer);
    }
    assert_eq!(absent, HashSet::from([one.peer, other.peer]));
    assert_eq!(client.event().await, Event::Unsought { cid });
    memory.put([(cid, bytes.clone())]);
    one.notify_new(cid).await;
    assert_eq!(client.event().await, Event::Received { peer: one.peer, cid, bytes });
}

#[tokio::test]
async fn peers_are_added_by_wanting_again_and_new_ones_are_asked_by_themselves() {
    let memory = Arc::<Memory>::default();
    let (here, there) = (block(1, 100), block(2, 100));
    memory.put([here.clone(), there.clone()]);
    let server = node(&memory).await;
    let mut client = node(&Arc::default()).await;
    client.want(vec![here.0], &[]).await;
    client.want(vec![there.0], &[server.peer]).await;
    assert_eq!(client.event().await, Event::Unsought { cid: here.0 });
    assert_eq!(client.event().await, Event::Unsought { cid: there.0 });
    client.connect(&server).await;
    assert_eq!(client.received().await, (server.peer, here.0, here.1));
    client.want(vec![there.0], &[server.peer]).await;
    assert_eq!(client.received().await, (server.peer, there.0, there.1));
}

#[tokio::test]
async fn another_is_asked_when_the_first_goes_or_does_not_answer() {
    let memory = Arc::<Memory>::default();
    let all = blocks(2, 2_000);
    memory.put(all.clone());
    let config = Config { slow: Duration::from_millis(50), patience: Duration::from_millis(200), streams: 16 };
    let mut client = configured(&Arc::default(), config, Duration::from_secs(60)).await;
    let mut silent = raw(16).await;
    client.connect(&silent).await;
    client.want(vec![all[0].0], &[silent.peer]).await;
    assert_eq!(silent.event().await, wants([entry(all[0].0, Wish::Block)]));
    assert_eq!(client.event().await, Event::Unsought { cid: all[0].0 });

    let server = node(&memory).await;
    client.connect(&server).await;
    client.want(vec![all[0].0], &[server.peer]).await;
    assert_eq!(client.received().await.0, server.peer);
    // Who has not answered is told that it need not any more.
    let cancelled = silent.event().await.entries;
    assert_eq!(cancelled.iter().map(|it| (it.cid, it.wish)).collect::<Vec<_>>(), [(all[0].0, Wish::Cancel)]);

    client.want(vec![all[1].0], &[silent.peer]).await;
    silent.event().await;
    let peer = silent.peer;
    client.call(move |swarm| swarm.disconnect_peer_id(peer).unwrap()).await;
    assert_eq!(client.event().await, Event::Unsought { cid: all[1].0 });
}

#[tokio::test]
async fn wants_go_in_one_message_and_leave_a_window() {
    let all = blocks(300, 100);
    let mut client = node(&Arc::default()).await;
    let mut server = raw(16).await;
    client.connect(&server).await;
    client.want(cids(&all), &[server.peer]).await;
    let first = server.event().await;
    assert_eq!(first, wants(all[..256].iter().map(|(cid, _)| entry(*cid, Wish::Block))));
    // Each answer makes room for another want.
    let presences = vec![(all[0].0, false), (all[1].0, false)];
    server.send(Message { blocks: all[2..12].to_vec(), presences, ..Message::default() }).await;
    let next = server.event().await;
    assert_eq!(next, wants(all[256..268].iter().map(|(cid, _)| entry(*cid, Wish::Block))));
}

#[tokio::test]
async fn who_does_not_answer_is_asked_for_the_rest_all_the_same() {
    let all = blocks(300, 100);
    let config = Config { slow: Duration::from_millis(50), patience: Duration::from_millis(200), streams: 16 };
    let mut client = configured(&Arc::default(), config, Duration::from_secs(60)).await;
    let mut silent = raw(16).await;
    client.connect(&silent).await;
    client.want(cids(&all), &[silent.peer]).await;
    let mut left: HashSet<Cid> = cids(&all).into_iter().collect();
    while !left.is_empty() {
        for entry in silent.event().await.entries {
            assert!(entry.wish == Wish::Cancel || left.remove(&entry.cid));
        }
    }
    // And what comes after all is welcome.
    silent.send(Message { blocks: all[..1].to_vec(), ..Message::default() }).await;
    assert_eq!(client.received().await.1, all[0].0);
}

#[tokio::test]
async fn who_has_sent_blocks_is_asked_alone_and_others_when_it_has_one_not() {
    let memory = Arc::<Memory>::default();
    let all = blocks(3, 100);
    memory.put(all[..2].to_vec());
    let server = node(&memory).await;
    let mut client = node(&Arc::default()).await;
    client.connect(&server).await;
    client.want(vec![all[0].0], &[]).await;
    client.received().await;
    let mut other = raw(16).await;
    client.connect(&other).await;
    client.want(vec![all[1].0], &[]).await;
    assert_eq!(client.received().await.0, server.peer);
    client.want(vec![all[2].0], &[]).await;
    assert_eq!(other.event().await, wants([entry(all[2].0, Wish::Block)]));
}

#[tokio::test]
async fn who_says_that_it_has_a_block_is_asked_for_it_before_those_who_have_not_said() {
    let all = blocks(1, 100);
    let mut client = node(&Arc::default()).await;
    let mut peers = Vec::new();
    for _ in 0..5 {
        let peer = raw(16).await;
        client.connect(&peer).await;
        peers.push(peer);
    }
    let names: Vec<_> = peers.iter().map(|peer| peer.peer).collect();
    client.want(cids(&all), &names[..4]).await;
    let mut asked = Vec::new();
    for peer in &mut peers[..4] {
        asked.push(peer.event().await.entries[0].wish);
    }
    let first = asked.iter().position(|wish| *wish == Wish::Block).unwrap();
    assert_eq!(asked.iter().filter(|wish| **wish == Wish::Have).count(), 3);
    // One more is asked once the first has not got it, but not for the block itself: three others may have it.
    client.want(cids(&all), &names[4..]).await;
    peers[first].send(Message { presences: vec![(all[0].0, false)], ..Message::default() }).await;
    assert_eq!(peers[4].event().await, wants([entry(all[0].0, Wish::Have)]));
    let holder = (first + 1) % 4;
    peers[holder].send(Message { presences: vec![(all[0].0, true)], ..Message::default() }).await;
    assert_eq!(peers[holder].event().await, wants([entry(all[0].0, Wish::Block)]));
    peers[holder].send(Message { blocks: all.clone(), ..Message::default() }).await;
    assert_eq!(client.received().await.0, peers[holder].peer);
    // All others are told that it is over.
    for other in (0..5).filter(|other| *other != holder) {
        assert_eq!(peers[other].event().await.entries[0].wish, Wish::Cancel);
    }
}

/// Peers keep 1,024 wants of each other, and Helia drops what is beyond it.
#[tokio::test]
async fn at_most_512_wants_stand_at_a_peer() {
    let all = blocks(2_000, 100);
    let mut client = node(&Arc::default()).await;
    let mut server = raw(16).await;
    client.connect(&server).await;
    client.want(cids(&all), &[server.peer]).await;
    let (mut standing, mut most, mut answered) = (HashSet::new(), 0, 0);
    while answered < all.len() {
        let mut presences = Vec::new();
        for entry in server.event().await.entries {
            if entry.wish == Wish::Cancel {
                assert!(standing.remove(&entry.cid));
            } else {
                assert!(standing.insert(entry.cid));
                presences.push((entry.cid, false));
            }
        }
        most = most.max(standing.len());
        answered += presences.len();
        server.send(Message { presences, ..Message::default() }).await;
    }
    assert!((257..=512).contains(&most), "{most}");
}

#[tokio::test]
async fn wants_of_each_kind_are_answered_in_kind() {
    let memory = Arc::<Memory>::default();
    let (small, large, missing) = (block(1, 1_024), block(2, 1_025), block(3, 10));
    memory.put([small.clone(), large.clone()]);
    let server = node(&memory).await;
    let mut client = raw(16).await;
    client.connect(&server).await;
    let silent = super::super::wire::Entry { tell_absent: false, ..entry(block(4, 10).0, Wish::Block) };
    let asked = [entry(small.0, Wish::Have), entry(large.0, Wish::Have), entry(missing.0, Wish::Have), silent];
    client.send(wants(asked)).await;
    let presences = vec![(large.0, true), (missing.0, false)];
    assert_eq!(client.event().await, Message { blocks: vec![small], presences, ..Message::default() });
    client.send(wants([entry(large.0, Wish::Block), entry(missing.0, Wish::Cancel)])).await;
    assert_eq!(client.event().await, Message { blocks: vec![large], ..Message::default() });
    // What was cancelled does not come; what was not answered is remembered all the same.
    let silent = block(4, 10);
    memory.put([missing.clone(), silent.clone()]);
    server.notify_new(missing.0).await;
    server.notify_new(silent.0).await;
    assert_eq!(client.event().await, Message { blocks: vec![silent], ..Message::default() });
}

#[tokio::test]
async fn what_is_not_in_a_full_wantlist_is_wanted_no_more() {
    let memory = Arc::<Memory>::default();
    let (dropped, kept) = (block(1, 10), block(2, 10));
    let server = node(&memory).await;
    let mut client = raw(16).await;
    client.connect(&server).await;
    client.send(wants([entry(dropped.0, Wish::Block)])).await;
    client.event().await;
    client.send(Message { full: true, ..wants([entry(kept.0, Wish::Block)]) }).await;
    client.event().await;
    memory.put([dropped.clone(), kept.clone()]);
    server.notify_new(dropped.0).await;
    server.notify_new(kept.0).await;
    assert_eq!(client.event().await.blocks, [kept]);
}

/// More than one message holds.
#[tokio::test]
async fn large_blocks_come_in_several_messages() {
    let memory = Arc::<Memory>::default();
    let mut all = blocks(6, 200 * 1024);
    all.push(block(9, 2 * 1024 * 1024));
    memory.put(all.clone());
    memory.put([block(10, 2 * 1024 * 1024 + 1)]);
    let server = node(&memory).await;
    let mut client = node(&Arc::default()).await;
    client.connect(&server).await;
    client.want(cids(&all), &[server.peer]).await;
    let mut left: HashSet<Cid> = cids(&all).into_iter().collect();
    while !left.is_empty() {
        assert!(left.remove(&client.received().await.1));
    }
    let too_large = block(10, 2 * 1024 * 1024 + 1).0;
    client.want(vec![too_large], &[server.peer]).await;
    assert_eq!(client.event().await, Event::Absent { cid: too_large, peer: server.peer });
}

#[tokio::test]
async fn a_fetch_goes_on_over_the_other_connection_when_one_closes() {
    let memory = Arc::<Memory>::default();
    let all = blocks(400, 600);
    memory.put(all.clone());
    let server = node(&memory).await;
    let mut client = node(&Arc::default()).await;
    for round in all.chunks(100) {
        client.connect(&server).await;
        client.connect(&server).await;
        let (wanted, peer) = (cids(round), server.peer);
        client
            .call(move |swarm| {
                for cid in wanted {
                    assert!(swarm.behaviour_mut().want(cid, &[peer]));
                }
                let used = swarm.behaviour().peers.values().next().map(|peer| peer.connections[0]);
                assert!(swarm.close_connection(used.unwrap()));
            })
            .await;
        for _ in round {
            client.received().await;
        }
    }
}

#[tokio::test]
async fn a_connection_is_kept_while_something_is_wanted() {
    let memory = Arc::<Memory>::default();
    let idle = Duration::from_millis(50);
    let mut server = node(&memory).await;
    let mut client = configured(&Arc::default(), Config::default(), idle).await;
    let mut other = configured(&Arc::default(), Config::default(), idle).await;
    let (cid, bytes) = block(1, 100);
    client.connect(&server).await;
    client.want(vec![cid], &[server.peer]).await;
    client.until(|seen| matches!(seen, Seen::Event(Event::Unsought { .. })).then_some(())).await;
    // This one has used its connection later, and wants nothing more.
    let had = block(2, 100);
    memory.put([had.clone()]);
    other.connect(&server).await;
    other.want(vec![had.0], &[server.peer]).await;
    other.received().await;
    assert_eq!(other.closed().await, server.peer);
    assert_eq!(server.closed().await, other.peer);
    memory.put([(cid, bytes)]);
    server.notify_new(cid).await;
    client.received().await;
    assert_eq!(client.closed().await, server.peer);
}
