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

const MANAGEMENT_ENDPOINT: Address = Address {
    field: "managementEndpoint",
    optional: true,
    example: "https://api.newrelic.com",
    credential: "managementSecretRef",
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
    validation = MANAGEMENT_ENDPOINT.has_scheme(),
    validation = MANAGEMENT_ENDPOINT.is_url(),
    validation = MANAGEMENT_ENDPOINT.has_no_query(),
    validation = MANAGEMENT_ENDPOINT.has_no_credentials(),
    validation = (
        "has(self.managementSecretRef) ? has(self.accountId) : !has(self.accountId) && !has(self.managementEndpoint)",
        "managementSecretRef needs the accountId to look after; accountId and managementEndpoint are for nothing else"
    ),
    validation = ("!(has(self.managementSecretRef) && has(self.region) && self.region == 'FedRAMP' && !has(self.managementEndpoint))", "managementEndpoint is needed with the region FedRAMP: New Relic names no address of NerdGraph for it"),
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
    /// Who looks after the policy's `retention`: a user key, which may change the account's data retention. The operator alone uses
    /// it, agents never see it. Default: none; then whoever runs the account decides, and the status says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_secret_ref: Option<SecretKeyRef>,
    /// Id of the account whose logs it is: with `managementSecretRef`. Example: `1234567`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub account_id: Option<i32>,
    /// Where the account is managed (NerdGraph; `/graphql` is appended): with `managementSecretRef`. Default: the region's.
    /// Example: `https://api.eu.newrelic.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub management_endpoint: Option<String>,
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
