//! Whether a node answers where it listens, asked on its own machine: for what looks after it, such as a container engine.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use talkbox_core::{Error, ErrorKind, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{NodeConfig, listen::Stream};

/// How long the node may take: less than those who look after it wait for the answer, which is 5 s or more.
const WITHIN: Duration = Duration::from_secs(4);
/// How an answer begins that says that all is well.
const WELL: &[u8] = b"HTTP/1.1 200 ";

/// Asks the node that runs with these settings on this machine whether it lives (`GET /livez`).
///
/// # Errors
/// `ConfigInvalid` where the settings leave the port to the system; `Unreachable` and `Timeout` where it does not answer,
/// `Refused` where something else does.
pub async fn health(config: &NodeConfig) -> Result<()> {
    let to = here(config.listen);
    if to.port() == 0 {
        return Err(
            Error::new(ErrorKind::ConfigInvalid, "the settings do not say the port").with("listen", config.listen)
        );
    }
    let late = || Error::new(ErrorKind::Timeout, "the node does not answer in time").with("address", to);
    timeout(WITHIN, ask(to, config.tls.is_some())).await.map_err(|_| late())?
}

/// Where this machine reaches what listens there.
fn here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(to: SocketAddr, is_encrypted: bool) -> Result<()> {
    let gone = |error: std::io::Error| {
        Error::new(ErrorKind::Unreachable, "the node does not answer").with("address", to).source(error)
    };
    let stream = TcpStream::connect(to).await.map_err(gone)?;
    let mut stream: Box<dyn Stream> = if is_encrypted {
        Box::new(connector()?.connect(ServerName::IpAddress(to.ip().into()), stream).await.map_err(gone)?)
    } else {
        Box::new(stream)
    };
    let request = format!("GET /livez HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(gone)?;
    stream.flush().await.map_err(gone)?;
    let mut begin = [0; WELL.len()];
    stream.read_exact(&mut begin).await.map_err(gone)?;
    if begin == WELL {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, "what answers there is no node, or not well").with("address", to))
}

fn connector() -> Result<TlsConnector> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Unexpected, "TLS could not be set up").source(error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Takes any certificate. The node's names another host than this machine, and may just have been renewed; nothing is said
/// to whoever answers that anybody may not hear.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Node, NodeContext, TlsFiles};

    #[tokio::test]
    async fn a_node_is_well_with_a_certificate_and_without_and_not_when_it_has_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let pair = rcgen::generate_simple_self_signed(["node.example".to_owned()]).expect("makes one");
        let path = |name| directory.path().join(name);
        let files = TlsFiles { certificate: path("cert.pem"), key: path("key.pem") };
        std::fs::write(&files.certificate, pair.cert.pem()).expect("writes");
        std::fs::write(&files.key, pair.signing_key.serialize_pem()).expect("writes");
        for tls in [None, Some(files)] {
            let mut config = NodeConfig { tls, ..NodeConfig::loopback() };
            assert_eq!(health(&config).await.expect_err("no port").kind(), ErrorKind::ConfigInvalid);
            let node = Node::start(config.clone(), NodeContext::default()).await.expect("starts");
            config.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, node.addr().port()));
            health(&config).await.expect("is well");
            node.shutdown().await;
            assert_eq!(health(&config).await.expect_err("has gone").kind(), ErrorKind::Unreachable);
        }
    }
}
