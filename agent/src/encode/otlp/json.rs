//! OTLP in JSON (OpenTelemetry: "OpenTelemetry Protocol Specification", JSON Protobuf Encoding): keys in lower camel
//! case, 64-bit integers as decimal strings.

use serde_json::{Map, Value, json};

use super::{Attribute, RECORD_ID, SCOPE, STREAM, nanos, of_audit, resource};
use crate::{
    assemble::Record,
    batch::Frame,
    cri::Stream,
    encode::{
        Origin,
        content::Content,
        json::{inside, write_escaped},
    },
    timestamp::{Timestamp, write_decimal},
};

/// An `ExportLogsServiceRequest`.
pub(in crate::encode) const FRAME: Frame = Frame {
    open: br#"{"resourceLogs":["#,
    between: b",",
    separator: b",",
    end: b"]}]}",
    close: b"]}",
    counted: None,
};

/// The beginning of a file's `ResourceLogs`.
pub(in crate::encode) fn group(origin: &Origin<'_>) -> Vec<u8> {
    let attributes: Vec<Value> = resource(origin)
        .into_iter()
        .map(|(name, value)| attribute(&name, &value))
        .collect();
    let mut group = Map::new();
    group.insert("resource".into(), json!({"attributes": attributes}));
    let scope = json!({"name": SCOPE});
    let mut bytes = vec![b'{'];
    bytes.extend(inside(&group));
    bytes.extend_from_slice(br#","scopeLogs":[{"scope":"#);
    bytes.extend_from_slice(scope.to_string().as_bytes());
    bytes.extend_from_slice(br#","logRecords":["#);
    bytes
}

fn attribute(name: &str, value: &Attribute<'_>) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({"stringValue": text}),
        Attribute::Number(number) => json!({"intValue": number.to_string()}),
    };
    json!({"key": name, "value": value})
}

/// What the records of one stream of a file have in common.
#[derive(Clone, Debug)]
pub(in crate::encode) struct Head {
    /// Everything between the times and the offset at the end of the record's id.
    before_offset: Vec<u8>,
}

impl Head {
    pub(in crate::encode) fn new(origin: &Origin<'_>, stream: Stream) -> Self {
        let iostream = json!({"key": STREAM, "value": {"stringValue": stream.as_str()}});
        let mut before_offset = br#"","attributes":["#.to_vec();
        before_offset.extend_from_slice(iostream.to_string().as_bytes());
        before_offset.extend_from_slice(br#",{"key":""#);
        before_offset.extend_from_slice(RECORD_ID.as_bytes());
        before_offset.extend_from_slice(br#"","value":{"stringValue":""#);
        write_escaped(origin.file_id.as_bytes(), &mut before_offset);
        before_offset.push(b'-');
        Self { before_offset }
    }

    pub(in crate::encode) fn write(
        &self,
        record: &Record<'_>,
        content: &Content<'_>,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(br#"{"timeUnixNano":""#);
        write_decimal(out, nanos(record.time));
        out.extend_from_slice(br#"","observedTimeUnixNano":""#);
        write_decimal(out, nanos(now));
        out.extend_from_slice(&self.before_offset);
        write_decimal(out, record.offset);
        out.extend_from_slice(br#""}}"#);
        for (name, value) in of_audit(record) {
            out.push(b',');
            out.extend_from_slice(attribute(name, &value).to_string().as_bytes());
        }
        out.extend_from_slice(br#"],"body":"#);
        match content {
            Content::Text(text, marker) => {
                out.extend_from_slice(br#"{"stringValue":""#);
                write_escaped(text, out);
                out.extend_from_slice(marker.as_bytes());
                out.extend_from_slice(br#""}"#);
            }
            Content::Object(object) => {
                let value = serde_json::from_str(object).unwrap_or_default();
                out.extend_from_slice(any_value(value).to_string().as_bytes());
            }
        }
        out.push(b'}');
    }
}

/// A value as an `AnyValue`. An integer that is not one of 64 bits with a sign becomes text (OpenTelemetry: "Mapping
/// Arbitrary Data to OTLP `AnyValue`").
fn any_value(value: Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(value) => json!({"boolValue": value}),
        Value::Number(number) if number.is_i64() => json!({"intValue": number.to_string()}),
        Value::Number(number) if number.is_u64() => json!({"stringValue": number.to_string()}),
        Value::Number(number) => json!({"doubleValue": number}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Array(values) => {
            let values: Vec<Value> = values.into_iter().map(any_value).collect();
            json!({"arrayValue": {"values": values}})
        }
        Value::Object(members) => {
            let values: Vec<Value> = members
                .into_iter()
                .map(|(key, value)| json!({"key": key, "value": any_value(value)}))
                .collect();
            json!({"kvlistValue": {"values": values}})
        }
    }
}
