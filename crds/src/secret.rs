//! References to credentials.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A key of a Secret in the operator's namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (r"self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name is not the name of a Secret: use lower-case letters, digits, `-` and `.`, for example splunk"),
    validation = (r"self.key.matches('^[-._a-zA-Z0-9]+$') && !self.key.startsWith('..')", "key is not a key of a Secret: use letters, digits, `-`, `_` and `.`, for example token")
)]
pub struct SecretKeyRef {
    /// Name of the Secret. It lives in the operator's namespace (`katonic-logging` unless installed elsewhere).
    /// Example: `splunk`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key within the Secret. A line break at the end of its value is ignored. Example: `token`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A certificate and its private key: a Secret in the operator's namespace with the keys `tls.crt` and `tls.key`, as the
/// type `kubernetes.io/tls` has them.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (r"self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name is not the name of a Secret: use lower-case letters, digits, `-` and `.`, for example syslog-client")
)]
pub struct CertificateSecretRef {
    /// Name of the Secret. It lives in the operator's namespace (`katonic-logging` unless installed elsewhere).
    /// Example: `syslog-client`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
