//! The settings of indexes, by the REST API of Splunk Enterprise and the Admin Config Service of Splunk Cloud, as strict as Splunk
//! documents them.
//!
//! Sources: Splunk "REST API Reference: Introspection endpoints" (`data/indexes/{name}`), "Basic concepts" (tokens, status codes),
//! `indexes.conf` (`frozenTimePeriodInSecs`); Splunk Cloud "Manage indexes in Splunk Cloud Platform" (ACS).

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, header};
use serde_json::{Value, json};

use super::super::{Request, Verdict, form};

/// The most that an index takes, in seconds.
const MOST_SECONDS: u64 = 4_294_967_295;

/// Who looks after indexes, and what they say.
#[derive(Clone, Debug, Default)]
pub struct Management {
    /// Tokens that are good.
    pub token: String,
    /// A user and a password that are good, with a colon between them.
    pub basic: String,
    /// Whether they may change indexes (`indexes_edit`).
    pub may_edit: bool,
    /// The stack, if it is Splunk Cloud.
    pub stack: Option<String>,
    /// Indexes: seconds, of Splunk Cloud days.
    pub indexes: BTreeMap<String, u64>,
    /// How often an index of Splunk Cloud is read as it was after it was changed.
    pub lag: usize,
    /// Changes that are under way.
    pending: BTreeMap<String, (u64, usize)>,
    /// How often an index was changed.
    pub writes: usize,
}

impl Management {
    /// The answer, if it is asked for an index.
    pub(super) fn judge(&mut self, request: &Request<'_>) -> Option<Verdict> {
        let path = request.uri.path();
        let answer = if let Some(stack) = &self.stack {
            let name = path.strip_prefix(&format!("/{stack}/adminconfig/v2/indexes/"))?;
            self.cloud(request, name)
        } else {
            let name = path.strip_prefix("/services/data/indexes/")?;
            self.enterprise(request, name)
        };
        Some(match answer {
            Ok((status, answer)) | Err((status, answer)) => {
                Verdict::refused(status, answer.to_string())
            }
        })
    }

    fn is_known(&self, request: &Request<'_>) -> bool {
        let value = request.headers.get(header::AUTHORIZATION);
        let value = value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let basic = format!("Basic {}", BASE64_STANDARD.encode(&self.basic));
        let has_basic = self.stack.is_none() && !self.basic.is_empty() && value == basic;
        has_basic || (!self.token.is_empty() && value == format!("Bearer {}", self.token))
    }

    fn enterprise(
        &mut self,
        request: &Request<'_>,
        name: &str,
    ) -> Result<(u16, Value), (u16, Value)> {
        let refused = |status: u16, text: &str| {
            Err((
                status,
                json!({"messages": [{"type": "ERROR", "text": text}]}),
            ))
        };
        if !self.is_known(request) {
            return refused(401, "call not properly authenticated");
        }
        if request.uri.query() != Some("output_mode=json") {
            return refused(400, "XML is not played here");
        }
        if !self.indexes.contains_key(name) {
            return refused(404, "Could not find object");
        }
        match *request.method {
            Method::GET => {}
            Method::POST if !self.may_edit => {
                return refused(403, "insufficient permission to access this resource");
            }
            Method::POST => {
                let form = form::read(request).unwrap_or_default();
                let known = form.keys().all(|key| key == "frozenTimePeriodInSecs");
                let seconds = form.get("frozenTimePeriodInSecs");
                let seconds: Option<u64> = seconds.and_then(|seconds| seconds.parse().ok());
                match seconds.filter(|seconds| known && (1..=MOST_SECONDS).contains(seconds)) {
                    Some(seconds) => {
                        self.indexes.insert(name.to_owned(), seconds);
                        self.writes += 1;
                    }
                    None => return refused(400, "Argument is not supported by this handler."),
                }
            }
            _ => return refused(405, "Method Not Allowed"),
        }
        let seconds = self.indexes.get(name);
        let content = json!({"frozenTimePeriodInSecs": seconds, "maxTotalDataSizeMB": 500_000});
        Ok((200, json!({"entry": [{"name": name, "content": content}]})))
    }

    fn cloud(&mut self, request: &Request<'_>, name: &str) -> Result<(u16, Value), (u16, Value)> {
        let refused =
            |status: u16, code: &str| Err((status, json!({"code": code, "message": code})));
        if !self.is_known(request) {
            return refused(401, "401-unauthorized");
        }
        if !self.indexes.contains_key(name) {
            return refused(404, "404-index-not-found");
        }
        match *request.method {
            Method::GET => {}
            Method::PATCH if !self.may_edit => return refused(403, "403-forbidden"),
            Method::PATCH => {
                if self.pending.contains_key(name) {
                    return refused(424, "424-deployment-in-progress");
                }
                let body: Value = serde_json::from_slice(request.body).unwrap_or_default();
                let is_json = request.content_type() == Some("application/json");
                let is_alone = body.as_object().is_some_and(|body| body.len() == 1);
                match body["searchableDays"]
                    .as_u64()
                    .filter(|days| *days > 0 && is_json && is_alone)
                {
                    Some(days) => {
                        self.pending.insert(name.to_owned(), (days, self.lag));
                        self.writes += 1;
                        return Ok((202, json!({"name": name, "searchableDays": days})));
                    }
                    None => return refused(400, "400-bad-request"),
                }
            }
            _ => return refused(405, "405-method-not-allowed"),
        }
        if let Some((days, lag)) = self.pending.get_mut(name) {
            if *lag == 0 {
                self.indexes.insert(name.to_owned(), *days);
                self.pending.remove(name);
            } else {
                *lag -= 1;
            }
        }
        let days = self.indexes.get(name);
        Ok((
            200,
            json!({"name": name, "datatype": "event", "searchableDays": days, "maxDataSizeMB": 0}),
        ))
    }
}
