//! One connection to one sink, kept for as long as it works. Judges no answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    sink::{Answer, Destination},
    tls::{self, TlsError},
};

/// For resolving, connecting and the TLS handshake together.
const CONNECT: Duration = Duration::from_secs(10);

/// For the whole of an exchange, so that a sink that stalls is told from one that is slow.
const RESPONSE: Duration = Duration::from_mins(1);

/// A connection that was not used for so long may be gone without a word, to a firewall or a load balancer; finding out
/// would cost the time of a whole exchange, perhaps at the end of the pod.
const IDLE: Duration = Duration::from_secs(30);

/// What is read of an answer's body; more than that of it is of no use.
const MAX_ANSWER: usize = 64 << 10;

/// A sink's side of an exchange.
#[derive(Debug)]
pub struct Response {
    status: u16,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Response {
    /// For the sink to judge.
    pub fn answer(&self) -> Answer<'_> {
        Answer {
            status: self.status,
            retry_after: self.retry_after,
            body: &self.body,
        }
    }
}

/// Why there was no answer. Everything here is worth another attempt.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing listens there, or the name means nothing.
    #[error("failed to connect: {0}")]
    Connect(#[source] std::io::Error),
    /// Not within the time for connecting.
    #[error("no connection within {} s", CONNECT.as_secs())]
    ConnectTimeout,
    /// The certificate, most often.
    #[error("failed to agree on TLS: {0}")]
    Handshake(#[source] std::io::Error),
    /// Before the handshake.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The sink's name is no name that a certificate can have.
    #[error("the sink's host name cannot be checked against a certificate")]
    HostName,
    /// Broken off on the way.
    #[error("the exchange was broken off: {0}")]
    Exchange(#[source] hyper::Error),
    /// Not within the time for an answer.
    #[error("no answer within {} s", RESPONSE.as_secs())]
    ResponseTimeout,
}

/// A client of one sink.
pub struct Client {
    host: String,
    port: u16,
    path: Uri,
    headers: HeaderMap,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connection: Option<(SendRequest<Full<Bytes>>, Instant)>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Client")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Prepares a connection, without making one.
    ///
    /// # Errors
    /// When TLS cannot be set up for it.
    pub fn new(destination: &Destination) -> Result<Self, Failure> {
        let uri = &destination.uri;
        // An IPv6 address stands in brackets in a URI, and nowhere else.
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned();
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let mut headers = destination.headers.clone();
        if let Some(authority) = uri.authority()
            && let Ok(value) = authority.as_str().parse()
        {
            headers.insert(header::HOST, value);
        }
        let tls = if secure {
            let config = tls::client(destination.ca.as_ref(), destination.insecure_skip_verify)?;
            let name = ServerName::try_from(host.clone()).map_err(|_| Failure::HostName)?;
            Some((TlsConnector::from(config), name))
        } else {
            None
        };
        let path = uri
            .path_and_query()
            .cloned()
            .map(Uri::from)
            .unwrap_or_default();
        Ok(Self {
            host,
            port,
            path,
            headers,
            tls,
            connection: None,
        })
    }

    /// Sends a body and waits for the answer.
    ///
    /// # Errors
    /// When there is no answer; whether the sink has the body is then unknown.
    pub async fn post(&mut self, body: Bytes) -> Result<Response, Failure> {
        if let Some((mut kept, used)) = self.connection.take()
            && used.elapsed() < IDLE
        {
            // A kept connection may have been closed by the sink in the meantime: that is no failure of the sink.
            if kept.ready().await.is_ok() {
                match self.exchange(kept, body.clone()).await {
                    Err(Failure::Exchange(_)) => {}
                    outcome => return outcome,
                }
            }
        }
        let connection = timeout(CONNECT, self.connect())
            .await
            .map_err(|_| Failure::ConnectTimeout)??;
        self.exchange(connection, body).await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(Failure::Connect)?;
        stream.set_nodelay(true).map_err(Failure::Connect)?;
        match &self.tls {
            None => handshake(stream).await,
            Some((connector, name)) => {
                let secured = connector.connect(name.clone(), stream).await;
                handshake(secured.map_err(Failure::Handshake)?).await
            }
        }
    }

    async fn exchange(
        &mut self,
        mut connection: SendRequest<Full<Bytes>>,
        body: Bytes,
    ) -> Result<Response, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        request.headers_mut().clone_from(&self.headers);
        let exchange = async {
            let response = connection.send_request(request).await?;
            let status = response.status().as_u16();
            let retry_after = retry_after(response.headers());
            let mut incoming = response.into_body();
            let mut body = Vec::new();
            let mut whole = true;
            while let Some(frame) = incoming.frame().await {
                if let Ok(data) = frame?.into_data() {
                    let room = MAX_ANSWER - body.len();
                    body.extend_from_slice(&data[..data.len().min(room)]);
                    if data.len() > room {
                        whole = false;
                        break;
                    }
                }
            }
            Ok((
                Response {
                    status,
                    retry_after,
                    body,
                },
                whole,
            ))
        };
        let (response, whole) = timeout(RESPONSE, exchange)
            .await
            .map_err(|_| Failure::ResponseTimeout)?
            .map_err(Failure::Exchange)?;
        if whole {
            self.connection = Some((connection, Instant::now()));
        }
        Ok(response)
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let (connection, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::Exchange)?;
    // It ends when the connection does, and what it ends with is seen by the exchange.
    tokio::spawn(driver);
    Ok(connection)
}

/// `Retry-After` in seconds; the form with a date is rare and not worth a calendar.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
