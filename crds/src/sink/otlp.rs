//! OpenTelemetry Protocol.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Compression, HttpConnection, HttpHeader, connection::ONE_OF_EACH, rule::Address};

const ENDPOINT: Address = Address {
    field: "endpoint",
    optional: false,
    example: "https://collector.example.com:4318",
    credential: "headers[].valueSecretRef",
};

/// OTLP over HTTP.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ENDPOINT.has_scheme(),
    validation = ENDPOINT.is_url(),
    validation = ENDPOINT.has_no_query(),
    validation = ENDPOINT.has_tls(),
    validation = ENDPOINT.has_no_credentials()
)]
pub struct OtlpSink {
    /// Base address: `/v1/logs` is appended. A Collector listens for OTLP over HTTP on port 4318 (4317 is gRPC).
    /// `http://` is allowed, sends lines unencrypted and is warned about. Example: `https://collector.example.com:4318`.
    #[schemars(length(min = 1, max = 1024))]
    pub endpoint: String,
    /// How requests are encoded: `Protobuf` or `JSON`. Default: `Protobuf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OtlpEncoding")]
    pub encoding: Option<OtlpEncoding>,
    /// Headers of each request, such as a tenant or a token. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]), validation = ONE_OF_EACH)]
    pub headers: Option<Vec<HttpHeader>>,
    /// How requests are compressed: `Gzip`, `Zstd` (smaller for the same work, where the server takes it) or `None`.
    /// Default: `Gzip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Compression")]
    pub compression: Option<Compression>,
    #[expect(missing_docs, reason = "its fields stand here, not itself")]
    #[serde(flatten)]
    pub connection: HttpConnection,
}

/// How requests are encoded.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OtlpEncoding {
    /// Binary; every receiver takes it.
    Protobuf,
    /// Text, several times as large.
    #[serde(rename = "JSON")]
    Json,
}
