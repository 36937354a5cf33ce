//! A record of an archive of audit events.

use std::borrow::Cow;

use k8s_openapi::jiff::Timestamp;
use katonic_log_config::audit::{Fingerprint, Link};
use serde::Deserialize;
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

    /// What it says, as a digest.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.text)
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record with an event of this number, after `before`; and its place.
    pub fn line(number: u64, before: Link) -> (String, Link) {
        let event = format!(
            r#"{{"audit":1,"event":"ModelCreated","time":"2026-11-30T09:12:44Z","id":"e-{number}","actor":"ada","target":"model-{number}"}}"#
        );
        let id = format!("f00d-{}", number * 100);
        let place = before.next(&id, &Fingerprint::of(&event));
        let line = format!(
            r#"{{"time":"2026-11-30T09:12:{:02}.5Z","namespace":"platform","pod":"tracker-1","container":"event-tracker","restart":0,"labels":{{"fields":"x"}},"record_id":"{id}","sequence":{},"chain":"{}","fields":{event}}}"#,
            number % 60,
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
        let next = Link::default().next("f00d-100", &entry.fingerprint());
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
}
