//! Mixpanel.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HttpConnection, SecretKeyRef, connection::GzipOrNone, rule::Address};

const ENDPOINT: Address = Address {
    field: "endpoint",
    optional: true,
    example: "https://api.mixpanel.com",
    credential: "projectTokenSecretRef or serviceAccountSecretRef",
};

/// Mixpanel's import of events.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ENDPOINT.has_scheme(),
    validation = ENDPOINT.is_url(),
    validation = ENDPOINT.has_no_query(),
    validation = ENDPOINT.has_tls(),
    validation = ENDPOINT.has_no_credentials(),
    validation = ("has(self.projectTokenSecretRef) != has(self.serviceAccountSecretRef)", "Mixpanel is shown exactly one credential: set projectTokenSecretRef, or serviceAccountSecretRef with projectId"),
    validation = ("has(self.serviceAccountSecretRef) == has(self.projectId)", "serviceAccountSecretRef and projectId belong together: a service account may be in several projects, and a project's token names its own"),
    validation = ("!(has(self.region) && has(self.endpoint))", "endpoint takes the place of the region's address: keep one of region and endpoint")
)]
pub struct MixpanelSink {
    /// Where the project's data is: `US`, `EU` or `IN` (India). Another region's address refuses it. Default: `US`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "MixpanelRegion")]
    pub region: Option<MixpanelRegion>,
    /// Address instead of the region's: `/import` is appended. Default: the region's. Example: `https://api.mixpanel.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,
    /// The project's token. Default: none; then `serviceAccountSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_token_secret_ref: Option<SecretKeyRef>,
    /// A service account that may import into the project. Default: none; then `projectTokenSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_secret_ref: Option<MixpanelAccountSecretRef>,
    /// Id of the project: with `serviceAccountSecretRef`. Example: `2195193`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = (r"self.matches('^[0-9]+$')", "projectId is not the id of a project: write its digits, for example '2195193'"))]
    pub project_id: Option<String>,
    /// How requests are compressed: `Gzip` or `None`. Default: `Gzip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GzipOrNone")]
    pub compression: Option<GzipOrNone>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}

/// A service account: a Secret in the operator's namespace with the keys `username` and `secret`.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (r"self.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')", "name is not the name of a Secret: use lower-case letters, digits, `-` and `.`, for example mixpanel")
)]
pub struct MixpanelAccountSecretRef {
    /// Name of the Secret. It lives in the operator's namespace (`katonic-logging` unless installed elsewhere).
    /// Example: `mixpanel`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where a project's data is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum MixpanelRegion {
    /// United States.
    #[serde(rename = "US")]
    Us,
    /// European Union.
    #[serde(rename = "EU")]
    Eu,
    /// India.
    #[serde(rename = "IN")]
    In,
}
