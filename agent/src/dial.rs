//! How a connection to a sink is made: TCP, through a proxy where there is one, then TLS. Says nothing on it.

use std::{io, sync::LazyLock, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, upgrade};
use hyper_util::{client::proxy::matcher::Matcher, rt::TokioIo};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    sink::{Through, Trust},
    tls::{self, TlsError},
};

/// For resolving, connecting, the proxy and the TLS handshake together.
pub const CONNECT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing listens there, or the name means nothing.
    #[error("failed to connect: {0}")]
    Connect(#[source] io::Error),
    /// The same of the proxy.
    #[error("failed to connect to the proxy: {0}")]
    ProxyConnect(#[source] io::Error),
    /// Not within the time for connecting.
    #[error("no connection within {} s", CONNECT.as_secs())]
    Timeout,
    /// The certificate, most often.
    #[error("failed to agree on TLS: {0}")]
    Handshake(#[source] io::Error),
    /// Before the handshake.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The sink's name is no name that a certificate can have.
    #[error("the sink's host name cannot be checked against a certificate")]
    HostName,
    /// The proxy does not answer as one.
    #[error("the exchange with the proxy was broken off: {0}")]
    Proxy(#[source] hyper::Error),
    /// The proxy makes no connection.
    #[error("the proxy answered HTTP {}", .0.as_u16())]
    ProxyRefused(StatusCode),
    /// The proxy wants to know who asks (RFC 9110 §15.5.8).
    #[error("{0}")]
    ProxyCredentials(String),
    /// The environment names one that is reached in another way than by HTTP.
    #[error("the proxy of the environment is not an `http://` address")]
    ProxyScheme,
}

/// A connection, of whatever layers.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, of whatever layers.
pub type BoxedStream = Box<dyn Stream>;

/// How the server at the other end is made sure of.
#[derive(Clone)]
pub struct Security {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Security")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Security {
    /// Prepares TLS with a server of this name or address.
    ///
    /// # Errors
    /// When the credentials cannot be used, or the name is none.
    pub fn new(trust: &Trust, host: &str) -> Result<Self, DialError> {
        let config = tls::client(trust)?;
        let name = trust
            .server_name
            .as_ref()
            .map_or(host, |name| name.as_str());
        // A name's final dot is no part of it in a certificate.
        let name = name.strip_suffix('.').unwrap_or(name).to_owned();
        Ok(Self {
            connector: TlsConnector::from(config),
            name: ServerName::try_from(name).map_err(|_| DialError::HostName)?,
        })
    }

    /// Encrypts a connection.
    ///
    /// # Errors
    /// When the two sides do not agree.
    pub async fn secure(&self, stream: impl Stream + 'static) -> Result<BoxedStream, DialError> {
        let secured = self.connector.connect(self.name.clone(), stream).await;
        Ok(Box::new(secured.map_err(DialError::Handshake)?))
    }
}

/// Connects by TCP.
///
/// # Errors
/// When there is nothing to connect to.
pub async fn tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    connect(host, port).await.map_err(DialError::Connect)
}

async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects to a proxy by TCP.
///
/// # Errors
/// When there is nothing to connect to.
pub async fn proxy(proxy: &Through) -> Result<TcpStream, DialError> {
    let connected = connect(host(&proxy.uri), port(&proxy.uri)).await;
    connected.map_err(DialError::ProxyConnect)
}

/// Gives up when the time for connecting is over.
///
/// # Errors
/// Those of `connecting`.
pub async fn in_time<T>(
    connecting: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timeout(CONNECT, connecting)
        .await
        .unwrap_or(Err(DialError::Timeout))
}

/// The host of an address, without the brackets that an IPv6 address has in a URI and nowhere else.
pub fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

/// The port of an address.
pub fn port(uri: &Uri) -> u16 {
    let secure = uri.scheme_str() == Some("https");
    uri.port_u16().unwrap_or(if secure { 443 } else { 80 })
}

/// What the environment says; it does not change while a process runs.
static ENVIRONMENT: LazyLock<Matcher> = LazyLock::new(Matcher::from_env);

/// The proxy that the environment names for an address: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and not `NO_PROXY`, in
/// capitals or not.
///
/// # Errors
/// When it is not reached by HTTP.
pub fn proxy_of_environment(uri: &Uri) -> Result<Option<Through>, DialError> {
    let Some(found) = ENVIRONMENT.intercept(uri) else {
        return Ok(None);
    };
    if found.uri().scheme_str() != Some("http") {
        return Err(DialError::ProxyScheme);
    }
    let authorization = found.basic_auth().cloned().map(|mut value| {
        value.set_sensitive(true);
        value
    });
    Ok(Some(Through {
        uri: found.uri().clone(),
        authorization,
    }))
}

/// What a proxy says by such a status to this authorization, and what to do about it.
pub fn wants_credentials(status: StatusCode, authorization: Option<&HeaderValue>) -> String {
    let status = status.as_u16();
    if authorization.is_some() {
        format!(
            "the proxy refuses the name and the password that it is shown (HTTP {status}): correct proxyBasicAuth of the sink"
        )
    } else {
        format!(
            "the proxy asks for a name and a password (HTTP {status}): set proxyURL and proxyBasicAuth of the sink"
        )
    }
}

/// Asks a proxy for a connection to a host and port (RFC 9110 §9.3.6).
///
/// # Errors
/// When it makes none.
pub async fn tunnel(
    proxy: TcpStream,
    authorization: Option<&HeaderValue>,
    host: &str,
    port: u16,
) -> Result<impl Stream + use<>, DialError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(proxy))
        .await
        .map_err(DialError::Proxy)?;
    tokio::spawn(connection.with_upgrades());
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    let parsed = (authority.parse(), authority.parse());
    let (Ok(uri), Ok(host)) = parsed else {
        return Err(DialError::HostName);
    };
    *request.uri_mut() = uri;
    request.headers_mut().insert(header::HOST, host);
    if let Some(authorization) = authorization {
        let headers = request.headers_mut();
        headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
    }
    let response = sender
        .send_request(request)
        .await
        .map_err(DialError::Proxy)?;
    match response.status() {
        // Some answer 401 where the password is wrong, though that is for servers to say.
        status @ (StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED) => {
            let wants = wants_credentials(status, authorization);
            return Err(DialError::ProxyCredentials(wants));
        }
        status if !status.is_success() => return Err(DialError::ProxyRefused(status)),
        _ => {}
    }
    let upgraded = upgrade::on(response).await.map_err(DialError::Proxy)?;
    Ok(TokioIo::new(upgraded))
}
