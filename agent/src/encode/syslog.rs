//! Syslog messages (RFC 5424), each behind its length (RFC 6587 §3.4.1). Cuts nothing away: a long line goes on in the
//! next message.
//!
//! There is no byte order mark in front of a text, though RFC 5424 §6.4 has one: nobody knows in which encoding a
//! container writes, which is what `MSG-ANY` is for, and rsyslog would keep the mark as a part of the text.

use std::borrow::Cow;

use katonic_log_config::{Facility, Syslog};

use super::{CHAIN, CONTINUES, FAULT, Origin, SEQUENCE};
use crate::{
    assemble::Record,
    cri::Stream,
    process::audit::{self, Audited, Line, Verdict},
    timestamp::{Timestamp, YEARS, write_decimal},
};

/// What a policy says of its messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Form {
    facility: Facility,
    /// None: the container's name.
    app_name: Option<String>,
    enterprise_id: u32,
    longest: usize,
}

impl From<&Syslog> for Form {
    fn from(sink: &Syslog) -> Self {
        Self {
            facility: sink.facility,
            app_name: sink.app_name.as_ref().map(|name| name.as_str().to_owned()),
            enterprise_id: sink.enterprise_id.get(),
            longest: usize::try_from(sink.max_message_bytes.get()).unwrap_or(usize::MAX),
        }
    }
}

/// Most characters of the fields (RFC 5424 §6).
const HOSTNAME: usize = 255;
const APP_NAME: usize = 48;
const PROCID: usize = 128;
const MSGID: usize = 32;

/// A message has at least so much text, or half of a small one: fields are left out before.
const TEXT: usize = 256;

/// Never less text than this, or a line would be too many messages; a name of 253 characters can ask for more than the
/// limit then.
const LEAST_TEXT: usize = 64;

/// Everything of the messages of one stream of a file that is always the same.
#[derive(Clone, Debug)]
pub struct Head {
    /// To TIMESTAMP, of a line.
    before_time: Vec<u8>,
    /// The same of an audit event.
    before_time_of_event: Vec<u8>,
    /// From HOSTNAME to MSGID.
    before_id: Vec<u8>,
    /// MSGID of a line.
    id: &'static str,
    /// From the element after those of an audit event to the beginning of the record's id.
    after_id: Vec<u8>,
    enterprise_id: u32,
    longest: usize,
}

/// Severities (RFC 5424 §6.2.1): of what is printed to stdout, of audit events, of what is printed to stderr.
const INFORMATIONAL: u64 = 6;
const NOTICE: u64 = 5;
const ERROR: u64 = 3;

impl Head {
    /// Prepares the messages of one stream.
    pub fn new(form: &Form, origin: &Origin<'_>, stream: Stream) -> Self {
        let severity = match stream {
            Stream::Stdout => INFORMATIONAL,
            Stream::Stderr => ERROR,
        };
        let before_time = |severity: u64| {
            let mut before_time = vec![b'<'];
            let facility = u64::from(form.facility.code());
            write_decimal(&mut before_time, facility * 8 + severity);
            before_time.extend_from_slice(b">1 ");
            before_time
        };
        let before_time_of_event = before_time(NOTICE);
        let before_time = before_time(severity);

        let mut before_id = Vec::new();
        let app_name = form.app_name.as_deref().unwrap_or(origin.container);
        // Another PROCID tells a reader that the program was started again (RFC 5424 §6.2.6).
        let restart = origin.restart.to_string();
        for (value, most) in [
            (origin.pod, HOSTNAME),
            (app_name, APP_NAME),
            (&restart, PROCID),
        ] {
            before_id.push(b' ');
            write_field(value, most, &mut before_id);
        }
        before_id.push(b' ');
        let mut after_id = b"[k8s@".to_vec();
        write_decimal(&mut after_id, u64::from(form.enterprise_id));

        let id = stream.as_str();
        let fixed = before_time.len()
            + TIMESTAMP
            + before_id.len()
            + id.len()
            + 1
            + after_id.len()
            + RECORD_ID.len();
        let room = form
            .longest
            .saturating_sub(form.longest.min(2 * TEXT) / 2)
            .saturating_sub(fixed + origin.file_id.len() + OFFSET);
        for (name, value) in parameters(origin, stream, room) {
            write_parameter(name, value, &mut after_id);
        }
        after_id.extend_from_slice(RECORD_ID);
        write_escaped(origin.file_id, &mut after_id);
        after_id.push(b'-');
        Self {
            before_time,
            before_time_of_event,
            before_id,
            id,
            after_id,
            enterprise_id: form.enterprise_id,
            longest: form.longest,
        }
    }

