//! A forward proxy, as networks have one between them and the world: carries what it is allowed to, and remembers what
//! it was asked. What goes through its tunnels it cannot read.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{behind, lock};

/// What a proxy asks for, what it knows and what it refuses.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The header that proves who asks (RFC 7617); 407 otherwise.
    authorization: Option<HeaderValue>,
    /// What is said instead to a wrong one.
    of_wrong: Option<StatusCode>,
    /// Names that nobody but the proxy can look up.
    names: BTreeMap<String, SocketAddr>,
    /// Everything is refused with this status.
    refuses: Option<StatusCode>,
}

impl Rules {
    /// Carries for everybody.
    pub fn open() -> Self {
        Self::default()
    }

    /// Carries only for who shows this name and password.
    pub fn with_credentials(username: &str, password: &str) -> Result<Self> {
        let pair = BASE64.encode(format!("{username}:{password}"));
        let mut expected = HeaderValue::try_from(format!("Basic {pair}"))
            .context("failed to expect a name and a password")?;
        expected.set_sensitive(true);
        Ok(Self {
            authorization: Some(expected),
            ..Self::default()
        })
    }

    /// Answers a wrong name or password so, as tinyproxy does with 401.
    #[must_use]
    pub fn answering_wrong_ones(mut self, status: StatusCode) -> Self {
        self.of_wrong = Some(status);
        self
    }

    /// Knows where this name is.
    #[must_use]
    pub fn knowing(mut self, name: &str, server: SocketAddr) -> Self {
        self.names.insert(name.to_owned(), server);
        self
    }

    /// Refuses everything with this status.
    #[must_use]
    pub fn refusing(mut self, status: StatusCode) -> Self {
        self.refuses = Some(status);
        self
    }
}

/// What a proxy was asked once.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `CONNECT`, or the method of a request to a server without TLS.
    pub method: Method,
    /// A server, or a whole address.
    pub target: String,
    /// Everything that it was told beside it.
    pub headers: HeaderMap,
    /// What it answered.
    pub status: StatusCode,
}

#[derive(Debug)]
struct Shared {
    rules: Mutex<Rules>,
    asked: watch::Sender<Vec<Asked>>,
}

/// A running proxy. Dropping it closes its port and everything that it carries.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a free port.
    pub async fn start(rules: Rules) -> Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), rules).await
    }

    /// Starts a proxy at this address.
    pub async fn start_at(address: SocketAddr, rules: Rules) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .context("failed to start a proxy")?;
        let address = listener
            .local_addr()
            .context("failed to read the proxy's address")?;
        let shared = Arc::new(Shared {
            rules: Mutex::new(rules),
            asked: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it asks for, for the connections that come from now on.
    pub fn change_rules(&self, rules: Rules) {
        *lock(&self.shared.rules) = rules;
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.borrow().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error here is one of the sender's connection, which is gone.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Both ends of a tunnel, until somebody carries between them.
type Tunnel = Arc<Mutex<Option<(upgrade::OnUpgrade, TcpStream)>>>;

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let tunnel = Tunnel::default();
    let service = service_fn(|request| answer(request, Arc::clone(&shared), Arc::clone(&tunnel)));
    // An error is the sender's to notice.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    let ends = lock(&tunnel).take();
    if let Some((upgrading, mut far)) = ends
        && let Ok(near) = upgrading.await
    {
        // Broken off by either side, which is its end.
        let _ = copy_bidirectional(&mut TokioIo::new(near), &mut far).await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    shared: Arc<Shared>,
    tunnel: Tunnel,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let rules = lock(&shared.rules).clone();
    let shown = request.headers().get(header::PROXY_AUTHORIZATION);
    let refusal = if rules.authorization.is_some() && rules.authorization.as_ref() != shown {
        let of_wrong = rules.of_wrong.filter(|_| shown.is_some());
        Some(of_wrong.unwrap_or(StatusCode::PROXY_AUTHENTICATION_REQUIRED))
    } else {
        rules.refuses
    };
    let mut asked = Asked {
        method: request.method().clone(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
        status: StatusCode::OK,
    };
    let response = if let Some(refusal) = refusal {
        refused(refusal, request.headers())
    } else if request.method() == Method::CONNECT {
        let upgrading = upgrade::on(&mut request);
        match rules.connect(request.uri()).await {
            Ok(far) => {
                *lock(&tunnel) = Some((upgrading, far));
                Response::default()
            }
            Err(_) => refused(StatusCode::BAD_GATEWAY, request.headers()),
        }
    } else {
        rules.forward(request).await
    };
    asked.status = response.status();
    shared.asked.send_modify(|all| all.push(asked));
    Ok(response)
}

/// Says no, and repeats everything that it was told: a proxy's page for people may do that.
fn refused(status: StatusCode, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("no: {headers:?}")));
    for (name, value) in headers {
        let said = format!("no: {name}: {}", String::from_utf8_lossy(value.as_bytes()));
        if let Ok(said) = HeaderValue::try_from(said) {
            response.headers_mut().append("x-refused", said);
        }
    }
    *response.status_mut() = status;
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        let challenge = HeaderValue::from_static("Basic realm=\"proxy\"");
        response
            .headers_mut()
            .insert(header::PROXY_AUTHENTICATE, challenge);
    }
    response
}

impl Rules {
    fn find(&self, uri: &Uri) -> Result<SocketAddr> {
        let host = uri.host().context("no server is named")?;
        if let Some(known) = self.names.get(host) {
            return Ok(*known);
        }
        let authority = uri.authority().context("no server is named")?;
        authority
            .as_str()
            .parse()
            .with_context(|| format!("{authority} cannot be looked up"))
    }

    async fn connect(&self, uri: &Uri) -> Result<TcpStream> {
        let far = TcpStream::connect(self.find(uri)?)
            .await
            .context("failed to connect to the server")?;
        far.set_nodelay(true).context("failed to make haste")?;
        Ok(far)
    }

    /// Asks the server in its own words: by path, and without what is for the proxy alone.
    async fn forward(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (mut head, body) = request.into_parts();
        let found = self.find(&head.uri);
        let (Ok(server), Ok(body)) = (found, body.collect().await) else {
            return refused(StatusCode::BAD_GATEWAY, &head.headers);
        };
        head.headers.remove(header::PROXY_AUTHORIZATION);
        head.uri = head
            .uri
            .path_and_query()
            .cloned()
            .map(Uri::from)
            .unwrap_or_default();
        let verdict = behind::ask(server, &head, body.to_bytes()).await;
        let mut response = Response::new(Full::from(verdict.body));
        *response.status_mut() =
            StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::BAD_GATEWAY);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, verdict.content_type);
        response
    }
}
