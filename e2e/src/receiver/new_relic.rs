//! New Relic's Log API, as strict as New Relic documents it; and how long an account keeps what it has ([`Retention`]).
//!
//! Sources: New Relic "Introduction to the Log API" (headers, forms of the body, limits), "Report metrics via the
//! Metric API" (the status codes of its ingest endpoints), "Troubleshoot with `NrIntegrationError` events" (what is
//! checked only after the answer).

mod event;
mod nerdgraph;
mod reply;

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{Method, header};

use super::{
    Request, Verdict,
    body::{Coding, Unreadable, unpack},
};
pub use event::Warning;
pub use nerdgraph::Retention;
pub use reply::Reply;

/// An account: its license keys and New Relic's limits.
#[derive(Clone, Debug)]
pub struct Rules {
    /// License keys; 403 otherwise.
    pub license_keys: BTreeSet<String>,
    /// How much a body may be on the wire, in bytes; 413 otherwise.
    pub max_payload: usize,
    /// What time it is for the account; none: the real one.
    pub now: Option<SystemTime>,
    /// How long the account keeps what is in its namespaces.
    pub retention: Retention,
}

impl Rules {
    /// An account with one license key and New Relic's limits.
    pub fn with_license_key(key: &str) -> Self {
        Self {
            license_keys: BTreeSet::from([key.to_owned()]),
            max_payload: 1_000_000,
            now: None,
            retention: Retention::default(),
        }
    }

    pub(super) fn judge(&mut self, request: &Request<'_>) -> Verdict {
        if request.uri.path() == "/graphql" {
            return self.retention.judge(request);
        }
        self.take(request)
            .unwrap_or_else(|reply| Verdict::refused(reply.status(), reply.body()))
    }

    fn take(&self, request: &Request<'_>) -> Result<Verdict, Reply> {
        if request.uri.path() != "/log/v1" {
            return Err(Reply::NotFound);
        }
        if *request.method != Method::POST {
            return Err(Reply::MethodNotAllowed);
        }
        if !self.is_authorized(request) {
            return Err(Reply::Forbidden);
        }
        if !request.headers.contains_key(header::CONTENT_LENGTH) {
            return Err(Reply::LengthRequired);
        }
        if !matches!(
            request.content_type(),
            Some("application/json" | "json" | "application/gzip" | "gzip")
        ) {
            return Err(Reply::UnsupportedMediaType);
        }
        if request.body.len() > self.max_payload {
            return Err(Reply::TooLarge);
        }
        let body =
            unpack(request.headers, request.body, &[Coding::Gzip]).map_err(
                |reason| match reason {
                    Unreadable::Coding => Reply::UnsupportedMediaType,
                    Unreadable::Content => Reply::InvalidStructure,
                },
            )?;
        let events = event::read(&body).ok_or(Reply::InvalidStructure)?;
        let now = self.now.unwrap_or_else(SystemTime::now);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut verdict = Verdict::taken(202, Reply::Accepted.body(), Vec::new());
        for event in events {
            match event.store(now, &mut verdict.warnings) {
                Ok(record) => verdict.records.push(record),
                Err(warning) => verdict.warnings.push(warning),
            }
        }
        Ok(verdict)
    }

    /// The key comes as a header or in the query.
    fn is_authorized(&self, request: &Request<'_>) -> bool {
        let in_header = request
            .headers
            .get("api-key")
            .and_then(|value| value.to_str().ok());
        let in_query = request
            .uri
            .query()
            .and_then(|query| query.strip_prefix("Api-Key="));
        in_header
            .or(in_query)
            .is_some_and(|key| self.license_keys.contains(key))
    }
}
