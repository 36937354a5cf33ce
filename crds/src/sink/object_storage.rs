//! Object storage: an archive in which each line is exactly once.

use kube::{
    KubeSchema,
    core::{Message, Rule},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AzureStore, GcsStore};
use crate::{
    HttpConnection,
    rule::{Address, Period},
};

const ENDPOINT: Address = Address {
    field: "endpoint",
    optional: true,
    example: "https://s3.eu-central-1.amazonaws.com",
    credential: "credentialsSecretRef",
};

/// How long a line may wait for others.
pub const MAX_AGE: Period = Period {
    least: "1s",
    most: "1h",
};

/// It can stand before keys.
pub(super) fn prefix() -> Rule {
    let rule = r"self.matches('^[-!_.*()a-zA-Z0-9]+(/[-!_.*()a-zA-Z0-9]+)*$') && self.split('/').all(p, p != '.' && p != '..')";
    Rule::new(rule).message(Message::Message(
        "prefix cannot stand before keys: use letters, digits, `-`, `_` and `.`, and `/` only between them, for example platform/logs".to_owned(),
    ))
}

/// A store of objects. Each line is in it exactly once, and a completeness record says when a container's log is whole.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = (
    "[has(self.installation) && self.installation, has(self.s3), has(self.gcs), has(self.azure)].filter(set, set).size() == 1",
    "an archive is in exactly one store: write installation: true for the one that the installation names (blob_storage.logs), or spell out one of s3, gcs and azure"
))]
pub struct ObjectStorageSink {
    /// The platform's own store of logs, which the installation names (`blob_storage.logs`): `true`, and no other.
    /// Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<bool>,
    /// Amazon S3, or a store that speaks its protocol (MinIO, Ceph). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Store>,
    /// Google Cloud Storage. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcs: Option<GcsStore>,
    /// Azure Blob Storage. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureStore>,
    /// When an object is cut. Default: as its fields say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<ArchiveObjects>,
}

/// When an object is cut: as soon as one of the two is reached, when a log file is rotated away, and when the pod ends.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveObjects {
    /// Most bytes of an object before compression, 1000000 to 64000000. Default: `16000000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1_000_000, max = 64_000_000))]
    pub max_bytes: Option<i32>,
    /// How long a line may wait for others, 1s to 1h: less is sooner in the archive, more is fewer objects. Default: `1m`.
    /// Example: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24))]
    #[x_kube(validation = MAX_AGE.rule())]
    pub max_age: Option<String>,
}

/// A bucket of S3.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ENDPOINT.has_scheme(),
    validation = ENDPOINT.is_url(),
    validation = ENDPOINT.has_no_query(),
    validation = ENDPOINT.has_tls(),
    validation = ENDPOINT.has_no_credentials(),
    validation = (
        "has(self.region) || has(self.endpoint)",
        "s3 needs the region of the bucket, for example eu-central-1, or the endpoint of a store that is not Amazon's"
    )
)]
pub struct S3Store {
    /// Name of the bucket, which exists already. Example: `platform-logs`.
    #[schemars(length(min = 3, max = 63))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9][-.a-z0-9]*[a-z0-9]$') && !self.contains('..')", "bucket is not the name of a bucket: use lower-case letters, digits, `-` and `.`, for example platform-logs"))]
    pub bucket: String,
    /// Region of the bucket. Default: `us-east-1`, which stores other than Amazon's take. Example: `eu-central-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = (r"self.matches('^[-_a-zA-Z0-9]+$')", "region is not the name of a region: write for example eu-central-1"))]
    pub region: Option<String>,
    /// Base address of the service; the bucket's name is part of the path (`<endpoint>/<bucket>/<key>`). `http://` is allowed,
    /// sends lines unencrypted and is warned about. Default: Amazon's for the region. Example: `https://minio.example.com:9000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,
    /// What the keys of all objects begin with. Default: nothing. Example: `platform/logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = prefix())]
    pub prefix: Option<String>,
    /// Who writes: needs nothing but the right to put objects below the prefix. Default: the pod
    /// itself, by the identity that its service account has in the cloud; whatever else runs in the pod may then write, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<AccessKeySecretRef>,
    /// Who looks after the policy's `retention`: an access key that may read and write the bucket's lifecycle rules. The operator
    /// alone uses it, agents never see it. Default: none; then nobody does, and the status says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_secret_ref: Option<AccessKeySecretRef>,
    /// Lock each object, so that nobody can delete or replace it before its time. The bucket must have been made with Object Lock;
    /// the agents need the right `s3:PutObjectRetention` too. Default: none. Example: `{mode: Governance, days: 30}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}

/// How each object is locked.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLock {
    /// `Governance`: who has the right `s3:BypassGovernanceRetention` can lift it. `Compliance`: nobody can, the owner of the
    /// account neither.
    pub mode: ObjectLockMode,
    /// For so many days from when the object is cut, 1 to 36500; not more than the policy's `retention`. Example: `30`.
    #[schemars(range(min = 1, max = 36_500))]
    pub days: i32,
}

/// Who can lift the lock of an object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ObjectLockMode {
    /// Who has a right of its own to it.
    Governance,
    /// Nobody.
    Compliance,
}

/// An access key: a Secret in the operator's namespace with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (r"self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name is not the name of a Secret: use lower-case letters, digits, `-` and `.`, for example archive")
)]
pub struct AccessKeySecretRef {
    /// Name of the Secret. It lives in the operator's namespace (`katonic-logging` unless installed elsewhere).
    /// Example: `archive`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
