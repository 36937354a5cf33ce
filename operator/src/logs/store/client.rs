//! The HTTP client for a store: with our own TLS, and by the proxy that stands before it.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use katonic_log_config::{CredentialKey, Endpoint, Proxy, Tls};
use katonic_logging_core::credential::Credential;
use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Way;
use crate::bucket::connection;

/// How long to wait for a connection, and for the next bytes of an answer.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(1));

/// Where a machine asks who it is: no proxy leads there.
const ON_THE_MACHINE: &str =
    "169.254.169.254,169.254.170.2,169.254.170.23,metadata.google.internal";

/// Builds clients with our own TLS: `ring`, and the authorities that the agents trust.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: ClientConfig,
    proxy: Option<reqwest::Proxy>,
    patience: Duration,
}

impl Connector {
    /// For the store at this address, and whoever gives tokens for it.
    ///
    /// # Errors
    /// When the way there cannot be gone.
    pub fn new(endpoint: &Endpoint, way: &Way) -> Result<Self, connection::Error> {
        let Way {
            connection,
            credentials,
            authorities,
        } = way;
        let proxy = connection.proxy.as_ref();
        let patience = connection.timeout_ms.map(NonZeroU32::get);
        Ok(Self {
            tls: tls(
                endpoint,
                &connection.tls,
                credentials,
                authorities.as_deref(),
            )?,
            proxy: proxy
                .map(|proxy| self::proxy(proxy, credentials))
                .transpose()?,
            patience: patience.map_or(PATIENCE.1, |milliseconds| {
                Duration::from_millis(milliseconds.into())
            }),
        })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .connect_timeout(PATIENCE.0)
            .read_timeout(self.patience);
        // Without one, that of the environment is used.
        let builder = match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        };
        let client = builder
            .build()
            .map_err(|error| object_store::Error::Generic {
                store: "store",
                source: Box::new(error),
            })?;
        Ok(HttpClient::new(client))
    }
}

fn tls(
    endpoint: &Endpoint,
    tls: &Tls,
    credentials: &BTreeMap<CredentialKey, Credential>,
    authorities: Option<&[u8]>,
) -> Result<ClientConfig, connection::Error> {
    let of_installation = tls.ca.as_ref().and_then(|key| credentials.get(key));
    let authorities = authorities.or_else(|| of_installation.map(Credential::expose));
    let roots = connection::roots(authorities)?;
    let Some(name) = &tls.server_name else {
        return connection::identified(roots, tls, credentials);
    };
    let host_name =
        |name: &str| ServerName::try_from(name.to_owned()).map_err(|_| connection::Error::HostName);
    let host = endpoint.uri().host().unwrap_or_default();
    let address = host_name(host.trim_start_matches('[').trim_end_matches(']'))?;
    let name = host_name(name.as_str())?;
    let mut config = connection::identified(roots.clone(), tls, credentials)?;
    let provider = config.crypto_provider().clone();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let inner = verifier.map_err(|_| connection::Error::Authorities)?;
    config.dangerous().set_certificate_verifier(Arc::new(Named {
        inner,
        address,
        name,
    }));
    Ok(config)
}

/// Checks the certificate of the server at an address as usual, but for another name than that of its address. Whoever gives tokens
/// is another server.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    address: ServerName<'static>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        address: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = if *address == self.address {
            &self.name
        } else {
            address
        };
        let inner = &self.inner;
        inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The proxy between us and the store, with its password.
fn proxy(
    proxy: &Proxy,
    credentials: &BTreeMap<CredentialKey, Credential>,
) -> Result<reqwest::Proxy, connection::Error> {
    let unusable = || connection::Error::ProxyCredentials;
    let found = reqwest::Proxy::all(proxy.url.to_string())
        .map_err(|_| unusable())?
        .no_proxy(reqwest::NoProxy::from_string(ON_THE_MACHINE));
    let Some(basic) = &proxy.basic else {
        return Ok(found);
    };
    let password = credentials.get(&basic.password).ok_or_else(unusable)?;
    let password = std::str::from_utf8(password.expose()).map_err(|_| unusable())?;
    Ok(found.basic_auth(&basic.username, password))
}
