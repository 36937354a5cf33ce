//! Names of credentials; never a credential itself.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a credential: its key in the bundle Secret and its file name in the agent.
///
/// Keys of a Secret are at most 253 characters of `[-._a-zA-Z0-9]`; `.` and `..` are refused, and so is
/// everything that begins with `..`, which the kubelet keeps for itself.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialKey(String);

impl CredentialKey {
    /// The key of the credential that a policy names by Secret and key.
    ///
    /// A Secret's name has no `_`, so the pair can be read back and two pairs never collide. A pair that is
    /// too long for a key is named by its digest instead.
    ///
    /// # Errors
    /// When either part is empty or has a character that Kubernetes does not allow there.
    pub fn of_secret(name: &str, key: &str) -> Result<Self, InvalidCredentialKey> {
        let joined = format!("{name}_{key}");
        if name.is_empty() || key.is_empty() || name.contains('_') || !is_plain(&joined) {
            return Err(InvalidCredentialKey(joined));
        }
        if joined.len() <= MAX_LENGTH {
            return Self::try_from(joined);
        }
        Self::try_from(format!(
            "sha256-{}",
            crate::bundle::hex_digest(joined.as_bytes())
        ))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const MAX_LENGTH: usize = 253;

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

impl TryFrom<String> for CredentialKey {
    type Error = InvalidCredentialKey;

    fn try_from(key: String) -> Result<Self, Self::Error> {
        let fits = (1..=MAX_LENGTH).contains(&key.len());
        if fits && is_plain(&key) && key != "." && !key.starts_with("..") {
            Ok(Self(key))
        } else {
            Err(InvalidCredentialKey(key))
        }
    }
}

impl From<CredentialKey> for String {
    fn from(key: CredentialKey) -> Self {
        key.0
    }
}

impl fmt::Display for CredentialKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A name that cannot be a key of a Secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` cannot be the name of a credential: use 1 to 253 letters, digits, `-`, `_` or `.`")]
pub struct InvalidCredentialKey(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_no_credential() {
        for key in ["", ".", "..", "..data", "../token", "a/b", "a b", "a\n"] {
            assert!(CredentialKey::try_from(key.to_owned()).is_err(), "{key:?}");
        }
    }

    #[test]
    fn two_secrets_never_share_a_key() {
        let one = CredentialKey::of_secret("a.b", "c").unwrap();
        let other = CredentialKey::of_secret("a", "b.c").unwrap();
        assert_ne!(one, other);
        assert_eq!(one.as_str(), "a.b_c");
    }

    #[test]
    fn a_long_name_still_fits_into_a_secret() {
        let key = CredentialKey::of_secret(&"s".repeat(200), &"k".repeat(200)).unwrap();
        assert!(key.as_str().len() <= 253);
        assert_ne!(
            key,
            CredentialKey::of_secret(&"s".repeat(200), &"l".repeat(200)).unwrap()
        );
    }
}
