//! TLS by a certificate of the node's own, read again when its file changes.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use talkbox_core::{Error, ErrorKind, Result};
use tokio_rustls::TlsAcceptor;

use super::Stop;

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate and those that lead to its authority, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// How often the files are looked at: certificates are renewed days before they end.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The certificate in force.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsFiles,
    current: RwLock<(Arc<CertifiedKey>, Option<SystemTime>)>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// `ConfigInvalid` where they hold no certificate with its key.
    pub(crate) fn read(files: TlsFiles) -> Result<Arc<Self>> {
        let current = RwLock::new((load(&files)?, changed(&files)));
        Ok(Arc::new(Self { files, current }))
    }

    /// Takes connections with it.
    ///
    /// # Errors
    /// `Unexpected` where TLS cannot be set up.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Unexpected, "TLS could not be set up").source(error))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again when they change. What cannot be read leaves the one in force.
    pub(crate) async fn follow(self: Arc<Self>, mut stop: Stop) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look(),
                () = stop.asked() => return,
            }
        }
    }

    fn look(&self) {
        let now = changed(&self.files);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).1 == now {
            return;
        }
        match load(&self.files) {
            Ok(key) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = (key, now);
                tracing::info!("the certificate was read again");
            }
            Err(error) => tracing::warn!(%error, "the new certificate cannot be used; the old one stays"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).0))
    }
}

fn load(files: &TlsFiles) -> Result<Arc<CertifiedKey>> {
    let invalid = |path: &PathBuf, why: &'static str, error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::ConfigInvalid, why).with("path", path.display()).source(error)
    };
    let read = |path: &PathBuf| fs::read(path).map_err(|error| invalid(path, "the file cannot be read", error.into()));
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(&files.certificate)?)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| invalid(&files.certificate, "the file holds no certificate", error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| invalid(&files.key, "the file holds no private key", error.into()))?;
    let mismatch =
        |error: rustls::Error| invalid(&files.key, "certificate and key do not belong together", error.into());
    if chain.is_empty() {
        let none = io::Error::other("no certificate");
        return Err(invalid(&files.certificate, "the file holds no certificate", none.into()));
    }
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map(Arc::new).map_err(mismatch)
}

/// When one of the files was written last.
fn changed(files: &TlsFiles) -> Option<SystemTime> {
    let of = |path: &PathBuf| fs::metadata(path).and_then(|found| found.modified()).ok();
    of(&files.certificate).max(of(&files.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &TlsFiles, pair: &rcgen::CertifiedKey<rcgen::KeyPair>) {
        fs::write(&files.certificate, pair.cert.pem()).expect("writes");
        fs::write(&files.key, pair.signing_key.serialize_pem()).expect("writes");
    }

    #[test]
    fn a_certificate_is_read_again_when_it_changes_and_kept_when_the_new_one_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name| directory.path().join(name);
        let files = TlsFiles { certificate: path("cert.pem"), key: path("key.pem") };
        assert_eq!(Certificate::read(files.clone()).expect_err("no file").kind(), ErrorKind::ConfigInvalid);
        let pair = || rcgen::generate_simple_self_signed(["node.example".to_owned()]).expect("makes one");
        let (first, second) = (pair(), pair());
        write(&files, &first);
        let certificate = Certificate::read(files.clone()).expect("reads");
        let in_force = || certificate.current.read().expect("unpoisoned").0.cert[0].to_vec();
        assert_eq!(in_force(), first.cert.der().to_vec());
        fs::write(&files.certificate, "nonsense").expect("writes");
        certificate.look();
        assert_eq!(in_force(), first.cert.der().to_vec());
        write(&files, &second);
        let later = changed(&files).expect("they are there") + Duration::from_secs(5);
        fs::File::options().write(true).open(&files.key).expect("opens").set_modified(later).expect("sets");
        certificate.look();
        assert_eq!(in_force(), second.cert.der().to_vec());
        fs::write(&files.key, first.signing_key.serialize_pem()).expect("writes");
        assert_eq!(Certificate::read(files).expect_err("of another").kind(), ErrorKind::ConfigInvalid);
    }
}
