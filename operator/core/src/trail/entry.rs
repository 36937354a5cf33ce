//! A record of an archive of audit events.

use std::borrow::Cow;

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::audit::{Fingerprint, Link, Said};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::execution::line::{InvalidRecord, Record};

/// A record that an audit policy's sink has.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When its line was written.
    pub time: Timestamp,
    /// Its id, which sets it apart from all others.
    pub id: Cow<'a, str>,
    /// Namespace, pod and container that wrote it.
    pub origin: [Cow<'a, str>; 3],
    /// How often the container had been restarted.
    pub restart: u32,
    /// Its place among the events of its container; none: an agent without a chain wrote it, or no agent did.
    pub link: Option<Link>,
    /// Why it is no event, though it is meant as one.
    pub fault: Option<Cow<'a, str>>,
    /// What it says.
    pub text: Cow<'a, str>,
}

/// What an event says, as the event tracker's contract has it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct Event<'a> {
    /// What has happened.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// When.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// Sets it apart from all others.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Who did it.
    #[serde(borrow)]
    pub actor: Cow<'a, str>,
    /// What it was done to.
    #[serde(borrow)]
    pub target: Cow<'a, str>,
    /// The project that the target belongs to.
    #[serde(borrow)]
    pub project: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow, default)]
    record_id: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    pod: Cow<'a, str>,
    #[serde(borrow, default)]
    container: Cow<'a, str>,
    #[serde(default)]
    restart: u32,
    #[serde(default)]
    sequence: Option<u64>,
    #[serde(borrow, default)]
    chain: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    audit_fault: Option<Cow<'a, str>>,
    #[serde(default)]
    message: Option<IgnoredAny>,
    #[serde(default)]
    fields: Option<IgnoredAny>,
}

/// The members of an event whose forms nobody has checked.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    actor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    target: Option<&'a RawValue>,
    #[serde(borrow, default)]
    project: Option<&'a RawValue>,
}

impl<'a> Entry<'a> {
    /// Reads a line of an object.
    ///
    /// # Errors
    /// When it is no record; what the line says is not repeated.
    pub fn read(line: &'a [u8]) -> Result<Self, InvalidRecord> {
        let Record { time, message, .. } = Record::read(line)?;
        let stored: Stored<'a> =
            serde_json::from_slice(line).map_err(|error| InvalidRecord::Json(error.to_string()))?;
        // An agent writes one of them, and the chain binds one.
        if stored.message.is_some() && stored.fields.is_some() {
            return Err(InvalidRecord::Both);
        }
        // A place that cannot be read is none.
        let place = stored.sequence.zip(stored.chain);
        let place = place.and_then(|(sequence, chain)| Link::read(sequence, &chain).ok());
        Ok(Self {
            time,
            id: stored.record_id,
            origin: [stored.namespace, stored.pod, stored.container],
            restart: stored.restart,
            link: place.filter(|link| link.sequence > 0),
            fault: stored.audit_fault,
            text: message,
        })
    }

    /// Its text, as a digest.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.text)
    }

    /// What its place in the chain binds of it.
    pub fn said(&self) -> Said<'_> {
        Said {
            record_id: &self.id,
            written: micros(self.time),
            fault: self.fault.as_deref(),
            text: self.fingerprint(),
        }
    }

    /// What the event says; of what is meant as one, as far as it goes.
    pub fn event(&self) -> Event<'_> {
        let Ok(members) = serde_json::from_str::<Members<'_>>(&self.text) else {
            return Event::default();
        };
        let text = |member: Option<&'_ RawValue>| -> Cow<'_, str> {
            let text = member.and_then(|value| serde_json::from_str::<String>(value.get()).ok());
            text.unwrap_or_default().into()
        };
        Event {
            event: text(members.event),
            time: text(members.time),
            id: text(members.id),
            actor: text(members.actor),
            target: text(members.target),
            project: members.project.map(|project| text(Some(project))),
        }
    }
}

/// Whole microseconds since 1970, those before it counted down.
pub(super) fn micros(time: Timestamp) -> i64 {
    let micros = time.as_nanosecond().div_euclid(1_000);
    // Every time that there is has some.
    i64::try_from(micros).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record with an event of this number, after `before`; and its place.
    pub fn line(number: u64, before: Link) -> (String, Link) {
        let event = format!(
            r#"{{"audit":1,"event":"ModelCreated","time":"2026-11-30T09:12:44Z","id":"e-{number}","actor":"ada","target":"model-{number}"}}"#
        );
        let id = format!("f00d-{}", number * 100);
        let time = format!("2026-11-30T09:12:{:02}.5Z", number % 60);
        let place = before.next(&Said {
            record_id: &id,
            written: micros(time.parse().unwrap()),
            fault: None,
            text: Fingerprint::of(&event),
        });
        let line = format!(
            r#"{{"time":"{time}","namespace":"platform","pod":"tracker-1","container":"event-tracker","restart":0,"labels":{{"fields":"x"}},"record_id":"{id}","sequence":{},"chain":"{}","fields":{event}}}"#,
            place.sequence,
            place.chain()
        );
        (line, place)
    }

    /// The first so many records of a container.
    pub fn lines(count: u64) -> Vec<String> {
        let mut before = Link::default();
        let one = |number| {
            let (record, next) = line(number, before);
            before = next;
            record
        };
        (1..=count).map(one).collect()
    }

    #[test]
    fn a_record_is_read_with_its_place_and_its_event() {
        let lines = lines(1);
        let entry = Entry::read(lines[0].as_bytes()).unwrap();
        let next = Link::default().next(&entry.said());
        assert_eq!(entry.link, Some(next));
        let event = entry.event();
        assert_eq!((&*event.actor, &*event.target), ("ada", "model-1"));
        assert_eq!(event.project, None);
    }

    #[test]
    fn what_has_no_place_or_is_no_event_is_read_as_far_as_it_goes() {
        let entry = |line: &'static str| Entry::read(line.as_bytes()).unwrap();
        let without = entry(r#"{"time":"2026-11-30T09:12:44Z","message":"x"}"#);
        assert_eq!((without.link, without.event()), (None, Event::default()));
        let bad = entry(
            r#"{"time":"2026-11-30T09:12:44Z","sequence":1,"chain":"x","message":"{\"actor\":[1],\"target\":\"t\"}"}"#,
        );
        assert_eq!(bad.link, None);
        let event = bad.event();
        assert_eq!((&*event.actor, &*event.target), ("", "t"));
        assert!(Entry::read(b"{}").is_err());
    }

    #[test]
    fn a_record_that_says_two_things_is_none() {
        let two = r#"{"time":"2026-11-30T09:12:44Z","message":"{\"actor\":\"eve\"}","fields":{"actor":"ada"}}"#;
        assert_eq!(
            Entry::read(two.as_bytes()).unwrap_err(),
            InvalidRecord::Both
        );
        let again =
            r#"{"time":"2026-11-30T09:12:44Z","fields":{"actor":"ada"},"fields":{"actor":"eve"}}"#;
        assert!(Entry::read(again.as_bytes()).is_err());
    }

    #[test]
    fn times_are_bound_to_the_microsecond_as_agents_have_them() {
        for (time, expected) in [
            ("2026-11-30T09:12:44.120000999Z", 1_796_029_964_120_000),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999999Z", -1),
        ] {
            assert_eq!(micros(time.parse().unwrap()), expected, "{time}");
        }
    }
}
