//! Certificates and keys, judged by the library that the agents use: what fits here fits there.

use std::sync::LazyLock;

use rustls::{
    RootCertStore, SignatureAlgorithm,
    crypto::{CryptoProvider, ring},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

static PROVIDER: LazyLock<CryptoProvider> = LazyLock::new(ring::default_provider);

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

/// Whether these are certificates of authorities, at least one.
pub(super) fn are_authorities(pem: &[u8]) -> bool {
    certificates(pem).is_some_and(|certificates| {
        let mut roots = RootCertStore::empty();
        certificates
            .into_iter()
            .all(|certificate| roots.add(certificate).is_ok())
    })
}

/// Whether these are certificates, at least one. What is in them shows together with their key.
pub(super) fn are_certificates(pem: &[u8]) -> bool {
    certificates(pem).is_some()
}

/// Whether this is a private key of a kind that the agents can use.
pub(super) fn is_private_key(pem: &[u8]) -> bool {
    PrivateKeyDer::from_pem_slice(pem)
        .is_ok_and(|key| PROVIDER.key_provider.load_private_key(key).is_ok())
}

/// Whether this is an RSA key that the agents can sign with.
pub(super) fn is_rsa_key(pem: &[u8]) -> bool {
    let key = PrivateKeyDer::from_pem_slice(pem).ok();
    let key = key.and_then(|key| PROVIDER.key_provider.load_private_key(key).ok());
    key.is_some_and(|key| key.algorithm() == SignatureAlgorithm::RSA)
}

/// Whether the private key is that of the first certificate.
pub(crate) fn is_pair(chain: &[u8], key: &[u8]) -> bool {
    let (Some(chain), Ok(key)) = (certificates(chain), PrivateKeyDer::from_pem_slice(key)) else {
        return false;
    };
    CertifiedKey::from_der(chain, key, &PROVIDER).is_ok()
}
