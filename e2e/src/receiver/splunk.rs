//! Splunk's HTTP Event Collector, as strict as Splunk documents it: the event endpoint, indexer acknowledgement and
//! the health check; and the settings of its indexes ([`Management`]).
//!
//! Sources: Splunk "Format events for HTTP Event Collector", "Troubleshoot HTTP Event Collector" (codes and
//! texts), "About HTTP Event Collector Indexer Acknowledgment", `limits.conf` `[http_input]`. Where Splunk says
//! nothing, the stricter reading is taken and said here.

mod acknowledgement;
mod event;
mod management;
mod reply;

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, header};
use serde_json::value::RawValue;

use super::{
    Record, Request, Verdict,
    body::{Coding, unpack},
};
pub use acknowledgement::{Acknowledgement, Indexing};
use acknowledgement::{Channel, Issued};
pub use management::Management;
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
    /// Who looks after its indexes.
    pub management: Management,
}

/// What a token allows.
#[derive(Clone, Debug, Default)]
pub struct Token {
    /// Known, but switched off.
    pub disabled: bool,
    /// Indexes that events may ask for; empty: any.
    pub indexes: BTreeSet<String>,
    /// `useACK`: indexer acknowledgement, which a token has or has not.
    pub acknowledgement: Option<Acknowledgement>,
}

impl Token {
    /// A token with indexer acknowledgement.
    pub fn acknowledging(indexing: Indexing) -> Self {
        Self {
            acknowledgement: Some(Acknowledgement::new(indexing)),
            ..Self::default()
        }
    }
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
            management: Management::default(),
        }
    }

    pub(super) fn judge(&mut self, request: &Request<'_>) -> Verdict {
        if let Some(verdict) = self.management.judge(request) {
            return verdict;
        }
        match (request.uri.path(), request.method) {
            (
                "/services/collector"
                | "/services/collector/event"
                | "/services/collector/event/1.0",
                &Method::POST,
            ) => self.take(request).unwrap_or_else(|(reply, number)| {
                reply.verdict(number.filter(|_| self.names_event))
            }),
            ("/services/collector/ack" | "/services/collector/ack/1.0", &Method::POST) => self
                .acknowledge(request)
                .unwrap_or_else(|reply| reply.verdict(None)),
            ("/services/collector/health" | "/services/collector/health/1.0", &Method::GET) => {
                self.health.verdict(None)
            }
            (
                "/services/collector"
                | "/services/collector/event"
                | "/services/collector/event/1.0"
                | "/services/collector/ack"
                | "/services/collector/ack/1.0"
                | "/services/collector/health"
                | "/services/collector/health/1.0",
                _,
            ) => Reply::MethodNotAllowed.verdict(None),
            _ => Reply::NotFound.verdict(None),
        }
    }

    /// Gives a request's events an id to ask for, if the token has acknowledgement.
    fn take(&mut self, request: &Request<'_>) -> Result<Verdict, (Reply, Option<usize>)> {
        let of_request = |reply: Reply| (reply, None);
        let name = self.authorize(request).map_err(of_request)?;
        let channel = Channel::of(request).map_err(of_request)?;
        let records = self.read(&name, channel.is_some(), request)?;
        let acknowledgement = self
            .tokens
            .get_mut(&name)
            .and_then(|token| token.acknowledgement.as_mut());
        let (Some(acknowledgement), Some(channel)) = (acknowledgement, channel) else {
            return Ok(Reply::Success.taken(None, records));
        };
        let Issued { id, is_kept } = acknowledgement.issue(channel);
        let records = if is_kept { records } else { Vec::new() };
        Ok(Reply::Success.taken(Some(id), records))
    }

    /// All events or none: Splunk names the first that it refuses, and the request with it.
    fn read(
        &self,
        token: &str,
        names_channel: bool,
        request: &Request<'_>,
    ) -> Result<Vec<Record>, (Reply, Option<usize>)> {
        let token = self.tokens.get(token).ok_or((Reply::InvalidToken, None))?;
        if token.acknowledgement.is_some() && !names_channel {
            return Err((Reply::ChannelMissing, None));
        }
        if request.body.len() > self.max_content_length {
            return Err((Reply::TooLarge, None));
        }
        // Splunk documents gzip only, so anything else is not data.
        let body = unpack(request.headers, request.body, &[Coding::Gzip])
            .map_err(|_| (Reply::InvalidDataFormat, None))?;
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

    /// Answers which of the ids that a sender asks for are indexed.
    fn acknowledge(&mut self, request: &Request<'_>) -> Result<Verdict, Reply> {
        let name = self.authorize(request)?;
        let acknowledgement = self
            .tokens
            .get_mut(&name)
            .and_then(|token| token.acknowledgement.as_mut())
            .ok_or(Reply::AckDisabled)?;
        let channel = Channel::of(request)?.ok_or(Reply::ChannelMissing)?;
        let body = unpack(request.headers, request.body, &[Coding::Gzip])
            .map_err(|_| Reply::InvalidDataFormat)?;
        Ok(Verdict::taken(
            200,
            acknowledgement.answer(&channel, &body)?,
            Vec::new(),
        ))
    }

    /// The token of a request, which this collector knows.
    fn authorize(&self, request: &Request<'_>) -> Result<String, Reply> {
        let header = request
            .headers
            .get(header::AUTHORIZATION)
            .ok_or(Reply::TokenRequired)?;
        let header = header.to_str().map_err(|_| Reply::InvalidAuthorization)?;
        let name = header
            .strip_prefix("Splunk ")
            .ok_or(Reply::InvalidAuthorization)?;
        match self.tokens.get(name) {
            None => Err(Reply::InvalidToken),
            Some(token) if token.disabled => Err(Reply::TokenDisabled),
            Some(_) => Ok(name.to_owned()),
        }
    }
}
