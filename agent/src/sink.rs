//! What each kind of sink is sent and what its answers mean. Opens no connection.

pub mod azure;
pub mod gcs;
mod header;
pub mod http;
pub mod loggly;
pub mod mixpanel;
pub mod new_relic;
pub mod otlp;
pub mod packing;
pub mod quote;
pub mod s3;
pub mod splunk;
pub mod store;
pub mod syslog;
pub mod trust;

use std::{fmt, num::NonZeroU32, path::Path, time::Duration};

use ::http::{HeaderMap, HeaderValue, Method, Uri};
use katonic_log_config::{Compression, Proxy, Target};

pub use quote::Quoter;
pub use trust::{Identity, Trust};

use crate::credential::{CredentialError, Secret};

/// How long an answer may take, unless the policy says otherwise.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A sink with its credentials: everything that a request needs but its body.
#[derive(Clone, PartialEq)]
pub struct Destination {
    /// What is asked of the server.
    pub method: Method,
    /// Where requests go. Loggly's holds its token: never told, see [`Destination::address`].
    pub uri: Uri,
    /// Headers of each request; the values of credentials are marked as sensitive, so they print as `Sensitive`.
    pub headers: HeaderMap,
    /// How bodies are compressed; the headers say so too.
    pub compression: Compression,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How both ends prove who they are.
    pub trust: Trust,
    /// The proxy that the policy names; none: that of the environment.
    pub proxy: Option<Through>,
    /// On the node itself, or in the cluster: no proxy leads there.
    pub is_near: bool,
    /// Where and how it is asked what is indexed, if the policy wants that.
    pub acknowledging: Option<splunk::Acknowledging>,
    /// What its answers mean.
    pub kind: Kind,
    /// Hides the credentials that it is shown, should it repeat them.
    pub quoter: Quoter,
    address: String,
}

/// A proxy with its credential.
#[derive(Clone, Debug, PartialEq)]
pub struct Through {
    /// Its address.
    pub uri: Uri,
    /// `Proxy-Authorization`, marked as sensitive.
    pub authorization: Option<HeaderValue>,
}

impl Through {
    /// The address for people.
    pub fn address(&self) -> String {
        origin(&self.uri)
    }
}

/// The kinds of sinks, as far as answers go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Splunk HTTP Event Collector.
    Splunk,
    /// Loggly's bulk endpoint.
    Loggly,
    /// New Relic's Log API.
    NewRelic,
    /// Mixpanel's import of events.
    Mixpanel,
    /// OTLP over HTTP.
    Otlp,
    /// JSON over HTTP.
    Http,
    /// A store of objects, whose answers say more: see [`store::Authorized::judge`].
    ObjectStorage,
}

/// What a request needs that differs by the kind of sink.
struct Request {
    uri: Uri,
    /// The address for people, where it is not the URI.
    address: Option<String>,
    headers: HeaderMap,
    /// Credentials that stand elsewhere than in the headers.
    elsewhere: Vec<Secret>,
}

/// What a sink answered.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub body: &'a [u8],
    /// Tells of it what may be told.
    pub quoter: &'a Quoter,
}

impl Answer<'_> {
    /// What is told of the server's own words.
    fn quote(&self, text: &str) -> String {
        self.quoter.answer(text)
    }
}

/// What an answer means for the batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The sink has all of it.
    Delivered,
    /// Later again, as it is.
    Retry {
        /// For people.
        reason: String,
        /// How long the sink asks to wait.
        after: Option<Duration>,
    },
    /// Not before a credential or the configuration changes.
    Hold {
        /// Which of the two.
        cause: Cause,
        /// For people.
        reason: String,
    },
    /// Too large: in smaller batches.
    Split,
    /// The sink has it but for some records, which it refused for good and does not name. Nothing is sent again.
    Partial {
        /// How many were refused; none: only a warning.
        rejected: u64,
        /// For people.
        reason: String,
    },
    /// A record is refused for its content.
    Refused {
        /// Its place in the batch, if the sink says.
        record: Option<usize>,
        /// For people.
        reason: String,
    },
}

/// Why a sink holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The credential is refused.
    AuthenticationFailed,
    /// The address, index or anything else of the configuration is refused.
    Misconfigured,
}

impl Kind {
    /// What an answer means.
    pub fn judge(self, answer: &Answer<'_>) -> Verdict {
        match self {
            Self::Splunk => splunk::judge(answer),
            Self::Loggly => loggly::judge(answer),
            Self::NewRelic => new_relic::judge(answer),
            Self::Mixpanel => mixpanel::judge(answer),
            Self::Otlp => otlp::judge(answer),
            Self::Http => http::judge(answer),
            Self::ObjectStorage => judge_by_status(answer, format!("HTTP {}", answer.status)),
        }
    }
}