    /// MSGID and SD-ELEMENT of what an audit policy takes: the event's name, who did what, and the record's place among all of them.
    /// Values are cut where they would leave less than half of a message to its text, which has them whole; the place is not.
    fn audit(&self, record: &Record<'_>, audited: Audited) -> (Vec<u8>, Vec<u8>) {
        let Audited { verdict, link } = audited;
        let mut id = Vec::new();
        let mut parameters: Vec<(&str, Cow<'_, str>)> = Vec::new();
        match (verdict, audit::read(record)) {
            (Verdict::Event, Line::Event(event)) => {
                write_field(&event.name, MSGID, &mut id);
                parameters.push(("event", event.name));
                parameters.push(("id", event.id));
                parameters.push(("actor", event.actor));
                parameters.push(("target", event.target));
                parameters.extend(event.project.map(|project| ("project", project)));
            }
            (Verdict::Faulty(fault), _) => {
                id.extend_from_slice(self.id.as_bytes());
                parameters.push((FAULT, fault.as_str().into()));
            }
            // A step after it has changed the text.
            (Verdict::Event, _) => id.extend_from_slice(self.id.as_bytes()),
        }
        let fixed = self.before_time.len() + TIMESTAMP + self.before_id.len() + self.after_id.len();
        let room = (self.longest / 2).saturating_sub(fixed + id.len() + OFFSET);
        let element = |longest: usize| {
            let mut element = b"[audit@".to_vec();
            write_decimal(&mut element, u64::from(self.enterprise_id));
            for (name, value) in &parameters {
                write_parameter(name, &tame(value, longest), &mut element);
            }
            write_parameter(SEQUENCE, &link.sequence.to_string(), &mut element);
            write_parameter(CHAIN, &link.chain(), &mut element);
            element.push(b']');
            element
        };
        let cuts = [usize::MAX, 64, 32];
        let fitting = cuts.into_iter().map(element).find(|one| one.len() <= room);
        (id, fitting.unwrap_or_else(|| element(16)))
    }

    /// Appends a record as one message, or as several where its text is too long for one.
    pub fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let marker = if record.continues { CONTINUES } else { "" };
        let time = Time(record.time);
        let audit = record.audit.map(|audited| self.audit(record, audited));
        let (before_time, (id, element)) = match &audit {
            Some((id, element)) => (&self.before_time_of_event, (&id[..], &element[..])),
            None => (&self.before_time, (self.id.as_bytes(), &b""[..])),
        };
        let message = Message {
            head: self,
            before_time,
            time,
            id,
            element,
            offset: record.offset,
            bytes: before_time.len()
                + time.bytes()
                + self.before_id.len()
                + id.len()
                + 1
                + element.len()
                + self.after_id.len()
                + digits(record.offset)
                + END.len(),
        };
        // The usual line, without a copy.
        if message.bytes + record.content.len() + marker.len() <= self.longest
            && let Ok(text) = str::from_utf8(record.content)
        {
            message.write(None, text, marker, out);
            return;
        }
        let mut text = String::from_utf8_lossy(record.content).into_owned();
        text.push_str(marker);
        if message.bytes + text.len() <= self.longest {
            message.write(None, &text, "", out);
            return;
        }
        let (room, count) = parts(&text, self.longest.saturating_sub(message.bytes));
        for (number, part) in (1..).zip(pieces(&text, room)) {
            message.write(Some((number, count)), part, "", out);
        }
    }
}

const REPLACEMENT: &str = "\u{fffd}";
const RECORD_ID: &[u8] = b" record_id=\"";
const END: &[u8] = b"\"] ";
/// Length of `2026-11-23T10:15:07.123456Z`.
const TIMESTAMP: usize = 27;
/// Most digits of an offset.
const OFFSET: usize = 20;

/// A time as a TIMESTAMP; the beginning of 1970 is no time that anything was logged at, and neither are years that have
/// more than four digits.
#[derive(Clone, Copy)]
struct Time(Timestamp);

impl Time {
    fn is_known(self) -> bool {
        self.0 != Timestamp::default() && YEARS.contains(&self.0.seconds)
    }

    fn bytes(self) -> usize {
        if self.is_known() { TIMESTAMP } else { 1 }
    }

    fn write(self, out: &mut Vec<u8>) {
        if self.is_known() {
            self.0.write_rfc3339_micros(out);
        } else {
            out.push(b'-');
        }
    }
}

