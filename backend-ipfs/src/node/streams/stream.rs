//! A stream, the place that it takes, and the way in.

use std::{
    io::{self, IoSlice, IoSliceMut},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{AsyncRead, AsyncWrite};
use libp2p::{PeerId, StreamProtocol};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::node::{doors::Origin, shares::Shares};

/// A stream to a peer. Dropped before it is closed, it is reset.
#[derive(Debug)]
pub(crate) struct Stream {
    inner: libp2p::Stream,
    /// Of one that came in: free again when the stream is dropped.
    _places: Option<[Place; 3]>,
    /// Of one that we opened: what it takes of what the peer lets us have.
    _share: Option<OwnedSemaphorePermit>,
}

impl Stream {
    /// One that we opened.
    pub(super) fn opened(inner: libp2p::Stream) -> Self {
        Self { inner, _places: None, _share: None }
    }

    /// It, with something that is free again when it is dropped.
    pub(crate) fn holding(self, share: Option<OwnedSemaphorePermit>) -> Self {
        Self { _share: share, ..self }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read_vectored(cx, bufs)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Who opened it.
    pub(crate) peer: PeerId,
    /// Whom it is counted for.
    pub(crate) origin: Origin,
    /// What it asked for: a fixed protocol, or a changing one that was accepted.
    pub(crate) protocol: StreamProtocol,
    /// The stream. As long as it is held, it counts towards the bounds.
    pub(crate) stream: Stream,
}

/// A bound on how many streams there may be at once.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Semaphore>);

/// One place, taken until it is dropped.
type Place = OwnedSemaphorePermit;

impl Places {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    fn take(&self) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// The way in for streams of all connections.
#[derive(Debug)]
pub(super) struct Door {
    queue: mpsc::Sender<Inbound>,
    places: Places,
    shares: Arc<Shares<Origin>>,
}

/// The way in for streams of one connection.
#[derive(Debug)]
pub(super) struct ConnectionDoor {
    peer: PeerId,
    origin: Origin,
    queue: mpsc::Sender<Inbound>,
    places: [Places; 2],
    shares: Arc<Shares<Origin>>,
}

impl Door {
    pub(super) fn new(queue: mpsc::Sender<Inbound>, places: Places, of_one: usize) -> Self {
        Self { queue, places, shares: Arc::new(Shares::new(of_one)) }
    }

    pub(super) fn of_connection(&self, peer: PeerId, origin: Origin, places: Places) -> ConnectionDoor {
        let (queue, shares) = (self.queue.clone(), Arc::clone(&self.shares));
        ConnectionDoor { peer, origin, queue, places: [places, self.places.clone()], shares }
    }
}

impl ConnectionDoor {
    /// Hands a stream over, or resets it where there is no place for it.
    pub(super) fn enter(&self, protocol: StreamProtocol, inner: libp2p::Stream) {
        let (peer, origin) = (self.peer, self.origin);
        let [of_connection, of_all] = &self.places;
        let places = || Some([of_connection.take()?, self.shares.take(origin)?, of_all.take()?]);
        let Some(places) = places() else {
            tracing::debug!(%peer, %protocol, "a stream is reset: too many are open");
            return;
        };
        let stream = Stream { inner, _places: Some(places), _share: None };
        if let Err(error) = self.queue.try_send(Inbound { peer, origin, protocol, stream }) {
            tracing::debug!(%peer, %error, "a stream is reset: nobody takes it");
        }
    }
}
