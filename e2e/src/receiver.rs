//! Receivers of logs that refuse what the real ones refuse and count what they took; they never correct a sender.
//!
//! [`Receiver`] listens on one address and follows one [`Protocol`]: Splunk's HTTP Event Collector as Splunk
//! documents it ([`splunk`]), or a plain server of JSON lines ([`json_lines`]). A test can change the rules while it
//! runs, script [`Fault`]s, close the port and open it again. What was taken is kept record by record, and
//! [`Tally`] counts it by sequence number.

mod body;
pub mod fault;
pub mod json_lines;
pub mod record;
mod server;
pub mod splunk;
pub mod tally;
pub mod tls;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use http::{HeaderMap, Method, Uri};
use tokio::sync::watch;

pub use fault::{Fault, Times};
pub use record::Record;
pub use tally::Tally;
pub use tls::{Authority, ServerIdentity};

/// What a receiver expects of a sender.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Splunk's HTTP Event Collector.
    Splunk(splunk::Rules),
    /// `POST` of one JSON object a line.
    JsonLines(json_lines::Rules),
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

/// What a protocol says of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// HTTP status.
    pub status: u16,
    /// Body of the answer.
    pub body: String,
    /// What was taken; empty when the request was refused.
    pub records: Vec<Record>,
}

/// A request that was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answered {
    /// The status that was sent.
    pub status: u16,
    /// The body that was sent.
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
    /// Requests that were answered; one that was reset or is stalled is not among them.
    pub answered: Vec<Answered>,
}

impl Received {
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
    received: watch::Sender<Received>,
}

impl Protocol {
    fn judge(&self, request: &Request<'_>) -> Verdict {
        match self {
            Self::Splunk(rules) => rules.judge(request),
            Self::JsonLines(rules) => rules.judge(request),
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
    tls: Option<ServerIdentity>,
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
            received: watch::Sender::default(),
        });
        let serving = server::Serving::start(address, tls.clone(), Arc::clone(&shared)).await?;
        Ok(Self {
            address: serving.address(),
            shared,
            tls,
            serving: Some(serving),
        })
    }

    /// Where it listens, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base address, without a path.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Changes the rules for the requests that come from now on.
    pub fn change_rules(&self, change: impl FnOnce(&mut Protocol)) {
        change(&mut lock(&self.shared.protocol));
    }

    /// Adds a fault to the script: it is in force once the faults before it have happened as often as they should.
    pub fn misbehave(&self, fault: Fault, times: Times) {
        lock(&self.shared.script).push(fault, times);
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
            self.serving =
                Some(server::Serving::start(self.address, self.tls.clone(), shared).await?);
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
