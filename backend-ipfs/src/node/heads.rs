//! The heads protocol of OrbitDB: on a stream of a protocol that is named after the log, each side writes the entries
//! that are its heads, and ends. There is no request, no answer and no framing: a JavaScript peer takes what arrives in
//! one chunk for one entry. So several heads go one by one, with time between them, or on a stream each.

use std::time::Duration;

use bytes::Bytes;
use futures_util::io::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::PeerId;
use talkbox_core::{Error, ErrorKind, Result};
use tokio::time::{sleep, timeout};

use super::{link::Link, logs::protocol, streams::Stream};
use crate::orbitdb::{LogAddress, cbor};

/// Bytes of a head that go over this protocol: yamux splits what is larger into frames of 16 KiB, each of which a
/// JavaScript peer takes for an entry. Larger ones are told by gossip.
pub(super) const MAX_HEAD: usize = 16 << 10;
/// Heads that are written: a stream each where we dial, with a pause between them where we answer.
pub(super) const MAX_WRITTEN: usize = 8;
/// Bytes that are read of the heads of a peer, which may have many and large ones.
const MAX_READ: usize = 4 << 20;
/// Heads that are read.
pub(super) const MAX_HEADS: usize = 1_024;
/// Between two heads on one stream, so that they do not arrive in one chunk.
const APART: Duration = Duration::from_millis(40);
/// How long an exchange may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Shows a peer our heads, and takes its heads.
///
/// # Errors
/// `Unsupported` where the peer does not have the log open; `Unreachable`, `Timeout`.
pub(super) async fn exchange(link: &Link, peer: PeerId, log: &LogAddress, ours: &[Bytes]) -> Result<Vec<Bytes>> {
    let protocol = protocol(log)?;
    let stream = link.open(peer, protocol.clone()).await?;
    let mut ours = ours.iter();
    let theirs = within(peer, talk(stream, ours.next())).await?;
    for head in ours.take(MAX_WRITTEN - 1) {
        // What the peer says on these it has said on the first.
        let stream = link.open(peer, protocol.clone()).await?;
        within(peer, talk(stream, Some(head))).await?;
    }
    Ok(theirs)
}

/// Answers a peer that shows its heads.
///
/// # Errors
/// `Unreachable` where it breaks off; `Timeout`; `TooLarge`.
pub(super) async fn answer(stream: Stream, peer: PeerId, ours: &[Bytes]) -> Result<Vec<Bytes>> {
    within(peer, async {
        let (mut reader, mut writer) = stream.split();
        let write = async {
            for (at, head) in ours.iter().take(MAX_WRITTEN).enumerate() {
                if at > 0 {
                    sleep(APART).await;
                }
                writer.write_all(head).await?;
                writer.flush().await?;
            }
            writer.close().await
        };
        let (written, read) = futures_util::join!(write, read(&mut reader));
        // A peer that has all that it wants may have gone.
        if let Err(error) = written {
            tracing::debug!(%error, "the heads of a log could not be shown to the end");
        }
        read
    })
    .await
}

async fn talk(stream: Stream, head: Option<&Bytes>) -> Result<Vec<Bytes>> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        if let Some(head) = head {
            writer.write_all(head).await?;
        }
        writer.close().await
    };
    let (written, read) = futures_util::join!(write, read(&mut reader));
    written.map_err(broken)?;
    read
}

/// What a peer writes until it ends: entries one after the other.
pub(super) async fn read(reader: &mut (impl futures_util::io::AsyncRead + Unpin)) -> Result<Vec<Bytes>> {
    let mut all = Vec::new();
    reader.take(MAX_READ as u64 + 1).read_to_end(&mut all).await.map_err(broken)?;
    if all.len() > MAX_READ {
        return Err(Error::new(ErrorKind::TooLarge, "the peer has heads of more than 4 MiB"));
    }
    // What follows something that is no CBOR cannot be told apart.
    Ok(cbor::items(&Bytes::from(all)).map_while(Result::ok).take(MAX_HEADS).collect())
}

async fn within<T>(peer: PeerId, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(WITHIN, work)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "the peer does not show its heads").with("peer", peer)))
}

fn broken(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unreachable, "the peer broke off").source(error)
}
