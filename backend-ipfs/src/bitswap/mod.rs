//! Blocks from and to any peer of IPFS, by the protocol `/ipfs/bitswap/1.2.0`.
//!
//! What is wanted here goes to the peers in the wants of `client`; what they want is answered from the store in
//! `server`. Both send at most one message at a time to a peer and keep what is next as CIDs, so a peer that does not
//! read costs one message of memory. A `handler` for each connection has the streams.

mod client;
mod framing;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod handler;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use cid::Cid;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, ToSwarm,
        behaviour::ConnectionEstablished,
    },
};
use talkbox_core::async_trait;

use self::{
    client::Client,
    framing::Incoming,
    handler::{Command, Handler, Lane, Report},
    server::Server,
};

/// Where the blocks are that others may have.
#[async_trait]
pub(crate) trait Blocks: Send + Sync + 'static {
    /// The sizes of blocks, in the order of the CIDs; `None` for those that are not here.
    async fn sizes(&self, cids: Vec<Cid>) -> Vec<Option<usize>>;
    /// The blocks themselves, likewise.
    async fn get(&self, cids: Vec<Cid>) -> Vec<Option<Bytes>>;
}

/// What can be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// After how long without an answer more peers are asked for a block.
    pub(crate) slow: Duration,
    /// For how long a peer may leave a want unanswered, and hold up a stream.
    pub(crate) patience: Duration,
    /// How many streams of a connection are read at once.
    pub(crate) streams: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { slow: Duration::from_secs(1), patience: Duration::from_secs(10), streams: 16 }
    }
}

/// What the owner of the swarm is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A block that was wanted; the bytes have the hash of the CID. It is wanted no more.
    Received { peer: PeerId, cid: Cid, bytes: Bytes },
    /// A peer does not have a block.
    Absent { cid: Cid, peer: PeerId },
    /// Everybody who was asked does not have the block, has not answered, or is gone. It stays wanted until it is
    /// cancelled: those who were asked may get it, and [`Behaviour::want`] adds peers.
    Unsought { cid: Cid },
}

/// The behaviour, for a swarm.
pub(crate) struct Behaviour {
    config: Config,
    peers: HashMap<PeerId, Peer>,
    client: Client,
    server: Server,
    /// The sign for [`Peer::wanted`] that the handler of the connection has that is established next.
    pending: Option<Arc<AtomicBool>>,
    out: VecDeque<ToSwarm<Event, Command>>,
    waker: Option<Waker>,
}

/// A peer that is connected.
struct Peer {
    /// The oldest is used.
    connections: Vec<ConnectionId>,
    /// Whether it speaks the protocol; taken for granted until it is known.
    speaks: bool,
    /// Whether there are wants at it, for which its connections are kept.
    wanted: Arc<AtomicBool>,
    /// The connections on which a message is under way.
    wants: Option<ConnectionId>,
    answers: Option<ConnectionId>,
}

impl Peer {
    fn lane(&mut self, lane: Lane) -> &mut Option<ConnectionId> {
        match lane {
            Lane::Wants => &mut self.wants,
            Lane::Answers => &mut self.answers,
        }
    }
}

impl Behaviour {
    /// A behaviour that serves these blocks and wants none yet.
    pub(crate) fn new(blocks: Arc<dyn Blocks>, config: Config) -> Self {
        Self {
            config,
            peers: HashMap::new(),
            client: Client::new(config),
            server: Server::new(blocks),
            pending: None,
            out: VecDeque::new(),
            waker: None,
        }
    }

    /// Wants a block from these peers; where none is named, from all that are connected or will be. Wanting it again
    /// adds peers, and asks those again that did not have it. Peers that are not connected count as gone.
    ///
    /// `false` where too much is wanted already, or where the hash of the CID is not SHA-256, which is all that can be
    /// checked.
    pub(crate) fn want(&mut self, cid: Cid, from: &[PeerId]) -> bool {
        self.wake();
        self.client.want(cid, from)
    }

