//! OTLP in binary protobuf (Protocol Buffers: "Encoding"). Each message has the numbers of its fields beside it.

use serde_json::{Map, Value};

use super::{Attribute, RECORD_ID, STREAM, nanos, of_audit, resource};
use crate::{
    assemble::Record,
    batch::{Counted, Frame},
    cri::Stream,
    encode::{
        Origin,
        content::{Content, REPLACEMENT, utf8_length},
    },
    timestamp::{Timestamp, write_decimal},
};

/// `ExportLogsServiceRequest.resource_logs`.
const RESOURCE_LOGS: u8 = 1;
/// `ResourceLogs.resource`.
const RESOURCE: u8 = 1;
/// `ResourceLogs.scope_logs`.
const SCOPE_LOGS: u8 = 2;
/// `Resource.attributes`.
const RESOURCE_ATTRIBUTES: u8 = 1;
/// `ScopeLogs.log_records`.
const LOG_RECORDS: u8 = 2;
/// `LogRecord.time_unix_nano`.
const TIME: u8 = 1;
/// `LogRecord.body`.
const BODY: u8 = 5;
/// `LogRecord.attributes`.
const ATTRIBUTES: u8 = 6;
/// `LogRecord.observed_time_unix_nano`.
const OBSERVED_TIME: u8 = 11;
/// `KeyValue.key`.
const KEY: u8 = 1;
/// `KeyValue.value`.
const VALUE: u8 = 2;
/// `AnyValue.string_value`.
const STRING: u8 = 1;
/// `AnyValue.bool_value`.
const BOOL: u8 = 2;
/// `AnyValue.int_value`.
const INT: u8 = 3;
/// `AnyValue.double_value`.
const DOUBLE: u8 = 4;
/// `AnyValue.array_value`.
const ARRAY: u8 = 5;
/// `AnyValue.kvlist_value`.
const KVLIST: u8 = 6;
/// `ArrayValue.values` and `KeyValueList.values`.
const VALUES: u8 = 1;

/// How a field is written.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
}

/// `ScopeLogs.scope` (field 1) with its `InstrumentationScope.name` (field 1), which is [`super::SCOPE`].
const SCOPE: &[u8] = b"\x0a\x13\x0a\x11katonic-log-agent";

/// An `ExportLogsServiceRequest`.
pub(in crate::encode) const FRAME: Frame = Frame {
    counted: Some(Counted {
        size: |head, content| nested_size(head + nested_size(SCOPE.len() + content)),
        begin: |head, content, out| {
            let scope_logs = SCOPE.len() + content;
            write_key(RESOURCE_LOGS, Wire::Bytes, out);
            write_varint(length(head.len() + nested_size(scope_logs)), out);
            out.extend_from_slice(head);
            write_key(SCOPE_LOGS, Wire::Bytes, out);
            write_varint(length(scope_logs), out);
            out.extend_from_slice(SCOPE);
        },
    }),
    ..Frame::NONE
};

/// The resource of a file's `ResourceLogs`.
pub(in crate::encode) fn group(origin: &Origin<'_>) -> Vec<u8> {
    let mut group = Vec::new();
    write_nested(RESOURCE, &mut group, |out| {
        for (name, value) in resource(origin) {
            write_attribute(RESOURCE_ATTRIBUTES, &name, &value, out);
        }
    });
    group
}

/// What the records of one stream of a file have in common.
#[derive(Clone, Debug)]
pub(in crate::encode) struct Head {
    /// The attribute with the stream, whole.
    stream: Vec<u8>,
    file_id: String,
}

impl Head {
    pub(in crate::encode) fn new(origin: &Origin<'_>, stream: Stream) -> Self {
        let mut attribute = Vec::new();
        write_nested(ATTRIBUTES, &mut attribute, |out| {
            write_string(KEY, STREAM, out);
            write_nested(VALUE, out, |out| write_string(STRING, stream.as_str(), out));
        });
        Self {
            stream: attribute,
            file_id: origin.file_id.to_owned(),
        }
    }

