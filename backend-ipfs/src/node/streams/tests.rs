use std::time::Duration;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, io::copy};
use libp2p::{
    Multiaddr, Swarm, Transport as _,
    core::{transport::MemoryTransport, upgrade::Version},
    identify,
    identity::Keypair,
    noise,
    swarm::{self, SwarmEvent},
    yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{names::NAMED, *};

const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");
/// What a test waits at most for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct Both {
    streams: Behaviour,
    identify: identify::Behaviour,
}

/// A peer whose swarm runs by itself.
struct Peer {
    id: PeerId,
    control: Control,
    inbound: Option<mpsc::Receiver<Inbound>>,
    address: Multiaddr,
    dial: mpsc::Sender<(Multiaddr, oneshot::Sender<()>)>,
    identified: mpsc::Receiver<identify::Info>,
    task: tokio::task::JoinHandle<()>,
}

impl Peer {
    async fn new() -> Self {
        let key = Keypair::generate_ed25519();
        let id = key.public().to_peer_id();
        let (streams, control, inbound) = Behaviour::new([ECHO]);
        let identify = identify::Behaviour::new(identify::Config::new("/test/1".to_owned(), key.public()));
        let transport = MemoryTransport::default()
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&key).expect("noise"))
            .multiplex(yamux::Config::default())
            .boxed();
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
        let mut swarm = Swarm::new(over(transport, &control), Both { streams, identify }, id, config);
        swarm.listen_on("/memory/0".parse().expect("an address")).expect("listening");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let (dial, mut dials) = mpsc::channel::<(Multiaddr, oneshot::Sender<()>)>(8);
        let (identify, identified) = mpsc::channel(8);
        let task = tokio::spawn(async move {
            let mut dialling = Vec::new();
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => match event {
                        SwarmEvent::ConnectionEstablished { .. } => dialling.clear(),
                        SwarmEvent::Behaviour(BothEvent::Identify(identify::Event::Received { info, .. })) => {
                            identify.send(info).await.expect("the test goes on");
                        }
                        _ => {}
                    },
                    Some((address, done)) = dials.recv() => {
                        swarm.dial(address).expect("dialling");
                        dialling.push(done);
                    }
                }
            }
        });
        Self { id, control, inbound: Some(inbound), address, dial, identified, task }
    }

    /// Two that are connected.
    async fn pair() -> (Self, Self) {
        let (one, other) = (Self::new().await, Self::new().await);
        one.connect(&other).await;
        (one, other)
    }

    async fn connect(&self, other: &Self) {
        let (done, connected) = oneshot::channel();
        self.dial.send((other.address.clone(), done)).await.expect("the swarm runs");
        // Dropped rather than sent.
        timeout(PATIENCE, connected).await.expect("in time").expect_err("connected");
    }

    async fn next(&mut self) -> Inbound {
        let inbound = self.inbound.as_mut().expect("not taken");
        timeout(PATIENCE, inbound.recv()).await.expect("in time").expect("the swarm runs")
    }

    /// Echoes whatever comes in from now on.
    fn echo(&mut self) {
        let mut inbound = self.inbound.take().expect("not taken");
        tokio::spawn(async move {
            while let Some(Inbound { stream, .. }) = inbound.recv().await {
                tokio::spawn(async move {
                    let (read, mut write) = stream.split();
                    copy(read, &mut write).await.expect("echo");
                    write.close().await.expect("close");
                });
            }
        });
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn name(number: usize) -> StreamProtocol {
    let text = format!("/orbitdb/heads/orbitdb/zdpuAr{number:043}");
    StreamProtocol::try_from_owned(text).expect("a name")
}

/// Sends something that comes back.
async fn exchange(from: &Peer, to: PeerId, protocol: StreamProtocol) {
    let mut stream = from.control.open(to, protocol).await.expect("open");
    stream.write_all(b"over and back").await.expect("written");
    stream.close().await.expect("closed");
    let mut back = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut back)).await.expect("in time").expect("read");
    assert_eq!(back, b"over and back");
}

