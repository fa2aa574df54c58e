//! Encrypted relays: whose certificates are accepted, and what is said of the others.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use talkbox_backend_gossip::{Node, NodeConfig, NodeContext};
use talkbox_core::{ErrorKind, Level, ListOptions, ManualClock, PutOptions, WatchEvent, WatchOptions, error::Retry};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{NOW, auth, envelopes, holder, ids, key, list_all, mailbox, open, sorted};

/// Names the file of trusted authorities, in the process that has one of its own.
const AUTHORITIES: &str = "TALKBOX_TEST_AUTHORITIES";

/// The file in which a user would name a private authority, which this test has to itself: the environment is shared
/// by all tests of a process, so that the test is run again in another one. `None` where that was done.
fn own_authorities(test: &str) -> Option<PathBuf> {
    if let Some(file) = env::var_os(AUTHORITIES) {
        return Some(file.into());
    }
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("authorities.pem");
    let mut again = Command::new(env::current_exe().expect("a program"));
    again.args(["--exact", test, "--nocapture"]).env("SSL_CERT_FILE", &file).env(AUTHORITIES, &file);
    let ran = again.env_remove("SSL_CERT_DIR").output().expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && out.contains("1 passed"), "{out}{err}");
    None
}

/// Somebody who signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signs").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// For a server of this name, until this year.
    fn certify(&self, name: &str, until: i32) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(until, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)
            .expect("a certificate")
    }
}

/// A node behind TLS.
struct Encrypted {
    url: String,
    connections: Arc<AtomicUsize>,
    _node: Node,
    _task: JoinSet<()>,
}

impl Encrypted {
    async fn start(tls: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("wss://localhost:{}", listener.local_addr().expect("bound").port());
        let mut config = NodeConfig::loopback();
        config.public_url = Some(url.clone());
        let context = NodeContext::default().with_clock(ManualClock::new(NOW));
        let node = Node::start(config, context).await.expect("the node starts");
        let connections = Arc::new(AtomicUsize::new(0));
        let mut task = JoinSet::new();
        task.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), node.addr(), Arc::clone(&connections)));
        Self { url, connections, _node: node, _task: task }
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, node: SocketAddr, connections: Arc<AtomicUsize>) {
    let mut pipes = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let tls = tls.clone();
        pipes.spawn(async move {
            // A client that does not like the certificate ends here.
            let Ok(mut client) = tls.accept(stream).await else { return };
            let mut relay = TcpStream::connect(node).await.expect("the node listens");
            let _ended = copy_bidirectional(&mut client, &mut relay).await;
        });
    }
}

#[tokio::test]
async fn a_relay_is_known_by_its_certificate() {
    let Some(file) = own_authorities("tls::a_relay_is_known_by_its_certificate") else { return };
    let (trusted, other) = (Authority::new("ours"), Authority::new("another"));
    fs::write(&file, &trusted.pem).expect("written");
    let good = Encrypted::start(trusted.certify("localhost", 2100)).await;
    let owner = key();
    let sent = envelopes(owner.id(), 3);
    {
        let backend = open(&[&good.url]).await;
        let receipts = mailbox(&backend).put(&sent, PutOptions::default()).await;
        assert!(receipts.into_iter().all(|receipt| receipt.expect("stored").acks[0].level == Level::Stored));
        // As the owner, to whom alone the node gives them: the proof names the encrypted address.
        let options = ListOptions::default().auth(Some(auth(&owner)));
        let (listed, _) = list_all(mailbox(&backend), owner.id(), &holder(&good.url), options).await.expect("lists");
        assert_eq!(sorted(listed), ids(&sent));
    }
    for (certificate, words) in [
        (other.certify("localhost", 2100), "an authority that is not trusted here"),
        (trusted.certify("localhost", 2020), "has expired"),
        (trusted.certify("relay.example", 2100), "for another name"),
    ] {
        let bad = Encrypted::start(certificate).await;
        let backend = open(&[&bad.url]).await;
        let error = mailbox(&backend).put(&sent, PutOptions::default()).await.remove(0).expect_err("not accepted");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.message().contains(words), "{error}");
        assert!(error.to_string().contains(&bad.url), "{error}");
        assert_eq!(error.retry_advice(), Retry::After(Some(Duration::from_secs(60))), "it is not tried again at once");
        assert_eq!(bad.connections.load(Ordering::SeqCst), 1, "one attempt for all three");

        // It costs only itself.
        let backend = open(&[&bad.url, &good.url]).await;
        let receipt = mailbox(&backend).put(&envelopes(owner.id(), 1), PutOptions::default()).await.remove(0);
        let receipt = receipt.expect("the other one has it");
        assert_eq!(receipt.acks[0].holder, holder(&good.url));
        assert!(receipt.refused[0].words.contains(words), "{:?}", receipt.refused);
        let options = WatchOptions::default().auth(Some(auth(&owner)));
        let mut watch = mailbox(&backend).watch(owner.id(), options).expect("can watch");
        let (mut failed, mut is_live) = (0, false);
        while failed == 0 || !is_live {
            match watch.next().await.expect("goes on") {
                Err(error) => {
                    assert_eq!(error.context("relay"), Some(bad.url.as_str()));
                    failed += 1;
                }
                Ok(WatchEvent::Live { holder: live }) => is_live = live == holder(&good.url),
                Ok(_) => {}
            }
        }
        assert_eq!(failed, 1);
    }
}

#[tokio::test]
async fn without_an_authority_nobody_is_trusted() {
    let Some(file) = own_authorities("tls::without_an_authority_nobody_is_trusted") else { return };
    let relay = Encrypted::start(Authority::new("ours").certify("localhost", 2100)).await;
    let backend = open(&[&relay.url]).await;
    let put = async || mailbox(&backend).put(&envelopes(key().id(), 1), PutOptions::default()).await.remove(0);
    let error = put().await.expect_err("there is no such file");
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.message().contains("SSL_CERT_FILE"), "{error}");
    fs::write(&file, Authority::new("another").pem).expect("written");
    assert_eq!(put().await.expect_err("another authority").kind(), ErrorKind::Unreachable);
}
