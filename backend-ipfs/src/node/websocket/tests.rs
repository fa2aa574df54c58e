use std::net::SocketAddr;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, SinkExt as _, StreamExt as _, future};
use libp2p::{PeerId, StreamProtocol, Swarm, core::upgrade::Version, identity::Keypair, noise, swarm, tcp, yamux};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

use super::*;
use crate::node::streams::{Behaviour, Control, Inbound};

const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");
/// What a test waits at most for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A peer whose swarm runs by itself, and connects to another if there is one.
async fn peer(dial: Option<Multiaddr>) -> (PeerId, Control, mpsc::Receiver<Inbound>, Multiaddr) {
    let key = Keypair::generate_ed25519();
    let id = key.public().to_peer_id();
    let (streams, control, inbound) = Behaviour::new([ECHO]);
    let transport = WebSocket::over(tcp::tokio::Transport::new(tcp::Config::default()))
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&key).expect("noise"))
        .multiplex(yamux::Config::default())
        .boxed();
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
    let mut swarm = Swarm::new(transport, streams, id, config);
    swarm.listen_on("/ip4/127.0.0.1/tcp/0/ws".parse().expect("an address")).expect("listening");
    let is_dialling = dial.is_some();
    if let Some(address) = dial {
        swarm.dial(address).expect("dialling");
    }
    let (mut own, mut connected) = (None, !is_dialling);
    while own.is_none() || !connected {
        match swarm.select_next_some().await {
            swarm::SwarmEvent::NewListenAddr { address, .. } => own = Some(address),
            swarm::SwarmEvent::ConnectionEstablished { .. } => connected = true,
            swarm::SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    (id, control, inbound, own.expect("it listens"))
}

fn echo(mut inbound: mpsc::Receiver<Inbound>) {
    tokio::spawn(async move {
        while let Some(Inbound { stream, .. }) = inbound.recv().await {
            tokio::spawn(async move {
                let (read, mut write) = stream.split();
                futures_util::io::copy(read, &mut write).await.expect("echo");
                write.close().await.expect("close");
            });
        }
    });
}

/// Sends so many bytes, and has them all back in the end.
async fn exchange(control: &Control, with: PeerId, size: usize, seed: usize) {
    let bytes: Vec<u8> = (0..size).map(|index| ((index * 31 + seed) >> 3) as u8).collect();
    let stream = control.open(with, ECHO).await.expect("open");
    let (mut read, mut write) = stream.split();
    let (sent, mut back) = (bytes.clone(), Vec::new());
    let writing = async {
        write.write_all(&sent).await.expect("written");
        write.close().await.expect("closed");
    };
    let (_, read) = timeout(PATIENCE, future::join(writing, read.read_to_end(&mut back))).await.expect("in time");
    read.expect("read");
    assert!(back == bytes, "{} of {size} bytes came back", back.len());
}

#[tokio::test]
async fn megabytes_go_both_ways_on_one_stream_and_on_many() {
    let (one, first, inbound, address) = peer(None).await;
    assert!(address.to_string().ends_with("/ws"), "{address}");
    echo(inbound);
    let (other, second, inbound, _) = peer(Some(address)).await;
    echo(inbound);
    future::join(exchange(&first, other, 10_000_000, 1), exchange(&second, one, 10_000_000, 2)).await;
    let many = (0..16).map(|seed| {
        let (from, to) = if seed % 2 == 0 { (&first, other) } else { (&second, one) };
        exchange(from, to, 500_000, seed)
    });
    future::join_all(many).await;
}

fn socket_address(address: &Multiaddr) -> SocketAddr {
    let port = address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
    SocketAddr::from(([127, 0, 0, 1], port.expect("a port")))
}

/// Whatever strangers do, they lose their own connection at most, and others have theirs.
#[tokio::test]
async fn strangers_cost_themselves_alone() {
    let (one, _control, inbound, address) = peer(None).await;
    echo(inbound);
    let to = socket_address(&address);
    let _silent = TcpStream::connect(to).await.expect("connect");
    let mut half = TcpStream::connect(to).await.expect("connect");
    half.write_all(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n").await.expect("write");
    let garbage: [&[u8]; 3] = [b"\x13/multistream/1.0.0\n\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", &[b'A'; 200_000]];
    for sent in garbage {
        let mut stranger = TcpStream::connect(to).await.expect("connect");
        // It may be closed before all is written.
        drop(stranger.write_all(sent).await);
        let closed = timeout(PATIENCE, stranger.read_to_end(&mut Vec::new())).await;
        drop(closed.expect("closed in time"));
    }
    // Real WebSockets that send what is not allowed.
    for sent in [Message::text("words"), Message::binary(vec![0; MAX_MESSAGE + 1]), Message::binary(vec![0xff; 100])] {
        let stream = TcpStream::connect(to).await.expect("connect");
        let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{to}/"), stream).await.expect("handshake");
        drop(socket.send(sent).await);
        let closed = async { while let Some(Ok(_)) = socket.next().await {} };
        timeout(PATIENCE, closed).await.expect("closed in time");
    }
    let (_, control, _inbound, _) = peer(Some(address)).await;
    exchange(&control, one, 100_000, 3).await;
}

/// Two ends of one connection.
async fn ends(
    capacity: usize,
) -> (Connection<Compat<tokio::io::DuplexStream>>, WebSocketStream<tokio::io::DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(capacity);
    let ours = tokio_util::compat::TokioAsyncReadCompatExt::compat(ours);
    let accepting = accept(future::ready(Ok::<_, std::convert::Infallible>(ours)));
    let connecting = tokio_tungstenite::client_async("ws://127.0.0.1:1/", theirs);
    let (ours, theirs) = future::join(accepting, connecting).await;
    (ours.expect("accepted"), theirs.expect("connected").0)
}

#[tokio::test]
async fn messages_are_bytes_pings_are_answered_and_a_close_is_an_end() {
    let (mut ours, mut theirs) = ends(1000).await;
    let peer = tokio::spawn(async move {
        for part in [&b"ab"[..], b"", b"cde"] {
            theirs.send(Message::binary(part.to_vec())).await.expect("send");
        }
        theirs.send(Message::Ping(Bytes::from_static(b"there?"))).await.expect("send");
        theirs.send(Message::binary(b"f".to_vec())).await.expect("send");
        let pong = theirs.next().await.expect("open").expect("a message");
        assert_eq!(pong, Message::Pong(Bytes::from_static(b"there?")));
        let answer = theirs.next().await.expect("open").expect("a message");
        assert_eq!(answer, Message::binary(b"answer".to_vec()));
        theirs.close(None).await.expect("close");
        while let Some(Ok(_)) = theirs.next().await {}
    });
    let mut read = [0; 6];
    ours.read_exact(&mut read).await.expect("read");
    assert_eq!(&read, b"abcdef");
    ours.write_all(b"answer").await.expect("write");
    ours.flush().await.expect("flush");
    assert_eq!(ours.read(&mut read).await.expect("the end"), 0);
    ours.close().await.expect("close");
    drop(ours);
    timeout(PATIENCE, peer).await.expect("in time").expect("the peer's side");
}

/// Somebody who reads nothing holds no more than the bound, however much is written.
#[tokio::test]
async fn what_is_not_read_is_not_buffered_without_end() {
    let (mut ours, _theirs) = ends(1000).await;
    let mut accepted = 0;
    while let Some(written) = ours.write(&[7; 10_000]).now_or_never() {
        accepted += written.expect("written");
        assert!(accepted <= MAX_WRITE_BUFFER, "{accepted}");
    }
    assert!(ours.flush().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_times_out() {
    let (ours, _theirs) = tokio::io::duplex(1000);
    let ours = tokio_util::compat::TokioAsyncReadCompatExt::compat(ours);
    let error = accept(future::ready(Ok::<_, std::convert::Infallible>(ours))).await.expect_err("nobody");
    assert!(matches!(error, Error::Timeout), "{error:?}");
}

#[test]
fn addresses_of_websockets() {
    let below = |text: &str| without_ws(&text.parse().expect(text)).map(|below| below.to_string());
    assert_eq!(below("/ip4/127.0.0.1/tcp/4102/ws").as_deref(), Some("/ip4/127.0.0.1/tcp/4102"));
    let peer = "/ip6/::1/tcp/1/ws/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";
    assert_eq!(below(peer).as_deref(), Some("/ip6/::1/tcp/1"));
    for other in ["/ip4/127.0.0.1/tcp/4102", "/ip4/127.0.0.1/tcp/4102/wss", "/ip4/127.0.0.1/tcp/1/x-parity-ws/path"] {
        assert_eq!(below(other), None, "{other}");
    }
    let url = |text: &str| url_of(&text.parse().expect(text));
    assert_eq!(url("/ip4/127.0.0.1/tcp/4102").as_deref(), Some("ws://127.0.0.1:4102/"));
    assert_eq!(url("/ip6/::1/tcp/1").as_deref(), Some("ws://[::1]:1/"));
    for other in ["/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/tcp/1/tls", "/memory/1"] {
        assert_eq!(url(other), None, "{other}");
    }
}
