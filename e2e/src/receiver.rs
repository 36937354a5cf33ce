//! Receivers of logs that refuse what the real ones refuse and count what they took; they never correct a sender.
//!
//! [`Receiver`] listens on one address and follows one [`Protocol`]: Splunk's HTTP Event Collector ([`splunk`]),
//! Loggly ([`loggly`]), New Relic ([`new_relic`]), Google Cloud Storage ([`gcs`]) and Azure Blob Storage ([`azure`]) as each
//! documents itself, or a plain server of JSON ([`json`]).
//! [`Rsyslog`], [`OtelCollector`] and [`Minio`] are the real ones; a [`Wire`] or a receiver in front of them gives them
//! faults, a [`Proxy`] stands between, and a [`NameServer`] says where they are. A test can change the rules while it runs, script [`Fault`]s, close the port and open it
//! again. What was taken is kept record by record, and [`Tally`] counts it by sequence number.

pub mod archive;
pub mod azure;
mod behind;
mod body;
pub mod fault;
mod form;
pub mod gcs;
pub mod json;
pub mod jwt;
pub mod loggly;
pub mod minio;
pub mod mixpanel;
pub mod name_server;
pub mod new_relic;
pub mod objects;
pub mod openid;
pub mod otel_collector;
mod pace;
pub mod pod_identity;
mod port;
pub mod proxy;
pub mod record;
pub mod rsyslog;
mod server;
pub mod splunk;
pub mod tally;
pub mod tls;
pub mod wire;
mod written;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use tokio::sync::watch;

pub use archive::Archived;
pub use body::Coding;
pub use fault::{Fault, RetryAfter, Times};
pub use minio::Minio;
pub use name_server::NameServer;
pub use otel_collector::OtelCollector;
pub use proxy::Proxy;
pub use record::Record;
pub use rsyslog::Rsyslog;
pub use tally::Tally;
pub use tls::{Authority, ClientIdentity, ServerIdentity};
pub use wire::Wire;

/// What a receiver expects of a sender.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Splunk's HTTP Event Collector.
    Splunk(splunk::Rules),
    /// Loggly's bulk endpoint.
    Loggly(loggly::Rules),
    /// New Relic's Log API.
    NewRelic(new_relic::Rules),
    /// Mixpanel's import of events.
    Mixpanel(mixpanel::Rules),
    /// Google Cloud Storage, and the server that gives tokens for it.
    Gcs(gcs::Rules),
    /// Azure Blob Storage.
    Azure(azure::Rules),
    /// The issuer of the tokens of service accounts.
    OpenId(openid::Rules),
    /// The agent of EKS Pod Identity.
    PodIdentity(pod_identity::Rules),
    /// A plain server of JSON objects.
    Json(json::Rules),
    /// Any server of plain HTTP at this address: it answers what no fault does, and keeps what came.
    Behind(SocketAddr),
}

/// A request as a protocol judges it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path and query.
    pub uri: &'a Uri,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// The body as it came over the wire.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// The media type without its parameters (RFC 9110 §8.3.1).
    fn content_type(&self) -> Option<&str> {
        let value = self.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        value.split(';').next().map(str::trim)
    }
}

/// What a protocol says of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// HTTP status.
    pub status: u16,
    /// Content type of the answer.
    pub content_type: HeaderValue,
    /// What else stands in its head.
    pub headers: HeaderMap,
    /// Body of the answer.
    pub body: Bytes,
    /// What was taken; empty when the request was refused.
    pub records: Vec<Record>,
    /// What the vendor thinks of it and does not say.
    pub warnings: Vec<new_relic::Warning>,
}

impl Verdict {
    fn taken(status: u16, body: String, records: Vec<Record>) -> Self {
        Self {
            status,
            content_type: HeaderValue::from_static("application/json; charset=UTF-8"),
            headers: HeaderMap::new(),
            body: body.into(),
            records,
            warnings: Vec::new(),
        }
    }

    fn refused(status: u16, body: String) -> Self {
        Self::taken(status, body, Vec::new())
    }
}

/// A request that was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answered {
    /// The path that was asked.
    pub path: String,
    /// The status that was sent.
    pub status: u16,
    /// The body that was sent; what of it is not UTF-8 as U+FFFD.
    pub body: String,
    /// Size of the request's body on the wire, in bytes.
    pub request_size: usize,
    /// How many records were taken.
    pub taken: usize,
    /// When it was answered.
    pub at: Instant,
}

/// Everything that came, in the order in which it came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Records that were taken.
    pub records: Vec<Record>,
    /// When each of the records came; of what a program wrote to a file, when it was read.
    pub came_at: Vec<Instant>,
    /// Requests that were answered; one that was reset or is stalled is not among them.
    pub answered: Vec<Answered>,
    /// Requests that came, answered or not.
    pub requests: usize,
    /// Connections that were accepted.
    pub connections: usize,
    /// What the vendor would not say of what it took.
    pub warnings: Vec<new_relic::Warning>,
    /// What a real receiver took although its standard does not know it, each with the reason.
    pub malformed: Vec<String>,
}

impl Received {
    fn take(&mut self, records: impl IntoIterator<Item = Record>) {
        self.records.extend(records);
        self.came_at.resize(self.records.len(), Instant::now());
    }

