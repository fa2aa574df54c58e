//! The messages of bitswap, fed with any bytes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cid::Cid;
use futures_util::{FutureExt as _, io::Cursor};
use tokio::sync::Semaphore;

use super::{
    framing,
    wire::{BLOCK_BYTES, Entry, MESSAGE_BYTES, Message, Wish, is_checkable},
};
use crate::orbitdb::Block;

/// No stream here lets anybody wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// A message, without the length before it.
pub fn message(bytes: &[u8]) -> bool {
    let Ok(message) = Message::decode(bytes) else { return false };
    // The shortest of any of them has two bytes.
    assert!(message.entries.len() + message.blocks.len() + message.presences.len() <= bytes.len() / 2);
    for (cid, data) in &message.blocks {
        assert!(data.len() <= BLOCK_BYTES.min(bytes.len()) && is_checkable(cid));
        assert!(cid.codec() != 0x71 || Block::checked(*cid, data.clone()).is_some(), "the hash of its bytes");
    }
    let frame = message.frame();
    let (length, body) = unsigned_varint::decode::usize(&frame).expect("a length");
    assert_eq!(length, body.len());
    assert_eq!(Message::decode(body), Ok(message), "it is written as it was read");
    true
}

/// What a peer writes to a stream: messages, each behind its length.
pub fn stream(bytes: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = runtime.enter();
    let room = Arc::new(Semaphore::new(MESSAGE_BYTES));
    let (mut stream, mut read, mut count) = (Cursor::new(bytes), 0, 0);
    loop {
        let next = framing::read(stream, PATIENCE, Arc::clone(&room)).now_or_never();
        let Some((rest, incoming)) = next.expect("all of it is there") else { break };
        count += 1;
        drop(incoming);
        assert!(rest.position() > read, "every message has a length");
        read = rest.position();
        stream = rest;
    }
    assert!(count <= bytes.len());
    assert_eq!(room.available_permits(), MESSAGE_BYTES, "the room is given back");
    count > 0 && read == bytes.len() as u64
}

pub(crate) fn messages() -> Vec<Vec<u8>> {
    let body = |message: Message| {
        let frame = message.frame();
        unsigned_varint::decode::usize(&frame).expect("a length").1.to_vec()
    };
    some().into_iter().map(body).collect()
}

pub(crate) fn streams() -> Vec<Vec<u8>> {
    let frames: Vec<Bytes> = some().iter().map(Message::frame).collect();
    let mut streams: Vec<Vec<u8>> = frames.iter().map(|frame| frame.to_vec()).collect();
    streams.push(frames.concat());
    streams
}

fn some() -> Vec<Message> {
    let blocks: Vec<(Cid, Bytes)> = crate::orbitdb::fuzzing::blocks()
        .into_iter()
        .take(3)
        .map(|bytes| Block::of(bytes.into()))
        .map(|block| (block.cid, block.bytes))
        .collect();
    let wishes = [(Wish::Block, 7), (Wish::Have, -1), (Wish::Cancel, 0)];
    let entries = blocks.iter().zip(wishes).map(|((cid, _), (wish, priority))| Entry {
        cid: *cid,
        wish,
        priority,
        tell_absent: wish == Wish::Have,
    });
    let presences = blocks.iter().map(|(cid, bytes)| (*cid, bytes.len() % 2 == 0)).collect();
    vec![
        Message { entries: entries.collect(), full: true, ..Message::default() },
        Message { blocks, pending: -5, ..Message::default() },
        Message { presences, pending: 9_000, ..Message::default() },
    ]
}