    pub(in crate::encode) fn write(
        &self,
        record: &Record<'_>,
        content: &Content<'_>,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) {
        write_nested(LOG_RECORDS, out, |out| {
            write_fixed(TIME, nanos(record.time), out);
            write_fixed(OBSERVED_TIME, nanos(now), out);
            write_body(content, out);
            out.extend_from_slice(&self.stream);
            write_nested(ATTRIBUTES, out, |out| {
                write_string(KEY, RECORD_ID, out);
                write_nested(VALUE, out, |out| {
                    write_nested(STRING, out, |out| {
                        out.extend_from_slice(self.file_id.as_bytes());
                        out.push(b'-');
                        write_decimal(out, record.offset);
                    });
                });
            });
            for (name, value) in of_audit(record) {
                write_attribute(ATTRIBUTES, name, &value, out);
            }
        });
    }
}

fn write_attribute(field: u8, name: &str, value: &Attribute<'_>, out: &mut Vec<u8>) {
    write_nested(field, out, |out| {
        write_string(KEY, name, out);
        write_nested(VALUE, out, |out| match value {
            Attribute::Text(text) => write_string(STRING, text, out),
            Attribute::Number(number) => {
                write_key(INT, Wire::Varint, out);
                write_varint(*number, out);
            }
        });
    });
}

fn write_body(content: &Content<'_>, out: &mut Vec<u8>) {
    match content {
        Content::Text(text, marker) => {
            let bytes = utf8_length(text) + marker.len();
            write_key(BODY, Wire::Bytes, out);
            write_varint(length(nested_size(bytes)), out);
            write_key(STRING, Wire::Bytes, out);
            write_varint(length(bytes), out);
            write_utf8(text, out);
            out.extend_from_slice(marker.as_bytes());
        }
        Content::Object(object) => {
            let object: Map<String, Value> = serde_json::from_str(object).unwrap_or_default();
            write_nested(BODY, out, |out| write_any(&Value::Object(object), out));
        }
    }
}

/// The fields of an `AnyValue`; none for nothing. An integer that is not one of 64 bits with a sign becomes text
/// (OpenTelemetry: "Mapping Arbitrary Data to OTLP `AnyValue`").
fn write_any(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Bool(value) => {
            write_key(BOOL, Wire::Varint, out);
            write_varint((*value).into(), out);
        }
        Value::Number(number) => {
            if let Some(integer) = number.as_i64() {
                write_key(INT, Wire::Varint, out);
                // Two's complement, as protobuf has negative numbers of this type.
                write_varint(integer.cast_unsigned(), out);
            } else if number.is_u64() {
                write_string(STRING, &number.to_string(), out);
            } else {
                write_fixed(DOUBLE, number.as_f64().unwrap_or_default().to_bits(), out);
            }
        }
        Value::String(text) => write_string(STRING, text, out),
        Value::Array(values) => write_nested(ARRAY, out, |out| {
            for value in values {
                write_nested(VALUES, out, |out| write_any(value, out));
            }
        }),
        Value::Object(members) => write_nested(KVLIST, out, |out| {
            for (key, value) in members {
                write_nested(VALUES, out, |out| {
                    write_string(KEY, key, out);
                    write_nested(VALUE, out, |out| write_any(value, out));
                });
            }
        }),
    }
}

fn write_key(field: u8, wire: Wire, out: &mut Vec<u8>) {
    out.push(field << 3 | wire as u8);
}

fn write_fixed(field: u8, bits: u64, out: &mut Vec<u8>) {
    write_key(field, Wire::Fixed64, out);
    out.extend_from_slice(&bits.to_le_bytes());
}

fn write_string(field: u8, text: &str, out: &mut Vec<u8>) {
    write_key(field, Wire::Bytes, out);
    write_varint(length(text.len()), out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a message whose length is known once it is written.
fn write_nested(field: u8, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    write_key(field, Wire::Bytes, out);
    let start = out.len();
    write(out);
    let end = out.len();
    write_varint(length(end - start), out);
    let digits = out.len() - end;
    out[start..].rotate_right(digits);
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Bytes of a field that holds so many: its key, its length, and themselves.
fn nested_size(bytes: usize) -> usize {
    let bits = usize::BITS - (bytes | 1).leading_zeros();
    1 + bits.div_ceil(7) as usize + bytes
}

fn length(bytes: usize) -> u64 {
    // A usize is no larger on any system that Rust knows.
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Appends text; protobuf has strings of UTF-8 only.
fn write_utf8(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
        }
    }
}
