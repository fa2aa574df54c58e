use std::{convert::Infallible, future::ready, sync::Mutex};

use futures_util::{StreamExt as _, future::Either};
use libp2p::{
    PeerId, Swarm, Transport as _,
    core::{
        Endpoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, PortUse},
        upgrade::Version,
    },
    dns::{self, ResolverConfig, ResolverOpts},
    identity::Keypair,
    noise, quic,
    swarm::{Config, SwarmEvent, dial_opts::DialOpts as Opts},
    tcp, yamux,
};

use super::*;
use crate::node::{
    streams::{self, Control},
    websocket::WebSocket,
};

type Dialled = BoxFuture<'static, Result<Multiaddr, String>>;

/// Connects to everything, and says where to.
struct Everywhere;

/// Resolves every name to one address, as the transport for names does: when the future is polled.
struct Resolver<T>(Arc<Mutex<T>>, Multiaddr);

impl Transport for Everywhere {
    type Output = Multiaddr;
    type Error = Infallible;
    type ListenerUpgrade = BoxFuture<'static, Result<Multiaddr, Infallible>>;
    type Dial = BoxFuture<'static, Result<Multiaddr, Infallible>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<Infallible>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<Infallible>> {
        Ok(ready(Ok(address)).boxed())
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, Infallible>> {
        Poll::Pending
    }
}

impl<T> Transport for Resolver<T>
where
    T: Transport<Output = Multiaddr> + Send + 'static,
    T::Dial: Send,
    T::Error: Send + Sync,
{
    type Output = Multiaddr;
    type Error = std::io::Error;
    type ListenerUpgrade = BoxFuture<'static, Result<Multiaddr, std::io::Error>>;
    type Dial = BoxFuture<'static, Result<Multiaddr, std::io::Error>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        let (inner, ip) = (Arc::clone(&self.0), self.1.clone());
        let dialled = async move {
            tokio::task::yield_now().await;
            let is_name = matches!(address.iter().next(), Some(Protocol::Dns(_)));
            let parts = ip.iter().chain(address.iter().skip(1));
            let resolved = if is_name { parts.collect() } else { address.clone() };
            let dialling = inner.lock().expect("no panic").dial(resolved, options);
            dialling.map_err(std::io::Error::other)?.await.map_err(std::io::Error::other)
        };
        Ok(dialled.boxed())
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Poll::Pending
    }
}

fn address(text: &str) -> Multiaddr {
    text.parse().expect(text)
}

fn dial<T: Transport<Output = Multiaddr> + ?Sized>(transport: &mut T, to: &str) -> Dialled
where
    T::Dial: Send + 'static,
    T::Error: Send + 'static,
{
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    match transport.dial(address(to), options) {
        Ok(dialling) => dialling.map_err(|error| error.to_string()).boxed(),
        Err(error) => ready(Err(error.to_string())).boxed(),
    }
}

const PEER: &str = "/p2p/16Uiu2HAm9zJqvQ4TLsV6kq5ecsxyFAnUvXjGcjFvYvWwDqgWnVY1";

#[tokio::test]
async fn what_peers_name_leads_nowhere_private() {
    let mut guarded = Reach::new([], false).guard(Everywhere);
    for private in [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/10.0.0.1/udp/4001/quic-v1",
        "/ip4/169.254.169.254/tcp/80/ws",
        "/ip6/::1/tcp/4001",
        "/ip6/::ffff:192.168.1.1/tcp/1",
        "/ip6zone/eth0/ip6/fe80::1/tcp/1",
        "/dns/localhost/tcp/1",
        "/memory/7",
        // TCP takes the last of them, and QUIC the first.
        "/ip4/1.1.1.1/tcp/1/ip4/127.0.0.1/tcp/1",
        "/ip4/127.0.0.1/udp/1/ip4/1.1.1.1/udp/1/quic-v1",
        "/ip4/1.1.1.1/tcp/1/ip4/1.0.0.1/tcp/1",
    ] {
        dial(&mut guarded, private).await.expect_err(private);
    }
    for global in ["/ip4/1.1.1.1/tcp/4001", "/ip6/2606:4700::1111/udp/4001/quic-v1", "/ip4/1.1.1.1/tcp/4001/ws"] {
        assert_eq!(dial(&mut guarded, global).await.expect(global), address(global));
    }
    let mut open = Reach::new([], true).guard(Everywhere);
    dial(&mut open, "/ip4/127.0.0.1/tcp/4001").await.expect("allowed");
}

