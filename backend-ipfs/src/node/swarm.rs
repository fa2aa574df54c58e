//! The swarm: which protocols a peer speaks, over which transports, and within which limits.

use std::{io, sync::Arc, time::Duration};

use libp2p::{
    PeerId, StreamProtocol, Transport as _,
    connection_limits::{self, ConnectionLimits},
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, OrTransport, timeout::TransportTimeoutError},
        upgrade::Version,
    },
    dns,
    gossipsub::{self, MessageAuthenticity, ValidationMode},
    identify,
    identity::Keypair,
    kad::{self, store::MemoryStoreConfig},
    memory_connection_limits, noise, ping, quic,
    swarm::{self, NetworkBehaviour, behaviour::toggle::Toggle},
    tcp, yamux,
};
use talkbox_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

use super::{
    doors,
    reach::Reach,
    serve,
    settings::{Dht, Settings},
    streams::{self, Inbound},
    websocket::WebSocket,
};
use crate::bitswap;

/// The name under which peers introduce themselves.
const AGENT: &str = concat!("talkbox/", env!("CARGO_PKG_VERSION"));
/// The family of protocols that identify speaks of: that of IPFS.
const FAMILY: &str = "ipfs/0.1.0";
/// How long a connection that is made may take to be encrypted and multiplexed.
const UPGRADE: Duration = Duration::from_secs(10);
/// The same of one that comes in, from its first byte on: some round trips. Who says nothing keeps a place for no longer.
const UPGRADE_INBOUND: Duration = Duration::from_secs(5);
/// How long a connection on which nobody does anything stays: readers wait for mail on theirs.
const IDLE: Duration = Duration::from_secs(600);
/// Streams that one connection may have open: bitswap, gossip, and 32 of the named protocols, with room.
const MAX_STREAMS: usize = 512;
/// Streams of one connection of which the protocol is not known yet.
const MAX_NEGOTIATING: usize = 128;
/// Connections of one peer: two that dial each other at once, over two transports.
const MAX_PER_PEER: u32 = 4;
/// Connections that are being made.
const MAX_PENDING: u32 = 256;
/// Connections that come in and whose handshake goes on: one network has a small part of them.
const MAX_PENDING_INBOUND: u32 = 1_024;
/// Bytes of one gossip message and of one answer: what JavaScript peers take, and more than an entry may have.
const MAX_GOSSIP: usize = 4 << 20;
/// Topics of one peer: four months of as many mailboxes as a quarter of this.
const MAX_TOPICS: usize = 16_384;
/// Keys that this peer provides: two for each mailbox that it keeps.
const MAX_PROVIDED: usize = 65_536;
/// Keys that a server of the DHT remembers providers of.
const MAX_KEYS: usize = 65_536;
/// How often a peer is asked whether it is there.
const PING: Duration = Duration::from_secs(15);
/// How long it may take to say so, before it counts as gone.
const PONG: Duration = Duration::from_secs(10);

/// Gossip that bounds the topics of a peer.
pub(super) type Gossip = gossipsub::Behaviour<
    gossipsub::IdentityTransform,
    gossipsub::MaxCountSubscriptionFilter<gossipsub::AllowAllSubscriptionFilter>,
>;

/// What a peer does on each connection.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    doors: doors::Behaviour,
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(super) identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) kad: Toggle<kad::Behaviour<kad::store::MemoryStore>>,
    pub(super) gossip: Gossip,
    pub(super) bitswap: bitswap::Behaviour,
    pub(super) streams: streams::Behaviour,
}

/// A swarm, and what its streams behaviour gives.
pub(super) struct Built {
    pub(super) swarm: swarm::Swarm<Behaviour>,
    pub(super) streams: streams::Control,
    pub(super) inbound: mpsc::Receiver<Inbound>,
}

/// Builds a swarm. It listens and dials nowhere yet.
///
/// # Errors
/// `ConfigInvalid` where the protocol of the DHT is none; `Unexpected` where libp2p refuses its own settings.
pub(super) fn build(
    identity: &Keypair,
    settings: &Settings,
    reach: &Reach,
    blocks: Arc<dyn bitswap::Blocks>,
) -> Result<Built> {
    let peer = identity.public().to_peer_id();
    let (streams, control, inbound) = streams::Behaviour::new(serve::protocols());
    let transport = streams::over(transport(identity, reach)?, &control);
    let introduction = identify::Config::new(FAMILY.to_owned(), identity.public()).with_agent_version(AGENT.to_owned());
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING_INBOUND))
        .with_max_pending_outgoing(Some(MAX_PENDING))
        .with_max_established_incoming(Some(settings.max_connections))
        .with_max_established_per_peer(Some(MAX_PER_PEER));
    // As with the connections of a node: no network has more than half of them.
    let of_one_network = usize::try_from(settings.max_connections / 2).unwrap_or(usize::MAX).max(1);
    let behaviour = Behaviour {
        doors: doors::Behaviour::new(of_one_network),
        limits: connection_limits::Behaviour::new(limits),
        memory: memory_connection_limits::Behaviour::with_max_bytes(settings.max_memory),
        identify: identify::Behaviour::new(introduction),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING).with_timeout(PONG)),
        kad: kad(peer, settings)?.into(),
        gossip: gossip(identity)?,
        bitswap: bitswap::Behaviour::new(blocks, bitswap::Config::default()),
        streams,
    };
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING);
    Ok(Built { swarm: swarm::Swarm::new(transport, behaviour, peer, config), streams: control, inbound })
}

