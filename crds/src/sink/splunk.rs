//! Splunk HTTP Event Collector.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{
    HttpConnection, SecretKeyRef,
    connection::GzipOrNone,
    rule::{Address, Period},
};

const ENDPOINT: Address = Address {
    field: "endpoint",
    optional: false,
    example: "https://hec.example.com:8088",
    credential: "tokenSecretRef",
};

const MANAGEMENT_ENDPOINT: Address = Address {
    field: "managementEndpoint",
    optional: true,
    example: "https://splunk.example.com:8089",
    credential: "managementSecretRef",
};

/// How often the collector is asked what is indexed.
pub const POLL_INTERVAL: Period = Period {
    least: "100ms",
    most: "1m",
};

/// How long the collector has to index a request.
pub const ACKNOWLEDGEMENT_TIMEOUT: Period = Period {
    least: "10s",
    most: "1h",
};

/// Splunk HTTP Event Collector (HEC), event endpoint.
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
        "has(self.managementSecretRef) ? has(self.index) && (has(self.stack) || has(self.managementEndpoint)) : !has(self.stack) && !has(self.managementEndpoint) && !has(self.managementUsername)",
        "managementSecretRef needs the index to look after, and managementEndpoint (Splunk Enterprise) or stack (Splunk Cloud), which are for nothing else"
    ),
    validation = ("!(has(self.stack) && has(self.managementUsername))", "Splunk Cloud takes a token and no managementUsername: remove one of stack and managementUsername")
)]
pub struct SplunkSink {
    /// Address of the collector without a path: `/services/collector/event` is appended.
    /// `http://` is allowed, sends the token unencrypted and is warned about. Example: `https://hec.example.com:8088`.
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: String,
    /// The HEC token.
    pub token_secret_ref: SecretKeyRef,
    /// Index to write to; the token must allow it. Default: the token's own. Example: `platform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9][a-z0-9_-]*$') && !self.contains('kvstore')", "index is not a Splunk index: use lower-case letters, digits, `_` and `-`, beginning with a letter or digit, for example platform"))]
    pub index: Option<String>,
    /// Splunk's `host` of each event. Default: the pod's name. Example: `eu-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub host: Option<String>,
    /// Splunk's `source` of each event. Default: the path of the container's log,
    /// `/var/log/pods/<namespace>_<pod>_<uid>/<container>/<restart>.log`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub source: Option<String>,
    /// Splunk's `sourcetype` of each event. Default: `kube:container:<container>`. Example: `_json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub sourcetype: Option<String>,
    /// Wait until events are indexed (indexer acknowledgement): `{}`, or with times of your own. The token must have it
    /// switched on (`useACK`); Splunk Cloud offers it to Firehose alone. Default: an event that HEC has accepted counts
    /// as delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<SplunkAcknowledgement>,
    /// Who looks after the policy's `retention` in `index`: an authentication token of Splunk's, or the password of
    /// `managementUsername`. The operator alone uses it, agents never see it. Default: none; then whoever runs Splunk decides, and
    /// the status says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_secret_ref: Option<SecretKeyRef>,
    /// Where Splunk is managed: with `managementSecretRef`. Of Splunk Enterprise the REST API, usually at port 8089. Default: of
    /// Splunk Cloud `https://admin.splunk.com`. Example: `https://splunk.example.com:8089`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub management_endpoint: Option<String>,
    /// User of Splunk Enterprise whose password is in `managementSecretRef`. Default: what is there is a token. Example: `retention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = ("!self.contains(':')", "managementUsername takes no colon: the password belongs into managementSecretRef"))]
    pub management_username: Option<String>,
    /// Name of the stack of Splunk Cloud: with `managementSecretRef`. Default: it is Splunk Enterprise. Example: `acme`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (r"self.matches('^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$')", "stack is not the name of a stack: it is what stands before .splunkcloud.com, for example acme"))]
    pub stack: Option<String>,
    /// How requests are compressed: `Gzip` or `None`. Default: `Gzip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "GzipOrNone")]
    pub compression: Option<GzipOrNone>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}

impl SplunkSink {
    /// The collector at this address, everything else by default.
    pub fn to(endpoint: &str, token: SecretKeyRef) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            token_secret_ref: token,
            index: None,
            host: None,
            source: None,
            sourcetype: None,
            acknowledgement: None,
            management_secret_ref: None,
            management_endpoint: None,
            management_username: None,
            stack: None,
            compression: None,
            connection: HttpConnection::default(),
        }
    }
}

/// Indexer acknowledgement.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.pollInterval) || !has(self.timeout) || duration(self.pollInterval) < duration(self.timeout)", "pollInterval must be shorter than timeout"))]
pub struct SplunkAcknowledgement {
    /// How often HEC is asked what is indexed, 100ms to 1m. Default: `1s`. Example: `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24))]
    #[x_kube(validation = POLL_INTERVAL.rule())]
    pub poll_interval: Option<String>,
    /// After how long without acknowledgement events are sent again, 10s to 1h; they may then be there twice.
    /// Default: `5m`. Example: `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24))]
    #[x_kube(validation = ACKNOWLEDGEMENT_TIMEOUT.rule())]
    pub timeout: Option<String>,
}