    /// Wants a block no more.
    pub(crate) fn cancel(&mut self, cid: Cid) {
        self.wake();
        self.client.cancel(cid);
    }

    /// Tells that blocks have come into the store, so that peers get them who asked before.
    pub(crate) fn notify_new(&mut self, cids: &[Cid]) {
        self.wake();
        self.server.notify_new(cids);
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The handler of a connection that is about to be there.
    fn handler(&mut self, peer: &PeerId) -> Handler {
        let wanted = self.peers.get(peer).map(|peer| Arc::clone(&peer.wanted)).unwrap_or_default();
        self.pending = Some(Arc::clone(&wanted));
        Handler::new(self.config, wanted)
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId) {
        let pending = self.pending.take().unwrap_or_default();
        let known = self.peers.entry(peer).or_insert_with(|| Peer {
            connections: Vec::new(),
            speaks: true,
            wanted: pending,
            wants: None,
            answers: None,
        });
        known.connections.push(connection);
        if known.connections.len() == 1 {
            self.client.connected(peer, Arc::clone(&known.wanted));
        }
    }

    fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.connections.retain(|id| *id != connection);
        if known.connections.is_empty() {
            self.peers.remove(&peer);
            self.client.gone(&peer);
            self.server.gone(&peer);
            return;
        }
        // What was on its way is lost with the connection, and nobody knows what that was. The peer asks again for what
        // it was to get, as we do.
        known.wants.take_if(|id| *id == connection);
        self.client.ask_anew(&peer);
        if known.answers.take_if(|id| *id == connection).is_some() {
            self.server.sent(&peer);
        }
    }

    fn speaks(&mut self, peer: PeerId, speaks: bool) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if mem::replace(&mut known.speaks, speaks) == speaks {
            return;
        }
        if speaks {
            self.client.connected(peer, Arc::clone(&known.wanted));
        } else {
            self.client.gone(&peer);
            self.server.gone(&peer);
        }
    }

    fn received(&mut self, peer: PeerId, incoming: Incoming) {
        self.speaks(peer, true);
        let message = incoming.message;
        for (cid, bytes) in message.blocks {
            self.client.block(peer, cid, bytes);
        }
        for (cid, here) in message.presences {
            self.client.presence(peer, cid, here);
        }
        self.server.wants(peer, message.entries, message.full);
    }

    /// Sends a message by the lane, which has to be free.
    fn send(&mut self, peer_id: PeerId, lane: Lane, frame: Bytes) {
        let Some(peer) = self.peers.get_mut(&peer_id) else { return };
        let Some(connection) = peer.connections.first().copied() else { return };
        *peer.lane(lane) = Some(connection);
        let handler = NotifyHandler::One(connection);
        self.out.push_back(ToSwarm::NotifyHandler { peer_id, handler, event: Command::Send { lane, frame } });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.connected(peer_id, connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.disconnected(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, report: Report) {
        match report {
            Report::Received(incoming) => self.received(peer, incoming),
            Report::Speaks(speaks) => self.speaks(peer, speaks),
            Report::Free(lane) => {
                let Some(known) = self.peers.get_mut(&peer) else { return };
                if known.lane(lane).take_if(|id| *id == connection).is_some() && lane == Lane::Answers {
                    self.server.sent(&peer);
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, Command>> {
        loop {
            if let Some(out) = self.out.pop_front() {
                return Poll::Ready(out);
            }
            if let Some(event) = self.client.poll(cx) {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            let peers = &self.peers;
            let is_free = |peer: &PeerId| peers.get(peer).is_some_and(|peer| peer.wants.is_none());
            if let Some((peer, frame)) = self.client.next_message(is_free) {
                self.send(peer, Lane::Wants, frame);
            } else if let Poll::Ready((peer, frame)) = self.server.poll(cx) {
                self.send(peer, Lane::Answers, frame);
            } else {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    }
}
