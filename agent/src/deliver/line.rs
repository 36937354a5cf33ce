//! The way to a sink, whatever it speaks: sends a batch, and finds out what has arrived. Remembers no batch.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use katonic_log_config::Target;
use tokio::time::Instant;

use crate::{
    batch::Body,
    client::{Client, Failure, Response},
    credential::CredentialError,
    dial::{self, DialError},
    sink::{
        Answer, Cause, Destination, Quoter, Through, Verdict, splunk, splunk::Acknowledging,
        syslog::Receiver,
    },
    wire::{Broken, Mark, Wire},
};

/// A sink with its credentials.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// What speaks HTTP.
    Http(Box<Destination>),
    /// What speaks syslog.
    Syslog(Receiver),
}

impl Address {
    /// Puts a sink and its credentials together.
    ///
    /// # Errors
    /// When a credential is missing or cannot be used.
    pub fn resolve(
        target: &Target,
        credentials: &Path,
        channel: &HeaderValue,
    ) -> Result<Self, CredentialError> {
        match target {
            Target::Syslog(sink) => Receiver::resolve(sink, credentials).map(Self::Syslog),
            target => {
                let destination = Destination::resolve(target, credentials, channel)?;
                Ok(Self::Http(Box::new(destination)))
            }
        }
    }

    /// Whether any certificate is accepted.
    pub fn trusts_anybody(&self) -> bool {
        use crate::sink::syslog::Carrier;
        match self {
            Self::Http(destination) => destination.trust.insecure_skip_verify,
            Self::Syslog(receiver) => match &receiver.carrier {
                Carrier::Tls(trust) => trust.insecure_skip_verify,
                Carrier::Udp | Carrier::Tcp => false,
            },
        }
    }
}

/// By what the confirmation of a batch is recognised.
#[derive(Clone, Copy, Debug)]
pub enum Ticket {
    /// An indexer has it under this number.
    Indexer {
        /// The number.
        id: u64,
        /// Since when it is waited for.
        sent: Instant,
    },
    /// It ends here in what was written.
    Written(Mark),
}

/// What became of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// The sink has answered, or there is no way to it.
    Judged(Verdict),
    /// It is there, and will be confirmed.
    Sent(Ticket),
    /// It is there, and will not be confirmed though it should.
    Unconfirmed(&'static str),
    /// What was sent before has not arrived.
    StartOver(String),
    /// The sink is to be reached in another way, by which what was sent before cannot be confirmed.
    Changed,
}

/// The way to a sink.
#[derive(Debug)]
pub struct Line {
    address: Address,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Http(Box<Client>),
    /// None: not yet made, or broken.
    Syslog(Option<Wire>),
}

impl Line {
    /// Prepares a way, without going it.
    ///
    /// # Errors
    /// When it can not be secured as the policy says.
    pub fn new(address: Address) -> Result<Self, DialError> {
        let way = match &address {
            Address::Http(destination) => Way::Http(Box::new(Client::new(destination)?)),
            Address::Syslog(_) => Way::Syslog(None),
        };
        Ok(Self { address, way })
    }

    /// Where it leads.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The address for people.
    pub fn shown(&self) -> String {
        match &self.address {
            Address::Http(destination) => destination.address().to_owned(),
            Address::Syslog(receiver) => receiver.address(),
        }
    }

    /// The proxy on the way, for people.
    pub fn proxy(&self) -> Option<String> {
        match &self.way {
            Way::Http(client) => client.proxy().map(Through::address),
            Way::Syslog(_) => None,
        }
    }

    /// How an indexer is asked, if it is.
    pub fn acknowledging(&self) -> Option<&Acknowledging> {
        match &self.address {
            Address::Http(destination) => destination.acknowledging.as_ref(),
            Address::Syslog(_) => None,
        }
    }

    /// Sends a batch. `waiting`: whether something that was sent before is not confirmed.
    pub async fn send(&mut self, body: &Body, waiting: bool) -> Outcome {
        let Self { address, way } = self;
        match (address, way) {
            (Address::Http(destination), Way::Http(client)) => {
                send_http(destination, client, body.bytes.clone()).await
            }
            (Address::Syslog(receiver), Way::Syslog(wire)) => {
                send_syslog(receiver, wire, &body.bytes, waiting).await
            }
            // `new` makes no such pair.
            _ => Outcome::StartOver(String::new()),
        }
    }

    /// Waits until what was sent before is lost; for ever where that cannot be seen.
    pub async fn broken(&mut self) -> Broken {
        let Way::Syslog(Some(wire)) = &mut self.way else {
            return std::future::pending().await;
        };
        let broken = wire.broken().await;
        self.disconnect();
        broken
    }

    /// Gives the connection up.
    pub fn disconnect(&mut self) {
        match &mut self.way {
            Way::Http(client) => client.disconnect(),
            Way::Syslog(wire) => *wire = None,
        }
    }

