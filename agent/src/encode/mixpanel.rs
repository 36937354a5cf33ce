//! Events of Mixpanel (Mixpanel: "Import Events"): of an audit event who did what when, with the log that it stands in.

use katonic_log_config::bundle::hex_digest;
use serde_json::{Map, Value, json};

use super::{CHAIN, FAULT, Origin, SEQUENCE, fields};
use crate::{
    assemble::Record,
    batch::Frame,
    cri::Stream,
    process::audit::{self, Event, Line},
    timestamp::Timestamp,
};

/// A JSON array.
pub const FRAME: Frame = Frame {
    open: b"[",
    separator: b",",
    close: b"]",
    ..Frame::NONE
};

/// Most characters of an `$insert_id`: letters, digits and `-`.
const INSERT_ID: usize = 36;

/// Most characters of a text: the server cuts the rest away without a word.
const LONGEST: usize = 255;

/// Most members of an object, elements of an array, and levels.
const MEMBERS: usize = 254;

/// Most bytes of details: as values they take many times the room of their text, and an event has 1 MB.
const DETAILS: usize = 64 << 10;

const LEVELS: usize = 3;

/// What is no id of a user; `""` says that there is none.
const NOBODY: [&str; 17] = [
    "00000000-0000-0000-0000-000000000000",
    "anon",
    "anonymous",
    "nil",
    "none",
    "null",
    "n/a",
    "na",
    "undefined",
    "unknown",
    "<nil>",
    "0",
    "-1",
    "true",
    "false",
    "[]",
    "{}",
];

/// What is known of a log file.
#[derive(Clone, Debug)]
pub(super) struct Head {
    log: Map<String, Value>,
    file_id: String,
}

impl Head {
    pub(super) fn new(origin: &Origin<'_>, stream: Stream) -> Self {
        let mut log = fields(origin);
        log.insert("stream".into(), stream.as_str().into());
        log.insert("restart".into(), origin.restart.into());
        Self {
            log,
            file_id: origin.file_id.to_owned(),
        }
    }

    pub(super) fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let record_id = format!("{}-{}", self.file_id, record.offset);
        let (name, mut properties) = match audit::read(record) {
            Line::Event(event) => (event.name.to_string(), of_event(&event)),
            Line::Faulty(_) | Line::Other => ("AuditEventFaulty".to_owned(), of_text(record)),
        };
        let insert_id = hex_digest(record_id.as_bytes());
        let insert_id = insert_id.get(..INSERT_ID).unwrap_or_default();
        properties.insert("$insert_id".into(), insert_id.into());
        // Otherwise the address of the agent's node is taken for the user's.
        properties.insert("ip".into(), 0.into());
        properties.insert("record_id".into(), record_id.into());
        if let Some(audited) = record.audit {
            properties.insert(SEQUENCE.into(), audited.link.sequence.into());
            properties.insert(CHAIN.into(), audited.link.chain().into());
        }
        for (name, value) in &self.log {
            properties.entry(name).or_insert_with(|| value.clone());
        }
        let event = json!({"event": name, "properties": properties});
        out.extend_from_slice(event.to_string().as_bytes());
    }
}

fn of_event(event: &Event<'_>) -> Map<String, Value> {
    let is_nobody = NOBODY.contains(&event.actor.to_lowercase().as_str());
    let mut properties = Map::new();
    properties.insert("time".into(), millis(event.time));
    let user = if is_nobody { "" } else { &event.actor };
    properties.insert("distinct_id".into(), user.into());
    properties.insert("event_id".into(), (&*event.id).into());
    properties.insert("actor".into(), (&*event.actor).into());
    properties.insert("target".into(), (&*event.target).into());
    if let Some(project) = &event.project {
        properties.insert("project".into(), (&**project).into());
    }
    if let Some(details) = event.details {
        properties.insert("details".into(), fitting(details));
    }
    properties
}

/// What is meant as an event and is none.
fn of_text(record: &Record<'_>) -> Map<String, Value> {
    let text = String::from_utf8_lossy(record.content);
    let mut properties = Map::new();
    properties.insert("time".into(), millis(record.time));
    properties.insert("distinct_id".into(), "".into());
    let fault = record
        .fault()
        .map_or("no audit event", audit::Fault::as_str);
    properties.insert(FAULT.into(), fault.into());
    let line: String = text.chars().take(LONGEST).collect();
    properties.insert("line".into(), line.into());
    properties
}

fn millis(time: Timestamp) -> Value {
    time.millis().into()
}

/// A value as it is, or where Mixpanel would refuse the event for it, the beginning of its JSON as text.
fn fitting(json: &str) -> Value {
    fn fits(value: &Value, levels: usize) -> bool {
        match value {
            Value::Object(members) => {
                levels > 0
                    && members.len() <= MEMBERS
                    && members.values().all(|value| fits(value, levels - 1))
            }
            Value::Array(values) => {
                levels > 0
                    && values.len() <= MEMBERS
                    && values.iter().all(|value| fits(value, levels - 1))
            }
            _ => true,
        }
    }
    // The event's own properties are a level.
    let small = json.len() <= DETAILS;
    let value = small.then(|| serde_json::from_str(json).ok()).flatten();
    match value {
        Some(value) if fits(&value, LEVELS - 1) => value,
        _ => json.chars().take(LONGEST).collect::<String>().into(),
    }
}
