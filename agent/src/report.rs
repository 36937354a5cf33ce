//! The way to the operator: when a report is due, how it is sent and what is told where it cannot be. Gathers none.
//!
//! A report that cannot be sent is forgotten: the next one says all that it said, and what has come since. Nothing waits for a
//! report but the end of the pod, and that not for long.

pub mod page;
pub mod schedule;
pub mod standing;
mod token;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use katonic_log_config::{
    HostName, Reporting, layout,
    report::{self, Reply},
};
use serde_json::json;
use tokio::{
    task::{JoinHandle, spawn_local},
    time::timeout,
};

use crate::{
    backoff::chance,
    client::Client,
    credential::Secret,
    sink::{Destination, Quoter, Trust},
    tell::{Level, tell},
};
use schedule::Schedule;

/// How long one attempt may take, connecting included.
const ATTEMPT: Duration = Duration::from_secs(5);

/// So many different reasons are told until reports arrive again.
const MOST_TOLD: usize = 8;

/// What an agent knows of the way to the operator.
#[derive(Debug)]
pub struct Reporter {
    token_file: PathBuf,
    operator: Option<Operator>,
    schedule: Schedule,
    task: Option<JoinHandle<Attempt>>,
    /// Why reports could not be sent since one arrived.
    told: BTreeSet<String>,
    /// Whether it was told that reports arrive.
    arrives: bool,
}

/// Where reports go.
#[derive(Debug)]
struct Operator {
    destination: Destination,
    /// None while it is in use.
    client: Option<Client>,
}

/// A report on its way.
pub type Sending = Pin<Box<dyn Future<Output = Attempt>>>;

/// A report that was sent, or could not be.
#[derive(Debug)]
pub struct Attempt {
    client: Client,
    result: Result<Option<Reply>, Failed>,
}

/// Why the operator has not got a report.
#[derive(Debug)]
struct Failed {
    reason: String,
    /// For how long it wants to be left alone.
    after: Option<Duration>,
}

/// Why nobody can be reported to.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// The token would be read on the way.
    #[error("the operator's address is not an `https://` address")]
    PlainText,
    /// Its path cannot be put behind.
    #[error("the operator's address cannot be used")]
    Address,
    /// Not one that a certificate can have.
    #[error("the name in the operator's certificate is not a host")]
    ServerName,
}

impl Operator {
    fn new(reporting: &Reporting) -> Result<Self, Unusable> {
        if reporting.url.is_plain_text() {
            return Err(Unusable::PlainText);
        }
        let uri = reporting.url.join(report::PATH);
        let uri = uri.map_err(|_| Unusable::Address)?;
        let server_name = HostName::try_from(reporting.server_name.clone());
        let trust = Trust {
            ca: Some(Secret::from(
                reporting.certificate_authorities.clone().into_bytes(),
            )),
            server_name: Some(server_name.map_err(|_| Unusable::ServerName)?),
            ..Trust::default()
        };
        Ok(Self {
            destination: Destination::direct(Method::POST, uri, trust, ATTEMPT),
            client: None,
        })
    }

    /// The client, kept from one report to the next for what TLS remembers of the last handshake.
    fn take_client(&mut self) -> Result<Client, Failed> {
        match self.client.take() {
            Some(client) => Ok(client),
            None => Client::new(&self.destination).map_err(|error| Failed {
                reason: error.to_string(),
                after: None,
            }),
        }
    }
}

impl Reporter {
    /// One that knows no operator; it will show the token in this directory, as it is by then.
    pub fn new(token_dir: &Path) -> Self {
        Self {
            token_file: token_dir.join(layout::TOKEN_FILE),
            operator: None,
            schedule: Schedule::new(Instant::now(), chance()),
            task: None,
            told: BTreeSet::new(),
            arrives: false,
        }
    }

    /// Reports there from now on, or nowhere.
    pub fn set(&mut self, reporting: Option<&Reporting>) {
        let operator = match reporting.map(Operator::new).transpose() {
            Ok(operator) => operator,
            Err(error) => {
                if self.is_wanted() {
                    self.forget(None);
                }
                self.tell_failed(&error.to_string());
                return;
            }
        };
        let known = |operator: &Option<Operator>| {
            let known = operator.as_ref();
            known.map(|operator| operator.destination.clone())
        };
        if known(&operator) != known(&self.operator) {
            self.forget(operator);
        }
    }

