//! Frames: an unsigned varint that says how many bytes follow, and these. Every one has a bound and a time in which it
//! has to be through.

use std::{future::Future, io, time::Duration};

use futures_util::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use talkbox_core::{Error, ErrorKind, Result};

/// Most bytes of a length: 2^35 is beyond every bound here.
const LENGTH_BYTES: usize = 5;
/// What is set aside for a frame before its bytes come: the word of a peer that it sends many is worth no memory.
const FIRST_ROOM: usize = 16 * 1024;

/// Reads a frame. `None` where the stream ends before one.
///
/// # Errors
/// `TooLarge` for one of more than `most` bytes, before they are read; `Unexpected` for a length that is none, or where
/// the stream ends within it; `Unreachable` where the stream fails.
pub(crate) async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R, most: usize) -> Result<Option<Vec<u8>>> {
    let Some(length) = read_length(reader, most).await? else { return Ok(None) };
    let mut bytes = Vec::with_capacity(length.min(FIRST_ROOM));
    reader.take(length as u64).read_to_end(&mut bytes).await.map_err(broken)?;
    if bytes.len() == length { Ok(Some(bytes)) } else { Err(cut_off()) }
}

/// Writes a frame and sees it off.
///
/// # Errors
/// `Unreachable` where the stream fails.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> Result<()> {
    write_prefixed(writer, &[bytes]).await?;
    writer.flush().await.map_err(broken)
}

/// Writes the length of some bytes together, and them.
///
/// # Errors
/// `Unreachable` where the stream fails.
pub(super) async fn write_prefixed<W: AsyncWrite + Unpin>(writer: &mut W, parts: &[&[u8]]) -> Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut buffer = unsigned_varint::encode::usize_buffer();
    let mut head = unsigned_varint::encode::usize(length, &mut buffer).to_vec();
    // In one piece where it is small: a length alone would be a packet of its own.
    if length <= FIRST_ROOM {
        parts.iter().for_each(|part| head.extend_from_slice(part));
        return writer.write_all(&head).await.map_err(broken);
    }
    writer.write_all(&head).await.map_err(broken)?;
    for part in parts {
        writer.write_all(part).await.map_err(broken)?;
    }
    Ok(())
}

/// Reads how many bytes follow: minimal, as everywhere in libp2p. `None` where the stream ends before it.
async fn read_length<R: AsyncRead + Unpin>(reader: &mut R, most: usize) -> Result<Option<usize>> {
    let mut bytes = [0; LENGTH_BYTES];
    for at in 0..LENGTH_BYTES {
        let read = reader.read(&mut bytes[at..=at]).await.map_err(broken)?;
        match (read, at) {
            (0, 0) => return Ok(None),
            (0, _) => return Err(cut_off()),
            // The last byte of a number is the one without the upper bit.
            _ if bytes[at] & 0x80 != 0 => continue,
            _ => {}
        }
        let (length, _) = unsigned_varint::decode::usize(&bytes[..=at])
            .map_err(|error| nonsense("the length of a frame makes no sense").source(error))?;
        return match length <= most {
            true => Ok(Some(length)),
            false => Err(Error::new(ErrorKind::TooLarge, "a frame is larger than it may be").with("bytes", length)),
        };
    }
    Err(nonsense("the length of a frame makes no sense"))
}

/// Does something that waits for a peer, but not for longer than that.
///
/// # Errors
/// `Timeout`, and those of what is done.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the peer took too long").with("seconds", limit.as_secs_f32())),
    }
}

/// The stream failed.
pub(super) fn broken(error: io::Error) -> Error {
    Error::new(ErrorKind::Unreachable, "the stream to the peer broke").source(error)
}

/// The stream ended where more had to come.
pub(super) fn cut_off() -> Error {
    Error::new(ErrorKind::Unreachable, "the peer ended the stream too early")
}

/// The peer sent what the protocol does not allow.
pub(super) fn nonsense(why: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, why)
}

#[cfg(test)]
mod tests {
    use futures_util::io::Cursor;
    use proptest::prelude::*;

    use super::*;

    async fn read(bytes: &[u8], most: usize) -> Result<Option<Vec<u8>>> {
        read_frame(&mut Cursor::new(bytes), most).await
    }

    #[tokio::test]
    async fn a_frame_survives_and_a_second_follows() {
        for length in [0, 1, 127, 128, FIRST_ROOM, FIRST_ROOM + 1, 200_000] {
            let bytes = vec![7; length];
            let mut wire = Cursor::new(Vec::new());
            write_frame(&mut wire, &bytes).await.expect("writes");
            write_frame(&mut wire, b"next").await.expect("writes");
            wire.set_position(0);
            assert_eq!(read_frame(&mut wire, length).await.expect("reads"), Some(bytes));
            assert_eq!(read_frame(&mut wire, 4).await.expect("reads"), Some(b"next".to_vec()));
            assert_eq!(read_frame(&mut wire, 4).await.expect("ends"), None);
        }
    }

    #[tokio::test]
    async fn what_is_too_long_cut_off_or_no_length_is_refused() {
        for (bytes, most, kind) in [
            (&[5, 1, 2, 3, 4, 5][..], 4, ErrorKind::TooLarge),
            (&[5, 1, 2][..], 9, ErrorKind::Unreachable),
            (&[0x85][..], 9, ErrorKind::Unreachable),
            // Longer than it has to be.
            (&[0x81, 0x00, 1][..], 9, ErrorKind::Unexpected),
            (&[0xff; 12][..], usize::MAX, ErrorKind::Unexpected),
        ] {
            assert_eq!(read(bytes, most).await.expect_err("refused").kind(), kind, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let read = futures_util::FutureExt::now_or_never(read(&bytes, 32)).expect("nothing to wait for");
            if let Ok(Some(frame)) = read {
                prop_assert!(frame.len() <= 32 && bytes.windows(frame.len().max(1)).any(|part| part.starts_with(&frame)));
            }
        }
    }
}
