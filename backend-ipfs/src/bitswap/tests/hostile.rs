//! Peers that do not keep to the protocol.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    super::{
        Event,
        wire::{Message, Wish},
    },
    node::{Memory, block, entry, node, raw, wants},
};

#[tokio::test]
async fn blocks_that_nobody_asked_for_are_dropped() {
    let mut client = node(&Arc::default()).await;
    let mut hostile = raw(16).await;
    client.connect(&hostile).await;
    let (cid, bytes) = block(1, 100);
    client.want(vec![cid], &[hostile.peer]).await;
    hostile.event().await;
    let unasked = (2..1_000).map(|number| block(number, 100)).collect();
    hostile.send(Message { blocks: unasked, ..Message::default() }).await;
    // The bytes of another block under the wanted CID: they have another hash, and so another CID.
    hostile.send(Message { blocks: vec![(cid, block(3, 100).1)], ..Message::default() }).await;
    hostile.send(Message { presences: vec![(block(4, 4).0, false), (cid, true)], ..Message::default() }).await;
    for _ in 0..2 {
        hostile.send(Message { blocks: vec![(cid, bytes.clone())], ..Message::default() }).await;
    }
    assert_eq!(client.event().await, Event::Received { peer: hostile.peer, cid, bytes: bytes.clone() });
    // The second copy is not wanted any more.
    let next = block(5, 100);
    client.want(vec![next.0], &[hostile.peer]).await;
    hostile.send(Message { presences: vec![(next.0, false)], ..Message::default() }).await;
    assert_eq!(client.event().await, Event::Absent { cid: next.0, peer: hostile.peer });
}

#[tokio::test]
async fn messages_that_are_too_long_or_senseless_cost_their_stream_alone() {
    let memory = Arc::<Memory>::default();
    let held = block(1, 10);
    memory.put([held.clone()]);
    let server = node(&memory).await;
    let mut hostile = raw(16).await;
    hostile.connect(&server).await;
    let too_long =
        Message { blocks: vec![(held.0, vec![0; 4 * 1024 * 1024 + 1].into())], ..Message::default() }.frame();
    for frame in [too_long, Bytes::from_static(&[0xff; 100]), Bytes::from_static(&[3, 0x0b, 0x0c, 0x0d])] {
        hostile.send_frame(frame).await;
        // A frame that is lost with the stream before it is sent again on a new one, but may be lost with that too.
        while {
            hostile.send(wants([entry(held.0, Wish::Block)])).await;
            let answer = tokio::time::timeout(std::time::Duration::from_secs(1), hostile.event()).await;
            !answer.is_ok_and(|answer| answer.blocks == [held.clone()])
        } {}
    }
}

#[tokio::test]
async fn a_hundred_thousand_wants_are_kept_within_bounds() {
    let memory = Arc::<Memory>::default();
    let server = node(&memory).await;
    let mut hostile = raw(16).await;
    hostile.connect(&server).await;
    for chunk in 0..100_u32 {
        let cids = (0..1_000).map(|number| block(chunk * 1_000 + number, 4).0);
        hostile.send(wants(cids.map(|cid| entry(cid, Wish::Block)))).await;
    }
    let last = block(100_000, 4);
    hostile.send(wants([entry(last.0, Wish::Block)])).await;
    while !hostile.event().await.presences.contains(&(last.0, false)) {
        let remembered = server.call(|swarm| swarm.behaviour().server.remembered()).await;
        // And as many refusals that are to be sent.
        assert!(remembered <= 2 * 1_024, "{remembered}");
    }
}

#[tokio::test]
async fn the_oldest_of_too_many_wants_that_cannot_be_met_is_forgotten() {
    let memory = Arc::<Memory>::default();
    let server = node(&memory).await;
    let mut client = raw(16).await;
    client.connect(&server).await;
    let all: Vec<_> = (0..1_025).map(|number| block(number, 4)).collect();
    for some in [&all[..1_024], &all[1_024..]] {
        client.send(wants(some.iter().map(|(cid, _)| entry(*cid, Wish::Block)))).await;
        assert_eq!(client.event().await.presences.len(), some.len());
    }
    memory.put(all.clone());
    for (cid, _) in &all[..2] {
        server.notify_new(*cid).await;
    }
    assert_eq!(client.event().await.blocks, all[1..2]);
}

#[tokio::test]
async fn who_does_not_read_costs_one_message_and_holds_nobody_up() {
    let memory = Arc::<Memory>::default();
    let all: Vec<_> = (0..1_000).map(|number| block(number, 64 * 1024)).collect();
    memory.put(all.clone());
    let server = node(&memory).await;
    let mut deaf = raw(0).await;
    deaf.connect(&server).await;
    for _ in 0..3 {
        deaf.send(wants(all.iter().map(|(cid, _)| entry(*cid, Wish::Block)))).await;
    }
    let mut client = node(&Arc::default()).await;
    client.connect(&server).await;
    for (cid, _) in &all[..200] {
        client.want(vec![*cid], &[server.peer]).await;
        client.received().await;
    }
    // Two messages: what the windows of the streams let through, and the one after it.
    let taken_by_deaf = memory.taken() - 200;
    assert!((1..=16).contains(&taken_by_deaf), "{taken_by_deaf}");
    assert!(server.call(|swarm| swarm.behaviour().server.remembered()).await <= 1_024);
}