    /// The wire, where syslog goes over one.
    pub fn wire(&self) -> Option<&Wire> {
        match &self.way {
            Way::Syslog(wire) => wire.as_ref(),
            Way::Http(_) => None,
        }
    }

    /// The wire, to be closed.
    pub fn take_wire(&mut self) -> Option<Wire> {
        match &mut self.way {
            Way::Syslog(wire) => wire.take(),
            Way::Http(_) => None,
        }
    }

    /// Asks which of these numbers are indexed.
    ///
    /// # Errors
    /// When there is no such answer.
    pub async fn ask(&mut self, ids: &[u64]) -> Result<std::collections::BTreeSet<u64>, Verdict> {
        let Way::Http(client) = &mut self.way else {
            return Ok(std::collections::BTreeSet::new());
        };
        let response = match client.ask(splunk::ack_request(ids).into()).await {
            Some(Ok(response)) => response,
            Some(Err(failure)) => return Err(verdict_of(&failure, client.quoter())),
            None => return Ok(std::collections::BTreeSet::new()),
        };
        let answer = response.answer(client.quoter());
        match splunk::acknowledged(answer.body) {
            Some(indexed) if answer.status == 200 => Ok(indexed),
            _ => Err(
                match of_proxy(client, &answer).unwrap_or_else(|| splunk::judge(&answer)) {
                    Verdict::Delivered => Verdict::Hold {
                        cause: Cause::Misconfigured,
                        reason: "no answer to the question what is indexed".to_owned(),
                    },
                    verdict => verdict,
                },
            ),
        }
    }
}

async fn send_http(destination: &Destination, client: &mut Client, body: Bytes) -> Outcome {
    let response: Response = match client.send(body).await {
        Ok(response) => response,
        Err(failure) => return Outcome::Judged(verdict_of(&failure, client.quoter())),
    };
    let answer = response.answer(client.quoter());
    let verdict = of_proxy(client, &answer).unwrap_or_else(|| destination.kind.judge(&answer));
    if destination.acknowledging.is_none() || verdict != Verdict::Delivered {
        return Outcome::Judged(verdict);
    }
    match splunk::ack_id(answer.body) {
        Some(id) => Outcome::Sent(Ticket::Indexer {
            id,
            sent: Instant::now(),
        }),
        None => Outcome::Unconfirmed(
            "the collector gives no number for an acknowledgement: enable indexer acknowledgement for the token; \
             until then what it accepts counts as delivered",
        ),
    }
}

/// What it means that the answer is not the sink's: this status is a proxy's alone.
pub fn of_proxy(client: &Client, answer: &Answer<'_>) -> Option<Verdict> {
    let authorization = client
        .proxy()
        .and_then(|proxy| proxy.authorization.as_ref());
    let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    (answer.status == status).then(|| Verdict::Hold {
        cause: Cause::AuthenticationFailed,
        reason: dial::wants_credentials(status, authorization),
    })
}

async fn send_syslog(
    receiver: &Receiver,
    wire: &mut Option<Wire>,
    messages: &[u8],
    waiting: bool,
) -> Outcome {
    let mut open = match wire.take().filter(|wire| !wire.is_old()) {
        Some(open) => open,
        None => match Wire::open(receiver).await {
            Ok(opened) => opened,
            Err(error) => {
                // No server of syslog is shown a credential.
                return Outcome::Judged(verdict_of(&error.into(), &Quoter::default()));
            }
        },
    };
    match open.send(messages).await {
        Ok(mark) => {
            *wire = Some(open);
            Outcome::Sent(Ticket::Written(mark))
        }
        Err(Broken::MessageTooLong) => Outcome::Judged(Verdict::Hold {
            cause: Cause::Misconfigured,
            reason: Broken::MessageTooLong.to_string(),
        }),
        Err(broken) if waiting => Outcome::StartOver(broken.to_string()),
        Err(broken) => Outcome::Judged(Verdict::Retry {
            reason: broken.to_string(),
            after: None,
        }),
    }
}

/// What it means that there was no answer.
pub fn verdict_of(failure: &Failure, quoter: &Quoter) -> Verdict {
    let reason = quoter.failure(&failure.to_string());
    let cause = match failure {
        Failure::Dial(DialError::Tls(_) | DialError::HostName | DialError::ProxyScheme) => {
            Cause::Misconfigured
        }
        Failure::Dial(DialError::ProxyCredentials(_)) => Cause::AuthenticationFailed,
        Failure::Dial(DialError::ProxyRefused(status)) if status.is_client_error() => {
            Cause::Misconfigured
        }
        _ => {
            return Verdict::Retry {
                reason,
                after: None,
            };
        }
    };
    Verdict::Hold { cause, reason }
}

/// What it means that the way cannot even be prepared.
pub fn verdict_of_setup(error: DialError) -> Verdict {
    verdict_of(&error.into(), &Quoter::default())
}