/// TCP and WebSocket under noise and yamux, and QUIC, which has both in itself; names are resolved first. What may be
/// reached is decided below all of it, where the address is known.
fn transport(identity: &Keypair, reach: &Reach) -> Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let broken = |what: &'static str| Error::new(ErrorKind::Unexpected, what);
    let tcp = || reach.guard(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true)));
    let noise = noise::Config::new(identity).map_err(|error| broken("the key signs no handshake").source(error))?;
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(MAX_STREAMS);
    let streams = OrTransport::new(WebSocket::over(tcp()), tcp())
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(muxer)
        .inbound_timeout(UPGRADE_INBOUND)
        .outbound_timeout(UPGRADE)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let quic = reach
        .guard(quic::tokio::Transport::new(quic::Config::new(identity)))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let all = OrTransport::new(quic, streams).map(|either, _| either.into_inner()).boxed();
    let resolving = dns::tokio::Transport::system(all)
        .map_err(|error| broken("the system says nowhere who resolves names").source(error))?;
    Ok(reach.mark(resolving).boxed())
}

fn gossip(identity: &Keypair) -> Result<Gossip> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        // What is passed on is decided by whoever knows the log.
        .validate_messages()
        .max_transmit_size(MAX_GOSSIP)
        .build()
        .map_err(|error| Error::new(ErrorKind::Unexpected, "gossip refuses its settings").source(error))?;
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::AllowAllSubscriptionFilter {},
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    Gossip::new_with_subscription_filter(MessageAuthenticity::Signed(identity.clone()), config, filter)
        .map_err(|why| Error::new(ErrorKind::Unexpected, format!("gossip refuses its settings: {why}")))
}

fn kad(peer: PeerId, settings: &Settings) -> Result<Option<kad::Behaviour<kad::store::MemoryStore>>> {
    let mode = match settings.dht {
        Dht::Off => return Ok(None),
        Dht::Client => kad::Mode::Client,
        Dht::Server => kad::Mode::Server,
    };
    let protocol = StreamProtocol::try_from_owned(settings.dht_protocol.clone()).map_err(|error| {
        let what = "the name of a protocol begins with a slash, as in `/ipfs/kad/1.0.0`";
        Error::new(ErrorKind::ConfigInvalid, what).source(error).with("dht_protocol", &settings.dht_protocol)
    })?;
    let mut config = kad::Config::new(protocol);
    // Strangers' values are of no use here, and whose provider a record names is looked at before it is kept.
    config.set_record_filtering(kad::StoreInserts::FilterBoth);
    let kept =
        MemoryStoreConfig { max_provided_keys: MAX_PROVIDED, max_records: MAX_KEYS, ..MemoryStoreConfig::default() };
    // It would warn of each time that it knows nobody to begin with. The task that owns the swarm does it.
    config.set_periodic_bootstrap_interval(None);
    let mut kad = kad::Behaviour::with_config(peer, kad::store::MemoryStore::with_config(peer, kept), config);
    kad.set_mode(Some(mode));
    Ok(Some(kad))
}

/// What went wrong on the way to an address, in words for a person.
pub(super) fn dial_error(error: &swarm::DialError) -> Error {
    use swarm::DialError;
    let (kind, words) = match error {
        DialError::WrongPeerId { obtained, .. } => {
            (ErrorKind::VerificationFailed, format!("somebody else answers there: {obtained}"))
        }
        DialError::LocalPeerId { .. } => (ErrorKind::InvalidInput, "the address is this peer's own".to_owned()),
        DialError::NoAddresses => (ErrorKind::Unreachable, "no address of the peer is known".to_owned()),
        DialError::Denied { .. } => (ErrorKind::RateLimited, "too many connections are open".to_owned()),
        DialError::Transport(failures) => {
            let first = failures.first().map(|(_, error)| transport_error(error)).unwrap_or_default();
            // Whoever dialled before may have begun, so that libp2p's patience ends before the caller's own.
            let kind = if is_timeout(&first) { ErrorKind::Timeout } else { ErrorKind::Unreachable };
            (kind, format!("the peer cannot be reached: {first}"))
        }
        DialError::Aborted | DialError::DialPeerConditionFalse(_) => {
            (ErrorKind::Unreachable, "the attempt to connect was given up".to_owned())
        }
    };
    Error::new(kind, words)
}

/// Whether these are the words with which a transport gives up waiting. The errors themselves are within others that show
/// only their words.
fn is_timeout(words: &str) -> bool {
    words == TransportTimeoutError::<io::Error>::Timeout.to_string()
        || words == quic::Error::HandshakeTimedOut.to_string()
}

/// The innermost reason: what is around it names layers that a user does not know.
fn transport_error(error: &libp2p::TransportError<io::Error>) -> String {
    match error {
        libp2p::TransportError::MultiaddrNotSupported(_) => "this kind of address is not supported".to_owned(),
        libp2p::TransportError::Other(error) => {
            let mut inner: &dyn std::error::Error = error;
            while let Some(source) = inner.source() {
                inner = source;
            }
            inner.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use libp2p::TransportError;

    use super::*;

    #[test]
    fn that_nobody_answered_in_time_is_told_from_that_nobody_is_there() {
        let kind = |error: Box<dyn StdError + Send + Sync>| {
            let place = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
            let failures = vec![(place, TransportError::Other(io::Error::other(error)))];
            dial_error(&swarm::DialError::Transport(failures)).kind()
        };
        assert_eq!(kind(TransportTimeoutError::<io::Error>::Timeout.into()), ErrorKind::Timeout);
        assert_eq!(kind(quic::Error::HandshakeTimedOut.into()), ErrorKind::Timeout);
        assert_eq!(kind(io::Error::from(io::ErrorKind::ConnectionRefused).into()), ErrorKind::Unreachable);
    }
}
