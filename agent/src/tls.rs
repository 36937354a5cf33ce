//! How a sink's certificate is checked. One TLS stack: rustls with ring.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use crate::{
    credential::Secret,
    sink::{Identity, Trust},
};

/// Why no connection can be secured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The server's authorities are no PEM certificates.
    #[error("the certificate authorities are not PEM certificates")]
    Authorities,
    /// Our own certificate is no PEM certificate.
    #[error("the client certificate is not a PEM certificate")]
    Certificate,
    /// Its key is no PEM key.
    #[error("the client certificate's key is not a PEM private key")]
    Key,
    /// The key is another one's, or of a kind that rustls does not have.
    #[error("the client certificate and its key cannot be used: {0}")]
    Identity(#[source] Error),
    /// rustls refuses the configuration.
    #[error("failed to set up TLS: {0}")]
    Setup(#[source] Error),
}

/// Shared: there may be many sinks, and the public authorities are not few.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(ring::default_provider()));
static PUBLIC: LazyLock<Arc<RootCertStore>> =
    LazyLock::new(|| Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()));

/// One server, so few sessions are worth remembering.
const SESSIONS: usize = 2;

/// The client's side of TLS.
///
/// # Errors
/// When a credential is not what it should be.
pub fn client(trust: &Trust) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?;
    let builder = if trust.insecure_skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::clone(&PROVIDER))))
    } else {
        builder.with_root_certificates(match &trust.ca {
            Some(ca) => Arc::new(authorities(ca)?),
            None => Arc::clone(&PUBLIC),
        })
    };
    let mut config = match &trust.identity {
        None => builder.with_no_client_auth(),
        Some(Identity {
            certificate,
            private_key,
        }) => {
            let chain = certificates(certificate).ok_or(TlsError::Certificate)?;
            let key =
                PrivateKeyDer::from_pem_slice(private_key.reveal()).map_err(|_| TlsError::Key)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Identity)?
        }
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(config))
}

fn authorities(ca: &Secret) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca).ok_or(TlsError::Authorities)? {
        roots.add(certificate).map_err(|_| TlsError::Authorities)?;
    }
    Ok(roots)
}

/// At least one certificate; none when there is none, or something that only looks like one.
fn certificates(pem: &Secret) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.reveal()).collect();
    certificates.ok().filter(|found| !found.is_empty())
}

/// Accepts any certificate, because the policy says so; the handshake's own signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