impl Destination {
    /// Puts a sink and its credentials together; `channel` names the sender to a sink that asks for it, see
    /// [`splunk::channel`].
    ///
    /// # Errors
    /// When a credential is missing or cannot be used.
    pub fn resolve(
        target: &Target,
        credentials: &Path,
        channel: &HeaderValue,
    ) -> Result<Self, CredentialError> {
        let connection = target.connection().ok_or(CredentialError::Address)?;
        let compression = packing::compression(target);
        let mut method = Method::POST;
        let mut acknowledging = None;
        let (request, kind) = match target {
            Target::Splunk(sink) => {
                let request = splunk::request(sink, compression, credentials, channel)?;
                acknowledging = splunk::acknowledging(sink, &request.headers)?;
                (request, Kind::Splunk)
            }
            Target::Loggly(sink) => (
                loggly::request(sink, compression, credentials)?,
                Kind::Loggly,
            ),
            Target::NewRelic(sink) => (
                new_relic::request(sink, compression, credentials)?,
                Kind::NewRelic,
            ),
            Target::Mixpanel(sink) => (
                mixpanel::request(sink, compression, credentials)?,
                Kind::Mixpanel,
            ),
            Target::Otlp(sink) => (otlp::request(sink, compression, credentials)?, Kind::Otlp),
            Target::Http(sink) => {
                method = http::method(sink.method);
                (http::request(sink, compression, credentials)?, Kind::Http)
            }
            Target::ObjectStorage(sink) => {
                method = Method::PUT;
                (
                    store::request(&sink.store, credentials)?,
                    Kind::ObjectStorage,
                )
            }
            Target::Syslog(_) => return Err(CredentialError::Address),
        };
        let Request {
            uri,
            address,
            headers,
            elsewhere,
        } = request;
        let mut quoter = Quoter::of_headers(&headers);
        // It may hold a token, and is never told either.
        quoter.hide(uri.query().unwrap_or_default().as_bytes());
        for credential in &elsewhere {
            quoter.hide(credential.reveal());
        }
        Ok(Self {
            method,
            address: address.unwrap_or_else(|| without_query(&uri)),
            uri,
            headers,
            compression,
            timeout: connection.timeout_ms.map_or(TIMEOUT, millis),
            trust: Trust::resolve(&connection.tls, credentials)?,
            proxy: connection
                .proxy
                .as_ref()
                .map(|proxy| through(proxy, credentials))
                .transpose()?,
            is_near: false,
            acknowledging,
            kind,
            quoter,
        })
    }

    /// Another server that is reached in the same way, to be asked for what this one wants to see; `shown` is not to be told.
    #[must_use]
    pub fn beside(&self, method: Method, uri: Uri, headers: HeaderMap, shown: &[&[u8]]) -> Self {
        let mut quoter = Quoter::of_headers(&headers);
        for credential in shown {
            quoter.hide(credential);
        }
        Self {
            method,
            address: without_query(&uri),
            uri,
            headers,
            compression: Compression::None,
            trust: Trust {
                // It is the other server's.
                server_name: None,
                ..self.trust.clone()
            },
            acknowledging: None,
            kind: Kind::Http,
            quoter,
            timeout: self.timeout,
            proxy: self.proxy.clone(),
            is_near: false,
        }
    }

    /// A server that is no sink, reached without a proxy; each request brings its own headers.
    pub fn direct(method: Method, uri: Uri, trust: Trust, timeout: Duration) -> Self {
        Self {
            method,
            address: without_query(&uri),
            uri,
            headers: HeaderMap::new(),
            compression: Compression::None,
            timeout,
            trust,
            proxy: None,
            is_near: true,
            acknowledging: None,
            kind: Kind::Http,
            quoter: Quoter::default(),
        }
    }

    /// The same without a proxy.
    #[must_use]
    pub fn near(self) -> Self {
        Self {
            proxy: None,
            is_near: true,
            ..self
        }
    }

    /// The address for people: without its query, which may hold a token, and without Loggly's token.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Destination")
            .field("method", &self.method)
            .field("address", &self.address)
            .field("headers", &self.headers)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

fn through(proxy: &Proxy, credentials: &Path) -> Result<Through, CredentialError> {
    let authorization = proxy
        .basic
        .as_ref()
        .map(|basic| header::basic(basic, credentials))
        .transpose()?;
    Ok(Through {
        uri: proxy.url.uri().clone(),
        authorization,
    })
}

fn millis(number: NonZeroU32) -> Duration {
    Duration::from_millis(number.get().into())
}

fn without_query(uri: &Uri) -> String {
    format!("{}{}", origin(uri), uri.path())
}

/// Scheme, host and port of an address.
fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}")
}

/// What all sinks mean by a status that their own documentation does not say more about.
fn judge_by_status(answer: &Answer<'_>, reason: String) -> Verdict {
    match answer.status {
        200..=299 => Verdict::Delivered,
        408 | 425 | 429 | 500..=599 => Verdict::Retry {
            reason,
            after: answer.retry_after,
        },
        413 => Verdict::Split,
        401 | 403 | 407 => Verdict::Hold {
            cause: Cause::AuthenticationFailed,
            reason,
        },
        _ => Verdict::Hold {
            cause: Cause::Misconfigured,
            reason,
        },
    }
}

#[cfg(test)]
impl<'a> Answer<'a> {
    /// An answer to somebody who has shown no credential.
    pub(crate) fn of(status: u16, body: &'a [u8]) -> Self {
        static NOTHING_HIDDEN: std::sync::LazyLock<Quoter> =
            std::sync::LazyLock::new(Quoter::default);
        Self {
            status,
            retry_after: None,
            body,
            quoter: &NOTHING_HIDDEN,
        }
    }
}

#[cfg(test)]
mod tests;
