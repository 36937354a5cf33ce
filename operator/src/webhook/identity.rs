//! The certificate that the webhook shows: read from files that change, and taken up for the next connection.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use katonic_logging_core::webhook::certificate::{self, CERTIFICATE, PRIVATE_KEY};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::task::spawn_blocking;

use super::Webhook;
use crate::{cache::chain, metrics::Outcome};

/// How often the files are looked at. They are small and in memory, and the kubelet itself is slower.
const LOOK: Duration = Duration::from_secs(1);

/// The certificate in use, and its key.
#[derive(Debug, Default)]
pub(super) struct Identity(RwLock<Option<Arc<CertifiedKey>>>);

impl Identity {
    /// Whether there has never been a certificate that can be used.
    pub(super) fn is_missing(&self) -> bool {
        self.current().is_none()
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn swap(&self, key: CertifiedKey) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(key));
    }
}

/// Shows the certificate that is in use when a connection begins.
#[derive(Debug)]
pub(super) struct Current(pub(super) Arc<Webhook>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.identity.current()
    }
}

/// What the files hold.
#[derive(Eq, PartialEq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Why the files cannot be used. Repeats nothing of the key.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{CERTIFICATE} holds no certificate")]
    Certificate,
    #[error("{PRIVATE_KEY} holds no private key")]
    PrivateKey,
    #[error("{CERTIFICATE} and {PRIVATE_KEY} do not belong together")]
    Pair(#[source] rustls::Error),
}

/// Follows the files in this folder for ever. What cannot be used leaves the last good certificate in use.
pub(super) async fn follow(webhook: Arc<Webhook>, folder: PathBuf) {
    let mut used = None;
    let mut complaint = None;
    loop {
        let folder = folder.clone();
        let read = spawn_blocking(move || Files::read(&folder)).await;
        let taken = match read {
            Ok(Ok(files)) if used.as_ref() == Some(&files) => None,
            Ok(Ok(files)) => Some(files.pair().map(|pair| (files, pair))),
            Ok(Err(error)) => Some(Err(error)),
            // The runtime is going down.
            Err(_) => return,
        };
        match taken {
            None => complaint = None,
            Some(Ok((files, pair))) => {
                webhook.identity.swap(pair);
                webhook.metrics.certificate(Outcome::Success);
                if let Some(expiry) = certificate::not_after(&files.certificate) {
                    webhook.metrics.certificate_expires(expiry.as_second());
                    tracing::info!(%expiry, "a certificate was taken up");
                }
                used = Some(files);
                complaint = None;
            }
            Some(Err(error)) => {
                let words = chain(&error);
                // Said once, not every second.
                if complaint.as_ref() != Some(&words) {
                    webhook.metrics.certificate(Outcome::Failure);
                    tracing::warn!(error = %words, "the certificate cannot be used; the last good one stays in use");
                    complaint = Some(words);
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Files {
    fn read(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|source| Error::Read { path, source })
        };
        Ok(Self {
            certificate: read(CERTIFICATE)?,
            key: read(PRIVATE_KEY)?,
        })
    }

    fn pair(&self) -> Result<CertifiedKey, Error> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| Error::Certificate)?;
        if chain.is_empty() {
            return Err(Error::Certificate);
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| Error::PrivateKey)?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(Error::Pair)
    }
}
