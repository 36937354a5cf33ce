//! A certificate authority of the receivers' own and the certificates it gives; its key lives in memory only.

use std::{fmt, net::IpAddr, sync::Arc};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
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
        Self::with_clients(certificate, key, None)
    }

    /// The same certificate, shown by a receiver that takes only clients with a certificate of this authority.
    pub fn for_clients_of(&self, authority: &Authority) -> Result<Self> {
        Self::with_clients(&self.certificate, &self.key, Some(authority))
    }

    fn with_clients(certificate: &str, key: &str, clients: Option<&Authority>) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .context("failed to read the server's certificate")?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .context("failed to read the server's key")?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("failed to choose TLS versions")?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots
                    .add(authority.issuer.der().clone())
                    .context("failed to trust the clients' authority")?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .context("failed to ask clients for certificates")?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder
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

/// A client's certificate and key.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The certificate as PEM.
    pub certificate_pem: String,
    /// The key as PEM.
    pub key_pem: String,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientIdentity(…)")
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
        self.server_named(&[&address.to_string(), "localhost"])
    }

    /// A certificate for a server of these names or addresses, and its key.
    pub fn server_named(&self, names: &[&str]) -> Result<ServerIdentity> {
        self.sign_server(&server_params(names)?)
    }

    /// A certificate for a server at this address that was good until the end of 2020, and its key.
    pub fn expired_server(&self, address: IpAddr) -> Result<ServerIdentity> {
        let mut params = server_params(&[&address.to_string()])?;
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 12, 31);
        self.sign_server(&params)
    }

    fn sign_server(&self, params: &CertificateParams) -> Result<ServerIdentity> {
        let (certificate, key) = self.sign(params)?;
        ServerIdentity::from_pem(&certificate, &key)
    }

    /// A certificate for a client of this name, and its key.
    pub fn client(&self, name: &str) -> Result<ClientIdentity> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate_pem, key_pem) = self.sign(&params)?;
        Ok(ClientIdentity {
            certificate_pem,
            key_pem,
        })
    }

    /// Certificate and key as PEM.
    fn sign(&self, params: &CertificateParams) -> Result<(String, String)> {
        let key = KeyPair::generate().context("failed to make a key")?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .context("failed to sign a certificate")?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn server_params(names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).context("failed to name the certificate")?;
    // A distinguished name of its own: one equal to the issuer's would look self-signed to a verifier.
    params
        .distinguished_name
        .push(DnType::CommonName, "receiver");
    Ok(params)
}
