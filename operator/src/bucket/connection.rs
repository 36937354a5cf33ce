//! How a store is reached: as its sink says, each exchange on a connection of its own. Judges no answer.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use katonic_log_config::{Connection, CredentialKey, Endpoint, Tls};
use katonic_logging_core::{
    credential::Credential,
    installation::Proxies,
    retention::{Custody, Subject},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

/// For resolving, connecting, the proxy and the TLS handshake together.
const CONNECT: Duration = Duration::from_secs(10);

/// For an answer, where the sink does not say.
const ANSWER: Duration = Duration::from_mins(1);

/// Most bytes of an answer: a thousand rules, each with all that it can have, are less.
const MOST_BYTES: usize = 8 << 20;

/// Why there is no answer, or why none can be asked for. Repeats nothing of a credential.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "insecureSkipVerify is not enough to change rules, for nobody would know whose they are: name the store's authority in tls.caSecretRef"
    )]
    Unverified,
    #[error("the store's authorities are no certificates in PEM")]
    Authorities,
    #[error("the client certificate and its key cannot be used")]
    Identity,
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    #[error("the store's host name cannot be checked against a certificate")]
    HostName,
    #[error("the proxy's name and password cannot be sent")]
    ProxyCredentials,
    #[error("failed to connect")]
    Connect(#[source] io::Error),
    #[error("failed to connect through the proxy {proxy}")]
    Proxy {
        proxy: Uri,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("failed to agree on TLS")]
    Handshake(#[source] io::Error),
    #[error("the exchange was broken off")]
    Exchange(#[source] hyper::Error),
    #[error("the answer broke off, or is too long")]
    Answer(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("nothing within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Reaches a store.
pub struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    proxy: Option<Proxy>,
    answer: Duration,
}

struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connector {
    /// Prepares it, without a connection.
    /// The name that the sink says is in a certificate is that of its own server, and of no other.
    pub fn new(custody: &Custody, endpoint: &Endpoint) -> Result<Self, Error> {
        let uri = endpoint.uri();
        let secure = !endpoint.is_plain_text();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let connection = &custody.connection;
        let credentials = &custody.access.connection;
        let name = connection.tls.server_name.as_ref();
        let is_own =
            matches!(&custody.subject, Subject::Store(store) if store.endpoint() == endpoint);
        let name = name.filter(|_| is_own);
        let name = name.map_or(host, |name| name.as_str()).to_owned();
        let tls = if secure {
            let config = client(&connection.tls, credentials)?;
            let name = ServerName::try_from(name).map_err(|_| Error::HostName)?;
            Some((TlsConnector::from(Arc::new(config)), name))
        } else {
            None
        };
        let answer = connection.timeout_ms;
        Ok(Self {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            tls,
            proxy: match proxy(connection, credentials)? {
                Some(proxy) => Some(proxy),
                None => of_installation(&custody.proxies, uri),
            },
            answer: answer.map_or(ANSWER, |ms| Duration::from_millis(ms.get().into())),
        })
    }

    /// Sends a request and waits for the answer.
    pub async fn exchange(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let stream = timeout(CONNECT, self.connect(request.uri()))
            .await
            .map_err(|_| Error::Timeout(CONNECT))??;
        // A proxy that looks inside needs the whole address (RFC 9112 §3.2.2).
        if let (Some(proxy), None) = (&self.proxy, &self.tls) {
            if let Some(authorization) = &proxy.authorization {
                let headers = request.headers_mut();
                headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
            }
        } else {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
        }
        let answered = timeout(self.answer, exchange(stream, request.map(Full::new))).await;
        answered.map_err(|_| Error::Timeout(self.answer))?
    }

    async fn connect(&self, uri: &Uri) -> Result<Box<dyn Stream>, Error> {
        let stream = match (&self.proxy, &self.tls) {
            (None, _) => tcp(&self.host, self.port).await.map_err(Error::Connect)?,
            (Some(proxy), None) => {
                let host = proxy.uri.host().unwrap_or_default();
                let connected = tcp(
                    host.trim_matches(['[', ']']),
                    proxy.uri.port_u16().unwrap_or(80),
                );
                connected
                    .await
                    .map_err(|error| proxy.failed(error.into()))?
            }
            (Some(proxy), Some(_)) => {
                let mut tunnel = Tunnel::new(proxy.uri.clone(), HttpConnector::new());
                if let Some(authorization) = &proxy.authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                let connected = tunnel.call(uri.clone()).await;
                connected
                    .map_err(|error| proxy.failed(error.into()))?
                    .into_inner()
            }
        };
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => {
                let secured = connector.connect(name.clone(), stream).await;
                Ok(Box::new(secured.map_err(Error::Handshake)?))
            }
        }
    }
}

impl Proxy {
    fn failed(&self, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Proxy {
            proxy: self.uri.clone(),
            source,
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    TcpStream::connect((host, port)).await
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Error::Exchange)?;
    let driven = async {
        // What it ends with is seen by the exchange.
        let _ = connection.await;
        std::future::pending().await
    };
    let exchanged = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(Error::Exchange)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await;
        Ok(Response::from_parts(
            parts,
            body.map_err(Error::Answer)?.to_bytes(),
        ))
    };
    tokio::select! {
        exchanged = exchanged => exchanged,
        never = driven => never,
    }
}

fn proxy(
    connection: &Connection,
    credentials: &BTreeMap<CredentialKey, Credential>,
) -> Result<Option<Proxy>, Error> {
    let Some(proxy) = &connection.proxy else {
        return Ok(None);
    };
    let authorization = match &proxy.basic {
        None => None,
        Some(basic) => {
            let password = credentials.get(&basic.password);
            let password = password.ok_or(Error::ProxyCredentials)?.expose();
            // RFC 7617 §2.
            let both = [basic.username.as_bytes(), b":", password].concat();
            let value = format!("Basic {}", BASE64_STANDARD.encode(both));
            let mut value = HeaderValue::try_from(value).map_err(|_| Error::ProxyCredentials)?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    Ok(Some(Proxy {
        uri: proxy.url.uri().clone(),
        authorization,
    }))
}

/// The proxy that the installation names for an address.
fn of_installation(proxies: &Proxies, uri: &Uri) -> Option<Proxy> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let matcher = Matcher::builder()
        .http(text(&proxies.http_proxy))
        .https(text(&proxies.https_proxy))
        .no(text(&proxies.no_proxy))
        .build();
    let found = matcher.intercept(uri)?;
    let uri = Endpoint::try_from(found.uri().to_string()).ok()?;
    Some(Proxy {
        uri: uri.uri().clone(),
        authorization: None,
    })
}

/// Our side of TLS: the authorities that the agents trust, and the certificate that they show.
fn client(
    tls: &Tls,
    credentials: &BTreeMap<CredentialKey, Credential>,
) -> Result<ClientConfig, Error> {
    if tls.insecure_skip_verify {
        return Err(Error::Unverified);
    }
    let authorities = match &tls.ca {
        None => None,
        Some(key) => Some(credentials.get(key).ok_or(Error::Authorities)?.expose()),
    };
    identified(roots(authorities)?, tls, credentials)
}

/// The authorities in a file (PEM), or the public ones.
pub fn roots(authorities: Option<&[u8]>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in certificates(pem).ok_or(Error::Authorities)? {
                roots.add(certificate).map_err(|_| Error::Authorities)?;
            }
        }
    }
    Ok(roots)
}

/// Our side of TLS with the certificate that we show, if we have one.
pub fn identified(
    roots: RootCertStore,
    tls: &Tls,
    credentials: &BTreeMap<CredentialKey, Credential>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Setup)?
        .with_root_certificates(roots);
    let Some(ours) = &tls.client_certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = credentials.get(&ours.certificate);
    let chain = chain.and_then(|chain| certificates(chain.expose()));
    let key = credentials.get(&ours.private_key).ok_or(Error::Identity)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| Error::Identity)?;
    builder
        .with_client_auth_cert(chain.ok_or(Error::Identity)?, key)
        .map_err(|_| Error::Identity)
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty())
}
