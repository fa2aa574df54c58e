//! TLS to relays: which certificates are accepted, decided in this one place.
//!
//! Trusted are the authorities of the system, or those in the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, as
//! other programs have it. There is no way to accept a certificate that they did not sign.

use std::{io, sync::Arc, time::Duration};

use rustls::{CertificateError, ClientConfig, RootCertStore, crypto::ring};
use talkbox_core::{Error, ErrorKind, Result, error::Retry};
use tokio::sync::OnceCell;

/// How long to leave a relay alone whose certificate is not accepted: that does not change within seconds. Not much
/// longer, since it may not have been the relay's: a network that wants a log-in first shows its own.
const CERTIFICATE_PAUSE: Duration = Duration::from_secs(60);

/// What an encrypted connection needs, read at the first one: that takes some ten milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Tls(OnceCell<Arc<ClientConfig>>);

impl Tls {
    /// The settings of an encrypted connection.
    ///
    /// # Errors
    /// `ConfigInvalid` where no authority is trusted.
    pub(crate) async fn config(&self) -> Result<Arc<ClientConfig>> {
        let read = || async {
            let unexpected = |panic| Error::new(ErrorKind::Unexpected, "TLS could not be set up").source(panic);
            tokio::task::spawn_blocking(|| trusting(system_authorities()?)).await.map_err(unexpected)?
        };
        self.0.get_or_try_init(read).await.cloned()
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

/// What is wrong with the relay's certificate, if that is why the connection failed.
pub(crate) fn certificate_error(error: &io::Error) -> Option<Error> {
    let Some(rustls::Error::InvalidCertificate(why)) = error.get_ref()?.downcast_ref() else { return None };
    let words = match why {
        CertificateError::UnknownIssuer => {
            "the relay's certificate is of an authority that is not trusted here; a private one can be named in \
             SSL_CERT_FILE"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the relay's certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the relay's certificate is not valid yet, or the clock here is slow".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the relay's certificate is for another name".to_owned()
        }
        other => format!("the relay's certificate is not accepted: {other}"),
    };
    Some(Error::new(ErrorKind::Unreachable, words).retry(Retry::After(Some(CERTIFICATE_PAUSE))))
}
