//! Loggly.

use serde::{Deserialize, Serialize};

use crate::{Connection, CredentialKey, Endpoint};

/// Loggly's bulk endpoint (Loggly: "HTTP/S Bulk Endpoint").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Loggly {
    /// Base address; `/bulk/<token>/tag/<tags>/` is appended.
    pub endpoint: Endpoint,
    /// The customer token.
    pub token: CredentialKey,
    /// Tags of every event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<LogglyTag>,
    /// How it is reached.
    #[serde(default)]
    pub connection: Connection,
}

/// A tag: 1 to 64 letters, digits, `-`, `.` and `_`, beginning with a letter or digit (Loggly: "Tags").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogglyTag(String);

impl LogglyTag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LogglyTag {
    type Error = InvalidTag;

    fn try_from(tag: String) -> Result<Self, Self::Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let begins_well = tag
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && tag.len() <= 64 && tag.bytes().all(allowed) {
            Ok(Self(tag))
        } else {
            Err(InvalidTag(tag))
        }
    }
}

impl From<LogglyTag> for String {
    fn from(tag: LogglyTag) -> Self {
        tag.0
    }
}

/// A text that Loggly does not take for a tag.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "`{0}` is not a Loggly tag: use 1 to 64 letters, digits, `-`, `.` and `_`, a letter or digit first"
)]
pub struct InvalidTag(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_cannot_change_the_address() {
        for tag in ["", "a/b", "a,b", "-a", "ä", "a b", &"a".repeat(65)] {
            assert!(LogglyTag::try_from(tag.to_owned()).is_err(), "{tag:?}");
        }
        assert!(LogglyTag::try_from("platform-1.2_x".to_owned()).is_ok());
    }
}
