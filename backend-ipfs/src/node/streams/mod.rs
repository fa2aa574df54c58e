//! Plain streams of named protocols, opened and accepted outside the swarm.
//!
//! A node speaks a handful of protocols of its own, and one more for every log that it holds: OrbitDB opens a stream
//! whose protocol is the address of the log. libp2p lists every protocol of a connection each time that anything happens
//! on it, copies the list for each stream that comes in, and tells it in its identify message, which may have 4 KiB. So
//! the protocols are of two kinds:
//!
//! - *Fixed* ones are given at construction and known to libp2p as any other.
//! - *Changing* ones are accepted and refused at any time, by thousands, and are in a set of our own. libp2p knows a
//!   single protocol for all of them, [`names::NAMED`]. Below it, [`over()`] reads what a stream that comes in asks for
//!   first, and translates. What that costs does not depend on how many there are.
//!
//! [`Control`] opens streams and changes the set. Streams that come in arrive in the receiver that [`Behaviour::new`]
//! returns. A stream that finds the receiver full, or more streams than the bounds below allow, is reset.

mod control;
mod handler;
mod muxer;
mod names;
mod stream;
#[cfg(test)]
mod tests;
mod translated;

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse},
    swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, ToSwarm},
};
use tokio::sync::mpsc;

use self::{
    control::Connections,
    handler::Handler,
    names::Names,
    stream::{Door, Places},
};
pub(crate) use self::{
    control::{Control, OpenError},
    muxer::over,
    stream::{Inbound, Stream},
};
use super::doors::Origin;

/// What a stream may take to be opened, and one that comes in to say what it is for.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that one connection may have open towards us at once: a peer that has many logs in common with us asks for
/// their heads together.
const MAX_INBOUND_PER_CONNECTION: usize = 32;
/// The same of all connections from one network, whatever peers they say they are of.
const MAX_INBOUND_PER_ORIGIN: usize = 64;
/// The same of all connections: what serving them may cost at once.
const MAX_INBOUND: usize = 512;
/// Streams that came in and wait for somebody to take them. As many as there may be: the wait is short, and none is
/// reset because of it.
const QUEUE: usize = MAX_INBOUND;

/// The part of the swarm that streams come from.
pub(crate) struct Behaviour {
    fixed: Arc<[StreamProtocol]>,
    names: Arc<Names>,
    connections: Arc<Connections>,
    door: Door,
}

impl Behaviour {
    /// Accepts these fixed protocols. The swarm's transport has to be the one that [`over()`] returns, or the changing
    /// ones are refused.
    pub(crate) fn new(fixed: impl IntoIterator<Item = StreamProtocol>) -> (Self, Control, mpsc::Receiver<Inbound>) {
        let (queue, inbound) = mpsc::channel(QUEUE);
        let (names, connections) = (Arc::<Names>::default(), Arc::<Connections>::default());
        let behaviour = Self {
            fixed: fixed.into_iter().collect(),
            names: Arc::clone(&names),
            connections: Arc::clone(&connections),
            door: Door::new(queue, Places::new(MAX_INBOUND), MAX_INBOUND_PER_ORIGIN),
        };
        (behaviour, Control::new(names, connections), inbound)
    }

    fn handler(&self, connection: ConnectionId, peer: PeerId, address: &Multiaddr) -> Handler {
        let door = self.door.of_connection(peer, Origin::of(peer, address), Places::new(MAX_INBOUND_PER_CONNECTION));
        let requests = self.connections.add(peer, connection);
        Handler::new(Arc::clone(&self.fixed), Arc::clone(&self.names), requests, door)
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("fixed", &self.fixed).field("names", &self.names).finish_non_exhaustive()
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(connection, peer, remote))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}
