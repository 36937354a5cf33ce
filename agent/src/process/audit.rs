//! Audit events among the lines of a log, as `docs/audit-events.md` has them. Reads a line and changes nothing.

use std::borrow::Cow;

use katonic_log_config::audit::Link;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    assemble::Record,
    timestamp::{TimeParser, Timestamp},
};

/// The version of the contract that is understood, as JSON may have the number.
const VERSIONS: [&str; 2] = ["1", "1.0"];

/// Without it a line is no audit event.
const MARKER: &[u8] = b"\"audit\"";

/// The longest name of an event, id, and other member, in characters.
const LONGEST_EVENT: usize = 63;
const LONGEST_ID: usize = 128;
const LONGEST: usize = 255;

/// What a line of an event tracker's log is.
#[derive(Debug, Eq, PartialEq)]
pub enum Line<'a> {
    /// Something else.
    Other,
    /// An audit event.
    Event(Box<Event<'a>>),
    /// Meant as an audit event, and not as the contract has it.
    Faulty(Fault),
}

/// An audit event.
#[derive(Debug, Eq, PartialEq)]
pub struct Event<'a> {
    /// What has happened.
    pub name: Cow<'a, str>,
    /// Tells it from all others.
    pub id: Cow<'a, str>,
    /// Who did it.
    pub actor: Cow<'a, str>,
    /// What it was done to.
    pub target: Cow<'a, str>,
    /// The project that the target belongs to.
    pub project: Option<Cow<'a, str>>,
    /// When it happened.
    pub time: Timestamp,
    /// Whatever else is known, as JSON.
    pub details: Option<&'a str>,
}

/// What a record that an audit policy takes is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// An audit event.
    Event,
    /// Meant as one.
    Faulty(Fault),
}

/// A record that an audit policy takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Audited {
    /// What it is.
    pub verdict: Verdict,
    /// Its place among all those of its container.
    pub link: Link,
}

/// Why what is meant as an audit event is none.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// It is not one JSON object.
    NoObject,
    /// It is longer than a record can be.
    TooLong,
    /// It is a further part of a line that is.
    Continued,
    /// It is of another version of the contract.
    Version,
    /// A member is missing, or empty.
    Missing(Member),
    /// A member is not what it should be.
    Invalid(Member),
}

/// A member of an audit event.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Member {
    /// What has happened.
    Event,
    /// When.
    Time,
    /// Tells it from all others.
    Id,
    /// Who did it.
    Actor,
    /// What it was done to.
    Target,
    /// The project of the target.
    Project,
    /// Whatever else is known.
    Details,
}

impl Fault {
    /// In a few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoObject => "not a JSON object",
            Self::TooLong => "longer than a record can be",
            Self::Continued => "part of a line that is longer than a record can be",
            Self::Version => "of an unknown version",
            Self::Missing(Member::Event) => "missing event",
            Self::Missing(Member::Time) => "missing time",
            Self::Missing(Member::Id) => "missing id",
            Self::Missing(Member::Actor) => "missing actor",
            Self::Missing(Member::Target) => "missing target",
            Self::Missing(Member::Project) => "empty project",
            Self::Invalid(Member::Event) => "invalid event",
            Self::Invalid(Member::Time) => "invalid time",
            Self::Invalid(Member::Id) => "invalid id",
            Self::Invalid(Member::Actor) => "invalid actor",
            Self::Invalid(Member::Target) => "invalid target",
            Self::Invalid(Member::Project) => "invalid project",
            Self::Missing(Member::Details) | Self::Invalid(Member::Details) => "invalid details",
        }
    }
}

/// The members that are looked at, unread.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    audit: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    actor: Option<&'a RawValue>,
    #[serde(borrow)]
    target: Option<&'a RawValue>,
    #[serde(borrow)]
    project: Option<&'a RawValue>,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a text is meant as an audit event, as far as its beginning tells.
pub fn is_meant(content: &[u8]) -> bool {
    let content = content.trim_ascii_start();
    content.starts_with(b"{") && memmem::find(content, MARKER).is_some()
}

/// What a record of an event tracker's log is.
pub fn read<'a>(record: &Record<'a>) -> Line<'a> {
    if record.continued {
        return Line::Faulty(Fault::Continued);
    }
    let content = record.content.trim_ascii();
    if !is_meant(content) {
        return Line::Other;
    }
    if record.continues {
        return Line::Faulty(Fault::TooLong);
    }
    let Ok(members) = serde_json::from_slice::<Members<'a>>(content) else {
        return Line::Faulty(Fault::NoObject);
    };
    let Some(version) = members.audit else {
        // The word stands somewhere inside.
        return Line::Other;
    };
    if !VERSIONS.contains(&version.get()) {
        return Line::Faulty(Fault::Version);
    }
    match event(&members) {
        Ok(event) => Line::Event(Box::new(event)),
        Err(fault) => Line::Faulty(fault),
    }
}

fn event<'a>(members: &Members<'a>) -> Result<Event<'a>, Fault> {
    let name = required(members.event, Member::Event, LONGEST_EVENT)?;
    if !name.starts_with(|first: char| first.is_ascii_uppercase())
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Err(Fault::Invalid(Member::Event));
    }
    // As long as the longest time with nine digits and an offset.
    let time = required(members.time, Member::Time, 35)?;
    let time = TimeParser::default().parse(time.as_bytes());
    let time = time.ok_or(Fault::Invalid(Member::Time))?;
    let details = members.details.map(RawValue::get);
    if details.is_some_and(|details| !details.starts_with('{')) {
        return Err(Fault::Invalid(Member::Details));
    }
    Ok(Event {
        time,
        details,
        name,
        id: required(members.id, Member::Id, LONGEST_ID)?,
        actor: required(members.actor, Member::Actor, LONGEST)?,
        target: required(members.target, Member::Target, LONGEST)?,
        project: members
            .project
            .map(|project| required(Some(project), Member::Project, LONGEST))
            .transpose()?,
    })
}

