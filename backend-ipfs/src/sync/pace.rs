//! The least pace of whoever is served: a place is for those who use it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// How long a peer may be waited for in all, besides what its bytes need: some rounds of a session from far away.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that have to go a second, both ways together, while the peer is waited for: half of what an entry needs, which
/// has to be through within the time of a frame.
const PACE: u32 = 4 << 10;

/// A stream that fails once its peer has been waited for longer than its bytes are worth. Only waiting counts: what is
/// done here meanwhile, such as storing, takes nothing from the peer.
///
/// Who is silent is left to the time of a frame; this looks when something goes.
#[derive(Debug)]
pub(super) struct Paced<S> {
    stream: S,
    waiting: Option<Instant>,
    waited: Duration,
    allowed: Duration,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, waiting: None, waited: Duration::ZERO, allowed: PATIENCE }
    }

    fn count(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Poll::Ready(went) = polled else {
            self.waiting.get_or_insert_with(Instant::now);
            return Poll::Pending;
        };
        let bytes = u32::try_from(went?).unwrap_or(u32::MAX);
        self.waited += self.waiting.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.allowed += Duration::from_secs(1) * bytes / PACE;
        if self.waited > self.allowed {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is too slow")));
        }
        Poll::Ready(Ok(bytes as usize))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.count(polled)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
