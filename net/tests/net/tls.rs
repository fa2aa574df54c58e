//! Encrypted endpoints: whose certificates are accepted, and what is said of the others.

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use talkbox_core::{ErrorKind, error::Retry};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{LIMITS, Server, Step, answer, get, http, say};

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

    /// The certificate of the authority itself, in the place of one for a server.
    fn itself(name: &str) -> (String, ServerConfig) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signs");
        (certificate.pem(), serving(certificate.der().clone(), &key))
    }

    /// For a server of this name, between these years.
    fn certify(&self, name: &str, (from, until): (i32, i32)) -> ServerConfig {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        serving(certificate.der().clone(), &key)
    }
}

fn serving(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let secret = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], secret)
        .expect("a certificate")
}

/// A server behind TLS.
struct Encrypted {
    url: String,
    connections: Arc<AtomicUsize>,
    server: Arc<Server>,
    _task: JoinSet<()>,
}

impl Encrypted {
    async fn start(host: &str, tls: ServerConfig, server: Server) -> Self {
        let (server, connections) = (Arc::new(server), Arc::<AtomicUsize>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("https://{host}:{}", listener.local_addr().expect("bound").port());
        let (tls, to, count) = (TlsAcceptor::from(Arc::new(tls)), server.address, Arc::clone(&connections));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let tls = tls.clone();
                pipes.spawn(async move {
                    // A client that does not like the certificate ends here.
                    let Ok(mut client) = tls.accept(stream).await else { return };
                    let mut server = TcpStream::connect(to).await.expect("the server listens");
                    let _ended = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { url, connections, server, _task: task }
    }
}

#[tokio::test]
async fn a_server_is_known_by_its_certificate() {
    let Some(file) = own_authorities("tls::a_server_is_known_by_its_certificate") else { return };
    let (trusted, other) = (Authority::new("ours"), Authority::new("another"));
    fs::write(&file, &trusted.pem).expect("written");
    let ever = (2019, 2100);
    let honest = || Server::start(|_| vec![answer("secret")]);
    // By name and by address.
    for host in ["localhost", "127.0.0.1"] {
        let good = Encrypted::start(host, trusted.certify(host, ever), honest().await).await;
        let http = http();
        for _ in 0..3 {
            assert_eq!(http.request(get(&good.url), LIMITS).await.expect("an answer").body, "secret");
        }
        assert_eq!((good.connections.load(Ordering::SeqCst), good.server.seen.asked().len()), (1, 3));
    }
    for (certificate, words) in [
        (other.certify("localhost", ever), "is of an authority that is not trusted here"),
        (trusted.certify("localhost", (2019, 2020)), "has expired"),
        (trusted.certify("localhost", (2099, 2100)), "is not valid yet"),
        (trusted.certify("node.example", ever), "is for another name"),
    ] {
        let bad = Encrypted::start("localhost", certificate, honest().await).await;
        let error = http().request(get(&bad.url), LIMITS).await.expect_err("not accepted");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.message().starts_with(&format!("the node's certificate {words}")), "{error}");
        assert_eq!(error.context("node"), Some(bad.url.as_str()));
        assert_eq!(error.retry_advice(), Retry::After(Some(Duration::from_secs(60))), "it is not tried again at once");
        assert_eq!((bad.connections.load(Ordering::SeqCst), bad.server.seen.asked().len()), (1, 0));
    }
}

/// As one makes it who follows the first advice that is found.
#[tokio::test]
async fn a_certificate_that_a_server_signed_for_itself_is_told_apart() {
    let Some(file) = own_authorities("tls::a_certificate_that_a_server_signed_for_itself_is_told_apart") else {
        return;
    };
    let (pem, config) = Authority::itself("localhost");
    let server = Server::start(|_| vec![answer("secret")]).await;
    let server = Encrypted::start("localhost", config, server).await;
    // Trusted or not: it says of itself that it is no server's.
    for trusted in [Authority::new("another").pem, pem] {
        fs::write(&file, trusted).expect("written");
        let error = http().request(get(&server.url), LIMITS).await.expect_err("not accepted");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.message().contains("CA:TRUE") && error.message().contains("CA:FALSE"), "{error}");
    }
    // What it says to do works.
    let key = KeyPair::generate().expect("a key");
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).expect("a name").self_signed(&key).expect("signs");
    let server = Server::start(|_| vec![answer("secret")]).await;
    let server = Encrypted::start("localhost", serving(certificate.der().clone(), &key), server).await;
    for (trusted, words) in [
        (Authority::itself("localhost").0, "not signed by it: one of the two may have been made anew"),
        (Authority::new("another").pem, "or signed by itself: name the file"),
    ] {
        fs::write(&file, trusted).expect("written");
        let error = http().request(get(&server.url), LIMITS).await.expect_err("not accepted");
        assert!(error.message().contains(words), "{error}");
    }
    fs::write(&file, certificate.pem()).expect("written");
    assert_eq!(http().request(get(&server.url), LIMITS).await.expect("an answer").body, "secret");
}

