//! Messages on a stream: each with its length before it, one after the other, until the writing side closes it.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::wire::{MESSAGE_BYTES, Message};

/// How long a stream may be open without a message. Others keep theirs open between messages, and would lose what they
/// write to one that is gone.
const QUIET: Duration = Duration::from_secs(60);
/// The slowest that a message may come or go, in bytes a second. With the patience for its beginning it bounds for how
/// long a message is kept in memory, and still lets a large block through a telephone's connection.
const SLOWEST: u64 = 64 * 1024;

/// A message from a peer, and the room that it takes up.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(super) message: Message,
    /// Given back when the message has been dealt with, so that a peer cannot have many in memory at once.
    pub(super) _room: OwnedSemaphorePermit,
}

/// Reads the next message. `None` where the stream is at its end, or of no more use.
pub(super) async fn read<S: AsyncRead + Unpin>(
    mut stream: S,
    patience: Duration,
    room: Arc<Semaphore>,
) -> Option<(S, Incoming)> {
    let length = timeout(QUIET, read_length(&mut stream)).await.ok()??;
    let room = room.acquire_many_owned(u32::try_from(length).ok()?).await.ok()?;
    let mut bytes = Vec::new();
    // Room is made as bytes come, whatever length is said.
    let mut body = (&mut stream).take(length);
    timeout(within(patience, length), body.read_to_end(&mut bytes)).await.ok()?.ok()?;
    if bytes.len() as u64 != length {
        return None;
    }
    let message = Message::decode(&bytes).ok()?;
    Some((stream, Incoming { message, _room: room }))
}

/// The length of the next message, if there is one and it is not too long.
async fn read_length<S: AsyncRead + Unpin>(stream: &mut S) -> Option<u64> {
    let mut length = 0;
    // Four bytes hold all lengths that are allowed.
    for shift in [0, 7, 14, 21] {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        length |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return (length <= MESSAGE_BYTES as u64).then_some(length);
        }
    }
    None
}

/// Writes a message that has its length before it.
pub(super) async fn write<S: AsyncWrite + Unpin>(mut stream: S, frame: Bytes, patience: Duration) -> io::Result<S> {
    let writing = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    timeout(within(patience, frame.len() as u64), writing).await??;
    Ok(stream)
}

/// Closes a stream that has been written to. Nothing depends on it.
pub(super) async fn close<S: AsyncWrite + Unpin>(mut stream: S, patience: Duration) {
    let _ = timeout(patience, stream.close()).await;
}

fn within(patience: Duration, bytes: u64) -> Duration {
    patience + Duration::from_secs(bytes / SLOWEST)
}

#[cfg(test)]
mod tests {
    use cid::Cid;
    use futures_util::io::Cursor;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(MESSAGE_BYTES))
    }

    #[tokio::test]
    async fn several_messages_on_a_stream_are_read_to_its_end() {
        let messages = [
            Message { presences: vec![(Cid::default(), true)], ..Message::default() },
            Message::default(),
            Message { full: true, ..Message::default() },
        ];
        let bytes: Vec<u8> = messages.iter().flat_map(|message| message.frame().to_vec()).collect();
        let mut stream = Cursor::new(bytes);
        for expected in messages {
            let incoming;
            (stream, incoming) = read(stream, PATIENCE, room()).await.expect("a message");
            assert_eq!(incoming.message, expected);
        }
        assert!(read(stream, PATIENCE, room()).await.is_none());
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_or_cut_off_or_not_protobuf_is_not_read() {
        let mut too_long = vec![0x81, 0x80, 0x80, 0x02];
        too_long.resize(MESSAGE_BYTES + 5, 0);
        for bytes in [too_long, vec![0xff; 64], vec![5, 8, 1], vec![2, 0x0b, 0x0b], vec![]] {
            assert!(read(Cursor::new(bytes), PATIENCE, room()).await.is_none());
        }
    }

    #[tokio::test]
    async fn a_message_waits_for_room() {
        let frame = Message { full: true, ..Message::default() }.frame();
        let room = Arc::new(Semaphore::new(4));
        let (_, first) = read(Cursor::new(frame.clone()), PATIENCE, Arc::clone(&room)).await.expect("a message");
        let mut second = Box::pin(read(Cursor::new(frame), PATIENCE, Arc::clone(&room)));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }
}
