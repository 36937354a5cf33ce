//! Log records in the JSON of OTLP (OpenTelemetry: "JSON Protobuf Encoding", `opentelemetry/proto/logs/v1/logs.proto`).

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::receiver::{Received, Record};

/// A request, as the Collector's file exporter writes it. What is not named here is no part of a log record that is
/// looked at: scopes, trace ids, flags.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    #[serde(default)]
    resource: Resource,
    #[serde(default)]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Default, Deserialize)]
struct Resource {
    #[serde(default)]
    attributes: Vec<KeyValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    #[serde(default)]
    scope: Map<String, Value>,
    #[serde(default)]
    log_records: Vec<LogRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogRecord {
    /// 64-bit integers are text.
    time_unix_nano: Option<String>,
    observed_time_unix_nano: Option<String>,
    severity_number: Option<u8>,
    severity_text: Option<String>,
    body: Option<AnyValue>,
    #[serde(default)]
    attributes: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    value: AnyValue,
}

#[derive(Deserialize)]
enum AnyValue {
    #[serde(rename = "stringValue")]
    String(String),
    #[serde(rename = "boolValue")]
    Bool(bool),
    /// 64-bit integers are text.
    #[serde(rename = "intValue")]
    Int(String),
    #[serde(rename = "doubleValue")]
    Double(f64),
    /// base64.
    #[serde(rename = "bytesValue")]
    Bytes(String),
    #[serde(rename = "arrayValue")]
    Array {
        #[serde(default)]
        values: Vec<Self>,
    },
    #[serde(rename = "kvlistValue")]
    Object {
        #[serde(default)]
        values: Vec<KeyValue>,
    },
}

/// Adds the records of a request.
pub(super) fn read(entry: &[u8], received: &mut Received) {
    let malformed = |reason: String| format!("{reason}: {}", String::from_utf8_lossy(entry));
    let request: Request = match serde_json::from_slice(entry) {
        Ok(request) => request,
        Err(error) => return received.malformed.push(malformed(error.to_string())),
    };
    for of_resource in request.resource_logs {
        let resource = object(of_resource.resource.attributes);
        for of_scope in of_resource.scope_logs {
            for record in of_scope.log_records {
                let resource = resource.clone();
                match resource.and_then(|resource| record.read(resource, &of_scope.scope)) {
                    Ok(record) => received.take([record]),
                    Err(reason) => received.malformed.push(malformed(reason)),
                }
            }
        }
    }
}

impl LogRecord {
    fn read(
        self,
        resource: Map<String, Value>,
        scope: &Map<String, Value>,
    ) -> Result<Record, String> {
        let mut envelope = Map::new();
        envelope.insert("resource".to_owned(), resource.into());
        envelope.insert("scope".to_owned(), scope.clone().into());
        let members = [
            ("timeUnixNano", self.time_unix_nano.map(Value::from)),
            (
                "observedTimeUnixNano",
                self.observed_time_unix_nano.map(Value::from),
            ),
            ("severityNumber", self.severity_number.map(Value::from)),
            ("severityText", self.severity_text.map(Value::from)),
        ];
        for (name, value) in members {
            envelope.extend(value.map(|value| (name.to_owned(), value)));
        }
        let line = match self.body {
            Some(AnyValue::String(line)) => line,
            Some(other) => other.read()?.to_string(),
            None => String::new(),
        };
        Ok(Record {
            line,
            fields: object(self.attributes)?,
            envelope,
        })
    }
}

impl AnyValue {
    fn read(self) -> Result<Value, String> {
        Ok(match self {
            Self::String(text) | Self::Bytes(text) => text.into(),
            Self::Bool(value) => value.into(),
            Self::Int(digits) => digits
                .parse::<i64>()
                .map_err(|error| format!("{digits}: {error}"))?
                .into(),
            Self::Double(value) => value.into(),
            Self::Array { values } => values
                .into_iter()
                .map(Self::read)
                .collect::<Result<Vec<_>, _>>()?
                .into(),
            Self::Object { values } => object(values)?.into(),
        })
    }
}

/// "Attribute keys MUST be unique (it is not allowed to have more than one attribute with the same key)."
fn object(attributes: Vec<KeyValue>) -> Result<Map<String, Value>, String> {
    let mut members = Map::new();
    for KeyValue { key, value } in attributes {
        if members.contains_key(&key) {
            return Err(format!("two attributes {key}"));
        }
        members.insert(key, value.read()?);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_attributes_and_resource_are_kept() {
        let entry = br#"{"resourceLogs":[{
            "resource":{"attributes":[{"key":"k8s.pod.name","value":{"stringValue":"p"}}]},
            "scopeLogs":[{"scope":{"name":"s"},"logRecords":[
                {"timeUnixNano":"1","severityNumber":9,"severityText":"INFO","body":{"stringValue":"line"},"attributes":[
                    {"key":"log.record.uid","value":{"stringValue":"x-1"}},
                    {"key":"n","value":{"intValue":"5"}},
                    {"key":"list","value":{"arrayValue":{"values":[{"boolValue":true},{"kvlistValue":{}}]}}}]},
                {"body":{"kvlistValue":{"values":[{"key":"a","value":{"doubleValue":1.5}}]}}},
                {"attributes":[{"key":"a","value":{"intValue":"1"}},{"key":"a","value":{"intValue":"2"}}]}]}]}]}"#;
        let mut received = Received::default();
        read(entry, &mut received);
        let [first, second] = &received.records[..] else {
            panic!("{received:?}")
        };
        assert_eq!((first.line.as_str(), first.id()), ("line", "x-1"));
        assert_eq!(first.source().pod, "p");
        assert_eq!(first.fields["n"], 5);
        assert_eq!(first.fields["list"], serde_json::json!([true, {}]));
        assert_eq!(
            (first.about("timeUnixNano"), first.about("severityText")),
            ("1", "INFO")
        );
        assert_eq!(first.envelope["scope"]["name"], "s");
        assert_eq!(second.line, r#"{"a":1.5}"#);
        // The third.
        assert_eq!(received.malformed.len(), 1);
        read(b"{\"resourceLogs\":", &mut received);
        assert_eq!(received.malformed.len(), 2);
    }
}
