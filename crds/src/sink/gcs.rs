//! Google Cloud Storage.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{HttpConnection, rule::Address};

const ENDPOINT: Address = Address {
    field: "endpoint",
    optional: true,
    example: "https://storage.googleapis.com",
    credential: "credentialsSecretRef",
};

/// A bucket of Google Cloud Storage. `tls`, `proxyURL` and `timeout` hold for the server that gives tokens, too.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ENDPOINT.has_scheme(),
    validation = ENDPOINT.is_url(),
    validation = ENDPOINT.has_no_query(),
    validation = ENDPOINT.has_tls(),
    validation = ENDPOINT.has_no_credentials(),
)]
pub struct GcsStore {
    /// Name of the bucket, which exists already. Example: `platform-logs`.
    #[schemars(length(min = 3, max = 222))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9]([-_.a-z0-9]*[a-z0-9])?$') && self.split('.').all(part, size(part) >= 1 && size(part) <= 63)", "bucket is not the name of a bucket: use lower-case letters, digits, `-`, `_` and `.`, at most 63 between dots, for example platform-logs"))]
    pub bucket: String,
    /// Base address of the service; the bucket's name is part of the path (`<endpoint>/<bucket>/<key>`). `http://` is allowed,
    /// sends lines unencrypted and is warned about. Default: `https://storage.googleapis.com`.
    /// Example: `https://storage-platform.p.googleapis.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,
    /// What the keys of all objects begin with. Default: nothing. Example: `platform/logs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = super::object_storage::prefix())]
    pub prefix: Option<String>,
    /// Who writes: needs nothing but the right to create objects below the prefix (`roles/storage.objectCreator`). Default: the pod
    /// itself, by the identity that its service account has in the cloud; whatever else runs in the pod may then write, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<ServiceAccountSecretRef>,
    /// Who looks after the policy's `retention`: a service account that may read and change the bucket's settings. The operator
    /// alone uses it, agents never see it. Default: none; then nobody does, and the status says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_secret_ref: Option<ServiceAccountSecretRef>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}

/// A service account: a Secret in the operator's namespace with a key file, as `gcloud iam service-accounts keys create key.json`
/// writes it.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (r"self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name is not the name of a Secret: use lower-case letters, digits, `-` and `.`, for example archive"),
    validation = (r"!has(self.key) || self.key.matches('^[-._a-zA-Z0-9]+$') && !self.key.startsWith('..')", "key is not a key of a Secret: use letters, digits, `-`, `_` and `.`, for example key.json")
)]
pub struct ServiceAccountSecretRef {
    /// Name of the Secret. It lives in the operator's namespace (`katonic-logging` unless installed elsewhere).
    /// Example: `archive`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within the Secret. Default: `key.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}
