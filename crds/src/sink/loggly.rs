//! Loggly.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{HttpConnection, SecretKeyRef, rule::Address};

const ENDPOINT: Address = Address {
    field: "endpoint",
    optional: true,
    example: "https://logs-01.loggly.com",
    credential: "tokenSecretRef",
};

/// Loggly's bulk endpoint.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ENDPOINT.has_scheme(),
    validation = ENDPOINT.is_url(),
    validation = ENDPOINT.has_no_query(),
    validation = ENDPOINT.has_tls(),
    validation = ENDPOINT.has_no_credentials()
)]
pub struct LogglySink {
    /// Base address: `/bulk/<token>/tag/<tags>/` is appended, so the token is part of it and `http://` shows it to all.
    /// Default: `https://logs-01.loggly.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,
    /// The customer token: letters, digits and `-`, as Loggly shows it.
    pub token_secret_ref: SecretKeyRef,
    /// Tags of every event, at most 16. Default: none. Example: `[platform, production]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = ("self.all(t, t.matches('^[a-zA-Z0-9][-a-zA-Z0-9._]*$'))", "a tag is not one that Loggly takes: use letters, digits, `-`, `.` and `_`, beginning with a letter or digit, for example platform"))]
    pub tags: Option<Vec<String>>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}
