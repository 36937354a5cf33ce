//! Blocks of New Relic's Log API (New Relic: "Introduction to the Log API", detailed JSON body). Each log file is a
//! block, with what is common to its records said once.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use serde_json::{Map, Value};

use super::{
    CHAIN, CUT, FAULT, Origin, SEQUENCE,
    content::{Content, utf8_prefix},
    fields,
    json::{inside, write_audit, write_escaped},
};
use crate::{assemble::Record, batch::Frame, cri::Stream, timestamp::write_decimal};

/// Most attributes of a record; `timestamp` and `message` count.
const MAX_ATTRIBUTES: usize = 255;

/// Most characters of an attribute's name.
const MAX_NAME: usize = 255;

/// Most characters of an attribute's value that can be searched.
const MAX_VALUE: usize = 4094;

/// Most bytes of a message: what follows its first 4,094 characters is stored as a blob of 128,000 bytes, and the rest
/// is dropped without a word (New Relic: "Find data in long logs (blobs)").
pub const MAX_MESSAGE: usize = MAX_VALUE + 128_000 - CUT.len();

/// What every record has besides the attributes of its file.
const OF_RECORD: [&str; 7] = [
    "timestamp",
    "message",
    "stream",
    "record_id",
    SEQUENCE,
    CHAIN,
    FAULT,
];

/// What New Relic drops, or understands in a way of its own.
const RESERVED: [&str; 5] = [
    "accountId",
    "eventType",
    "entity.guid",
    "entity.name",
    "entity.type",
];

/// An array of blocks.
pub(super) const FRAME: Frame = Frame {
    open: b"[",
    between: b",",
    separator: b",",
    end: b"]}",
    close: b"]",
    counted: None,
};

/// The beginning of a file's block.
pub(super) fn group(origin: &Origin<'_>) -> Vec<u8> {
    let mut group = br#"{"common":{"attributes":{"#.to_vec();
    group.extend(inside(&common(origin)));
    group.extend_from_slice(br#"}},"logs":["#);
    group
}

/// The attributes of a file; labels only as far as they fit.
fn common(origin: &Origin<'_>) -> Map<String, Value> {
    let mut common = fields(origin);
    common.insert("restart".into(), origin.restart.into());
    for (label, value) in origin.labels {
        if common.len() + OF_RECORD.len() == MAX_ATTRIBUTES {
            break;
        }
        let name = cut(&format!("labels.{label}"), MAX_NAME).to_owned();
        // An empty attribute is not stored.
        if !value.is_empty() {
            common.entry(name).or_insert_with(|| value.as_str().into());
        }
    }
    common
}

/// The first characters of a text.
fn cut(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters);
    end.map_or(text, |(end, _)| &text[..end])
}

/// Everything between the time and the offset at the end of the record's id.
#[derive(Clone, Debug)]
pub(super) struct Head {
    before_offset: Vec<u8>,
    /// Names that a member of a JSON line cannot have.
    taken: Rc<BTreeSet<String>>,
}

impl Head {
    pub(super) fn new(origin: &Origin<'_>, stream: Stream) -> Self {
        let mut before_offset = br#","attributes":{"stream":""#.to_vec();
        before_offset.extend_from_slice(stream.as_str().as_bytes());
        before_offset.extend_from_slice(br#"","record_id":""#);
        write_escaped(origin.file_id.as_bytes(), &mut before_offset);
        before_offset.push(b'-');
        let taken = common(origin).into_iter().map(|(name, _)| name);
        let taken = taken.chain(OF_RECORD.map(str::to_owned)).collect();
        Self {
            before_offset,
            taken: Rc::new(taken),
        }
    }

    pub(super) fn write(&self, record: &Record<'_>, content: &Content<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"timestamp":"#);
        write_decimal(out, record.time.millis());
        out.extend_from_slice(&self.before_offset);
        write_decimal(out, record.offset);
        write_audit(record, out);
        out.push(b'"');
        let (text, marker) = match content {
            Content::Text(text, marker) => {
                // Replacing what is not UTF-8 may have made it longer.
                let kept = utf8_prefix(text, MAX_MESSAGE);
                (
                    kept,
                    if kept.len() < text.len() {
                        CUT
                    } else {
                        *marker
                    },
                )
            }
            Content::Object(object) => {
                for (name, value) in self.members(object) {
                    out.extend_from_slice(b",\"");
                    write_escaped(name.as_bytes(), out);
                    out.extend_from_slice(b"\":");
                    out.extend_from_slice(value.to_string().as_bytes());
                }
                (object.as_bytes(), "")
            }
        };
        out.extend_from_slice(br#"},"message":""#);
        write_escaped(text, out);
        out.extend_from_slice(marker.as_bytes());
        out.extend_from_slice(br#""}"#);
    }

    /// The members of an object as attributes: those of objects in it too, one level deep, everything else that is no
    /// scalar as JSON text. What finds no place is still in the message.
    fn members(&self, object: &str) -> BTreeMap<String, Value> {
        let mut members = BTreeMap::new();
        let mut add = |name: &str, value: &Value| {
            let name: String = name
                .chars()
                .map(|one| if one.is_whitespace() { '_' } else { one })
                .take(MAX_NAME)
                .collect();
            let is_free = !self.taken.contains(&name) && !RESERVED.contains(&name.as_str());
            let fits = members.len() + self.taken.len() < MAX_ATTRIBUTES;
            if let Some(value) = attribute(value)
                && is_free
                && fits
                && !name.is_empty()
            {
                members.entry(name).or_insert(value);
            }
        };
        let object: Map<String, Value> = serde_json::from_str(object).unwrap_or_default();
        for (name, value) in &object {
            match value {
                Value::Object(inner) if !inner.is_empty() => {
                    for (inner_name, value) in inner {
                        add(&format!("{name}.{inner_name}"), value);
                    }
                }
                value => add(name, value),
            }
        }
        members
    }
}

/// A value as New Relic stores it: a number or a text. None for nothing.
fn attribute(value: &Value) -> Option<Value> {
    let text = match value {
        Value::Null => return None,
        Value::Number(number) if number.is_i64() || number.is_f64() => return Some(value.clone()),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (!text.is_empty()).then(|| cut(&text, MAX_VALUE).into())
}
