//! Loggly's bulk endpoint, as strict as Loggly documents it.
//!
//! Sources: Loggly "HTTP/S Bulk Endpoint" (path, sizes, answer), "Tags", "Troubleshooting HTTP" (content types).
//! Loggly does not document its refusals: 403 is what its own client libraries take for a bad token, the others are
//! the statuses of RFC 9110. Sizes are read as powers of ten, the smaller reading.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Record, Request, Verdict,
    body::{Coding, Unreadable, unpack},
};

/// An account: its tokens and Loggly's limits.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Customer tokens; 403 otherwise.
    pub tokens: BTreeSet<String>,
    /// How much a batch may be after unpacking, in bytes; 413 otherwise.
    pub max_batch: usize,
    /// How much an event may be, in bytes; 413 otherwise.
    pub max_event: usize,
    /// Content codings that are taken; 415 otherwise. Loggly documents none.
    pub codings: Vec<Coding>,
}

/// Why a request is refused: its status and the reason in words.
type Refusal = (u16, &'static str);

impl Rules {
    /// An account with one token and Loggly's limits.
    pub fn with_token(token: &str) -> Self {
        Self {
            tokens: BTreeSet::from([token.to_owned()]),
            max_batch: 5_000_000,
            max_event: 1_000_000,
            codings: Vec::new(),
        }
    }

    pub(super) fn judge(&self, request: &Request<'_>) -> Verdict {
        match self.take(request) {
            Ok(records) => Verdict::taken(200, json!({"response": "ok"}).to_string(), records),
            Err((status, reason)) => Verdict::refused(status, json!({"error": reason}).to_string()),
        }
    }

    fn take(&self, request: &Request<'_>) -> Result<Vec<Record>, Refusal> {
        let (token, tags) = read_path(request.uri.path()).ok_or((404, "no such path"))?;
        if *request.method != Method::POST {
            return Err((405, "only POST"));
        }
        if !self.tokens.contains(token) {
            return Err((403, "unknown token"));
        }
        if !tags.iter().all(|tag| is_tag(tag)) {
            return Err((400, "not a tag"));
        }
        if !matches!(
            request.content_type(),
            Some("text/plain" | "application/json")
        ) {
            return Err((
                415,
                "the content type is neither text/plain nor application/json",
            ));
        }
        let body =
            unpack(request.headers, request.body, &self.codings).map_err(
                |reason| match reason {
                    Unreadable::Coding => (415, "a content coding that is not documented"),
                    Unreadable::Content => (400, "not what its content coding says"),
                },
            )?;
        if body.len() > self.max_batch {
            return Err((413, "the batch is too large"));
        }
        let text = str::from_utf8(&body).map_err(|_| (400, "not UTF-8"))?;
        let events = text.strip_suffix('\n').unwrap_or(text);
        let tags: Value = tags.into();
        events
            .split('\n')
            .map(|event| self.read(event, &tags))
            .collect()
    }

    fn read(&self, event: &str, tags: &Value) -> Result<Record, Refusal> {
        // Nobody would ever find it.
        if event.trim().is_empty() {
            return Err((400, "an event is blank"));
        }
        if event.len() > self.max_event {
            return Err((413, "an event is too large"));
        }
        let mut record = match serde_json::from_str(event) {
            Ok(Value::Object(fields)) => of_object(event, fields),
            _ => Record {
                line: event.to_owned(),
                ..Record::default()
            },
        };
        record.envelope.insert("tags".to_owned(), tags.clone());
        Ok(record)
    }
}

/// Loggly parses events that are JSON; the line is the `message`, or all of it.
fn of_object(event: &str, mut fields: Map<String, Value>) -> Record {
    let line = match fields.remove("message") {
        Some(Value::String(message)) => message,
        other => {
            fields.extend(other.map(|message| ("message".to_owned(), message)));
            event.to_owned()
        }
    };
    Record {
        line,
        fields,
        ..Record::default()
    }
}

/// Token and tags of `/bulk/<token>/` and `/bulk/<token>/tag/<tag>,…/`.
fn read_path(path: &str) -> Option<(&str, Vec<&str>)> {
    let rest = path.strip_prefix("/bulk/")?.strip_suffix('/')?;
    let Some((token, tags)) = rest.split_once("/tag/") else {
        return (!rest.contains('/')).then_some((rest, Vec::new()));
    };
    let tags: Vec<_> = tags.split(',').collect();
    Some((token, tags))
}

/// Letters, digits, `-`, `.` and `_`, at most 64, a letter or digit first.
fn is_tag(tag: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    tag.len() <= 64
        && tag.starts_with(|first: char| first.is_ascii_alphanumeric())
        && tag.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_token_and_may_have_tags() {
        assert_eq!(read_path("/bulk/t/tag/a,b/"), Some(("t", vec!["a", "b"])));
        assert_eq!(read_path("/bulk/t/"), Some(("t", vec![])));
        for path in [
            "/",
            "/bulk/t",
            "/bulk/t/tags/a/",
            "/inputs/t/tag/a/",
            "/bulk/t/tag/a",
        ] {
            assert_eq!(read_path(path), None, "{path}");
        }
        assert!(is_tag("platform-1.2_x"));
        for tag in ["", "-a", "a/b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_tag(tag), "{tag:?}");
        }
    }
}
