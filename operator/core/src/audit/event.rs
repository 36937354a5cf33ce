//! Names of audit events, and which of them the platform has.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// The longest name of an event, in bytes.
const LONGEST: usize = 63;

/// Events that every platform has: what happens to its models.
const MODEL_EVENTS: [&str; 9] = [
    "ModelCreated",
    "ModelVersionPublished",
    "ModelVersionStopped",
    "ModelVersionStarted",
    "ModelArchived",
    "ModelCollaboratorAdded",
    "ModelCollaboratorChanged",
    "ModelCollaboratorRemoved",
    "ModelSettingsChanged",
];

/// The name of an audit event, as the event tracker writes it: a capital letter, then letters and digits.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventName(String);

/// A text that is not the name of an event.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not the name of an event: write a capital letter and then letters and digits, 63 at most, for example ModelCreated"
)]
pub struct InvalidEventName(String);

impl TryFrom<String> for EventName {
    type Error = InvalidEventName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let begins = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_uppercase());
        if begins && name.len() <= LONGEST && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            Ok(Self(name))
        } else {
            Err(InvalidEventName(name))
        }
    }
}

impl From<EventName> for String {
    fn from(name: EventName) -> Self {
        name.0
    }
}

impl EventName {
    /// As the event tracker writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The events that the platform has: those of every platform, and those that the installation adds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vocabulary(BTreeSet<EventName>);

impl Vocabulary {
    /// With these besides those of every platform.
    pub fn with(added: &BTreeSet<EventName>) -> Self {
        let own = MODEL_EVENTS.map(|name| EventName(name.to_owned()));
        Self(added.iter().cloned().chain(own).collect())
    }

    /// Every event.
    pub fn all(&self) -> &BTreeSet<EventName> {
        &self.0
    }

    /// Those of the events that the platform does not have.
    pub fn unknown(&self, events: &BTreeSet<EventName>) -> BTreeSet<EventName> {
        events.difference(&self.0).cloned().collect()
    }
}

/// Names with commas between them.
pub(super) fn joined(events: &BTreeSet<EventName>, separator: &str) -> String {
    let names: Vec<&str> = events.iter().map(EventName::as_str).collect();
    names.join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> EventName {
        EventName::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn names_are_told_from_other_text() {
        for text in ["ModelCreated", "A", "Dataset2Deleted", &"A".repeat(63)] {
            assert_eq!(name(text).as_str(), text);
        }
        for text in [
            "",
            "modelCreated",
            "Model Created",
            "Model,Created",
            "Modèle",
            &"A".repeat(64),
        ] {
            let error = EventName::try_from(text.to_owned()).unwrap_err();
            assert!(
                error.to_string().contains("for example ModelCreated"),
                "{error}"
            );
        }
    }

    #[test]
    fn every_platform_has_nine_events_and_may_have_more() {
        let added = BTreeSet::from([name("DatasetDeleted"), name("ModelCreated")]);
        assert_eq!(Vocabulary::with(&BTreeSet::new()).all().len(), 9);
        assert_eq!(Vocabulary::with(&added).all().len(), 10);
        let asked = BTreeSet::from([
            name("DatasetDeleted"),
            name("ModelArchived"),
            name("ModelBroken"),
        ]);
        assert_eq!(
            Vocabulary::with(&added).unknown(&asked),
            [name("ModelBroken")].into()
        );
    }
}
