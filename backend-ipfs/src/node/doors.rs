//! How many connections may come from one network, so that no stranger takes all that there are.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};

/// Connections of one network whose handshake goes on: whoever connects and says nothing has five seconds for each.
const PENDING: usize = 64;

/// A network: as many addresses as one customer is usually given.
type Network = [u8; 7];

/// Whom what a connection costs is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// Everybody in a network: ids of peers are free, and addresses are not.
    Network(Network),
    /// A peer of which no address tells anything, or that of a proxy on this machine, behind which all are.
    Peer(PeerId),
}

impl Origin {
    /// That of a connection of this peer, which is at this address.
    pub(super) fn of(peer: PeerId, address: &Multiaddr) -> Self {
        network(address).map_or(Self::Peer(peer), Self::Network)
    }
}

/// The behaviour. It refuses what comes in, and does nothing else.
pub(super) struct Behaviour {
    most: usize,
    pending: Count,
    established: Count,
}

/// Connections, by their network.
#[derive(Default)]
struct Count {
    of: HashMap<ConnectionId, Network>,
    number: HashMap<Network, usize>,
}

impl Count {
    /// Counts one more, where there is room.
    fn enter(&mut self, connection: ConnectionId, network: Network, most: usize) -> bool {
        let number = self.number.entry(network).or_default();
        if *number >= most {
            return false;
        }
        *number += 1;
        self.of.insert(connection, network);
        true
    }

    fn leave(&mut self, connection: ConnectionId) {
        let Some(network) = self.of.remove(&connection) else { return };
        if let Some(number) = self.number.get_mut(&network) {
            *number -= 1;
            if *number == 0 {
                self.number.remove(&network);
            }
        }
    }
}

impl Behaviour {
    /// Lets so many connections of one network be there.
    pub(super) fn new(most: usize) -> Self {
        Self { most, pending: Count::default(), established: Count::default() }
    }
}

/// That a network has all that it may have.
#[derive(Debug)]
struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many connections come from this network")
    }
}

impl std::error::Error for Full {}

/// The /24 of an IPv4 address, the /48 of an IPv6 one. None of this machine's own: everybody is there who comes through a
/// proxy before the node.
fn network(address: &Multiaddr) -> Option<Network> {
    let ip = match address.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => ip.to_canonical(),
        _ => return None,
    };
    (!ip.is_loopback()).then(|| match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [4, a, b, c, 0, 0, 0]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            [6, a, b, c, d, e, f]
        }
    })
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match network(remote) {
            Some(network) if !self.pending.enter(connection, network, PENDING) => Err(ConnectionDenied::new(Full)),
            _ => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.leave(connection);
        match network(remote) {
            Some(network) if !self.established.enter(connection, network, self.most) => {
                Err(ConnectionDenied::new(Full))
            }
            _ => Ok(dummy::ConnectionHandler),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.pending.leave(connection_id);
                // Another behaviour may have refused what this one let in.
                self.established.leave(connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.established.leave(connection_id)
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Multiaddr {
        address.parse().expect("an address")
    }

    #[test]
    fn no_network_takes_all_handshakes_and_what_ends_makes_room() {
        let mut doors = Behaviour::new(2);
        let knock = |doors: &mut Behaviour, id: usize, at: &str| {
            doors.handle_pending_inbound_connection(
                ConnectionId::new_unchecked(id),
                &from("/ip4/192.0.2.1/tcp/1"),
                &from(at),
            )
        };
        for id in 0..PENDING {
            knock(&mut doors, id, &format!("/ip4/198.51.100.{id}/tcp/1")).expect("there is room");
        }
        assert!(knock(&mut doors, 100, "/ip4/198.51.100.200/tcp/1").is_err(), "the network has all that it may have");
        knock(&mut doors, 101, "/ip4/203.0.113.1/tcp/1").expect("another has room");
        knock(&mut doors, 102, "/ip6/2001:db8::1/udp/1/quic-v1").expect("another has room");
        let peer = libp2p::identity::Keypair::generate_ed25519().public().to_peer_id();
        let enter = |doors: &mut Behaviour, id: usize, at: &str| {
            let id = ConnectionId::new_unchecked(id);
            doors.handle_established_inbound_connection(id, peer, &from("/ip4/192.0.2.1/tcp/1"), &from(at)).is_ok()
        };
        assert!(enter(&mut doors, 0, "/ip4/198.51.100.0/tcp/1") && enter(&mut doors, 1, "/ip4/198.51.100.1/tcp/1"));
        assert!(!enter(&mut doors, 2, "/ip4/198.51.100.2/tcp/1"), "two are here");
        knock(&mut doors, 103, "/ip4/198.51.100.201/tcp/1").expect("handshakes are over");
    }

    #[test]
    fn this_machine_is_no_network_since_all_are_there_who_come_through_its_proxy() {
        let mut doors = Behaviour::new(2);
        let at = from("/ip4/127.0.0.1/tcp/4002/ws");
        for (id, remote) in (0..2 * PENDING).zip(["/ip4/127.0.0.1/tcp/1/ws", "/ip6/::1/tcp/1/ws"].iter().cycle()) {
            let (id, remote) = (ConnectionId::new_unchecked(id), from(remote));
            doors.handle_pending_inbound_connection(id, &at, &remote).expect("there is room");
        }
        for id in 0..2 * PENDING {
            let peer = PeerId::random();
            let id = ConnectionId::new_unchecked(id);
            let entered = doors.handle_established_inbound_connection(id, peer, &at, &from("/ip4/127.0.0.1/tcp/1/ws"));
            assert!(entered.is_ok(), "there is room");
        }
    }
}