    /// How many requests were answered with this status.
    pub fn answers(&self, status: u16) -> usize {
        self.answered
            .iter()
            .filter(|answered| answered.status == status)
            .count()
    }
}

/// State that the connections share with the test.
#[derive(Debug)]
pub(crate) struct Shared {
    protocol: Mutex<Protocol>,
    script: Mutex<fault::Script>,
    tls: Mutex<Option<ServerIdentity>>,
    received: watch::Sender<Received>,
}

impl Protocol {
    /// A bucket of Google's or a container of Azure's.
    pub fn bucket(&mut self, name: &str) -> Option<&mut objects::Bucket> {
        match self {
            Self::Gcs(rules) => rules.buckets.get_mut(name),
            Self::Azure(rules) => rules.containers.get_mut(name),
            _ => None,
        }
    }

    /// The verdict, or the address of the server that has one.
    fn judge(&mut self, request: &Request<'_>) -> Result<Verdict, SocketAddr> {
        match self {
            Self::Splunk(rules) => Ok(rules.judge(request)),
            Self::Loggly(rules) => Ok(rules.judge(request)),
            Self::NewRelic(rules) => Ok(rules.judge(request)),
            Self::Mixpanel(rules) => Ok(rules.judge(request)),
            Self::Gcs(rules) => Ok(rules.judge(request)),
            Self::Azure(rules) => Ok(rules.judge(request)),
            Self::OpenId(rules) => Ok(rules.judge(request)),
            Self::PodIdentity(rules) => Ok(rules.judge(request)),
            Self::Json(rules) => Ok(rules.judge(request)),
            Self::Behind(server) => Err(*server),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running receiver. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: Option<server::Serving>,
}

impl Receiver {
    /// Listens for plain HTTP on `address` (port 0: any), with the current runtime's network namespace.
    pub async fn start(address: SocketAddr, protocol: Protocol) -> Result<Self> {
        Self::listen(address, protocol, None).await
    }

    /// Listens for HTTPS.
    pub async fn start_tls(
        address: SocketAddr,
        protocol: Protocol,
        identity: &ServerIdentity,
    ) -> Result<Self> {
        Self::listen(address, protocol, Some(identity.clone())).await
    }

    async fn listen(
        address: SocketAddr,
        protocol: Protocol,
        tls: Option<ServerIdentity>,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            protocol: Mutex::new(protocol),
            script: Mutex::default(),
            tls: Mutex::new(tls),
            received: watch::Sender::default(),
        });
        let serving = server::Serving::start(address, Arc::clone(&shared)).await?;
        Ok(Self {
            address: serving.address(),
            shared,
            serving: Some(serving),
        })
    }

    /// Where it listens, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base address, without a path.
    pub fn url(&self) -> String {
        let is_encrypted = lock(&self.shared.tls).is_some();
        let scheme = if is_encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Shows another certificate to the connections that come from now on; the receiver has to speak TLS already.
    pub fn show(&self, identity: &ServerIdentity) {
        if let Some(shown) = &mut *lock(&self.shared.tls) {
            *shown = identity.clone();
        }
    }

    /// Looks at the rules or changes them, for the requests that come from now on.
    pub fn change_rules<T>(&self, change: impl FnOnce(&mut Protocol) -> T) -> T {
        change(&mut lock(&self.shared.protocol))
    }

    /// Adds a fault to the script: it is in force once the faults before it have happened as often as they should.
    pub fn misbehave(&self, fault: Fault, times: Times) {
        self.misbehave_at("", fault, times);
    }

    /// Adds a fault that happens only to requests whose path begins so.
    pub fn misbehave_at(&self, path: &str, fault: Fault, times: Times) {
        lock(&self.shared.script).push(fault, times, path);
    }

    /// Ends all faults.
    pub fn behave(&self) {
        lock(&self.shared.script).clear();
    }

    /// Closes the port and every connection; connecting is refused until [`Self::open_port`].
    pub async fn close_port(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.stop().await;
        }
    }

    /// Opens the port again, the same one.
    pub async fn open_port(&mut self) -> Result<()> {
        if self.serving.is_none() {
            let shared = Arc::clone(&self.shared);
            self.serving = Some(server::Serving::start(self.address, shared).await?);
        }
        Ok(())
    }

    /// What came so far.
    pub fn received(&self) -> Received {
        self.shared.received.borrow().clone()
    }

    /// Looks at what came so far without copying it.
    pub fn inspect<T>(&self, look: impl FnOnce(&Received) -> T) -> T {
        look(&self.shared.received.borrow())
    }

    /// Changes of what came: for those who print it.
    pub fn subscribe(&self) -> watch::Receiver<Received> {
        self.shared.received.subscribe()
    }

    /// Waits until what came fulfils a condition, at most `limit`.
    ///
    /// # Errors
    /// When the time is over; the error says what did come.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        condition: impl FnMut(&Received) -> bool,
    ) -> Result<()> {
        let mut received = self.shared.received.subscribe();
        if let Ok(seen) = tokio::time::timeout(limit, received.wait_for(condition)).await {
            return seen.map(drop).context("failed to watch the receiver");
        }
        let received = self.received();
        let last: Vec<_> = received.answered.iter().rev().take(3).collect();
        bail!(
            "waited {limit:?} for {what}; came: {} records, {:?}; {} requests, the last: {last:?}",
            received.records.len(),
            Tally::of(&received.records),
            received.answered.len()
        )
    }
}