/// A message without its text.
struct Message<'a> {
    head: &'a Head,
    before_time: &'a [u8],
    time: Time,
    id: &'a [u8],
    element: &'a [u8],
    offset: u64,
    bytes: usize,
}

impl Message<'_> {
    fn write(&self, part: Option<(u64, u64)>, text: &str, marker: &str, out: &mut Vec<u8>) {
        let part_bytes = part.map_or(0, |(number, count)| part_bytes(number, count));
        let length = self.bytes + part_bytes + text.len() + marker.len();
        write_decimal(out, length as u64);
        out.push(b' ');
        out.extend_from_slice(self.before_time);
        self.time.write(out);
        out.extend_from_slice(&self.head.before_id);
        out.extend_from_slice(self.id);
        out.push(b' ');
        out.extend_from_slice(self.element);
        out.extend_from_slice(&self.head.after_id);
        write_decimal(out, self.offset);
        if let Some((number, count)) = part {
            out.extend_from_slice(b"\" part=\"");
            write_decimal(out, number);
            out.extend_from_slice(b"\" parts=\"");
            write_decimal(out, count);
        }
        out.extend_from_slice(END);
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(marker.as_bytes());
    }
}

/// Bytes of the parameters that number a part.
fn part_bytes(number: u64, count: u64) -> usize {
    b"\" part=\"\" parts=\"".len() + digits(number) + digits(count)
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or_default() as usize + 1
}

/// How much text each part has and how many parts that makes, when a message has `room` for text and numbers.
fn parts(text: &str, room: usize) -> (usize, u64) {
    let mut most = 9;
    loop {
        let room = room.saturating_sub(part_bytes(most, most)).max(LEAST_TEXT);
        let count = pieces(text, room).count() as u64;
        if count <= most {
            return (room, count);
        }
        // One more digit.
        most = most * 10 + 9;
    }
}

/// The text in pieces of at most `room` bytes, none of which ends inside a character.
fn pieces(mut text: &str, room: usize) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (piece, rest) = text.split_at(text.floor_char_boundary(room));
        text = rest;
        Some(piece)
    })
}

/// A field of the header: what is no printable ASCII becomes `_`, what is too long is cut, what is empty is `-`.
fn write_field(value: &str, most: usize, out: &mut Vec<u8>) {
    let printable = value.chars().map(|one| match u8::try_from(one) {
        Ok(byte) if byte.is_ascii_graphic() => byte,
        _ => b'_',
    });
    let before = out.len();
    out.extend(printable.take(most));
    if out.len() == before {
        out.push(b'-');
    }
}

/// The parameters before the record's id, in their order, without the less important ones where `room` is short.
fn parameters<'a>(
    origin: &Origin<'a>,
    stream: Stream,
    room: usize,
) -> Vec<(&'static str, &'a str)> {
    // With how willingly each is left out: what HOSTNAME, APP-NAME and MSGID say too goes before what they do not.
    let mut all = [
        ("namespace", origin.namespace, 0),
        ("pod", origin.pod, 5),
        ("pod_uid", origin.pod_uid, 2),
        ("container", origin.container, 3),
        ("stream", stream.as_str(), 4),
        ("node", origin.node, 6),
        ("execution_id", origin.execution_id.unwrap_or_default(), 1),
    ]
    .to_vec();
    all.retain(|(_, value, _)| !value.is_empty());
    let bytes = |all: &[(&str, &str, u8)]| {
        let mut written = Vec::new();
        for (name, value, _) in all {
            write_parameter(name, value, &mut written);
        }
        written.len()
    };
    while bytes(&all) > room
        && let Some((least, _)) = all
            .iter()
            .enumerate()
            .max_by_key(|(_, (_, _, dispensable))| dispensable)
    {
        all.remove(least);
    }
    all.into_iter()
        .map(|(name, value, _)| (name, value))
        .collect()
}

fn write_parameter(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    write_escaped(value, out);
    out.push(b'"');
}

/// Escapes exactly what RFC 5424 §6.3.3 names.
fn write_escaped(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        if matches!(byte, b'"' | b'\\' | b']') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// The first characters of what a user has chosen: a line break in it would look like another message to many a reader.
fn tame(value: &str, longest: usize) -> Cow<'_, str> {
    let end = value.char_indices().nth(longest).map(|(end, _)| end);
    let value = &value[..end.unwrap_or(value.len())];
    if value.contains(char::is_control) {
        value.replace(char::is_control, REPLACEMENT).into()
    } else {
        value.into()
    }
}