#[tokio::test]
async fn what_is_configured_leads_anywhere_by_name_too() {
    let configured = ["/dns/peer.example/tcp/4001", "/ip4/10.0.0.1/tcp/4001"];
    let with_peer = address(&format!("/ip4/10.0.0.2/tcp/4001{PEER}"));
    let reach = Reach::new(configured.map(address).into_iter().chain([with_peer]), false);
    let guarded = Arc::new(Mutex::new(reach.guard(Everywhere)));
    let mut marked = reach.mark(Resolver(guarded, address("/ip4/192.168.0.7")));
    for (open, leads_to) in [
        ("/dns/peer.example/tcp/4001", "/ip4/192.168.0.7/tcp/4001"),
        ("/ip4/10.0.0.1/tcp/4001", "/ip4/10.0.0.1/tcp/4001"),
        ("/ip4/10.0.0.2/tcp/4001", "/ip4/10.0.0.2/tcp/4001"),
        ("/ip4/1.1.1.1/tcp/4001", "/ip4/1.1.1.1/tcp/4001"),
    ] {
        assert_eq!(dial(&mut marked, open).await.expect(open), address(leads_to));
        let with_peer = format!("{leads_to}{PEER}");
        assert_eq!(dial(&mut marked, &format!("{open}{PEER}")).await.expect(open), address(&with_peer));
    }
    for closed in ["/dns/other.example/tcp/4001", "/dns/peer.example/tcp/22", "/ip4/10.0.0.1/tcp/22"] {
        dial(&mut marked, closed).await.expect_err(closed);
    }
    // Nor does one that is under way open the way for another.
    let mut dials = futures_util::future::join(
        dial(&mut marked, "/dns/peer.example/tcp/4001"),
        dial(&mut marked, "/dns/other.example/tcp/4001"),
    );
    let (open, closed) = (&mut dials).await;
    assert!(open.is_ok() && closed.is_err());
}

/// A peer at home has several addresses, and the one that is configured need not be the one that works.
#[tokio::test]
async fn a_peer_that_is_named_inside_a_network_is_reached_at_others_of_the_kind() {
    const OTHER: &str = "/p2p/16Uiu2HAm3aBGq5sdGKKmyHYVJWrJUvqLoC1HbmoaQEUTBJ2bHP8u";
    let at_home = address(&format!("/ip4/192.168.0.2/tcp/4001{PEER}"));
    let reach = Reach::new([at_home, address(&format!("/ip4/1.1.1.1/tcp/4001{OTHER}"))], false);
    let guarded = Arc::new(Mutex::new(reach.guard(Everywhere)));
    let mut marked = reach.mark(Resolver(guarded, address("/ip4/192.168.0.7")));
    for open in ["/ip4/192.168.0.3/tcp/4001", "/ip4/10.0.0.1/udp/4001/quic-v1", "/ip6/fd00::1/tcp/1/ws"] {
        dial(&mut marked, &format!("{open}{PEER}")).await.expect(open);
        // Nobody else is, least of all whom the configuration names in public alone.
        dial(&mut marked, open).await.expect_err(open);
        dial(&mut marked, &format!("{open}{OTHER}")).await.expect_err(open);
    }
    for closed in [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/169.254.169.254/tcp/80",
        "/ip6/::ffff:127.0.0.1/tcp/1",
        "/ip6/fe80::1/tcp/1",
        "/dns/other.example/tcp/4001",
        "/ip4/192.168.0.3/tcp/1/ip4/127.0.0.1/tcp/1",
        "/ip4/192.168.0.3/tcp/1/dns/other.example/tcp/1",
        "/ip4/192.168.0.3/tcp/1/p2p/16Uiu2HAm3aBGq5sdGKKmyHYVJWrJUvqLoC1HbmoaQEUTBJ2bHP8u/p2p-circuit",
    ] {
        dial(&mut marked, &format!("{closed}{PEER}")).await.expect_err(closed);
    }
    let here = Reach::new([address(&format!("/ip4/127.0.0.1/tcp/4001{PEER}"))], false);
    let mut marked = here.mark(here.guard(Everywhere));
    for (open, to) in [(true, "/ip4/127.0.0.2/tcp/1"), (true, "/ip6/::1/tcp/1"), (false, "/ip4/192.168.0.2/tcp/1")] {
        assert_eq!(dial(&mut marked, &format!("{to}{PEER}")).await.is_ok(), open, "{to}");
    }
}

