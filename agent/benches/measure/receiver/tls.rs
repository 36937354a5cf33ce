//! Certificates of the receivers, made anew in each run.

use std::{
    net::TcpStream,
    sync::{Arc, LazyLock},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::Outcome;

/// The authority's certificate, and what a server shows.
type Certificates = (String, Arc<ServerConfig>);

static CERTIFICATES: LazyLock<Result<Certificates, String>> =
    LazyLock::new(|| make().map_err(|error| error.to_string()));

/// The certificate that senders have to trust, as PEM.
pub fn authority() -> Outcome<&'static str> {
    Ok(&CERTIFICATES.as_ref().map_err(String::as_str)?.0)
}

pub(super) fn accept(stream: TcpStream) -> Outcome<StreamOwned<ServerConnection, TcpStream>> {
    let (_, config) = CERTIFICATES.as_ref().map_err(String::as_str)?;
    let connection = ServerConnection::new(Arc::clone(config))?;
    Ok(StreamOwned::new(connection, stream))
}

fn make() -> Outcome<Certificates> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "authority of the benchmark");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names)?;
    // A distinguished name of its own: one equal to the issuer's would look self-signed.
    params
        .distinguished_name
        .push(DnType::CommonName, "receiver of the benchmark");
    let certificate = params.signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    Ok((issuer.pem(), Arc::new(config)))
}
