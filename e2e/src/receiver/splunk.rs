//! Splunk's HTTP Event Collector, as strict as Splunk documents it; the event endpoint and the health check only.
//!
//! Sources: Splunk "Format events for HTTP Event Collector", "Troubleshoot HTTP Event Collector" (codes and
//! texts), `limits.conf` `[http_input]`. Where Splunk says nothing, the stricter reading is taken and said here.

mod event;
mod reply;

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, header};
use serde_json::value::RawValue;

use super::{Record, Request, Verdict, body::gunzip};
pub use reply::Reply;

/// A collector: its tokens and its limits.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Tokens by value.
    pub tokens: BTreeMap<String, Token>,
    /// `max_content_length`: how much a request's body may be on the wire, in bytes.
    pub max_content_length: usize,
    /// `maxEventSize`: how much one event may be, in bytes of JSON.
    pub max_event_size: usize,
    /// Whether a refusal says which event it is about; servers before version 8 do not.
    pub names_event: bool,
    /// What the health check answers.
    pub health: Reply,
}

/// What a token allows.
#[derive(Clone, Debug, Default)]
pub struct Token {
    /// Known, but switched off.
    pub disabled: bool,
    /// Indexes that events may ask for; empty: any.
    pub indexes: BTreeSet<String>,
}

impl Rules {
    /// A healthy collector with Splunk's default limits and one token.
    pub fn with_token(token: &str) -> Self {
        Self {
            tokens: BTreeMap::from([(token.to_owned(), Token::default())]),
            max_content_length: 838_860_800,
            max_event_size: 5 << 20,
            names_event: true,
            health: Reply::Healthy,
        }
    }

    pub(super) fn judge(&self, request: &Request<'_>) -> Verdict {
        match request.uri.path() {
            "/services/collector"
            | "/services/collector/event"
            | "/services/collector/event/1.0"
                if *request.method == Method::POST =>
            {
                match self.take(request) {
                    Ok(records) => Verdict {
                        records,
                        ..Reply::Success.verdict(None)
                    },
                    Err((reply, number)) => reply.verdict(number.filter(|_| self.names_event)),
                }
            }
            "/services/collector/health" | "/services/collector/health/1.0"
                if *request.method == Method::GET =>
            {
                self.health.verdict(None)
            }
            "/services/collector"
            | "/services/collector/event"
            | "/services/collector/event/1.0"
            | "/services/collector/health"
            | "/services/collector/health/1.0" => Reply::MethodNotAllowed.verdict(None),
            _ => Reply::NotFound.verdict(None),
        }
    }

    /// All events or none: Splunk names the first that it refuses, and the request with it.
    fn take(&self, request: &Request<'_>) -> Result<Vec<Record>, (Reply, Option<usize>)> {
        let token = self.authorize(request).map_err(|reply| (reply, None))?;
        if request.body.len() > self.max_content_length {
            return Err((Reply::TooLarge, None));
        }
        let body = unpack(request).ok_or((Reply::InvalidDataFormat, None))?;
        let mut records = Vec::new();
        for (number, event) in serde_json::Deserializer::from_slice(&body)
            .into_iter::<&RawValue>()
            .enumerate()
        {
            let refuse = |reply: Reply| (reply, Some(reply.numbered(number)));
            let json = event.map_err(|_| refuse(Reply::InvalidDataFormat))?;
            // Splunk answers this code to an event above the limit, too.
            if json.get().len() > self.max_event_size {
                return Err(refuse(Reply::InvalidDataFormat));
            }
            let record = event::read(json.get()).map_err(refuse)?;
            let index = record.about("index");
            if !(index.is_empty() || token.indexes.is_empty() || token.indexes.contains(index)) {
                return Err(refuse(Reply::IncorrectIndex));
            }
            records.push(record);
        }
        if records.is_empty() {
            return Err((Reply::NoData, None));
        }
        Ok(records)
    }

    fn authorize(&self, request: &Request<'_>) -> Result<&Token, Reply> {
        let header = request
            .headers
            .get(header::AUTHORIZATION)
            .ok_or(Reply::TokenRequired)?;
        let header = header.to_str().map_err(|_| Reply::InvalidAuthorization)?;
        let token = header
            .strip_prefix("Splunk ")
            .ok_or(Reply::InvalidAuthorization)?;
        match self.tokens.get(token) {
            None => Err(Reply::InvalidToken),
            Some(token) if token.disabled => Err(Reply::TokenDisabled),
            Some(token) => Ok(token),
        }
    }
}

/// The body without its content coding. Splunk documents gzip only, so anything else is not data.
fn unpack(request: &Request<'_>) -> Option<Vec<u8>> {
    match request.headers.get(header::CONTENT_ENCODING) {
        None => Some(request.body.to_vec()),
        Some(coding) if coding == "gzip" => gunzip(request.body),
        Some(_) => None,
    }
}
