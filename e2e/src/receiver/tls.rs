//! A certificate authority of the receivers' own and the certificates it gives; it lives in memory only.

use std::{fmt, net::IpAddr, sync::Arc};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
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
pub(crate) struct ServerIdentity(pub(crate) TlsAcceptor);

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ServerIdentity(…)")
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

    /// A certificate for a server at this address.
    pub(crate) fn server(&self, address: IpAddr) -> Result<ServerIdentity> {
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
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("failed to choose TLS versions")?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("failed to use the server's certificate")?;
        Ok(ServerIdentity(TlsAcceptor::from(Arc::new(config))))
    }
}
