//! What has come of a WebSocket message that is not whole yet. What reads messages keeps that to itself, so it is counted
//! where it comes in: at the stream beneath.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    addresses::Party,
    listen::Stream,
    shares::{Claim, Shares},
};

/// Bytes that are not counted: what is read at once, which each connection has room for anyway. Most messages are smaller,
/// and cost no lock by that.
const FREE: usize = 8_192;

/// The half messages of one connection.
#[derive(Debug, Default)]
pub(crate) struct Half {
    /// Bytes since the last whole message.
    bytes: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What they are counted by, once this is a WebSocket.
    counted: Option<(Arc<Shares>, Party)>,
    claim: Option<Claim>,
    /// When the message began that is not whole.
    since: Option<Instant>,
    is_refused: bool,
}

impl Half {
    /// From now on it is a WebSocket, and what it leaves half is counted for this party.
    pub(crate) fn count(&self, by: Arc<Shares>, party: Party) {
        self.bytes.store(0, Ordering::Relaxed);
        self.lock().counted = Some((by, party));
    }

    /// A whole message was taken.
    pub(crate) fn taken(&self) {
        if self.bytes.swap(0, Ordering::Relaxed) > FREE {
            let mut state = self.lock();
            (state.claim, state.since) = (None, None);
        }
    }

    /// Whether a message began longer ago than this, and is not whole.
    pub(crate) fn is_late(&self, within: Duration) -> bool {
        self.lock().since.is_some_and(|since| since.elapsed() > within)
    }

    /// Whether there was no room for more.
    pub(crate) fn is_refused(&self) -> bool {
        self.lock().is_refused
    }

    /// Counts what has come.
    ///
    /// # Errors
    /// `QuotaExceeded` where there is no room for it.
    fn came(&self, bytes: usize) -> io::Result<()> {
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all <= FREE {
            return Ok(());
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some((shares, party)) = &state.counted else { return Ok(()) };
        state.since.get_or_insert_with(Instant::now);
        let counted = match &mut state.claim {
            Some(claim) => claim.grow(bytes),
            None => shares.claim(*party, all).map(|claim| state.claim = Some(claim)),
        };
        counted.map_err(|_| {
            state.is_refused = true;
            io::ErrorKind::QuotaExceeded.into()
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream, and what has come over it.
pub(crate) struct Counting {
    stream: Box<dyn Stream>,
    half: Arc<Half>,
}

impl Counting {
    pub(crate) fn new(stream: Box<dyn Stream>, half: Arc<Half>) -> Self {
        Self { stream, half }
    }
}

impl AsyncRead for Counting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(self.half.came(buf.filled().len() - before)),
            other => other,
        }
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::shares::Bounds;

    #[test]
    fn half_messages_of_a_party_share_one_room_and_give_it_back() {
        let shares = Shares::new(Bounds { total: 0, each: 0, always: 100_000 });
        let [one, other] = [(); 2].map(|()| Half::default());
        one.came(1 << 20).expect("what comes over HTTP is counted elsewhere");
        [&one, &other].into_iter().for_each(|half| half.count(Arc::clone(&shares), Party::Connection(1)));
        one.came(60_000).expect("fits");
        other.came(FREE).expect("is free");
        assert_eq!(shares.kept(), 60_000);
        assert!(other.came(60_000).is_err() && other.is_refused() && !one.is_refused());
        one.taken();
        assert_eq!(shares.kept(), 0);
        assert!(!one.is_late(Duration::ZERO));
        one.came(60_000).expect("fits again");
        one.came(10).expect("fits");
        assert_eq!(shares.kept(), 60_010);
    }
}
