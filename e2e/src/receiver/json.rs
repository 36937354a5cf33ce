//! A server that takes JSON objects, one a line or in an array; it interprets no member but the message.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, Method, header};
use serde_json::{Map, Value};

use super::{
    Record, Request, Verdict,
    body::{Coding, Unreadable, unpack},
};

/// What the server asks for.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Path.
    pub path: String,
    /// Method; 405 otherwise.
    pub method: Method,
    /// How objects stand in a body; 400 otherwise.
    pub format: Format,
    /// How a sender has to prove who it is; 401 otherwise.
    pub authorization: Option<Authorization>,
    /// Headers that must be there with exactly these values, names in lower case; 401 otherwise.
    pub headers: Vec<(String, String)>,
    /// Content codings that are taken; 415 otherwise.
    pub codings: Vec<Coding>,
    /// How much a body may be after unpacking, in bytes; 413 otherwise.
    pub max_body: usize,
    /// Refuses (400) each request with an object that contains this text.
    pub refuses: Option<String>,
    /// The status of what is taken.
    pub success: u16,
}

/// How objects stand in a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// One object a line, each line ended (`application/x-ndjson`).
    Lines,
    /// One array of objects (`application/json`).
    Array,
}

/// What the header `Authorization` has to say.
#[derive(Clone, Eq, PartialEq)]
pub enum Authorization {
    /// A name and a password (RFC 7617).
    Basic {
        /// Name.
        username: String,
        /// Password.
        password: String,
    },
    /// A token (RFC 6750).
    Bearer(String),
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

impl Authorization {
    fn is_proven(&self, headers: &HeaderMap) -> bool {
        let sent = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '));
        match (self, sent) {
            (Self::Basic { username, password }, Some(("Basic", encoded))) => BASE64
                .decode(encoded)
                .is_ok_and(|pair| pair == format!("{username}:{password}").into_bytes()),
            (Self::Bearer(token), Some(("Bearer", sent))) => token == sent,
            _ => false,
        }
    }
}

/// Why a request is refused: its status and the reason in words.
type Refusal = (u16, &'static str);

impl Rules {
    /// A server without credentials that takes bodies of JSON lines of up to 10 MB at this path.
    pub fn at(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            method: Method::POST,
            format: Format::Lines,
            authorization: None,
            headers: Vec::new(),
            codings: vec![Coding::Gzip, Coding::Zstd],
            max_body: 10_000_000,
            refuses: None,
            success: 204,
        }
    }

    pub(super) fn judge(&self, request: &Request<'_>) -> Verdict {
        match self.take(request) {
            Ok(records) => Verdict::taken(self.success, String::new(), records),
            Err((status, reason)) => {
                Verdict::refused(status, serde_json::json!({"error": reason}).to_string())
            }
        }
    }

    fn take(&self, request: &Request<'_>) -> Result<Vec<Record>, Refusal> {
        if request.uri.path() != self.path {
            return Err((404, "no such path"));
        }
        if *request.method != self.method {
            return Err((405, "another method"));
        }
        if let Some(authorization) = &self.authorization
            && !authorization.is_proven(request.headers)
        {
            return Err((401, "the authorization is missing or wrong"));
        }
        for (name, value) in &self.headers {
            if request.headers.get(name).is_none_or(|sent| sent != value) {
                return Err((401, "a header is missing or wrong"));
            }
        }
        let body =
            unpack(request.headers, request.body, &self.codings).map_err(
                |reason| match reason {
                    Unreadable::Coding => (415, "a content coding that is not taken"),
                    Unreadable::Content => (400, "not what its content coding says"),
                },
            )?;
        if body.len() > self.max_body {
            return Err((413, "too large"));
        }
        let text = str::from_utf8(&body).map_err(|_| (400, "not UTF-8"))?;
        if self
            .refuses
            .as_ref()
            .is_some_and(|unwanted| text.contains(unwanted))
        {
            return Err((400, "a text that is not wanted here"));
        }
        // What says nothing of its type is read as what is expected (RFC 9110 §8.3).
        let is_type = |expected: &str| request.content_type().is_none_or(|sent| sent == expected);
        match self.format {
            Format::Lines if is_type("application/x-ndjson") => lines(text),
            Format::Array if is_type("application/json") => array(text),
            _ => Err((415, "another content type")),
        }
    }
}

fn lines(text: &str) -> Result<Vec<Record>, Refusal> {
    let lines = text
        .strip_suffix('\n')
        .ok_or((400, "the last line does not end"))?;
    lines
        .split('\n')
        .map(|line| match serde_json::from_str(line) {
            Ok(Value::Object(members)) => record(members),
            _ => Err((400, "a line is not a JSON object")),
        })
        .collect()
}

fn array(text: &str) -> Result<Vec<Record>, Refusal> {
    match serde_json::from_str::<Vec<Map<String, Value>>>(text) {
        Ok(objects) if !objects.is_empty() => objects.into_iter().map(record).collect(),
        Ok(_) => Err((400, "an empty array")),
        Err(_) => Err((400, "not an array of JSON objects")),
    }
}

/// The record that a JSON object is: its member `message` and the rest.
pub(in crate::receiver) fn record(mut fields: Map<String, Value>) -> Result<Record, Refusal> {
    let Some(Value::String(line)) = fields.remove("message") else {
        return Err((400, "an object has no message"));
    };
    Ok(Record {
        line,
        fields,
        ..Record::default()
    })
}
