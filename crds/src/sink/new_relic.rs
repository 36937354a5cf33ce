//! New Relic.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{HttpConnection, SecretKeyRef, connection::GzipOrNone, rule::Address};

const ENDPOINT: Address = Address {
    field: "endpoint",
    optional: true,
    example: "https://log-api.newrelic.com",
    credential: "licenseKeySecretRef",
};

/// New Relic's Log API.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ENDPOINT.has_scheme(),
    validation = ENDPOINT.is_url(),
    validation = ENDPOINT.has_no_query(),
    validation = ENDPOINT.has_tls(),
    validation = ENDPOINT.has_no_credentials(),
    validation = ("!(has(self.region) && has(self.endpoint))", "endpoint takes the place of the region's address: keep one of region and endpoint")
)]
pub struct NewRelicSink {
    /// Where the account is: `US`, `EU` or `FedRAMP`. The license keys of European accounts begin with `eu01xx`.
    /// Default: `US`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NewRelicRegion")]
    pub region: Option<NewRelicRegion>,
    /// Address instead of the region's, such as a private link's: `/log/v1` is appended where it is not there already.
    /// Default: the region's. Example: `https://log-api.newrelic.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: Option<String>,
    /// The ingest license key; not a user key.
    pub license_key_secret_ref: SecretKeyRef,
    /// How requests are compressed: `Gzip` or `None`. Default: `Gzip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GzipOrNone")]
    pub compression: Option<GzipOrNone>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}

/// Where an account's data is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum NewRelicRegion {
    /// United States.
    #[serde(rename = "US")]
    Us,
    /// European Union.
    #[serde(rename = "EU")]
    Eu,
    /// United States, for accounts under FedRAMP.
    #[serde(rename = "FedRAMP")]
    FedRamp,
}
