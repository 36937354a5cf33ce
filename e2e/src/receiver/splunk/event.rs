//! One event of a request: what Splunk takes and what it refuses. Knows nothing of tokens.

use std::collections::BTreeMap;

use serde_json::{Map, Value, value::RawValue};

use super::{Record, Reply};

/// Reads an event.
///
/// A member that Splunk does not document is refused: it would be ignored at best.
pub(super) fn read(json: &str) -> Result<Record, Reply> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).map_err(|_| Reply::InvalidDataFormat)?;
    let mut line = None;
    let mut fields = Map::new();
    let mut envelope = Map::new();
    for (name, raw) in members {
        let value: Value = serde_json::from_str(raw.get()).map_err(|_| Reply::InvalidDataFormat)?;
        match (name.as_str(), value) {
            ("event", Value::Null) => {}
            ("event", value) => line = Some(text_of(value)),
            ("fields", Value::Object(members)) if members.values().all(is_flat) => {
                fields = members;
            }
            ("fields", _) => return Err(Reply::IndexedFields),
            ("time", _) if !is_plain_time(raw.get()) => return Err(Reply::IndexedFields),
            // As text: nanoseconds do not fit into a floating-point number.
            ("time", _) => drop(envelope.insert(name, raw.get().trim_matches('"').into())),
            ("host" | "source" | "sourcetype" | "index", value @ Value::String(_)) => {
                envelope.insert(name, value);
            }
            _ => return Err(Reply::InvalidDataFormat),
        }
    }
    match line {
        None => Err(Reply::EventRequired),
        Some(line) if line.is_empty() => Err(Reply::EventBlank),
        Some(Line::Text(line) | Line::Message(line)) => Ok(Record {
            line,
            fields,
            envelope,
        }),
    }
}

/// The log line of an event.
enum Line {
    /// The event is text.
    Text(String),
    /// The event is an object, which is never blank, and the line its `message`.
    Message(String),
}

impl Line {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(line) if line.is_empty())
    }
}

fn text_of(event: Value) -> Line {
    match event {
        Value::String(line) => Line::Text(line),
        Value::Object(members) => Line::Message(match members.get("message") {
            Some(Value::String(message)) => message.clone(),
            _ => Value::Object(members).to_string(),
        }),
        other => Line::Message(other.to_string()),
    }
}

/// An indexed field is a value or a list of values ("fields": a flat list of explicit custom fields).
fn is_flat(value: &Value) -> bool {
    match value {
        Value::Array(values) => values
            .iter()
            .all(|value| value.is_string() || value.is_number()),
        Value::Object(_) | Value::Null => false,
        _ => true,
    }
}

/// Seconds since 1970, with decimals, as a number or in quotes; Splunk reads no exponent.
fn is_plain_time(raw: &str) -> bool {
    let text = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(raw);
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(seconds) && digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_no_exponent() {
        for time in ["1752480000", "1752480000.123456789", "\"1752480000.5\""] {
            assert!(is_plain_time(time), "{time}");
        }
        for time in [
            "1.75248e9",
            "\"2026-11-23T00:00:00Z\"",
            "-1",
            "\"\"",
            "null",
            "1.",
            ".5",
        ] {
            assert!(!is_plain_time(time), "{time}");
        }
    }

    #[test]
    fn an_empty_line_may_come_as_an_object() {
        let record = read(r#"{"event":{"message":""},"fields":{"stream":"stdout"}}"#).unwrap();
        assert_eq!(record.line, "");
        assert_eq!(record.field("stream"), "stdout");
        assert_eq!(read(r#"{"event":""}"#), Err(Reply::EventBlank));
    }
}
