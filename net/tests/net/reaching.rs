//! Who is reached, by which way, and who is not.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use talkbox_core::{Error, ErrorKind, Proxy, Result, async_trait};
use talkbox_net::{Bounds, Connect as _, Endpoint, Http, Network, Request, Resolve, Response, Trust};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::{LIMITS, Server, answer, get, http, network};

/// Leads every name to these addresses, and counts how often it is asked.
#[derive(Debug)]
struct Names {
    answers: Vec<SocketAddr>,
    asked: AtomicUsize,
}

impl Names {
    fn new(answers: &[SocketAddr]) -> Arc<Self> {
        Arc::new(Self { answers: answers.to_vec(), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        assert!(host.parse::<IpAddr>().is_err(), "{host} is an address already");
        // Whoever asks a second time gets another answer: to a service inside, so to speak.
        let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let is_first = self.asked.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(if is_first { self.answers.clone() } else { vec![inside] })
    }
}

fn http_by(network: Network) -> Http {
    Http::new("node", Arc::new(network), Bounds::default())
}

#[tokio::test]
async fn a_foreign_url_leads_nowhere_private() {
    let server = Server::start(|_| vec![answer("inside")]).await;
    let port = server.address.port();
    let http = http();
    for host in ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/").parse().expect("a URL");
            let error = http.request(Request::get(url, Trust::Foreign), LIMITS).await.expect_err("private");
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, false), "{host}: {error}");
        }
    }
    assert_eq!(server.seen.accepted(), 0);
    for trust in [Trust::Configured, Trust::ForeignAnywhere] {
        http.request(Request::get(server.url("/"), trust), LIMITS).await.expect("an answer");
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_for_each_connection() {
    let server = Server::start(|_| vec![answer("there")]).await;
    let url: url::Url = format!("http://node.invalid:{}/", server.address.port()).parse().expect("a URL");
    for trust in [Trust::Configured, Trust::ForeignAnywhere] {
        let names = Names::new(&[server.address]);
        let http = http_by(network().resolver(Arc::<Names>::clone(&names)));
        for _ in 0..3 {
            http.request(Request::get(url.clone(), trust), LIMITS).await.expect("an answer");
        }
        assert_eq!(names.asked(), 1);
    }
    // What somebody else names leads nowhere private by a detour either, and is not asked for again.
    let names = Names::new(&[server.address]);
    let http = http_by(network().resolver(Arc::<Names>::clone(&names)));
    let secure = format!("https://node.invalid:{}/", server.address.port()).parse().expect("a URL");
    http.request(Request::get(secure, Trust::Foreign), LIMITS).await.expect_err("private");
    assert_eq!((names.asked(), server.seen.accepted()), (1, 2));
}

#[tokio::test]
async fn the_addresses_of_a_name_are_tried_in_turn() {
    let server = Server::start(|_| vec![answer("there")]).await;
    // Nobody listens at port 1.
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let names = Names::new(&[nobody, nobody, server.address]);
    let url = format!("http://node.invalid:{}/", server.address.port());
    http_by(network().resolver(names)).request(get(&url), LIMITS).await.expect("the third one");
    let names = Names::new(&[nobody, nobody]);
    let error = http_by(network().resolver(names)).request(get(&url), LIMITS).await.expect_err("nobody");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, true));
    assert!(error.message().starts_with("no connection: "), "{error}");
    let names = Names::new(&[]);
    http_by(network().resolver(names)).request(get(&url), LIMITS).await.expect_err("no address");
}

#[tokio::test]
async fn each_calls_itself_by_its_own_noun() {
    let resolver = Arc::new(Lost);
    for (what, url) in [("relay", "ws://relay.invalid/x"), ("node", "http://node.invalid/x")] {
        let endpoint = Endpoint::new(what, &url.parse().expect("a URL")).expect("an endpoint");
        let network = network().resolver(Arc::<Lost>::clone(&resolver));
        let error = network.connect(&endpoint, Trust::Configured).await.err().expect("no such name");
        let shown = format!("the {what}'s name does not resolve ({what}: {})", url.trim_end_matches("/x"));
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Unreachable, shown));
    }
}

/// Knows no name.
#[derive(Debug)]
struct Lost;

#[async_trait]
impl Resolve for Lost {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A proxy that leads everybody who asks for a name to one server, and remembers what it was asked for.
struct Socks {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Socks {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let mut task = JoinSet::new();
        let heard = Arc::clone(&asked);
        task.spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                pipes.spawn(lead(stream, server, Arc::clone(&heard)));
            }
        });
        Self { address, asked, _task: task }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

/// One connection (RFC 1928): a greeting without a password, the request for a name, and what follows.
async fn lead(mut client: TcpStream, server: SocketAddr, asked: Arc<Mutex<Vec<String>>>) {
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
    let mut server = TcpStream::connect(server).await.expect("the server listens");
    let _ended = copy_bidirectional(&mut client, &mut server).await;
}

fn by_proxy(address: SocketAddr) -> Network {
    let proxy: Proxy = format!("socks5://{address}").parse().expect("a proxy");
    // Nobody but the proxy is asked for a name.
    Network::new(Duration::from_secs(30), Some(proxy)).resolver(Arc::new(Lost))
}

async fn ask(http: &Http, url: &str, trust: Trust) -> Result<Response, Error> {
    http.request(Request::get(url.parse().expect("a URL"), trust), LIMITS).await
}

#[tokio::test]
async fn the_proxy_gets_names_as_they_stand() {
    let server = Server::start(|_| vec![answer("there")]).await;
    let proxy = Socks::start(server.address).await;
    let http = http_by(by_proxy(proxy.address));
    for _ in 0..2 {
        let answer = ask(&http, "http://node.invalid:7777/", Trust::Configured).await.expect("an answer");
        assert_eq!(answer.body, "there");
    }
    assert_eq!(proxy.asked(), ["node.invalid:7777"], "once for each connection");
    assert!(server.seen.asked()[0].head.contains("\r\nhost: node.invalid:7777\r\n"));
}

#[tokio::test]
async fn what_others_name_goes_by_the_proxy_or_nowhere() {
    let server = Server::start(|_| vec![answer("there")]).await;
    let proxy = Socks::start(server.address).await;
    let http = http_by(by_proxy(proxy.address));
    for private in ["https://10.0.0.1", "https://[::1]:7777", "https://localhost:7777", "http://node.invalid"] {
        let error = ask(&http, private, Trust::Foreign).await.expect_err(private);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unreachable, false), "{private}");
    }
    assert_eq!((proxy.asked().len(), server.seen.accepted()), (0, 0));
    // One's own node at home is not for the proxy.
    ask(&http, server.url("/").as_str(), Trust::Configured).await.expect("an answer");
    assert_eq!((proxy.asked().len(), server.seen.accepted()), (0, 1));
}

#[tokio::test]
async fn without_its_proxy_nothing_is_reached() {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let error = ask(&http_by(by_proxy(nobody)), "http://node.invalid/", Trust::Configured).await.expect_err("no proxy");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().starts_with("no connection to the proxy"), "{error}");
    assert_eq!(
        (error.context("node"), error.context("proxy")),
        (Some("http://node.invalid"), Some("socks5://127.0.0.1:1"))
    );
}

#[tokio::test]
async fn connecting_takes_no_longer_than_it_may() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = format!("socks5://{}", silent.local_addr().expect("bound")).parse().expect("a proxy");
    let network = Network::new(Duration::from_millis(50), Some(proxy));
    let error = ask(&http_by(network), "http://node.invalid/", Trust::Configured).await.expect_err("too late");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), "the node cannot be reached in time (node: http://node.invalid)");
}
