//! TLS: which certificates are accepted, decided in this one place.
//!
//! Trusted are the authorities of the system, or those in the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, as
//! other programs have it. There is no way to accept a certificate that they did not sign.

use std::{io, sync::Arc, time::Duration};

use rustls::{CertificateError, ClientConfig, OtherError, RootCertStore, crypto::ring, pki_types::ServerName};
use talkbox_core::{Error, ErrorKind, Result, error::Retry};
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::endpoint::Endpoint;

/// How long to leave an endpoint alone whose certificate is not accepted: that does not change within seconds. Not much
/// longer, since it may not have been its own: a network that wants a log-in first shows another.
const CERTIFICATE_PAUSE: Duration = Duration::from_secs(60);

/// What an encrypted connection needs, read at the first one: that takes some ten milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Tls(OnceCell<Arc<ClientConfig>>);

impl Tls {
    /// Encrypts a connection, with whoever has a certificate for this endpoint.
    ///
    /// # Errors
    /// `ConfigInvalid` where no authority is trusted; `Unreachable`.
    pub(crate) async fn encrypt(&self, endpoint: &Endpoint, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
        let config = self.config(endpoint).await?;
        let unreachable = |words: String| endpoint.error(ErrorKind::Unreachable, words);
        let name = ServerName::try_from(endpoint.host().to_owned()).map_err(|error| {
            unreachable(format!("the {}'s name cannot stand in a certificate", endpoint.what())).source(error)
        })?;
        TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
            let told = certificate_error(endpoint, &error);
            told.unwrap_or_else(|| unreachable(format!("no connection: {error}"))).source(error)
        })
    }

    /// The settings of an encrypted connection. They can fail before anybody is asked to connect.
    ///
    /// # Errors
    /// `ConfigInvalid` where no authority is trusted.
    pub(crate) async fn config(&self, endpoint: &Endpoint) -> Result<Arc<ClientConfig>> {
        let read = || async {
            let unexpected = |panic| Error::new(ErrorKind::Unexpected, "TLS could not be set up").source(panic);
            tokio::task::spawn_blocking(|| trusting(system_authorities()?)).await.map_err(unexpected)?
        };
        self.0.get_or_try_init(read).await.cloned().map_err(|error| error.with(endpoint.what(), endpoint))
    }
}

fn system_authorities() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry some that are malformed or out of use.
    let (trusted, ignored) = roots.add_parsable_certificates(found.certs);
    for error in &found.errors {
        tracing::debug!(%error, "certificates could not be read");
    }
    tracing::debug!(trusted, ignored, "authorities for TLS");
    if roots.is_empty() {
        let why = "no authority for TLS is known here: install the system's (ca-certificates) or name a file of them in \
                   the environment variable SSL_CERT_FILE";
        let error = Error::new(ErrorKind::ConfigInvalid, why);
        return Err(match found.errors.into_iter().next() {
            Some(cause) => error.source(cause),
            None => error,
        });
    }
    Ok(roots)
}

/// By `ring`, whatever provider the program that this is part of has chosen for itself.
fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Unexpected, "TLS could not be set up").source(error))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Whether the certificate was refused because it is one to sign others by.
fn is_authority(error: &OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// What is wrong with the certificate, if that is why the connection failed.
fn certificate_error(endpoint: &Endpoint, error: &io::Error) -> Option<Error> {
    let Some(rustls::Error::InvalidCertificate(why)) = error.get_ref()?.downcast_ref() else { return None };
    let words = match why {
        CertificateError::UnknownIssuer => {
            "is of an authority that is not trusted here, or signed by itself: name the file of that authority, or of that \
             certificate, in SSL_CERT_FILE"
                .to_owned()
        }
        CertificateError::Other(other) if is_authority(other) => {
            "is that of an authority itself (CA:TRUE), as `openssl req -x509` makes it, which no server's may be: make one \
             with `-addext basicConstraints=critical,CA:FALSE`, and name its file in SSL_CERT_FILE"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "names an authority that is trusted here and is not signed by it: one of the two may have been made anew"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet, or the clock here is slow".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is for another name".to_owned()
        }
        other => format!("is not accepted: {other}"),
    };
    let words = format!("the {}'s certificate {words}", endpoint.what());
    Some(endpoint.error(ErrorKind::Unreachable, words).retry(Retry::After(Some(CERTIFICATE_PAUSE))))
}