fn required(
    value: Option<&RawValue>,
    member: Member,
    longest: usize,
) -> Result<Cow<'_, str>, Fault> {
    let value = value.ok_or(Fault::Missing(member))?;
    let Text(text) = serde_json::from_str(value.get()).map_err(|_| Fault::Invalid(member))?;
    if text.is_empty() {
        return Err(Fault::Missing(member));
    }
    // Characters are never more than bytes.
    if text.len() > longest && text.chars().count() > longest {
        return Err(Fault::Invalid(member));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{assemble::FileNumber, cri::Stream};

    fn record(content: &[u8]) -> Record<'_> {
        Record {
            time: Timestamp::default(),
            stream: Stream::Stdout,
            file: FileNumber::default(),
            offset: 0,
            content,
            continues: false,
            continued: false,
            audit: None,
        }
    }

    fn good() -> Value {
        json!({
            "audit": 1, "event": "ModelCreated", "time": "2026-11-30T09:12:44.120+01:00", "id": "e-1",
            "actor": "ada", "target": "churn", "project": "forecast", "details": {"a": [1]}, "more": null,
        })
    }

    fn fault_of(event: &Value) -> Option<Fault> {
        match read(&record(event.to_string().as_bytes())) {
            Line::Faulty(fault) => Some(fault),
            Line::Event(_) => None,
            Line::Other => panic!("{event} is no audit event at all"),
        }
    }

    #[test]
    fn an_event_is_read_and_what_is_escaped_with_it() {
        let mut event = good();
        event["actor"] = "ada \"the countess\" Ö".into();
        let text = event.to_string();
        let Line::Event(read) = read(&record(text.as_bytes())) else {
            panic!("{text}");
        };
        assert_eq!(read.name, "ModelCreated");
        assert_eq!(read.actor, "ada \"the countess\" Ö");
        assert_eq!((&*read.id, &*read.target), ("e-1", "churn"));
        assert_eq!(read.project.as_deref(), Some("forecast"));
        let mut without = good();
        without.as_object_mut().unwrap().remove("project");
        assert_eq!(fault_of(&without), None);
    }

    #[test]
    fn lines_that_are_something_else_are_told_from_events() {
        for line in [
            "",
            "audit",
            "ModelCreated",
            "{",
            "[{\"audit\":1}]",
            r#"{"message":"\"audit\" is on"}"#,
            r#"{"settings":{"audit":1}}"#,
        ] {
            assert_eq!(read(&record(line.as_bytes())), Line::Other, "{line}");
        }
    }

    #[test]
    fn what_is_meant_as_an_event_and_is_none_says_why() {
        for (member, name) in [
            ("event", Member::Event),
            ("time", Member::Time),
            ("id", Member::Id),
            ("actor", Member::Actor),
            ("target", Member::Target),
        ] {
            let mut event = good();
            event.as_object_mut().unwrap().remove(member).unwrap();
            assert_eq!(fault_of(&event), Some(Fault::Missing(name)));
            event[member] = "".into();
            assert_eq!(fault_of(&event), Some(Fault::Missing(name)));
            event[member] = 7.into();
            assert_eq!(fault_of(&event), Some(Fault::Invalid(name)));
            event[member] = "ä".repeat(256).into();
            assert_eq!(fault_of(&event), Some(Fault::Invalid(name)));
        }
        for (member, value, expected) in [
            ("audit", json!(2), Fault::Version),
            ("audit", json!(true), Fault::Version),
            (
                "event",
                json!("model created"),
                Fault::Invalid(Member::Event),
            ),
            ("time", json!("yesterday"), Fault::Invalid(Member::Time)),
            (
                "time",
                json!("2026-11-30T09:12:44"),
                Fault::Invalid(Member::Time),
            ),
            ("project", json!(""), Fault::Missing(Member::Project)),
            ("project", json!({}), Fault::Invalid(Member::Project)),
            ("details", json!("all"), Fault::Invalid(Member::Details)),
            ("details", json!([1]), Fault::Invalid(Member::Details)),
        ] {
            let mut event = good();
            event[member] = value;
            assert_eq!(fault_of(&event), Some(expected), "{event}");
        }
        let longest = {
            let mut event = good();
            event["target"] = "ä".repeat(255).into();
            event
        };
        assert_eq!(fault_of(&longest), None);
        for broken in [
            &br#"{"audit":1,"event":"ModelCrea"#[..],
            br#"{"audit":1}{"audit":1}"#,
            b"{\"audit\":1,\"actor\":\"\xff\"}",
        ] {
            assert_eq!(read(&record(broken)), Line::Faulty(Fault::NoObject));
        }
    }

    #[test]
    fn a_line_that_is_cut_is_no_event_in_any_of_its_parts() {
        let text = good().to_string();
        let first = Record {
            continues: true,
            ..record(text.as_bytes())
        };
        assert_eq!(read(&first), Line::Faulty(Fault::TooLong));
        let next = Record {
            continued: true,
            ..record(b"\"}}")
        };
        assert_eq!(read(&next), Line::Faulty(Fault::Continued));
        let other = Record {
            continues: true,
            ..record(b"a very long line")
        };
        assert_eq!(read(&other), Line::Other);
    }
}
