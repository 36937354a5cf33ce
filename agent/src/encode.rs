//! Records as the bytes that a sink takes. Decides nothing about what is sent or when.

pub mod content;
pub mod json;
pub mod mixpanel;
pub mod new_relic;
pub mod object;
pub mod otlp;
pub mod splunk;
pub mod syslog;

use std::{collections::BTreeMap, rc::Rc};

use katonic_log_config::{OtlpEncoding, Parse};
use serde_json::{Map, Value};

use crate::{
    assemble::Record, batch::Frame, cri::Stream, encode::content::Content, timestamp::Timestamp,
};

/// The field that says why a record is no audit event, though it is meant as one.
const FAULT: &str = "audit_fault";

/// The fields with the place of a record among the audit events of its container.
const SEQUENCE: &str = "sequence";
const CHAIN: &str = "chain";

/// Appended to a record whose line goes on in the next one.
pub const CONTINUES: &str = " [katonic-log-agent: line continues]";

/// Appended to a record that had to be cut because the sink takes no more.
pub const CUT: &str = " [katonic-log-agent: line cut]";

/// The form of the records of a sink.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Format {
    /// Events of the Splunk HTTP Event Collector.
    Splunk(splunk::Event),
    /// A JSON object for each record.
    Object(object::Dialect),
    /// New Relic's Log API.
    NewRelic,
    /// Events of Mixpanel.
    Mixpanel,
    /// OTLP.
    Otlp(OtlpEncoding),
    /// Syslog messages.
    Syslog(syslog::Form),
}

/// What is known of a log file and goes into each of its records.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// UID of the pod.
    pub pod_uid: &'a str,
    /// Node of the pod.
    pub node: &'a str,
    /// Labels of the pod, those that the policy wants.
    pub labels: &'a BTreeMap<String, String>,
    /// The execution that the pod belongs to.
    pub execution_id: Option<&'a str>,
    /// Name of the container.
    pub container: &'a str,
    /// How often the container had been restarted.
    pub restart: u32,
    /// What sets this log file apart from all others; the beginning of the id of its records.
    pub file_id: &'a str,
}

/// Everything of the records of a log file but what differs from record to record.
#[derive(Clone, Debug)]
pub struct Heads {
    /// What is said once for all records of the file, where the form has such a place.
    pub group: Rc<[u8]>,
    streams: [Head; 2],
    parse: Parse,
}

/// Everything of a record but its time, offset and content: the same for all records of one stream of a file.
#[derive(Clone, Debug)]
enum Head {
    Splunk(splunk::Head),
    Object(object::Head),
    NewRelic(new_relic::Head),
    Mixpanel(mixpanel::Head),
    OtlpJson(otlp::json::Head),
    OtlpProtobuf(otlp::protobuf::Head),
    Syslog(syslog::Head),
}

impl Heads {
    /// Prepares the records of a file.
    pub fn new(format: &Format, parse: Parse, origin: &Origin<'_>) -> Self {
        let group = match format {
            Format::Splunk(_) | Format::Object(_) | Format::Mixpanel | Format::Syslog(_) => {
                Vec::new()
            }
            Format::NewRelic => new_relic::group(origin),
            Format::Otlp(OtlpEncoding::Json) => otlp::json::group(origin),
            Format::Otlp(OtlpEncoding::Protobuf) => otlp::protobuf::group(origin),
        };
        Self {
            group: group.into(),
            streams: Stream::ALL.map(|stream| Head::new(format, origin, stream)),
            parse,
        }
    }

    /// Appends a record that is sent at the time `now`; its content is cut to `longest` bytes where the form has no way
    /// to go on in a next record.
    pub fn write(&self, record: &Record<'_>, longest: usize, now: Timestamp, out: &mut Vec<u8>) {
        let head = &self.streams[record.stream.index()];
        match head {
            Head::Syslog(head) => return head.write(record, out),
            Head::Mixpanel(head) => return head.write(record, out),
            _ => {}
        }
        let content = Content::of(record, self.parse, longest);
        match head {
            Head::Splunk(head) => head.write(record, &content, out),
            Head::Object(head) => head.write(record, &content, out),
            Head::NewRelic(head) => head.write(record, &content, out),
            Head::OtlpJson(head) => head.write(record, &content, now, out),
            Head::OtlpProtobuf(head) => head.write(record, &content, now, out),
            Head::Syslog(_) | Head::Mixpanel(_) => {}
        }
    }
}

impl Head {
    fn new(format: &Format, origin: &Origin<'_>, stream: Stream) -> Self {
        match format {
            Format::Splunk(event) => Self::Splunk(event.head(origin, stream)),
            Format::Object(dialect) => Self::Object(dialect.head(origin, stream)),
            Format::NewRelic => Self::NewRelic(new_relic::Head::new(origin, stream)),
            Format::Mixpanel => Self::Mixpanel(mixpanel::Head::new(origin, stream)),
            Format::Otlp(OtlpEncoding::Json) => {
                Self::OtlpJson(otlp::json::Head::new(origin, stream))
            }
            Format::Otlp(OtlpEncoding::Protobuf) => {
                Self::OtlpProtobuf(otlp::protobuf::Head::new(origin, stream))
            }
            Format::Syslog(form) => Self::Syslog(syslog::Head::new(form, origin, stream)),
        }
    }
}

impl Format {
    /// What stands around its records.
    pub fn frame(&self) -> &'static Frame {
        match self {
            Self::Splunk(_) | Self::Syslog(_) => &Frame::NONE,
            Self::Object(dialect) => dialect.frame(),
            Self::NewRelic => &new_relic::FRAME,
            Self::Mixpanel => &mixpanel::FRAME,
            Self::Otlp(OtlpEncoding::Json) => &otlp::json::FRAME,
            Self::Otlp(OtlpEncoding::Protobuf) => &otlp::protobuf::FRAME,
        }
    }
}

/// The fields of a log file that every format has, without the labels.
fn fields(origin: &Origin<'_>) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: &str| {
        if !value.is_empty() {
            fields.insert(name.to_owned(), value.into());
        }
    };
    set("namespace", origin.namespace);
    set("pod", origin.pod);
    set("pod_uid", origin.pod_uid);
    set("container", origin.container);
    set("node", origin.node);
    set("execution_id", origin.execution_id.unwrap_or_default());
    fields
}

#[cfg(test)]
mod tests;
