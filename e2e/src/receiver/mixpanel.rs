//! Mixpanel's import of events, as strict as Mixpanel documents it (`strict=1`).
//!
//! Source: Mixpanel "Import Events": authentication, limits of a request and of an event, required properties, and the answer that
//! names each event that was refused while the others are imported.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{Method, header};
use serde_json::{Map, Value, json};

use super::{
    Record, Request, Verdict,
    body::{Coding, unpack},
};

/// Most events and bytes of a request, and bytes of an event.
const EVENTS: usize = 2_000;
const REQUEST: usize = 2_000_000;
const EVENT: usize = 1_000_000;

/// Most properties, members of what is in them, and levels.
const PROPERTIES: usize = 255;
const LEVELS: usize = 3;

/// How far an event may be in the future.
const AHEAD: Duration = Duration::from_hours(1);

/// 1971: nothing was before.
const EARLIEST: i64 = 31_536_000;

const NOBODY: [&str; 18] = [
    "",
    "00000000-0000-0000-0000-000000000000",
    "anon",
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "<nil>",
    "0",
    "-1",
    "true",
    "false",
    "[]",
    "{}",
];

/// A project: who may import, and what it has.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `name:password` of each who may; a project's token has no password.
    pub credentials: Vec<String>,
    /// The project that a service account has to name.
    pub project_id: Option<String>,
    /// Events that the project refuses for a reason of its own, by `$insert_id` or any property's value.
    pub refuses: Vec<String>,
    /// How often each event was imported: it is one event however often, if event, time, `distinct_id` and `$insert_id` are the same.
    pub imported: BTreeMap<String, usize>,
}

impl Rules {
    /// A project with this token.
    pub fn with_token(token: &str) -> Self {
        Self {
            credentials: vec![format!("{token}:")],
            ..Self::default()
        }
    }

    /// A project with a service account.
    pub fn with_account(username: &str, secret: &str, project_id: &str) -> Self {
        Self {
            credentials: vec![format!("{username}:{secret}")],
            project_id: Some(project_id.to_owned()),
            ..Self::default()
        }
    }

    pub(super) fn judge(&mut self, request: &Request<'_>) -> Verdict {
        self.take(request).unwrap_or_else(|(status, error)| {
            let body = json!({"code": status, "error": error, "status": "Refused"});
            Verdict::refused(status, body.to_string())
        })
    }

    fn take(&mut self, request: &Request<'_>) -> Result<Verdict, (u16, &'static str)> {
        let query = request.uri.query().unwrap_or_default();
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        if request.uri.path() != "/import" || *request.method != Method::POST {
            return Err((404, "not found"));
        }
        if !self.is_authorized(request) || parameter("project_id") != self.project_id.as_deref() {
            return Err((401, "Invalid credentials"));
        }
        if parameter("strict") != Some("1") {
            return Err((400, "strict is missing"));
        }
        if request.content_type() != Some("application/json") {
            return Err((415, "unsupported content type"));
        }
        let body = unpack(request.headers, request.body, &[Coding::Gzip])
            .map_err(|_| (400, "invalid encoding"))?;
        if body.len() > REQUEST {
            return Err((413, "request exceeds max limit of 2097152 bytes"));
        }
        let events: Vec<Value> =
            serde_json::from_slice(&body).map_err(|_| (400, "invalid JSON"))?;
        if events.len() > EVENTS {
            return Err((413, "request exceeds 2000 events"));
        }
        let mut failed = Vec::new();
        let mut records = Vec::new();
        for (index, event) in events.into_iter().enumerate() {
            let insert_id = event["properties"]["$insert_id"].clone();
            match self.import(event) {
                Ok(record) => records.push(record),
                Err((field, message)) => failed.push(
                    json!({"index": index, "$insert_id": insert_id, "field": field, "message": message}),
                ),
            }
        }
        let imported = records.len();
        let (status, body) = if failed.is_empty() {
            let body = json!({"code": 200, "num_records_imported": imported, "status": "OK"});
            (200, body)
        } else {
            let body = json!({
                "code": 400, "error": "some data points in the request failed validation", "failed_records": failed,
                "num_records_imported": imported, "status": "Bad Request",
            });
            (400, body)
        };
        Ok(Verdict::taken(status, body.to_string(), records))
    }

    fn is_authorized(&self, request: &Request<'_>) -> bool {
        let value = request.headers.get(header::AUTHORIZATION);
        let encoded = value.and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
        let pair = encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
        pair.and_then(|pair| String::from_utf8(pair).ok())
            .is_some_and(|pair| self.credentials.contains(&pair))
    }

    fn import(&mut self, event: Value) -> Result<Record, (&'static str, &'static str)> {
        if event.to_string().len() >= EVENT {
            return Err(("event", "is too large"));
        }
        let Value::Object(mut event) = event else {
            return Err(("event", "is not an object"));
        };
        let name = event.remove("event");
        let Some(Value::String(name)) = name.filter(|name| name.as_str() != Some("")) else {
            return Err(("event", "must be a nonempty string"));
        };
        let Some(Value::Object(properties)) = event.remove("properties") else {
            return Err(("properties", "must be an object"));
        };
        if properties.len() >= PROPERTIES
            || !properties.values().all(|value| fits(value, LEVELS - 1))
        {
            return Err(("properties", "has too many members or levels"));
        }
        let time = seconds(properties.get("time")).ok_or((
            "properties.time",
            "must be specified as seconds or milliseconds since epoch",
        ))?;
        let now = SystemTime::now() + AHEAD;
        let latest = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs().cast_signed());
        if time < EARLIEST || time > latest {
            return Err(("properties.time", "is out of range"));
        }
        let Some(user) = properties.get("distinct_id").and_then(Value::as_str) else {
            return Err(("properties.distinct_id", "must be a string"));
        };
        if !user.is_empty() && NOBODY.contains(&user.to_lowercase().as_str()) {
            return Err(("properties.distinct_id", "is not an id"));
        }
        let insert_id = properties.get("$insert_id").and_then(Value::as_str);
        let is_id = |id: &&str| {
            id.len() <= 36
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !NOBODY.contains(&id.to_lowercase().as_str())
        };
        let Some(insert_id) = insert_id.filter(is_id) else {
            return Err(("properties.$insert_id", "is not an id"));
        };
        let is_refused = |value: &Value| {
            value
                .as_str()
                .is_some_and(|text| self.refuses.iter().any(|one| one == text))
        };
        if properties.values().any(is_refused) {
            return Err(("event", "is refused by the project"));
        }
        let key = json!([name, time, user, insert_id]).to_string();
        *self.imported.entry(key).or_default() += 1;
        Ok(Record {
            line: name,
            fields: cut(properties),
            ..Record::default()
        })
    }
}

fn fits(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(members) => {
            levels > 0
                && members.len() < PROPERTIES
                && members.values().all(|value| fits(value, levels - 1))
        }
        Value::Array(values) => {
            levels > 0
                && values.len() < PROPERTIES
                && values.iter().all(|value| fits(value, levels - 1))
        }
        _ => true,
    }
}

/// Seconds, or milliseconds where they would be a time far away.
fn seconds(time: Option<&Value>) -> Option<i64> {
    let time = time?.as_i64()?;
    Some(if time > 100_000_000_000 {
        time / 1000
    } else {
        time
    })
}

/// The server keeps 255 characters of a text.
fn cut(properties: Map<String, Value>) -> Map<String, Value> {
    let cut = |value: Value| match value {
        Value::String(text) => Value::String(text.chars().take(255).collect()),
        other => other,
    };
    properties
        .into_iter()
        .map(|(name, value)| (name, cut(value)))
        .collect()
}
