//! What is used outside the swarm: opening streams, and saying which may come.

use std::{
    collections::HashMap,
    error, fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::{PeerId, StreamProtocol, swarm::ConnectionId};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{OPEN_TIMEOUT, names::Names, stream::Stream};

/// Streams that were asked for and that a connection has not begun to open. Who asks for more waits.
const MAX_WAITING: usize = 32;

/// Opens streams over the connections that there are, and says which may come in.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    names: Arc<Names>,
    connections: Arc<Connections>,
}

impl Control {
    pub(super) fn new(names: Arc<Names>, connections: Arc<Connections>) -> Self {
        Self { names, connections }
    }

    pub(super) fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Opens a stream of this protocol to a peer that is connected. It dials nobody.
    ///
    /// # Errors
    /// Why there is none. After [`OpenError::NotConnected`] another connection may still be there.
    pub(crate) async fn open(&self, peer: PeerId, protocol: StreamProtocol) -> Result<Stream, OpenError> {
        let requests = self.connections.newest(peer).ok_or(OpenError::NotConnected)?;
        let (reply, answer) = oneshot::channel();
        let opened = async {
            // Either fails where the connection is gone, and its handler with it.
            requests.send(Request { protocol, reply }).await.map_err(|_| OpenError::NotConnected)?;
            answer.await.map_err(|_| OpenError::NotConnected)?
        };
        timeout(OPEN_TIMEOUT, opened).await.map_err(|_| OpenError::Timeout)?
    }

    /// Accepts streams of this changing protocol, on open connections too. Recognised is what a stream asks for first,
    /// of at most 256 bytes.
    pub(crate) fn accept(&self, protocol: &StreamProtocol) {
        self.names.add(protocol.as_ref());
    }

    /// Accepts no more streams of this changing protocol. Those that are open stay so.
    pub(crate) fn refuse(&self, protocol: &StreamProtocol) {
        self.names.remove(protocol.as_ref());
    }
}

/// Why a stream was not opened.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The peer does not speak the protocol.
    Unsupported,
    /// There is no connection to the peer, or it closed meanwhile.
    NotConnected,
    /// The peer took too long.
    Timeout,
    /// The stream broke while it was opened.
    Io(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("the peer does not speak the protocol"),
            Self::NotConnected => f.write_str("the peer is not connected"),
            Self::Timeout => f.write_str("the peer took too long to open a stream"),
            Self::Io(error) => write!(f, "the stream broke while it was opened: {error}"),
        }
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A stream that is asked for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) protocol: StreamProtocol,
    pub(super) reply: Reply,
}

/// Where the stream goes.
pub(super) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// The connections that streams can be opened over.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<HashMap<PeerId, Vec<Connection>>>);

/// A connection of one peer.
#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    requests: mpsc::Sender<Request>,
}

impl Connections {
    /// Takes in a connection, until what is returned is dropped.
    pub(super) fn add(self: &Arc<Self>, peer: PeerId, id: ConnectionId) -> Requests {
        let (requests, received) = mpsc::channel(MAX_WAITING);
        self.lock().entry(peer).or_default().push(Connection { id, requests });
        Requests { received, connections: Arc::clone(self), peer, id }
    }

    /// The newest connection: of two, the older is the one whose other end may be gone unnoticed.
    fn newest(&self, peer: PeerId) -> Option<mpsc::Sender<Request>> {
        self.lock().get(&peer)?.last().map(|connection| connection.requests.clone())
    }

    fn remove(&self, peer: PeerId, id: ConnectionId) {
        let mut all = self.lock();
        if let Some(connections) = all.get_mut(&peer) {
            connections.retain(|connection| connection.id != id);
            if connections.is_empty() {
                all.remove(&peer);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Vec<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is asked of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) received: mpsc::Receiver<Request>,
    connections: Arc<Connections>,
    peer: PeerId,
    id: ConnectionId,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.connections.remove(self.peer, self.id);
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_nothing_times_out_and_one_that_ends_says_so() {
        let connections = Arc::<Connections>::default();
        let control = Control::new(Arc::default(), Arc::clone(&connections));
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let requests = connections.add(peer, ConnectionId::new_unchecked(1));
        let newest = connections.add(peer, ConnectionId::new_unchecked(2));
        let protocol = StreamProtocol::new("/test/1");
        let error = control.open(peer, protocol.clone()).await.expect_err("nobody answers");
        assert!(matches!(error, OpenError::Timeout), "{error:?}");
        drop(newest);
        let (opened, ()) = tokio::join!(control.open(peer, protocol.clone()), async { drop(requests) });
        assert!(matches!(opened, Err(OpenError::NotConnected)), "{opened:?}");
        assert!(connections.lock().is_empty());
    }
}
