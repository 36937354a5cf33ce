//! One JSON object a record: for servers that take any JSON, and for Loggly.

use katonic_log_config::JsonFormat;
use serde_json::{Map, Value};

use super::{
    Origin,
    content::Content,
    fields,
    json::{inside, write_audit, write_escaped, write_on_one_line},
};
use crate::{assemble::Record, batch::Frame, cri::Stream, timestamp::write_decimal};

/// For whom the objects are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// Any server.
    Any(JsonFormat),
    /// Loggly, one object a line. It takes `timestamp` for the time of an event (Loggly: "Timestamps").
    Loggly,
}

const LINES: Frame = Frame {
    separator: b"\n",
    close: b"\n",
    ..Frame::NONE
};

const ARRAY: Frame = Frame {
    open: b"[",
    separator: b",",
    close: b"]",
    ..Frame::NONE
};

/// Everything between the time and the offset at the end of the record's id.
#[derive(Clone, Debug)]
pub(super) struct Head {
    dialect: Dialect,
    before_offset: Vec<u8>,
}

impl Dialect {
    pub(super) fn frame(self) -> &'static Frame {
        match self {
            Self::Any(JsonFormat::Lines) | Self::Loggly => &LINES,
            Self::Any(JsonFormat::Array) => &ARRAY,
        }
    }

    pub(super) fn head(self, origin: &Origin<'_>, stream: Stream) -> Head {
        let mut object = fields(origin);
        object.insert("stream".into(), stream.as_str().into());
        object.insert("restart".into(), origin.restart.into());
        let labels: Map<String, Value> = origin
            .labels
            .iter()
            .map(|(label, value)| (label.clone(), value.clone().into()))
            .collect();
        object.insert("labels".into(), labels.into());
        let mut before_offset = br#"","#.to_vec();
        before_offset.extend(inside(&object));
        before_offset.extend_from_slice(br#","record_id":""#);
        write_escaped(origin.file_id.as_bytes(), &mut before_offset);
        before_offset.push(b'-');
        Head {
            dialect: self,
            before_offset,
        }
    }
}

impl Head {
    pub(super) fn write(&self, record: &Record<'_>, content: &Content<'_>, out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::Any(_) => {
                out.extend_from_slice(br#"{"time":""#);
                record.time.write_rfc3339(out);
            }
            Dialect::Loggly => {
                out.extend_from_slice(br#"{"timestamp":""#);
                record.time.write_rfc3339_micros(out);
            }
        }
        out.extend_from_slice(&self.before_offset);
        write_decimal(out, record.offset);
        write_audit(record, out);
        match content {
            Content::Text(text, marker) => {
                out.extend_from_slice(br#"","message":""#);
                write_escaped(text, out);
                out.extend_from_slice(marker.as_bytes());
                out.extend_from_slice(br#""}"#);
            }
            Content::Object(object) => {
                out.extend_from_slice(br#"","fields":"#);
                write_on_one_line(object, out);
                out.push(b'}');
            }
        }
    }
}
