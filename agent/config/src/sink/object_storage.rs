//! Object storage: an archive in which each line is exactly once.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::{Azure, AzureCredential, Gcs};
use crate::{Connection, CredentialKey, Endpoint};

/// A store of objects and what is archived there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectStorage {
    /// The store.
    pub store: Store,
    /// Under which names the objects stand.
    pub layout: ArchiveLayout,
    /// Most bytes of an object before compression.
    pub max_bytes: NonZeroU32,
    /// How long a line may wait for others, in milliseconds.
    pub max_age_ms: NonZeroU32,
    /// How it is reached.
    #[serde(default)]
    pub connection: Connection,
}

/// The kinds of stores.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Store {
    /// Amazon S3, or what speaks its protocol.
    S3(S3),
    /// Google Cloud Storage.
    Gcs(Gcs),
    /// Azure Blob Storage.
    Azure(Azure),
}

impl Store {
    /// Where it is: the base address of the service.
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Self::S3(s3) => &s3.endpoint,
            Self::Gcs(gcs) => &gcs.endpoint,
            Self::Azure(azure) => &azure.endpoint,
        }
    }

    /// Names of the credentials that it asks for; none where the pod's own identity opens it.
    pub fn credentials(&self) -> Vec<&CredentialKey> {
        match self {
            Self::S3(s3) => {
                let key = s3.access_key.iter();
                key.flat_map(|key| [&key.id, &key.secret]).collect()
            }
            Self::Gcs(gcs) => gcs.service_account_key.iter().collect(),
            Self::Azure(azure) => azure.credential.iter().map(AzureCredential::key).collect(),
        }
    }
}

/// A bucket of S3, addressed by path: `<endpoint>/<bucket>/<key>`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "S3Form", into = "S3Form")]
pub struct S3 {
    /// Base address of the service.
    pub endpoint: Endpoint,
    /// Region that requests are signed for.
    pub region: Region,
    /// Bucket.
    pub bucket: BucketName,
    /// What all keys begin with, without `/` at its ends; empty: nothing.
    pub prefix: KeyPrefix,
    /// What requests are signed with; none: what the identity of the pod is given.
    pub access_key: Option<AccessKey>,
    /// How each object is locked; none: not at all.
    pub object_lock: Option<ObjectLock>,
}

/// An access key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessKey {
    /// Its id.
    pub id: CredentialKey,
    /// Its secret.
    pub secret: CredentialKey,
}

/// As it is written.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct S3Form {
    endpoint: Endpoint,
    region: Region,
    bucket: BucketName,
    #[serde(default, skip_serializing_if = "KeyPrefix::is_empty")]
    prefix: KeyPrefix,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_key_id: Option<CredentialKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_access_key: Option<CredentialKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object_lock: Option<ObjectLock>,
}

impl TryFrom<S3Form> for S3 {
    type Error = InvalidStore;

    fn try_from(form: S3Form) -> Result<Self, Self::Error> {
        let access_key = match (form.access_key_id, form.secret_access_key) {
            (Some(id), Some(secret)) => Some(AccessKey { id, secret }),
            (None, None) => None,
            _ => return Err(InvalidStore::AccessKey),
        };
        Ok(Self {
            endpoint: form.endpoint,
            region: form.region,
            bucket: form.bucket,
            prefix: form.prefix,
            access_key,
            object_lock: form.object_lock,
        })
    }
}

impl From<S3> for S3Form {
    fn from(s3: S3) -> Self {
        let (access_key_id, secret_access_key) =
            s3.access_key.map(|key| (key.id, key.secret)).unzip();
        Self {
            endpoint: s3.endpoint,
            region: s3.region,
            bucket: s3.bucket,
            prefix: s3.prefix,
            access_key_id,
            secret_access_key,
            object_lock: s3.object_lock,
        }
    }
}

/// How each object is locked against being deleted or replaced (Amazon S3: "Locking objects with Object Lock").
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectLock {
    /// Who can lift it.
    pub mode: LockMode,
    /// For so many days from when it is cut.
    pub days: NonZeroU32,
}

/// Who can lift the lock of an object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LockMode {
    /// Who has a right of its own to it.
    Governance,
    /// Nobody.
    Compliance,
}

impl LockMode {
    /// As the protocol has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// What the objects are found by.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ArchiveLayout {
    /// `executions/<execution id>/<pod>_<uid>/<container>/`.
    Executions,
    /// `application/<namespace>/<pod>_<uid>/<container>/`.
    Application,
    /// `audit/<namespace>/<pod>_<uid>/<container>/`.
    Audit,
}

impl ArchiveLayout {
    /// What the keys of its objects begin with, below the sink's prefix.
    pub fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Executions => &["executions/", "unidentified/"],
            Self::Application => &["application/"],
            Self::Audit => &["audit/"],
        }
    }
}

/// A name that S3 allows for a bucket, or did when it was made (Amazon S3: "General purpose bucket naming rules").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);

