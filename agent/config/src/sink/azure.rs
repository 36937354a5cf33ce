//! Azure Blob Storage.

use serde::{Deserialize, Serialize};

use super::object_storage::{InvalidStore, KeyPrefix};
use crate::{CredentialKey, Endpoint};

/// A container of a storage account: `<endpoint>/<container>/<key>`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Azure {
    /// Base address of the account's blob service.
    pub endpoint: Endpoint,
    /// Storage account.
    pub account: AzureAccount,
    /// Container.
    pub container: AzureContainer,
    /// What all keys begin with, without `/` at its ends; empty: nothing.
    #[serde(default, skip_serializing_if = "KeyPrefix::is_empty")]
    pub prefix: KeyPrefix,
    /// What requests show; none: what the identity of the pod is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<AzureCredential>,
}

/// What requests to a storage account show.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AzureCredential {
    /// One of the account's two keys, with which they are signed (Azure: "Authorize with Shared Key").
    SharedKey(CredentialKey),
    /// A shared access signature, which stands in their address.
    SasToken(CredentialKey),
}

/// The name of a storage account (Azure: "Storage account overview").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AzureAccount(String);

/// The name of a container (Azure: "Naming and Referencing Containers, Blobs, and Metadata").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AzureContainer(String);

impl AzureCredential {
    /// The credential's name.
    pub fn key(&self) -> &CredentialKey {
        match self {
            Self::SharedKey(key) | Self::SasToken(key) => key,
        }
    }
}

impl AzureAccount {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AzureContainer {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AzureAccount {
    type Error = InvalidStore;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_name = (3..=24).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if is_name {
            Ok(Self(text))
        } else {
            Err(InvalidStore::AzureAccount(text))
        }
    }
}

impl TryFrom<String> for AzureContainer {
    type Error = InvalidStore;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if (3..=63).contains(&text.len()) && text.split('-').all(is_part) {
            Ok(Self(text))
        } else {
            Err(InvalidStore::AzureContainer(text))
        }
    }
}

impl From<AzureAccount> for String {
    fn from(name: AzureAccount) -> Self {
        name.0
    }
}

impl From<AzureContainer> for String {
    fn from(name: AzureContainer) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_containers_are_called_as_azure_allows() {
        let account = |text: &str| AzureAccount::try_from(text.to_owned());
        let container = |text: &str| AzureContainer::try_from(text.to_owned());
        assert!(account("platformlogs1").is_ok());
        for name in ["ab", "Logs", "a-b", "a.blob.core.windows.net"] {
            assert!(account(name).is_err(), "{name}");
        }
        assert!(container("platform-logs").is_ok());
        for name in [
            "ab", "$logs", "-logs", "logs-", "a--b", "Logs", "a/b", "a_b",
        ] {
            assert!(container(name).is_err(), "{name}");
        }
        assert!(container(&"a".repeat(64)).is_err());
    }
}
