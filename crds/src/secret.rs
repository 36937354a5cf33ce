//! References to credentials.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A key of a Secret in the operator's namespace.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret. It lives in the operator's namespace (`katonic-logging` unless installed elsewhere).
    /// Example: `splunk`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name is not the name of a Secret: use lower-case letters, digits, `-` and `.`, for example splunk"))]
    pub name: String,
    /// Key within the Secret. A line break at the end of its value is ignored. Example: `token`.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = (r"self.matches('^[-._a-zA-Z0-9]+$') && !self.startsWith('..')", "key is not a key of a Secret: use letters, digits, `-`, `_` and `.`, for example token"))]
    pub key: String,
}