/// The name of a region, such as `eu-central-1`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// The beginning of keys: parts of letters, digits, `!`, `-`, `_`, `.`, `*`, `'`, `(` and `)`, with `/` between them
/// (Amazon S3: "Naming Amazon S3 objects", safe characters).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPrefix(String);

/// Longest prefix, in bytes: a key has 1024, and what comes after the prefix has its place in the rest.
pub const MAX_PREFIX: usize = 256;

/// Why a text cannot be part of the address of an object.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidStore {
    /// Not the name of a bucket.
    #[error(
        "`{0}` is not the name of a bucket: use 3 to 63 lower-case letters, digits, `-` and `.`"
    )]
    Bucket(String),
    /// Half of an access key.
    #[error("an access key has an id and a secret")]
    AccessKey,
    /// Not the name of a bucket of Google's.
    #[error(
        "`{0}` is not the name of a bucket: use 3 to 63 lower-case letters, digits, `-` and `_`; with `.` between them, each part may be as long"
    )]
    GcsBucket(String),
    /// Not the name of a storage account.
    #[error(
        "`{0}` is not the name of a storage account: use 3 to 24 lower-case letters and digits, and write the address into endpoint"
    )]
    AzureAccount(String),
    /// Not the name of a container.
    #[error(
        "`{0}` is not the name of a container: use 3 to 63 lower-case letters and digits, and single `-` between them"
    )]
    AzureContainer(String),
    /// Not the name of a region.
    #[error("`{0}` is not the name of a region: write for example eu-central-1")]
    Region(String),
    /// Not the beginning of a key.
    #[error(
        "`{0}` cannot stand before keys: use letters, digits, `-`, `_` and `.`, and `/` only between them, for example platform/logs"
    )]
    Prefix(String),
}

impl BucketName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Region {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl KeyPrefix {
    /// The prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether keys stand at the top of the bucket.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A key below the prefix.
    pub fn join(&self, key: &str) -> String {
        if self.is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.0)
        }
    }
}

impl TryFrom<String> for BucketName {
    type Error = InvalidStore;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let is_name = (3..=63).contains(&bytes.len())
            && bytes.first().is_some_and(is_end)
            && bytes.last().is_some_and(is_end)
            && bytes
                .iter()
                .all(|byte| is_end(byte) || b"-.".contains(byte))
            && !text.contains("..");
        if is_name {
            Ok(Self(text))
        } else {
            Err(InvalidStore::Bucket(text))
        }
    }
}

impl TryFrom<String> for Region {
    type Error = InvalidStore;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
            Ok(Self(text))
        } else {
            Err(InvalidStore::Region(text))
        }
    }
}

impl TryFrom<String> for KeyPrefix {
    type Error = InvalidStore;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.*'()".contains(&byte);
        // Some stores are file systems below.
        let is_part = |part: &str| {
            !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_safe)
        };
        if text.is_empty() || text.len() <= MAX_PREFIX && text.split('/').all(is_part) {
            Ok(Self(text))
        } else {
            Err(InvalidStore::Prefix(text))
        }
    }
}

impl From<BucketName> for String {
    fn from(name: BucketName) -> Self {
        name.0
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

impl From<KeyPrefix> for String {
    fn from(prefix: KeyPrefix) -> Self {
        prefix.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_bucket_can_be_called_is_refused() {
        let parse = |text: &str| BucketName::try_from(text.to_owned());
        for name in ["logs", "a-1", "my.logs-2026"] {
            assert!(parse(name).is_ok(), "{name}");
        }
        for name in [
            "", "ab", "Logs", "-logs", "logs.", "a..b", "a/b", "a b", "a?b",
        ] {
            assert!(parse(name).is_err(), "{name}");
        }
        assert!(parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn an_access_key_is_whole_or_the_identity_of_the_pod_is_used() {
        let parse = |keys: &str| {
            let form = format!(
                r#"{{"endpoint": "https://s3.example.com", "region": "r", "bucket": "logs"{keys}}}"#
            );
            serde_json::from_str::<S3>(&form)
        };
        assert!(parse("").unwrap().access_key.is_none());
        let whole = parse(r#", "accessKeyId": "a", "secretAccessKey": "b""#).unwrap();
        assert_eq!(
            serde_json::to_value(&whole).unwrap()["secretAccessKey"],
            "b"
        );
        for keys in [
            r#", "accessKeyId": "a""#,
            r#", "secretAccessKey": "b""#,
            r#", "sessionToken": "c""#,
        ] {
            assert!(parse(keys).is_err(), "{keys}");
        }
    }

    #[test]
    fn a_prefix_stays_below_itself() {
        let parse = |text: &str| KeyPrefix::try_from(text.to_owned());
        assert_eq!(parse("a/b").unwrap().join("c"), "a/b/c");
        assert_eq!(parse("").unwrap().join("c"), "c");
        for prefix in ["/a", "a/", "a//b", "..", "a/../b", "a b", "a?b", "ü"] {
            assert!(parse(prefix).is_err(), "{prefix}");
        }
        assert!(parse(&"a".repeat(MAX_PREFIX + 1)).is_err());
        assert!(Region::try_from("eu central".to_owned()).is_err());
    }
}
