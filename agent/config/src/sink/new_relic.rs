//! New Relic.

use serde::{Deserialize, Serialize};

use crate::{Connection, CredentialKey, Endpoint};

/// New Relic's Log API (New Relic: "Introduction to the Log API").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewRelic {
    /// Where the account is.
    pub region: NewRelicRegion,
    /// Another address, such as a private link; none: the region's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// The ingest license key.
    pub license_key: CredentialKey,
    /// How it is reached.
    #[serde(default)]
    pub connection: Connection,
}

/// Where an account's data is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum NewRelicRegion {
    /// United States.
    Us,
    /// European Union.
    Eu,
    /// United States, FedRAMP.
    FedRamp,
}
