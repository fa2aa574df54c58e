//! Relays behind a SOCKS5 proxy: what it is asked for, and what it is not.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use talkbox_core::{Backend, ErrorKind, ManualClock, OpenContext, PutOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    hostile::Relay,
    support::{NOW, envelopes, holder, key, mailbox, open_in, soon},
};

/// A proxy that leads everybody who asks for a name to one relay, and remembers what it was asked for.
struct Socks {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Socks {
    async fn start(relay: &Relay) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let relay: SocketAddr = relay.url.trim_start_matches("ws://").parse().expect("an address");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let mut task = JoinSet::new();
        let heard = Arc::clone(&asked);
        task.spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                pipes.spawn(lead(stream, relay, Arc::clone(&heard)));
            }
        });
        Self { address, asked, _task: task }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

/// One connection (RFC 1928): a greeting without a password, the request for a name, and what follows.
async fn lead(mut client: TcpStream, relay: SocketAddr, asked: Arc<Mutex<Vec<String>>>) {
    let mut greeting = [0; 3];
    client.read_exact(&mut greeting).await.expect("a greeting");
    assert_eq!(greeting, [5, 1, 0]);
    client.write_all(&[5, 0]).await.expect("it reads");
    let mut request = [0; 5];
    client.read_exact(&mut request).await.expect("a request");
    let [5, 1, 0, kind, length] = request else { panic!("{request:?}") };
    assert_eq!(kind, 3, "a name, and not an address that was resolved before");
    let mut name = vec![0; usize::from(length) + 2];
    client.read_exact(&mut name).await.expect("a name");
    let port = name.split_off(usize::from(length));
    let (name, port) = (String::from_utf8(name).expect("text"), u16::from_be_bytes([port[0], port[1]]));
    asked.lock().expect("not poisoned").push(format!("{name}:{port}"));
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("it reads");
    let mut relay = TcpStream::connect(relay).await.expect("the relay listens");
    let _ended = copy_bidirectional(&mut client, &mut relay).await;
}

async fn open_by(proxy: SocketAddr, relays: &[&str]) -> Backend {
    let mut context = OpenContext::new("nostr");
    context.clock = Arc::new(ManualClock::new(NOW));
    context.proxy = Some(format!("socks5://{proxy}").parse().expect("a proxy"));
    open_in(context, relays, 2_000).await
}

#[tokio::test]
async fn the_proxy_gets_the_name_of_a_relay_as_it_stands() {
    let relay = Relay::honest().await;
    let proxy = Socks::start(&relay).await;
    // There is no such name: it works only where nobody but the proxy is asked for it.
    let url = "ws://relay.invalid:7777";
    let backend = open_by(proxy.address, &[url]).await;
    let sent = envelopes(key().id(), 1);
    let receipt = soon(mailbox(&backend).put(&sent, PutOptions::default())).await.remove(0).expect("stored");
    assert_eq!(receipt.acks[0].holder, holder(url));
    assert_eq!((relay.ids().len(), proxy.asked()), (1, vec!["relay.invalid:7777".to_owned()]));
}

#[tokio::test]
async fn what_others_name_goes_by_the_proxy_or_nowhere() {
    let relay = Relay::honest().await;
    let proxy = Socks::start(&relay).await;
    let backend = open_by(proxy.address, &[&relay.url]).await;
    let sent = envelopes(key().id(), 1);
    let put_at = async |url: &str| {
        let options = PutOptions::default().at([holder(url)]);
        soon(mailbox(&backend).put(&sent, options)).await.remove(0)
    };
    for private in ["wss://10.0.0.1", "wss://[::1]:7777", "wss://localhost:7777", "ws://relay.invalid"] {
        assert!(!put_at(private).await.expect_err("refused").is_retryable(), "{private}");
    }
    assert_eq!(proxy.asked(), Vec::<String>::new());
    // It is led to a relay without TLS, which is the end of it.
    let error = put_at("wss://relay.invalid").await.expect_err("no TLS there");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert_eq!(proxy.asked(), ["relay.invalid:443"]);
    // One's own relay at home is not for the proxy.
    put_at(&relay.url).await.expect("stored");
    assert_eq!(proxy.asked().len(), 1);
}

#[tokio::test]
async fn without_its_proxy_no_relay_is_reached() {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let backend = open_by(nobody, &["ws://relay.invalid"]).await;
    let sent = envelopes(key().id(), 1);
    let error = soon(mailbox(&backend).put(&sent, PutOptions::default())).await.remove(0).expect_err("no proxy");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.to_string().contains("proxy") && error.to_string().contains("ws://relay.invalid"), "{error}");
}
