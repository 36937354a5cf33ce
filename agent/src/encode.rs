//! Records as the bytes that a sink takes. Decides nothing about what is sent or when.

pub mod json;
pub mod json_lines;
pub mod splunk;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{assemble::Record, cri::Stream, timestamp::write_decimal};

/// Appended to a record whose line goes on in the next one.
const CONTINUES: &str = " [katonic-log-agent: line continues]";

/// Appended to a record that had to be cut because the sink takes no more.
const CUT: &str = " [katonic-log-agent: line cut]";

/// The form of a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Format {
    /// Event of the Splunk HTTP Event Collector.
    Splunk(splunk::Event),
    /// One JSON object a line.
    JsonLines,
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
    /// Labels of the pod.
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

/// The bytes between a record's time and its content that are the same for all records of one stream of a file.
#[derive(Clone, Debug)]
pub struct Head {
    before_offset: Vec<u8>,
    format: FormatTag,
}

#[derive(Clone, Copy, Debug)]
enum FormatTag {
    Splunk,
    JsonLines,
}

impl Head {
    /// Prepares the records of one stream.
    pub fn new(format: &Format, origin: &Origin<'_>, stream: Stream) -> Self {
        match format {
            Format::Splunk(event) => Self {
                before_offset: event.head(origin, stream),
                format: FormatTag::Splunk,
            },
            Format::JsonLines => Self {
                before_offset: json_lines::head(origin, stream),
                format: FormatTag::JsonLines,
            },
        }
    }

    /// Appends a record; its content is cut to `longest` bytes.
    pub fn write(&self, record: &Record<'_>, longest: usize, out: &mut Vec<u8>) {
        let cut = record.content.len() > longest;
        let content = &record.content[..record.content.len().min(longest)];
        let marker = match (cut, record.continues) {
            (true, _) => CUT,
            (false, true) => CONTINUES,
            (false, false) => "",
        };
        match self.format {
            FormatTag::Splunk => {
                out.extend_from_slice(br#"{"time":"#);
                record.time.write_epoch(out);
                out.extend_from_slice(&self.before_offset);
                write_decimal(out, record.offset);
                splunk::write_event(content, marker, out);
            }
            FormatTag::JsonLines => {
                out.extend_from_slice(br#"{"time":""#);
                record.time.write_rfc3339(out);
                out.extend_from_slice(&self.before_offset);
                write_decimal(out, record.offset);
                json_lines::write_message(content, marker, out);
            }
        }
    }
}

/// The fields that every format has, without the labels.
fn fields(origin: &Origin<'_>, stream: Stream) -> Map<String, Value> {
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
    set("stream", stream.as_str());
    set("execution_id", origin.execution_id.unwrap_or_default());
    fields
}