    fn forget(&mut self, operator: Option<Operator>) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.operator = operator;
        self.schedule = Schedule::new(Instant::now(), chance());
        self.told.clear();
        self.arrives = false;
    }

    /// Whether there is anybody to report to.
    pub fn is_wanted(&self) -> bool {
        self.operator.is_some()
    }

    /// Something has changed of which the operator is to know at once.
    pub fn changed(&mut self) {
        self.schedule.changed(Instant::now(), chance());
    }

    /// Whether a report is to be sent now.
    pub fn is_due(&self) -> bool {
        self.is_wanted() && self.task.is_none() && self.schedule.is_due(Instant::now())
    }

    /// What is shown to the operator with the next report; none where there is none, which is told.
    pub fn authorization(&mut self) -> Option<HeaderValue> {
        let read = token::authorization(&self.token_file).map_err(|error| Failed {
            reason: error.to_string(),
            after: None,
        });
        read.map_err(|failed| self.failed(&failed)).ok()
    }

    /// Sends a report beside everything else.
    pub fn begin(&mut self, authorization: HeaderValue, body: Vec<u8>) {
        self.schedule.begun(Instant::now(), chance());
        self.task = self.attempt(authorization, body, ATTEMPT).map(spawn_local);
    }

    /// Sends the last report, for as long as that may take; what comes of it is to be given to [`Self::ended`].
    pub fn last(
        &mut self,
        authorization: HeaderValue,
        body: Vec<u8>,
        patience: Duration,
    ) -> Option<Sending> {
        // What is on its way says less.
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.attempt(authorization, body, patience.min(ATTEMPT))
    }

    fn attempt(
        &mut self,
        authorization: HeaderValue,
        body: Vec<u8>,
        longest: Duration,
    ) -> Option<Sending> {
        let operator = self.operator.as_mut()?;
        let client = operator.take_client();
        let uri = operator.destination.uri.clone();
        let client = client.map_err(|failed| self.failed(&failed)).ok()?;
        let body = body.into();
        Some(Box::pin(send(client, uri, authorization, body, longest)))
    }

    /// Takes up what came of the last report, if that is known by now.
    pub async fn look(&mut self) {
        let task = self.task.take_if(|task| task.is_finished());
        let Some(task) = task else {
            return;
        };
        match task.await {
            Ok(attempt) => self.ended(attempt),
            Err(error) => self.failed(&Failed {
                reason: error.to_string(),
                after: None,
            }),
        }
    }

    /// Takes up what came of a report.
    pub fn ended(&mut self, attempt: Attempt) {
        let Attempt { client, result } = attempt;
        if let Some(operator) = &mut self.operator {
            operator.client = Some(client);
        }
        match result {
            Ok(reply) => {
                let interval = reply.map(|reply| reply.interval);
                self.schedule.received(Instant::now(), interval, chance());
                self.tell_arrives();
            }
            Err(failed) => self.failed(&failed),
        }
    }

    fn failed(&mut self, failed: &Failed) {
        let now = Instant::now();
        self.schedule.failed(now, failed.after, chance());
        self.tell_failed(&failed.reason);
    }

    /// Each reason once, until reports arrive again.
    fn tell_failed(&mut self, reason: &str) {
        self.arrives = false;
        if self.told.len() < MOST_TOLD && self.told.insert(reason.to_owned()) {
            tell(
                Level::Warn,
                "reports do not reach the operator",
                json!({"reason": reason, "address": self.address()}),
            );
        }
    }

    fn tell_arrives(&mut self) {
        self.told.clear();
        if !std::mem::replace(&mut self.arrives, true) {
            tell(
                Level::Info,
                "reports reach the operator",
                json!({"address": self.address()}),
            );
        }
    }

    fn address(&self) -> Option<&str> {
        let operator = self.operator.as_ref();
        operator.map(|operator| operator.destination.address())
    }
}

/// One attempt.
async fn send(
    mut client: Client,
    uri: Uri,
    authorization: HeaderValue,
    body: Bytes,
    longest: Duration,
) -> Attempt {
    let json = HeaderValue::from_static("application/json");
    let close = HeaderValue::from_static("close");
    let headers = HeaderMap::from_iter([
        (header::AUTHORIZATION, authorization),
        (header::CONTENT_TYPE, json),
        (header::CONNECTION, close),
    ]);
    let quoter = Quoter::of_headers(&headers);
    let posted = timeout(longest, client.post(&uri, headers, body)).await;
    // Not kept: there may be ten thousand agents.
    client.disconnect();
    let result = match posted {
        Ok(Ok(response)) => {
            let answer = response.answer(&quoter);
            match answer.status {
                200..=299 => Ok(serde_json::from_slice(answer.body).ok()),
                status => Err(Failed {
                    reason: format!("HTTP {status}"),
                    after: answer.retry_after,
                }),
            }
        }
        Ok(Err(failure)) => Err(Failed {
            reason: quoter.failure(&failure.to_string()),
            after: None,
        }),
        Err(_) => Err(Failed {
            reason: format!("no answer within {} s", longest.as_secs_f32()),
            after: None,
        }),
    };
    Attempt { client, result }
}

#[cfg(test)]
mod tests {
    use katonic_log_config::Endpoint;

    use super::*;

    fn reporting(url: &str, server_name: &str) -> Reporting {
        Reporting {
            url: Endpoint::try_from(url.to_owned()).unwrap(),
            server_name: server_name.to_owned(),
            certificate_authorities: "an authority".to_owned(),
        }
    }

    #[test]
    fn reports_go_to_their_path_and_past_every_proxy() {
        let operator = Operator::new(&reporting("https://10.96.0.17:8443", "reports.svc")).unwrap();
        let Destination { uri, is_near, .. } = &operator.destination;
        assert_eq!(
            uri.to_string(),
            "https://10.96.0.17:8443/v1/report".to_owned()
        );
        assert!(*is_near && operator.destination.proxy.is_none());
    }

    #[test]
    fn nobody_who_could_be_anybody_is_shown_a_token() {
        let refused = |url, name| Operator::new(&reporting(url, name)).unwrap_err();
        assert!(matches!(
            refused("http://10.96.0.17", "reports.svc"),
            Unusable::PlainText
        ));
        assert!(matches!(
            refused("https://10.96.0.17", "reports svc"),
            Unusable::ServerName
        ));
        assert!(matches!(
            refused("https://10.96.0.17", ""),
            Unusable::ServerName
        ));
        let mut operator = Operator::new(&reporting("https://10.96.0.17", "reports.svc")).unwrap();
        let failed = operator.take_client().unwrap_err();
        assert_eq!(
            failed.reason,
            "the certificate authorities are not PEM certificates"
        );
    }
}
