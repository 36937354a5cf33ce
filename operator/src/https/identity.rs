//! The certificate that a server shows: changed at any time, and taken up for the next connection.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The certificate in use, and its key.
#[derive(Debug, Default)]
pub struct Identity(RwLock<Option<Arc<CertifiedKey>>>);

/// Why a certificate and a key cannot be used. Repeats nothing of the key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No certificate is there.
    #[error("there is no certificate")]
    Certificate,
    /// No key is there.
    #[error("there is no private key")]
    PrivateKey,
    /// They are not a pair.
    #[error("the certificate and the private key do not belong together")]
    Pair(#[source] rustls::Error),
}

impl Identity {
    /// Whether there has never been a certificate that can be used.
    pub fn is_missing(&self) -> bool {
        self.current().is_none()
    }

    /// Shows this certificate from the next connection on; both are PEM.
    ///
    /// # Errors
    /// When they cannot be used; what was shown before is shown still.
    pub fn show(&self, certificate: &[u8], key: &[u8]) -> Result<(), Error> {
        let pair = pair(certificate, key)?;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(pair));
        Ok(())
    }

    fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
    }
}

fn pair(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Certificate)?;
    if chain.is_empty() {
        return Err(Error::Certificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Error::PrivateKey)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(Error::Pair)
}
