//! A certificate authority of the receivers' own and the certificates it gives; it lives in memory only.

use std::{fmt, net::IpAddr, sync::Arc};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

/// Signs the certificates of receivers; senders have to be told to trust it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authority(…)")
    }
}

/// A receiver's certificate and key.
#[derive(Clone)]
pub struct ServerIdentity {
    certificate: String,
    key: String,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServerIdentity(…)")
    }
}

impl ServerIdentity {
    /// From PEM: a certificate and its key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .context("failed to read the server's certificate")?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .context("failed to read the server's key")?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("failed to choose TLS versions")?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .context("failed to use the server's certificate")?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The key as PEM.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

impl Authority {
    /// A new authority.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "receivers of the tests");
        let key = KeyPair::generate().context("failed to make the authority's key")?;
        let issuer = CertifiedIssuer::self_signed(params, key)
            .context("failed to sign the authority's certificate")?;
        Ok(Self { issuer })
    }

    /// Its certificate, for those who are to trust it.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server at this address, and its key.
    pub fn server(&self, address: IpAddr) -> Result<ServerIdentity> {
        let names = vec![address.to_string(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).context("failed to name the certificate")?;
        // A distinguished name of its own: one equal to the issuer's would look self-signed to a verifier.
        params
            .distinguished_name
            .push(DnType::CommonName, "receiver");
        let key = KeyPair::generate().context("failed to make the server's key")?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("failed to sign the server's certificate")?;
        ServerIdentity::from_pem(&certificate.pem(), &key.serialize_pem())
    }
}
