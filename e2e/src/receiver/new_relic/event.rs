//! Log events as New Relic stores them: both forms of a body, flattened attributes, and what it says only afterwards.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::receiver::Record;

/// "Number of attributes per event: 255 maximum"; message and timestamp are among them.
const MAX_ATTRIBUTES: usize = 255;
/// "Length of attribute name: 255 characters".
const MAX_NAME: usize = 255;
/// The first so many characters of a value are an attribute; a longer value is stored as a blob.
const MAX_VALUE: usize = 4_094;
/// "Payloads with timestamps older than 48 hours may be dropped."
const MAX_AGE: Duration = Duration::from_hours(48);

/// What New Relic does with an event after it has answered 202; the sender is not told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Warning {
    /// Older than 48 hours: it may be dropped. Here it is kept.
    Old {
        /// The line.
        line: String,
    },
    /// A value above 4,094 characters is stored beside the event.
    Blob {
        /// The attribute.
        attribute: String,
    },
    /// An attribute that New Relic keeps for itself is dropped or breaks its own.
    Reserved {
        /// The attribute.
        attribute: String,
    },
    /// The event is not stored (`NrIntegrationError`).
    NotStored {
        /// Why.
        reason: &'static str,
        /// The line.
        line: String,
    },
}

/// A log event before it is checked.
#[derive(Debug)]
pub(super) struct Event {
    members: Map<String, Value>,
}

/// One block of the detailed form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    #[serde(default)]
    common: Common,
    logs: Vec<Log>,
}

/// What is common to the events of a block.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    timestamp: Option<Value>,
    #[serde(default)]
    attributes: Map<String, Value>,
}

/// One event of a block. New Relic takes other members, too; here they are a mistake of the sender.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    timestamp: Option<Value>,
    #[serde(default)]
    attributes: Map<String, Value>,
    message: Value,
}

/// The events of a body in the detailed or the simplified form; nothing when it is neither, or not UTF-8.
pub(super) fn read(body: &[u8]) -> Option<Vec<Event>> {
    let text = str::from_utf8(body).ok()?;
    if let Ok(members) = serde_json::from_str(text) {
        return Some(vec![Event { members }]);
    }
    let blocks: Vec<Block> = serde_json::from_str(text).ok()?;
    let mut events = Vec::new();
    for Block { common, logs } in blocks {
        for log in logs {
            let mut members = common.attributes.clone();
            members.extend(log.attributes);
            let timestamp = log.timestamp.or_else(|| common.timestamp.clone());
            members.extend(timestamp.map(|time| ("timestamp".to_owned(), time)));
            members.insert("message".to_owned(), log.message);
            events.push(Event { members });
        }
    }
    (!events.is_empty()).then_some(events)
}

impl Event {
    /// The record as it is stored at `now`, which is the time since 1970.
    pub(super) fn store(
        self,
        now: Duration,
        warnings: &mut Vec<Warning>,
    ) -> Result<Record, Warning> {
        let mut fields = Map::new();
        let flat = flatten("", self.members, &mut fields);
        let line = match fields.remove("message") {
            Some(Value::String(line)) => line,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let refuse = |reason| {
            let line = line.clone();
            Err(Warning::NotStored { reason, line })
        };
        if flat.is_none() {
            return refuse("an attribute is an array or null");
        }
        if fields.len() + 1 > MAX_ATTRIBUTES {
            return refuse("too many attributes");
        }
        if fields.keys().any(|name| name.chars().count() > MAX_NAME) {
            return refuse("the name of an attribute is too long");
        }
        if fields.keys().any(|name| name.contains(char::is_whitespace)) {
            return refuse("the name of an attribute has white space");
        }
        let time = match fields.remove("timestamp").as_ref().map(since_1970) {
            Some(None) => {
                return refuse("the timestamp is not a Unix time in seconds or milliseconds");
            }
            Some(time) => time,
            None => None,
        };
        if time.is_some_and(|time| now.saturating_sub(Duration::from_millis(time)) > MAX_AGE) {
            warnings.push(Warning::Old { line: line.clone() });
        }
        for (attribute, value) in fields
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_str()?)))
        {
            if value.chars().count() > MAX_VALUE {
                let attribute = attribute.clone();
                warnings.push(Warning::Blob { attribute });
            }
        }
        if line.chars().count() > MAX_VALUE {
            let attribute = "message".to_owned();
            warnings.push(Warning::Blob { attribute });
        }
        for reserved in [
            "accountId",
            "eventType",
            "entity.guid",
            "entity.name",
            "entity.type",
        ] {
            if fields.remove(reserved).is_some() {
                let attribute = reserved.to_owned();
                warnings.push(Warning::Reserved { attribute });
            }
        }
        let time = time.map(|time| ("timestamp".to_owned(), time.into()));
        Ok(Record {
            line,
            fields,
            envelope: time.into_iter().collect(),
        })
    }
}

/// Compound attributes are stored with flattened names; nothing when there is one of a type that is not supported.
fn flatten(prefix: &str, members: Map<String, Value>, flat: &mut Map<String, Value>) -> Option<()> {
    for (name, value) in members {
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(members) => flatten(&format!("{name}."), members, flat)?,
            Value::Array(_) | Value::Null => return None,
            value => drop(flat.insert(name, value)),
        }
    }
    Some(())
}

/// A Unix time in seconds or milliseconds, as milliseconds: what would be after the year 5000 in seconds is the latter.
fn since_1970(value: &Value) -> Option<u64> {
    let number = value.as_u64()?;
    match number {
        0..100_000_000_000 => Some(number * 1_000),
        100_000_000_000..100_000_000_000_000 => Some(number),
        _ => None,
    }
}