#[tokio::test]
async fn thousands_of_names_open_both_ways_and_stay_out_of_identify() {
    let (mut one, mut other) = (Peer::new().await, Peer::new().await);
    for peer in [&one, &other] {
        (0..3000).for_each(|number| peer.control.accept(&name(number)));
    }
    one.connect(&other).await;
    for peer in [&mut one, &mut other] {
        let info = timeout(PATIENCE, peer.identified.recv()).await.expect("in time").expect("identified");
        assert!(info.protocols.contains(&ECHO), "{:?}", info.protocols);
        assert!(info.protocols.len() < 10, "{:?}", info.protocols);
        peer.echo();
    }
    for protocol in [name(0), name(2999), ECHO] {
        exchange(&one, other.id, protocol.clone()).await;
        exchange(&other, one.id, protocol).await;
    }
}

#[tokio::test]
async fn a_stream_says_who_opened_it_and_for_what() {
    let (one, mut other) = Peer::pair().await;
    other.control.accept(&name(7));
    for protocol in [ECHO, name(7)] {
        let _ours = one.control.open(other.id, protocol.clone()).await.expect("open");
        let theirs = other.next().await;
        assert_eq!((theirs.peer, theirs.protocol), (one.id, protocol));
    }
}

#[tokio::test]
async fn what_is_accepted_changes_on_open_connections() {
    let (one, mut other) = Peer::pair().await;
    other.echo();
    let refused = one.control.open(other.id, name(1)).await.expect_err("not yet");
    assert!(matches!(refused, OpenError::Unsupported), "{refused:?}");
    other.control.accept(&name(1));
    exchange(&one, other.id, name(1)).await;
    other.control.refuse(&name(1));
    let refused = one.control.open(other.id, name(1)).await.expect_err("no more");
    assert!(matches!(refused, OpenError::Unsupported), "{refused:?}");
}

#[tokio::test]
async fn streams_that_come_at_once_all_arrive() {
    let (one, mut other) = Peer::pair().await;
    other.echo();
    (0..MAX_INBOUND_PER_CONNECTION).for_each(|number| other.control.accept(&name(number)));
    let all = (0..MAX_INBOUND_PER_CONNECTION).map(|number| exchange(&one, other.id, name(number)));
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn more_streams_than_there_are_places_for_are_reset() {
    let (one, mut other) = Peer::pair().await;
    let mut held = Vec::new();
    for _ in 0..MAX_INBOUND_PER_CONNECTION {
        let ours = one.control.open(other.id, ECHO).await.expect("open");
        held.push((ours, other.next().await));
    }
    let mut beyond = one.control.open(other.id, ECHO).await.expect("negotiated");
    let read = timeout(PATIENCE, beyond.read(&mut [0; 1])).await.expect("in time");
    assert!(!matches!(read, Ok(1)), "{read:?}");
    held.pop();
    let _ours = one.control.open(other.id, ECHO).await.expect("open");
    assert_eq!(other.next().await.protocol, ECHO);
}

#[tokio::test]
async fn without_a_connection_nothing_opens() {
    let (one, other) = Peer::pair().await;
    let nobody = Keypair::generate_ed25519().public().to_peer_id();
    let error = one.control.open(nobody, ECHO).await.expect_err("nobody");
    assert!(matches!(error, OpenError::NotConnected), "{error:?}");
    let id = other.id;
    drop(other);
    let gone = async {
        while !matches!(one.control.open(id, ECHO).await, Err(OpenError::NotConnected)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("it is noticed");
}

/// What is open when a peer asks for the common name itself: no more than by the names.
#[tokio::test]
async fn the_common_name_is_no_way_round_the_names() {
    let (one, mut other) = Peer::pair().await;
    other.control.accept(&name(1));
    let too_long = [&[0xff, 0xff][..], &[b'/'; 70_000]].concat();
    for asked in [&b"\x00\x05/none"[..], &b"\x00\x00"[..], &b"\x00\x02\xff\xff"[..], &too_long] {
        let mut stream = one.control.open(other.id, StreamProtocol::new(NAMED)).await.expect("negotiated");
        // It may be reset before all is written.
        drop(stream.write_all(asked).await);
        drop(stream.flush().await);
        let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("in time");
        assert!(!matches!(read, Ok(1)), "{read:?}");
    }
    let _ours = one.control.open(other.id, name(1)).await.expect("open");
    assert_eq!(other.next().await.protocol, name(1));
}
