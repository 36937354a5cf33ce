//! A server that takes one JSON object a line and answers 204; it interprets no member but the message.

use http::{Method, header};
use serde_json::Value;

use super::{Record, Request, Verdict, body::gunzip};

/// What the server asks for.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Path.
    pub path: String,
    /// Headers that must be there with exactly these values, names in lower case; 401 otherwise.
    pub headers: Vec<(String, String)>,
    /// How much a body may be after unpacking, in bytes; 413 otherwise.
    pub max_body: usize,
    /// Refuses (400) each request with a line that contains this text.
    pub refuses: Option<String>,
}

impl Rules {
    /// A server without credentials that takes bodies of up to 10 MB at this path.
    pub fn at(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            headers: Vec::new(),
            max_body: 10_000_000,
            refuses: None,
        }
    }

    pub(super) fn judge(&self, request: &Request<'_>) -> Verdict {
        match self.take(request) {
            Ok(records) => Verdict {
                status: 204,
                body: String::new(),
                records,
            },
            Err((status, reason)) => Verdict {
                status,
                body: serde_json::json!({"error": reason}).to_string(),
                records: Vec::new(),
            },
        }
    }

    fn take(&self, request: &Request<'_>) -> Result<Vec<Record>, (u16, &'static str)> {
        if request.uri.path() != self.path {
            return Err((404, "no such path"));
        }
        if *request.method != Method::POST {
            return Err((405, "only POST"));
        }
        for (name, value) in &self.headers {
            if request.headers.get(name).is_none_or(|sent| sent != value) {
                return Err((401, "a header is missing or wrong"));
            }
        }
        let body = match request.headers.get(header::CONTENT_ENCODING) {
            None => request.body.to_vec(),
            Some(coding) if coding == "gzip" => gunzip(request.body).ok_or((400, "not gzip"))?,
            Some(_) => return Err((415, "only gzip")),
        };
        if body.len() > self.max_body {
            return Err((413, "too large"));
        }
        let text = str::from_utf8(&body).map_err(|_| (400, "not UTF-8"))?;
        let lines = text
            .strip_suffix('\n')
            .ok_or((400, "the last line does not end"))?;
        lines.split('\n').map(|line| self.read(line)).collect()
    }

    fn read(&self, line: &str) -> Result<Record, (u16, &'static str)> {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
            return Err((400, "a line is not a JSON object"));
        };
        if self
            .refuses
            .as_ref()
            .is_some_and(|text| line.contains(text))
        {
            return Err((400, "a line is not wanted here"));
        }
        let Some(Value::String(message)) = fields.remove("message") else {
            return Err((400, "a line has no message"));
        };
        Ok(Record {
            line: message,
            fields,
            ..Record::default()
        })
    }
}