#[tokio::test]
async fn without_a_resolver_in_between_it_is_the_same() {
    let reach = Reach::new([address("/ip4/10.0.0.1/tcp/4001")], false);
    let mut marked = reach.mark(reach.guard(Everywhere));
    dial(&mut marked, "/ip4/10.0.0.1/tcp/4001").await.expect("configured");
    dial(&mut marked, "/ip4/10.0.0.1/tcp/22").await.expect_err("not configured");
}

/// All transports together, as a node has them.
fn all(key: &Keypair, reach: &Reach, control: &Control) -> Boxed<(PeerId, StreamMuxerBox)> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default());
    let streams = WebSocket::over(tcp())
        .or_transport(tcp())
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(key).expect("noise"))
        .multiplex(yamux::Config::default());
    let quic = quic::tokio::Transport::new(quic::Config::new(key));
    let connected = quic.or_transport(streams).map(|either, _| match either {
        Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
    });
    // Names of this machine are resolved without a name server.
    let resolver = ResolverConfig::default();
    let resolving = dns::tokio::Transport::custom(reach.guard(connected), resolver, ResolverOpts::default());
    streams::over(reach.mark(resolving).boxed(), control)
}

fn swarm(reach: &Reach) -> Swarm<streams::Behaviour> {
    let key = Keypair::generate_secp256k1();
    let (behaviour, control, _inbound) = streams::Behaviour::new([]);
    Swarm::new(all(&key, reach, &control), behaviour, key.public().to_peer_id(), Config::with_tokio_executor())
}

/// Whether a swarm of this reach gets there.
async fn connects(reach: &Reach, to: Multiaddr) -> bool {
    let mut swarm = swarm(reach);
    swarm.dial(Opts::unknown_peer_id().address(to).build()).expect("dialling");
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => return true,
            SwarmEvent::OutgoingConnectionError { .. } => return false,
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_transport_is_guarded_and_reaches_what_is_configured() {
    let mut listening = swarm(&Reach::new([], false));
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        listening.listen_on(address(listen)).expect(listen);
    }
    let mut addresses = Vec::new();
    while addresses.len() < 3 {
        if let SwarmEvent::NewListenAddr { address, .. } = listening.select_next_some().await {
            addresses.push(address);
        }
    }
    let task = tokio::spawn(async move {
        loop {
            listening.select_next_some().await;
        }
    });
    for to in addresses {
        let named = to.replace(0, |_| Some(Protocol::Dns4("localhost".into()))).expect("there is a first part");
        for to in [to, named] {
            assert!(connects(&Reach::new([to.clone()], false), to.clone()).await, "{to}");
            assert!(!connects(&Reach::new([], false), to.clone()).await, "{to}");
            assert!(connects(&Reach::new([], true), to.clone()).await, "{to}");
        }
    }
    task.abort();
}
