//! Events of the Splunk HTTP Event Collector (Splunk: "Format events for HTTP Event Collector").

use serde_json::Map;

use super::{
    Origin,
    content::Content,
    fields,
    json::{inside, write_audit, write_escaped, write_on_one_line},
};
use crate::{assemble::Record, cri::Stream, timestamp::write_decimal};

/// What a policy says of its events.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Index; none: the token's default.
    pub index: Option<String>,
    /// Host; none: the pod's name.
    pub host: Option<String>,
    /// Source; none: the path of the log file on the node.
    pub source: Option<String>,
    /// Sourcetype; none: `kube:container:<container>`.
    pub sourcetype: Option<String>,
}

/// Everything between the time and the offset at the end of the record's id.
#[derive(Clone, Debug)]
pub(super) struct Head(Vec<u8>);

impl Event {
    pub(super) fn head(&self, origin: &Origin<'_>, stream: Stream) -> Head {
        let Origin {
            namespace,
            pod,
            pod_uid,
            container,
            restart,
            ..
        } = origin;
        let source = self.source.clone().unwrap_or_else(|| {
            format!("/var/log/pods/{namespace}_{pod}_{pod_uid}/{container}/{restart}.log")
        });
        let sourcetype = self
            .sourcetype
            .clone()
            .unwrap_or_else(|| format!("kube:container:{container}"));
        let mut event = Map::new();
        let host = self.host.as_deref().unwrap_or(pod);
        event.insert("host".into(), host.into());
        event.insert("source".into(), source.into());
        event.insert("sourcetype".into(), sourcetype.into());
        if let Some(index) = &self.index {
            event.insert("index".into(), index.clone().into());
        }
        // Flat, because an indexed field is a name and a value (HEC code 15 otherwise).
        let mut flat = fields(origin);
        flat.insert("stream".into(), stream.as_str().into());
        for (label, value) in origin.labels {
            // An indexed field without a value says nothing.
            if !value.is_empty() {
                flat.insert(format!("labels.{label}"), value.clone().into());
            }
        }
        let mut head = vec![b','];
        head.extend(inside(&event));
        head.extend_from_slice(br#","fields":{"#);
        head.extend(inside(&flat));
        head.extend_from_slice(br#","record_id":""#);
        write_escaped(origin.file_id.as_bytes(), &mut head);
        head.push(b'-');
        Head(head)
    }
}

impl Head {
    pub(super) fn write(&self, record: &Record<'_>, content: &Content<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"time":"#);
        record.time.write_epoch(out);
        out.extend_from_slice(&self.0);
        write_decimal(out, record.offset);
        write_audit(record, out);
        match content {
            Content::Object(object) => {
                out.extend_from_slice(br#""},"event":"#);
                write_on_one_line(object, out);
                out.push(b'}');
            }
            // HEC refuses a blank event (code 13), so such a line goes as an object that is not blank.
            Content::Text(text, "") if text.iter().all(u8::is_ascii_whitespace) => {
                out.extend_from_slice(br#""},"event":{"message":""#);
                write_escaped(text, out);
                out.extend_from_slice(br#""}}"#);
            }
            Content::Text(text, marker) => {
                out.extend_from_slice(br#""},"event":""#);
                write_escaped(text, out);
                out.extend_from_slice(marker.as_bytes());
                out.extend_from_slice(br#""}"#);
            }
        }
    }
}