/// Whoever sits in between can end the connection, but not make half an answer a whole one.
#[tokio::test]
async fn an_answer_cut_short_on_the_way_is_none() {
    let Some(file) = own_authorities("tls::an_answer_cut_short_on_the_way_is_none") else { return };
    let ours = Authority::new("ours");
    fs::write(&file, &ours.pem).expect("written");
    // Its length is not said: it ends with the connection.
    let server = Server::start(|_| vec![say("HTTP/1.1 200 OK\r\n\r\nhalf"), Step::Close]).await;
    let tls = TlsAcceptor::from(Arc::new(ours.certify("localhost", (2019, 2100))));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
    for is_cut in [false, true] {
        let serving = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut client = tls.accept(stream).await.expect("it knows us");
            let mut server = TcpStream::connect(server.address).await.expect("the server listens");
            let (mut from_client, mut to_client) = tokio::io::split(&mut client);
            let (mut from_server, mut to_server) = server.split();
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
            }
            if !is_cut {
                tokio::io::AsyncWriteExt::shutdown(&mut client).await.expect("says that it is all");
            }
        };
        let http = http();
        let (answer, ()) = tokio::join!(http.request(get(&url), LIMITS), serving);
        if is_cut {
            assert_eq!(answer.expect_err("half an answer").kind(), ErrorKind::Unreachable);
        } else {
            assert_eq!(answer.expect("all of it").body, "half");
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_nothing() {
    let Some(file) = own_authorities("tls::a_server_without_tls_is_told_nothing") else { return };
    let server = Server::start(|_| vec![answer("in clear")]).await;
    fs::write(&file, Authority::new("ours").pem).expect("written");
    let url = server.url("/").to_string().replace("http:", "https:");
    let answering = tokio::spawn(async move { http().request(get(url), LIMITS).await });
    // It waits for the end of a head, which a greeting by TLS does not have: so that the wait ends, the server does.
    while server.seen.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    let seen = Arc::clone(&server.seen);
    drop(server);
    assert_eq!(answering.await.expect("no panic").expect_err("no TLS there").kind(), ErrorKind::Unreachable);
    assert_eq!(seen.asked().len(), 0);
}

#[tokio::test]
async fn without_an_authority_nobody_is_trusted() {
    let Some(file) = own_authorities("tls::without_an_authority_nobody_is_trusted") else { return };
    let server = Server::start(|_| vec![answer("secret")]).await;
    let server = Encrypted::start("localhost", Authority::new("ours").certify("localhost", (2019, 2100)), server).await;
    let http = http();
    let error = http.request(get(&server.url), LIMITS).await.expect_err("there is no such file");
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.message().contains("SSL_CERT_FILE"), "{error}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 0, "nobody is bothered");
    fs::write(&file, Authority::new("another").pem).expect("written");
    let error = http.request(get(&server.url), LIMITS).await.expect_err("another authority");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}
