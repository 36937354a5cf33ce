//! Splunk HTTP Event Collector.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::{Connection, CredentialKey, Endpoint};

/// Splunk HTTP Event Collector, event endpoint (Splunk: "Format events for HTTP Event Collector").
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Splunk {
    /// Base address; `/services/collector/event` is appended.
    pub endpoint: Endpoint,
    /// The HEC token.
    pub token: CredentialKey,
    /// Index; none: the token's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// Host; none: the pod's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Source; none: the path of the log file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Sourcetype; none: `kube:container:<container>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sourcetype: Option<String>,
    /// Wait until events are indexed; none: 200 is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<Acknowledgement>,
    /// How it is reached.
    #[serde(default)]
    pub connection: Connection,
}

/// Indexer acknowledgement (Splunk: "About HTTP Event Collector Indexer Acknowledgment").
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Acknowledgement {
    /// How often it is asked what is indexed, in milliseconds.
    pub poll_ms: NonZeroU32,
    /// After so long without acknowledgement events are sent again, in milliseconds.
    pub timeout_ms: NonZeroU32,
}

impl Splunk {
    /// The collector at this address, everything else by default.
    pub fn to(endpoint: Endpoint, token: CredentialKey) -> Self {
        Self {
            endpoint,
            token,
            index: None,
            host: None,
            source: None,
            sourcetype: None,
            acknowledgement: None,
            connection: Connection::default(),
        }
    }
}
