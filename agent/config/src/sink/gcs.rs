//! Google Cloud Storage.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::object_storage::{InvalidStore, KeyPrefix};
use crate::{CredentialKey, Endpoint};

/// A bucket of Google Cloud Storage, reached by its XML API: `<endpoint>/<bucket>/<key>`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gcs {
    /// Base address of the service.
    pub endpoint: Endpoint,
    /// Bucket.
    pub bucket: GcsBucketName,
    /// What all keys begin with, without `/` at its ends; empty: nothing.
    #[serde(default, skip_serializing_if = "KeyPrefix::is_empty")]
    pub prefix: KeyPrefix,
    /// Key of a service account: see [`ServiceAccountKey`]; none: the identity of the pod is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_key: Option<CredentialKey>,
}

/// A name that Cloud Storage allows for a bucket (Google: "Bucket naming guidelines").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct GcsBucketName(String);

impl GcsBucketName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GcsBucketName {
    type Error = InvalidStore;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let is_name = (3..=222).contains(&bytes.len())
            && bytes.first().is_some_and(is_end)
            && bytes.last().is_some_and(is_end)
            && bytes
                .iter()
                .all(|byte| is_end(byte) || b"-_.".contains(byte))
            && text.split('.').all(|part| (1..=63).contains(&part.len()));
        if is_name {
            Ok(Self(text))
        } else {
            Err(InvalidStore::GcsBucket(text))
        }
    }
}

impl From<GcsBucketName> for String {
    fn from(name: GcsBucketName) -> Self {
        name.0
    }
}

/// What is used of a service account's key file (Google: "Using OAuth 2.0 for Server to Server Applications").
#[derive(Clone, Deserialize, Eq, PartialEq)]
pub struct ServiceAccountKey {
    /// Who it belongs to.
    pub client_email: String,
    /// Which of its keys this is.
    #[serde(default)]
    pub private_key_id: Option<String>,
    /// The key, PEM. Shown to nobody.
    pub private_key: String,
    /// Where a token is given for it.
    pub token_uri: Endpoint,
    #[serde(rename = "type")]
    kind: String,
}

impl fmt::Debug for ServiceAccountKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

impl ServiceAccountKey {
    /// Reads a key file.
    ///
    /// # Errors
    /// When it is no key of a service account, or its token would be asked for without TLS. Whether its private key is one
    /// is not looked at.
    pub fn parse(file: &[u8]) -> Result<Self, InvalidServiceAccountKey> {
        // What the parser says may repeat what it has read.
        let key: Self = serde_json::from_slice(file).map_err(|_| InvalidServiceAccountKey)?;
        if key.kind == "service_account" && !key.token_uri.is_plain_text() {
            Ok(key)
        } else {
            Err(InvalidServiceAccountKey)
        }
    }
}

/// Not the key of a service account. Repeats nothing of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no key of a service account")]
pub struct InvalidServiceAccountKey;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_called_as_google_allows() {
        let parse = |text: &str| GcsBucketName::try_from(text.to_owned());
        for name in ["logs", "a_1-b", "logs.example.com"] {
            assert!(parse(name).is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            "ab",
            "Logs",
            "_logs",
            "logs-",
            "a..b",
            "a/b",
            long.as_str(),
        ] {
            assert!(parse(name).is_err(), "{name}");
        }
        assert!(parse(&format!("{0}.{0}.{0}", "a".repeat(63))).is_ok());
    }

    #[test]
    fn only_the_key_of_a_service_account_is_one_and_it_is_never_shown() {
        let file = r#"{"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": "hunter2",
            "client_email": "logs@p.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token"}"#;
        let key = ServiceAccountKey::parse(file.as_bytes()).unwrap();
        assert_eq!(key.client_email, "logs@p.iam.gserviceaccount.com");
        assert_eq!(format!("{key:?}"), "…");
        for (from, to) in [
            ("service_account", "authorized_user"),
            ("https://", "http://"),
            ("private_key\":", "key\":"),
            ("{\"type", "[\"type"),
        ] {
            let file = file.replace(from, to);
            assert!(ServiceAccountKey::parse(file.as_bytes()).is_err(), "{file}");
        }
    }
}
