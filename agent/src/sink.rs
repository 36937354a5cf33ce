//! What each kind of sink is sent and what its answers mean. Opens no connection.

pub mod http;
pub mod splunk;

use std::{path::Path, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use katonic_log_config::{Target, Tls};

use crate::{
    credential::{self, CredentialError, Secret},
    encode::Format,
};

/// A sink with its credentials: everything that a request needs but its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Where requests go.
    pub uri: Uri,
    /// Headers of each request; the values of credentials are marked as sensitive, so they print as `Sensitive`.
    pub headers: HeaderMap,
    /// Authorities that replace the public ones, PEM.
    pub ca: Option<Secret>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
    /// What its answers mean.
    pub kind: Kind,
}

/// The kinds of sinks, as far as answers go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Splunk HTTP Event Collector.
    Splunk,
    /// JSON lines over HTTP.
    Http,
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
            Self::Http => http::judge(answer),
        }
    }
}

/// The form of the records of a sink.
pub fn format(target: &Target) -> Format {
    match target {
        Target::Splunk(splunk) => Format::Splunk(crate::encode::splunk::Event {
            index: splunk.index.clone(),
            source: splunk.source.clone(),
            sourcetype: splunk.sourcetype.clone(),
        }),
        Target::Http(_) => Format::JsonLines,
    }
}

impl Destination {
    /// Puts a sink and its credentials together.
    ///
    /// # Errors
    /// When a credential is missing or cannot be used.
    pub fn resolve(target: &Target, credentials: &Path) -> Result<Self, CredentialError> {
        let (uri, headers, tls, kind) = match target {
            Target::Splunk(sink) => {
                let uri = splunk::uri(sink).map_err(|_| CredentialError::Address)?;
                (
                    uri,
                    splunk::headers(sink, credentials)?,
                    &sink.tls,
                    Kind::Splunk,
                )
            }
            Target::Http(sink) => {
                let headers = http::headers(sink, credentials)?;
                (sink.url.uri().clone(), headers, &sink.tls, Kind::Http)
            }
        };
        let Tls {
            ca,
            insecure_skip_verify,
        } = tls;
        Ok(Self {
            uri,
            headers,
            ca: ca
                .as_ref()
                .map(|key| credential::read(credentials, key))
                .transpose()?,
            insecure_skip_verify: *insecure_skip_verify,
            kind,
        })
    }

    /// The address for people: without its query, which may hold a token.
    pub fn address(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        format!("{scheme}://{authority}{}", self.uri.path())
    }
}

/// The headers that every sink gets; later ones of a sink come on top.
fn common_headers(content_type: &'static str) -> HeaderMap {
    use ::http::header;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("katonic-log-agent/", env!("CARGO_PKG_VERSION"))),
    );
    headers
}

/// A header with a credential in it.
fn secret_header(
    headers: &mut HeaderMap,
    name: &HeaderName,
    value: &[u8],
    key: &katonic_log_config::CredentialKey,
) -> Result<(), CredentialError> {
    let mut value =
        HeaderValue::from_bytes(value).map_err(|_| CredentialError::NotAHeader(key.clone()))?;
    value.set_sensitive(true);
    headers.insert(name.clone(), value);
    Ok(())
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
