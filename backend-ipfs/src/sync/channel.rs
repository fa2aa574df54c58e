//! One stream, split in its two directions, with the time that it has.

use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf};
use talkbox_core::Result;

use super::frame::{broken, cut_off, read_frame, within, write_frame};

/// What both sides of a session need of a stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A stream.
#[derive(Debug)]
pub(super) struct Channel<S> {
    pub(super) reader: BufReader<ReadHalf<S>>,
    pub(super) writer: WriteHalf<S>,
    /// In what time a frame has to be through.
    limit: Duration,
}

impl<S: Stream> Channel<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        let (reader, writer) = stream.split();
        Self { reader: BufReader::new(reader), writer, limit }
    }

    /// Sends a frame.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        within(self.limit, write_frame(&mut self.writer, bytes)).await
    }

    /// Waits for a frame. `None` where the peer ends the stream instead.
    pub(super) async fn next(&mut self, most: usize) -> Result<Option<Vec<u8>>> {
        within(self.limit, read_frame(&mut self.reader, most)).await
    }

    /// Waits for a frame that has to come.
    pub(super) async fn expect(&mut self, most: usize) -> Result<Vec<u8>> {
        self.next(most).await?.ok_or_else(cut_off)
    }

    /// Ends the direction that leads to the peer.
    pub(super) async fn close(&mut self) -> Result<()> {
        within(self.limit, async { self.writer.close().await.map_err(broken) }).await
    }
}
